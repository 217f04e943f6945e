"""Images: chosen, dropped, pasted, from a keyboard or a finger; found faces, none, and what goes wrong."""

import base64
import io
import json
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from skimage import data

from testing.browser import KEY, serving
from testing.fakes import NO_FACE, RED, RED_FACE, WEIGHTS, encode, paint
from tests.browser.conftest import TIMEOUT, Watch

pytestmark = pytest.mark.slow

expect.set_options(timeout=TIMEOUT)

TWO_FACES = encode(paint((255, 0, 0), (0, 255, 0), size=(640, 480)))
FAILED = "Failed to load resource"


def give(page: Page, content: bytes, name: str = "image.png", kind: str = "image/png") -> None:
    """Choose a file."""
    page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": content})


def answer(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.locator("#json").text_content() or "")
    return found


def test_a_chosen_photo_shows_its_face_and_every_probability(page: Page, real: str) -> None:
    page.goto(real)
    portrait = Image.fromarray(data.astronaut())
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": encode(portrait, "JPEG")})

    expect(page.get_by_role("status").first).to_have_text(
        re.compile(r"1 face found\.\s+Face 1: happiness, 100 percent")
    )
    [face] = answer(page)["faces"]
    rows = page.locator(".card tr")
    assert rows.locator("th").all_text_contents() == list(face["probabilities"])
    assert len(face["probabilities"]) == 8
    expect(page.locator(".card tr.top")).to_have_text(re.compile(r"happiness>.99.%"))
    box, frame = page.locator(".box").bounding_box(), page.locator("#frame").bounding_box()
    assert box is not None
    assert frame is not None
    scale = frame["width"] / 512
    assert box["x"] - frame["x"] == pytest.approx(face["box"]["x"] * scale, abs=1)
    assert box["y"] - frame["y"] == pytest.approx(face["box"]["y"] * scale, abs=1)
    assert box["width"] == pytest.approx(face["box"]["width"] * scale, abs=1)
    expect(page.locator("#note")).to_have_text(re.compile(r"Answered in \d+ ms, of which finding faces \d+"))


def test_drawn_faces_can_be_tried_without_an_image(page: Page, real: str) -> None:
    page.goto(real)
    page.get_by_role("button", name="Try drawn faces").click()

    expect(page.locator(".card")).to_have_count(4)
    assert {"surprise", "happiness", "neutral"} <= {face["expression"] for face in answer(page)["faces"]}


_TRANSFER = """(content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
  return transfer;
}"""


def test_an_image_can_be_dropped_anywhere(page: Page, fake: str) -> None:
    page.goto(fake)
    transfer = page.evaluate_handle(_TRANSFER, base64.b64encode(RED_FACE).decode())
    page.dispatch_event("footer", "dragover", {"dataTransfer": transfer})
    expect(page.locator(".drop-here")).to_be_visible()
    page.dispatch_event("footer", "drop", {"dataTransfer": transfer})

    expect(page.locator(".card h2")).to_have_text(re.compile(RED))
    expect(page.locator(".drop-here")).to_be_hidden()
    assert page.url == f"{fake}/"


def test_an_image_can_be_pasted(page: Page, fake: str) -> None:
    page.goto(fake)
    transfer = page.evaluate_handle(_TRANSFER, base64.b64encode(RED_FACE).decode())
    page.evaluate("(clipboardData) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData }))", transfer)

    expect(page.locator(".card h2")).to_have_text(re.compile(RED))


def test_an_image_turned_by_its_exif_is_boxed_upright(page: Page, fake: str) -> None:
    upright = paint((255, 0, 0), size=(640, 480))  # its face is the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # the file lies on its side; a quarter turn clockwise rights it
    lying = encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    page.goto(fake)
    give(page, lying, "a.jpg", "image/jpeg")

    expect(page.locator(".card")).to_have_count(1)
    assert answer(page)["image"] == {"width": 640, "height": 480}
    canvas = page.locator("#image")
    assert canvas.evaluate("(c) => [c.width, c.height]") == [640, 480]
    row = canvas.evaluate("(c) => Array.from(c.getContext('2d').getImageData(0, 240, 640, 1).data)")
    assert row[4 * 160] > 240, "red on the left"
    assert row[4 * 480] < 15, "black on the right"
    box, frame = page.locator(".box").bounding_box(), page.locator("#frame").bounding_box()
    assert box is not None
    assert frame is not None
    assert box["x"] == pytest.approx(frame["x"], abs=1)
    assert box["width"] == pytest.approx(frame["width"] / 2, abs=1)


def test_a_huge_image_is_made_smaller_and_the_page_says_so(page: Page, fake: str) -> None:
    page.goto(fake)
    give(page, encode(paint((255, 0, 0), size=(4000, 3000)), compress_level=1))

    expect(page.locator(".card")).to_have_count(1)
    assert answer(page)["image"] == {"width": 2048, "height": 1536}
    expect(page.locator("#note")).to_contain_text("2048 by 1536 instead of 4000 by 3000")


def test_faces_that_are_not_shown_are_counted(page: Page) -> None:
    with serving(max_faces=1) as address:
        page.goto(address)
        give(page, TWO_FACES)

        expect(page.get_by_role("status").first).to_contain_text("2 faces found; the largest is shown.")
        expect(page.locator(".card")).to_have_count(1)


def test_a_heic_is_answered_though_the_browser_cannot_show_it(page: Page, fake: str) -> None:
    page.goto(fake)
    give(page, RED_FACE)
    expect(page.locator(".card")).to_have_count(1)
    give(page, encode(paint((255, 0, 0), (0, 255, 0), size=(640, 480)), "HEIC"), "IMG_0001.HEIC", "image/heic")

    expect(page.get_by_role("status").first).to_contain_text("2 faces found.")
    expect(page.locator("#note")).to_contain_text("The service reads this image; this browser cannot show it.")
    assert page.evaluate("document.querySelector('#image').width") == 1
    expect(page.locator("#image")).to_be_hidden()


