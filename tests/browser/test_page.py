"""Page: for everyone who reads it: accessible, honest, tellable apart, and with programs that run."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from skimage.color import deltaE_ciede2000, rgb2lab

from testing.fakes import RED, RED_FACE, WEIGHTS
from tests.browser.conftest import TIMEOUT, Watch
from tests.browser.test_images import FAILED, TWO_FACES, give

pytestmark = pytest.mark.slow

expect.set_options(timeout=TIMEOUT)


def check(page: Page) -> None:
    """Look for what keeps people out."""
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert results.violations_count == 0, results.generate_report()


_LIGHT_DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
_DARK_PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}


@pytest.mark.parametrize("look", [_LIGHT_DESK, _DARK_PHONE])
def test_axe_finds_nothing(browser: Browser, watch: Watch, fake: str, locked: str, look: dict[str, Any]) -> None:
    watch.expected = (FAILED,)
    context = browser.new_context(reduced_motion="reduce", **look)
    context.set_default_timeout(TIMEOUT)
    watch.over(context)
    page = context.new_page()
    page.goto(fake)
    expect(page.locator("#classes li")).to_have_count(8)
    check(page)
    give(page, TWO_FACES)
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_text("The answer as JSON").click()
    check(page)
    page.goto(locked)
    give(page, RED_FACE)
    expect(page.get_by_label("API key")).to_be_visible()
    check(page)
    context.close()


def test_it_says_what_it_is_and_where_to_read_more(page: Page, fake: str) -> None:
    page.goto(fake)
    expect(page.locator("main")).to_contain_text("apparent expression, not what someone feels")
    expect(page.locator("main")).to_contain_text("Images are not kept")
    expect(page.locator("#measured")).to_contain_text("Weights ferplus: right on 87.8 % of 3,199 images")
    links = {link.get_attribute("href") for link in page.get_by_role("link").all()}
    assert links == {"model", "model/card", "docs"}
    for link in links:
        assert httpx.get(f"{fake}/{link}").status_code == 200


def test_reduced_motion_is_respected(browser: Browser, watch: Watch, fake: str) -> None:
    context = browser.new_context(reduced_motion="reduce")
    watch.over(context)
    page = context.new_page()
    page.goto(fake)
    page.evaluate("document.body.dataset.busy = 'yes'")
    motion = page.evaluate("getComputedStyle(document.getElementById('easel'), '::after').animationName")
    assert motion == "none"
    context.close()


def _program(page: Page, language: str) -> str:
    page.get_by_label(language).check()
    return page.locator("#snippet").text_content() or ""


def test_the_programs_that_it_shows_do_the_same(page: Page, fake: str, tmp_path: Path) -> None:
    (tmp_path / "face.jpg").write_bytes(RED_FACE)
    page.goto(fake)
    runners = {
        "Python": [sys.executable, "-c"],
        "curl": ["bash", "-c"] if shutil.which("curl") else None,
        "JavaScript": ["node", "--input-type=module", "-e"] if shutil.which("node") else None,
    }
    for language, runner in runners.items():
        program = _program(page, language)
        assert f"{fake}/predict" in program
        if runner is not None:
            command = [*runner, program]
            done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert RED in done.stdout, done.stderr


def test_a_program_is_copied_with_a_button(page: Page, fake: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(fake)
    shown = _program(page, "Python")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == shown


def test_every_problem_of_the_contract_has_a_sentence_of_its_own(page: Page, fake: str) -> None:
    responses = httpx.get(f"{fake}/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    found = [
        {"type": kind, "status": int(status), "title": "TITLE", "message": "DETAIL"}
        for status, response in responses.items()
        for kind in re.findall(r"urn:manet:problem:[a-z-]+", response["description"])
    ]
    assert len(found) > 9
    page.goto(fake)
    said = page.evaluate(
        "async (problems) => { const { sentence } = await import('/web/words.js'); return problems.map(sentence); }",
        found,
    )
    for problem, sentence in zip(found, said, strict=True):
        assert "TITLE" not in sentence, f"{problem['type']} has no sentence in words.js"
        assert sentence.endswith((".", "?"))


_COLOURS = """(names) => {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim());
}"""

# How people with no red, no green and no blue cones see linear RGB: Machado, Oliveira, Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 2009, severity 1.0.
_SIGHTS: dict[str, npt.ArrayLike] = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


Floats = npt.NDArray[np.float64]


def _seen(colours: list[str], sight: npt.ArrayLike) -> Floats:
    rgb = np.array([[int(c[at : at + 2], 16) for at in (1, 3, 5)] for c in colours]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(sight).T, 0, 1)
    srgb: Floats = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return srgb


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_expressions_are_told_apart_with_any_colour_vision(
    browser: Browser, fake: str, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(fake)
    names = [str(name) for name in WEIGHTS.classes]
    colours, [card] = page.evaluate(_COLOURS, names), page.evaluate(_COLOURS, ["card"])
    context.close()
    for sight, matrix in _SIGHTS.items():
        lab = rgb2lab(_seen(colours, matrix))
        for (one, a), (other, b) in itertools.combinations(zip(names, lab, strict=True), 2):
            assert deltaE_ciede2000(a, b) > 10, f"{one} and {other} look alike with {sight}"
    weights = np.array([0.2126, 0.7152, 0.0722])

    def luminance(colour: str) -> float:
        rgb = _seen([colour], np.eye(3))[0]
        return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ weights)

    ground = luminance(card)
    for name, colour in zip(names, colours, strict=True):
        low, high = sorted((ground, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) > 3, f"{name} is hard to see on its card"
