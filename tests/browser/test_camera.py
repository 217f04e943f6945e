"""Camera: a moving face, boxed and drawn over time, one request after the other."""

import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, Request, expect
from skimage import data

from testing.browser import KEY, write_clip
from tests.browser.conftest import TIMEOUT, Watch, launch

pytestmark = pytest.mark.slow

expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera sees the portrait sway from side to side."""
    clip = tmp_path_factory.mktemp("camera") / "clip.y4m"
    portrait = Image.fromarray(data.astronaut())
    sways = (8 * np.sin(np.linspace(0, 2 * np.pi, 20, endpoint=False))).round().astype(int).tolist()
    write_clip(clip, [portrait.crop((40 + sway, 0, 440 + sway, 300)) for sway in sways])
    running = launch(
        playwright,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    )
    yield running
    running.close()


_PAINTED = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(width - 3, 0, 1, height);
  return Array.from({ length: height }, (_, row) => data[4 * row + 3]).filter((alpha) => alpha > 200).length / height;
}"""


_PLACES = """() => {
  const [box, frame] = [".box", "#frame"].map((name) => document.querySelector(name)?.getBoundingClientRect().toJSON());
  return box && frame && [box, frame];
}"""


def _until(page: Page, script: str) -> Any:
    """Return what a script gives as soon as it gives anything; the page's own policy lets no string be evaluated."""
    end = time.monotonic() + 20
    while not (given := page.evaluate(script)):
        assert time.monotonic() < end, f"never true: {script}"
        page.wait_for_timeout(50)
    return given


def test_a_moving_face_is_boxed_and_drawn_over_time(page: Page, watch: Watch, real: str) -> None:
    # Of the scripts that this test hands in as text, and that look at the canvas again and again.
    watch.expected = ("This document requires 'TrustedScript'", "Canvas2D: Multiple readback operations")
    flying = {"now": 0, "most": 0, "all": 0}

    def left(request: Request) -> None:
        if "/predict" in request.url:
            flying["now"] += 1
            flying["all"] += 1
            flying["most"] = max(flying["most"], flying["now"])

    def landed(request: Request) -> None:
        flying["now"] -= "/predict" in request.url

    page.on("request", left)
    page.on("requestfinished", landed)
    page.on("requestfailed", landed)
    page.goto(real)
    page.get_by_role("button", name="Live camera").click()

    expect(page.locator(".card h2")).to_have_text(re.compile("happiness"))
    expect(page.get_by_role("status").first).to_have_text("The largest face: happiness.")
    expect(page.locator("#rate")).to_have_text(re.compile(r"\d+\.\d answers a second, each after \d+ ms"))
    _until(page, f"({_PAINTED})(document.getElementById('timeline')) > 0.95")
    # Both at one moment: boxes are drawn again with every answer.
    box, frame = _until(page, _PLACES)
    middle = (box["x"] + box["width"] / 2 - frame["x"]) / frame["width"]
    assert middle == pytest.approx(1 - (225 - 40) / 400, abs=0.06), "mirrored, as the image is"
    while flying["all"] < 10:
        page.wait_for_timeout(50)
    assert flying["most"] == 1

    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("status").first).to_have_text("The camera stopped.")
    expect(page.get_by_role("button", name="Live camera")).to_be_focused()
    expect(page.get_by_role("img", name=re.compile("Timeline; on average happiness"))).to_be_visible()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    page.wait_for_timeout(300)
    sent = flying["all"]
    page.wait_for_timeout(500)
    assert flying["all"] == sent


def test_a_frame_can_be_taken_as_an_image(page: Page, real: str) -> None:
    page.goto(real)
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator(".card h2")).to_have_text(re.compile("happiness"))
    page.get_by_role("button", name="Take this image").click()

    expect(page.get_by_role("status").first).to_have_text(re.compile(r"1 face found\. +Face 1: happiness"))
    expect(page.locator("#boxes").get_by_role("radio")).to_have_count(1)
    expect(page.get_by_role("button", name="Choose an image")).to_be_focused()


def test_a_hidden_page_lets_the_camera_go(page: Page, fake: str) -> None:
    page.goto(fake)
    page.get_by_role("button", name="Live camera").click()
    expect(page.locator(".card")).to_have_count(1)
    page.evaluate("window.track = document.getElementById('video').srcObject.getTracks()[0]")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )

    expect(page.get_by_role("status").first).to_have_text("The camera stopped, because this page was hidden.")
    assert page.evaluate("window.track.readyState") == "ended"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NotAllowedError", "The browser may not use the camera."),
        ("NotFoundError", "No camera was found."),
    ],
)
def test_no_camera_is_said_in_words(page: Page, fake: str, error: str, words: str) -> None:
    page.add_init_script(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{error}'))"
    )
    page.goto(fake)
    page.get_by_role("button", name="Live camera").click()

    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("button", name="Choose an image")).to_be_visible()


def test_a_key_that_the_camera_needs_is_requested(page: Page, watch: Watch, locked: str) -> None:
    watch.expected = ("Failed to load resource",)
    page.goto(locked)
    page.get_by_role("button", name="Live camera").click()

    expect(page.get_by_role("alert")).to_have_text("This service needs an API key.")
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("button", name="Stop the camera").click()
