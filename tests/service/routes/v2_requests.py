"""Requests of the Open Inference Protocol, and what is expected of their answers."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from manet.recognizer import Recognizer
from manet.vision.preprocess import Pixels
from service.errors import NAMESPACE
from testing.fakes import SIDE, WEIGHTS

PATH = f"/v2/models/{WEIGHTS.id}"
VERSION = WEIGHTS.sha256[:12] if WEIGHTS.sha256 else "1"
COUNT = SIDE * SIDE * 3
CLASSES = len(WEIGHTS.classes)
LENGTH = "Inference-Header-Content-Length"


def faces(*colours: tuple[int, int, int]) -> Pixels:
    """Return network inputs of one colour each."""
    return np.stack([np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours])


RED = faces((255, 0, 0))
BOTH = faces((255, 0, 0), (0, 0, 255))


def question(images: Pixels = RED, *, nested: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a request in JSON; ``changes`` go to its input."""
    data = images.tolist() if nested else images.ravel().tolist()
    given = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": data, **changes}
    return {"inputs": [given]}


def binary(images: Pixels = RED, size: Any = None, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body of a request whose tensor follows the JSON, and its headers."""
    parameters = {"binary_data_size": images.size if size is None else size}
    given = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "parameters": parameters}
    head = json.dumps({"inputs": [given], **fields}).encode()
    return head + images.tobytes(), {LENGTH: str(len(head))}


async def ask(client: httpx.AsyncClient, asked: Any) -> httpx.Response:
    return await client.post(f"{PATH}/infer", json=asked)


def values(answer: httpx.Response) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return the outputs of an answer in JSON."""
    assert answer.status_code == 200, answer.text
    return {o["name"]: np.array(o["data"], np.float32).reshape(o["shape"]) for o in answer.json()["outputs"]}


def expected(images: Pixels, service: Recognizer) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return what the recognizer itself says of network inputs."""
    logits = service.classify(images)
    read = [service.recognize(image, faces="whole")[0].probabilities for image in images]
    return {"logits": logits, "probabilities": np.array([list(p.values()) for p in read], np.float32)}


def check(answer: httpx.Response, status: int, kind: str, *words: str) -> None:
    """Hold a refusal to RFC 9457 and to the protocol at once."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "error"}
    assert (body["type"], body["status"]) == (NAMESPACE + kind, status)
    assert body["error"] == body["detail"]
    assert all(word in body["error"] for word in words), body["error"]


PACKED = gzip.compress(json.dumps(question()).encode())
