"""The Open Inference Protocol as its own client speaks it: tritonclient against the service in another process."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from manet.vision.preprocess import Pixels
from testing.fakes import SIDE, WEIGHTS, recognizer
from testing.processes import serving

MODEL = WEIGHTS.id
RED_AND_BLUE = np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255))])


@pytest.fixture(scope="module")
def client() -> Iterator[triton.InferenceServerClient]:
    with serving(held=False) as service, triton.InferenceServerClient(f"127.0.0.1:{service.port}") as connected:
        yield connected


def tensor(images: Pixels, *, binary: bool = True, datatype: str = "UINT8") -> triton.InferInput:
    given = triton.InferInput("images", images.shape, datatype)
    given.set_data_from_numpy(images, binary_data=binary)
    return given


def check(answer: Any) -> None:
    """Hold an answer to what the recognizer itself says of the red and the blue face."""
    service = recognizer()
    np.testing.assert_allclose(answer.as_numpy("logits"), service.classify(RED_AND_BLUE), atol=1e-6)
    for row, image in zip(answer.as_numpy("probabilities"), RED_AND_BLUE, strict=True):
        [face] = service.recognize(image, faces="whole")
        np.testing.assert_allclose(row, list(face.probabilities.values()), atol=1e-6)


def test_it_finds_the_server_and_the_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    told = client.get_model_metadata(MODEL)
    assert told["inputs"][0]["shape"] == [-1, SIDE, SIDE, 3]
    assert client.is_model_ready(MODEL, told["versions"][0])
    assert client.get_model_metadata(MODEL, told["versions"][0]) == told
    assert not client.is_model_ready("other")


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("answered_binary", [True, False])
def test_it_infers_in_json_and_in_binary(
    client: triton.InferenceServerClient, sent_binary: bool, answered_binary: bool
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=answered_binary) for name in ("probabilities", "logits")]
    answer = client.infer(MODEL, [tensor(RED_AND_BLUE, binary=sent_binary)], outputs=outputs, request_id="7")

    assert answer.get_response()["id"] == "7"
    check(answer)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_it_compresses_both_ways(client: triton.InferenceServerClient, coding: str) -> None:
    answer = client.infer(
        MODEL,
        [tensor(RED_AND_BLUE)],
        model_version=client.get_model_metadata(MODEL)["versions"][0],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    check(answer)


def test_it_reads_why_it_was_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="the model that is loaded is 'ferplus'") as unknown:
        client.get_model_metadata("other")
    assert unknown.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"the input 'images' has the datatype UINT8") as wrong:
        client.infer(MODEL, [tensor(RED_AND_BLUE.astype(np.float32), datatype="FP32")])
    assert wrong.value.status() == "400"
    with pytest.raises(InferenceServerException, match="Nothing matches") as missing:
        client.get_model_config(MODEL)
    assert missing.value.status() == "404"
    with pytest.raises(InferenceServerException, match="only parameter of an output"):
        client.infer(MODEL, [tensor(RED_AND_BLUE)], outputs=[triton.InferRequestedOutput("logits", class_count=3)])