def test_no_face_is_said_in_words(page: Page, fake: str) -> None:
    page.goto(fake)
    give(page, NO_FACE)

    expect(page.get_by_role("status").first).to_have_text("No face found in this image.")
    expect(page.locator(".card")).to_have_count(0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"these are words",
            "This is not an image that the service can read. It takes JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC.",
        ),
        (RED_FACE[:60], "This image is damaged: it is empty, ends too early or cannot be decoded."),
    ],
)
def test_what_cannot_be_read_is_said_in_words(page: Page, watch: Watch, fake: str, content: bytes, words: str) -> None:
    watch.expected = (FAILED,)
    page.goto(fake)
    give(page, content)

    expect(page.get_by_role("alert")).to_have_text(words)
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    give(page, RED_FACE)
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#problem")).to_be_hidden()


def test_a_busy_service_is_asked_again(page: Page, watch: Watch) -> None:
    watch.expected = (FAILED,)
    with serving(max_uploads=1, upload_timeout=120.0) as address:
        page.goto(address)
        with socket.create_connection(("127.0.0.1", urlsplit(address).port or 0)) as busy:
            busy.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
            busy.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")  # admitted, and never finished
            end = time.monotonic() + 20
            while "manet_uploads_arriving 1.0" not in httpx.get(f"{address}/metrics").text:
                assert time.monotonic() < end, "the upload never began"
                time.sleep(0.02)
            give(page, RED_FACE)
            expect(page.get_by_role("alert")).to_have_text(
                re.compile(r"The service has too much to do at the moment\. Trying again in \d+ s\.")
            )
            expect(page.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.locator(".card")).to_have_count(1)
        expect(page.locator("#problem")).to_be_hidden()


def test_a_service_that_is_gone_is_said_in_words(page: Page, watch: Watch) -> None:
    watch.expected = (FAILED,)
    with serving() as address:
        page.goto(address)
        expect(page.locator("#classes li")).to_have_count(8)
    give(page, RED_FACE)

    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_key_is_asked_for_only_where_one_is_needed_and_kept_in_memory(page: Page, watch: Watch, locked: str) -> None:
    watch.expected = (FAILED,)
    page.goto(locked)
    key = page.get_by_label("API key")
    expect(key).to_be_hidden()
    give(page, RED_FACE)
    expect(page.get_by_role("alert")).to_have_text("This service needs an API key.")
    expect(key).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The service did not accept this key.")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")

    expect(page.locator(".card")).to_have_count(1)
    expect(key).to_be_hidden()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert KEY not in page.content()
    expect(page.locator("#snippet")).to_contain_text('-H "X-API-Key: $MANET_API_KEY"')
    page.reload()
    give(page, RED_FACE)
    expect(page.get_by_role("alert")).to_have_text("This service needs an API key.")


def test_faces_are_chosen_with_the_keyboard_alone(page: Page, fake: str) -> None:
    page.goto(fake)
    press, focused = page.keyboard.press, page.locator(":focus")
    for _ in range(4):  # past three links
        press("Tab")
    expect(focused).to_have_text("Choose an image")
    assert focused.evaluate("(node) => getComputedStyle(node).outlineStyle") == "solid"
    give(page, TWO_FACES)  # the browser's own dialogue is no part of the page
    expect(page.locator(".card")).to_have_count(2)

    expect(focused).to_have_text("Choose an image")
    for _ in range(3):
        press("Tab")
    expect(focused).to_have_attribute("aria-label", re.compile(r"Face 1: neutral"))
    expect(page.locator(".card.chosen h2")).to_have_text(re.compile(WEIGHTS.classes[0]))
    press("ArrowRight")
    expect(focused).to_have_attribute("aria-label", re.compile(r"Face 2: happiness"))
    expect(page.locator(".card.chosen h2")).to_have_text(re.compile(WEIGHTS.classes[1]))
    assert page.locator(".box:has(:focus)").evaluate("(box) => getComputedStyle(box).outlineStyle") == "solid"
    press("Tab")
    expect(focused).to_have_text("The answer as JSON")


def test_faces_are_chosen_with_mouse_and_finger(browser: Browser, watch: Watch, fake: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    watch.over(context)
    page = context.new_page()
    page.goto(fake)
    expect(page.get_by_role("button", name="Take a photo")).to_be_visible()
    give(page, TWO_FACES)
    boxes, cards = page.locator(".box"), page.locator(".card")
    boxes.nth(1).tap()
    expect(cards.nth(1)).to_have_class(re.compile("chosen"))
    cards.nth(0).click()
    expect(boxes.nth(0).locator("input")).to_be_checked()
    expect(cards.nth(1)).not_to_have_class(re.compile("chosen"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than a phone"
    context.close()


def test_the_newest_image_wins(page: Page) -> None:
    with serving(seconds=1.0) as address:
        page.goto(address)
        give(page, RED_FACE)
        expect(page.get_by_role("status").first).to_have_text("Looking…")
        give(page, NO_FACE)
        expect(page.get_by_role("status").first).to_have_text("No face found in this image.")
        page.wait_for_timeout(1500)
        expect(page.locator(".card")).to_have_count(0)


def test_a_face_of_noise_in_another_format_is_sent_as_a_jpeg(page: Page, fake: str) -> None:
    noise = np.random.default_rng(0).integers(100, 255, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "ICO", sizes=[(64, 64)])
    page.goto(fake)
    give(page, file.getvalue(), "a.ico", "image/x-icon")

    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#note")).to_contain_text("Turned into a JPEG")
