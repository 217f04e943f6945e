"""Screenshots: the real page with drawn faces, in docs/screenshots.

    python -m bench.screenshots --out docs/screenshots

Needs chromium, and the fonts Inter and P052 to look as they do there (Debian: chromium fonts-inter fonts-urw-base35).
The live image is a clip of the drawn faces, moved from one to the next, in place of a camera.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image, ImageColor
from playwright.sync_api import Page, ViewportSize, sync_playwright

from testing.browser import FLAGS, serving, write_clip

DRAWN = Path(__file__).parents[1] / "service" / "web" / "drawn-faces.jpg"
DESK, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
CENTRES = (171, 473, 751, 1023)
"""Of the drawn faces, from left to right, in pixels."""

FRAMES, LIVE_SECONDS = 400, 22
HUES = """["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"].map(
  (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim())"""


def pan() -> list[Image.Image]:
    """Return frames that move over the drawn faces, from the first to the last, resting at each."""
    image = Image.open(DRAWN).convert("RGB")
    frames = []
    for frame in range(FRAMES):
        turn = frame / FRAMES * len(CENTRES)
        moved = min(1.0, max(0.0, (turn % 1 - 0.7) / 0.3))
        here, there = (CENTRES[min(int(turn) + step, len(CENTRES) - 1)] for step in (0, 1))
        left = min(max(0, round(here + (there - here) * moved) - 240), image.width - 480)
        frames.append(image.crop((left, 100, left + 480, 460)).resize((640, 480)))
    return frames


def take(page: Page, path: Path) -> None:
    """Write what the window shows, in 256 colours, the expressions' own among them."""
    page.wait_for_timeout(400)  # the bars have grown to their length
    page.screenshot(path=path)
    hues = page.evaluate(HUES)
    with Image.open(path) as shot:
        colours = shot.convert("RGB").quantize(256 - len(hues)).getpalette() or []
        for hue in hues:
            colours += ImageColor.getrgb(hue)
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours)
        shot.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder, serving(real=True) as address, sync_playwright() as playwright:
        clip = Path(folder) / "clip.y4m"
        write_clip(clip, pan())
        camera = (
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={clip}",
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *camera])
        looks: tuple[tuple[str, ViewportSize, Literal["light", "dark"]], ...]
        looks = (("desk-light", DESK, "light"), ("phone-dark", PHONE, "dark"))
        for name, size, scheme in looks:
            page = browser.new_page(viewport=size, color_scheme=scheme, has_touch=size == PHONE)
            page.goto(address)
            page.get_by_role("button", name="Try drawn faces").click()
            page.locator(".card").nth(3).wait_for()
            take(page, out / f"{name}.png")
            page.close()
        page = browser.new_page(viewport=DESK, color_scheme="dark")
        page.goto(address)
        page.get_by_role("button", name="Live camera").click()
        page.locator(".card").wait_for()
        page.wait_for_timeout(1000 * LIVE_SECONDS)
        page.evaluate("document.querySelector('.tools').scrollIntoView()")
        take(page, out / "live-dark.png")
        browser.close()


if __name__ == "__main__":
    main()
