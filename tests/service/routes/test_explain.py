"""``POST /explain``: the whole way, with the real network behind fakes that find the faces."""

import asyncio
import base64
import io
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from manet.explain.attribution import Explainer
from manet.explain.result import PATCH_NAMES
from service.inference import explainer
from testing.fakes import NO_FACE, RED_FACE, encode, make_app, paint, running, until
from tests.service.test_problems import check

pytestmark = pytest.mark.anyio

PATIENT = 120.0
"""Seconds for a machine that is busy; loading the network takes one or two on one that is not."""

TWO_FACES = encode(paint((255, 0, 0), (0, 0, 255)))


async def ask(client: httpx.AsyncClient, data: bytes, **query: str | int) -> httpx.Response:
    return await client.post("/explain", params=query, files={"image": ("x", data)})


async def test_a_face_is_explained_in_numbers_and_images() -> None:
    async with running(make_app(deadline=PATIENT)) as client:
        answer = await ask(client, RED_FACE)
        again = await ask(client, RED_FACE, overlays=False)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model"], body["image"]) == ("ferplus", {"width": 64, "height": 48})
    [face] = body["faces"]
    assert face["box"] == {"x": 0, "y": 0, "width": 32, "height": 48}
    told = face["explanation"]
    assert told["expression"] == face["expression"]
    assert [patch["name"] for patch in told["patches"]] == list(PATCH_NAMES)
    assert sum(patch["share"] for patch in told["patches"]) == pytest.approx(1)
    for branch in (told["local"], told["multi_scale"]):
        assert sum(branch["probabilities"].values()) == pytest.approx(1)
        assert np.sum(branch["evidence"]) + branch["bias"] == pytest.approx(branch["score"], abs=1e-3)
    fused = {
        name: told["local"]["probabilities"][name] ** told["fusion_weight"] * share ** (1 - told["fusion_weight"])
        for name, share in told["multi_scale"]["probabilities"].items()
    }
    assert face["probabilities"] == pytest.approx({name: one / sum(fused.values()) for name, one in fused.items()})
    overlays = told.pop("overlays")
    assert set(overlays) == {"face", "local", "multi_scale", "attention"}
    for data in overlays.values():
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            assert (image.format, image.size) == ("PNG", (320, 320))
    [bare] = again.json()["faces"]
    assert bare["explanation"].pop("overlays") is None
    assert bare["explanation"] == told


async def test_as_many_faces_as_requested_and_any_expression() -> None:
    async with running(make_app(deadline=PATIENT)) as client:
        both = await ask(client, TWO_FACES, overlays=False, expression="fear")
        one = await ask(client, TWO_FACES, overlays=False, max_faces=1)
        none = await ask(client, NO_FACE)
        whole = await ask(client, TWO_FACES, faces="whole", overlays=False)

    assert [face["explanation"]["expression"] for face in both.json()["faces"]] == ["fear", "fear"]
    assert (len(one.json()["faces"]), one.json()["faces_total"]) == (1, 2)
    assert (none.status_code, none.json()["faces"]) == (200, [])
    [face] = whole.json()["faces"]
    assert face["box"] is None


async def test_what_is_wrong_is_a_problem() -> None:
    async with running(make_app(deadline=PATIENT)) as client:
        check(await ask(client, b"no image"), 415, "unsupported-image")
        check(await ask(client, RED_FACE[:40]), 422, "broken-image")
        check(await ask(client, RED_FACE, expression="boredom"), 422, "invalid-parameter", "expression")
        check(await ask(client, RED_FACE, max_faces=0), 422, "invalid-parameter", "max_faces")
        check(await client.post("/explain"), 400, "malformed-request")


async def test_without_what_it_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer, "find_spec", lambda name: None)
    async with running(make_app(deadline=PATIENT)) as client:
        check(await ask(client, RED_FACE), 501, "explanations-unavailable", "no torch and no captum")


async def test_an_operator_can_leave_it_out() -> None:
    async with running(make_app(explain=False)) as client:
        assert (await ask(client, RED_FACE)).status_code == 404
        assert "/explain" not in (await client.get("/openapi.json")).json()["paths"]


async def test_the_contract_shows_it() -> None:
    async with running(make_app(deadline=PATIENT)) as client:
        operation = (await client.get("/openapi.json")).json()["paths"]["/explain"]["post"]

    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {"200", "400", "408", "413", "415", "422", "429", "501", "503", "504"} <= set(operation["responses"])
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "faces",
        "max_faces",
        "expression",
        "overlays",
    }


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event, list[int]]:
    """An explainer that says when it begins, waits until it may go on, and counts the faces."""
    entered, gate, faces = threading.Event(), threading.Event(), []
    explain = Explainer.explain

    def waiting(self: Explainer, *arguments: Any) -> object:
        faces.append(1)
        entered.set()
        assert gate.wait(20)
        return explain(self, *arguments)

    monkeypatch.setattr(Explainer, "explain", waiting)
    return entered, gate, faces


async def test_more_than_allowed_are_refused_and_predictions_go_on(
    held: tuple[threading.Event, threading.Event, list[int]],
) -> None:
    entered, gate, _ = held
    async with running(make_app(max_explanations=1, deadline=PATIENT)) as client:
        first = asyncio.create_task(ask(client, RED_FACE))
        await until(entered)
        refused = await ask(client, RED_FACE)
        predicted = await client.post("/predict", files={"image": ("x", RED_FACE)})
        gate.set()
        done = await first
        after = await ask(client, RED_FACE)

    check(refused, 429, "overloaded", "wait to be explained")
    assert refused.headers["retry-after"] == "1"
    assert (predicted.status_code, done.status_code, after.status_code) == (200, 200, 200)


async def test_a_client_that_leaves_is_not_explained_to_the_end(
    held: tuple[threading.Event, threading.Event, list[int]],
) -> None:
    entered, gate, faces = held
    app = make_app(deadline=PATIENT)
    async with running(app) as client:
        asking = asyncio.create_task(ask(client, TWO_FACES))
        await until(entered)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gate.set()
        assert (await ask(client, RED_FACE, overlays=False)).status_code == 200

    assert len(faces) == 2, "the second face of the client that left was explained"


async def test_an_explanation_that_would_come_late_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = []

    class Slow:
        def explain(self, *arguments: object) -> None:
            faces.append(arguments)
            time.sleep(1.5)

    monkeypatch.setattr(Explainer, "load", lambda *_arguments: Slow())
    async with running(make_app(deadline=1.0)) as client:
        check(await ask(client, TWO_FACES), 504, "deadline-exceeded", "before all faces were explained")

    assert len(faces) <= 1


def test_nothing_is_loaded_before_it_is_requested() -> None:
    program = (
        "import sys; from testing.fakes import make_app; make_app();"
        "print([name for name in ('torch', 'captum', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
