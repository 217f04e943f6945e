"""A browser, services to point it at, and a watch over everything that a page does."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, sync_playwright

from testing.browser import FLAGS, KEY, serving

CHROMIUM = shutil.which("chromium")
TIMEOUT = 20_000
"""Milliseconds that an answer may take on a machine with other work."""


def launch(playwright: Playwright, *flags: str) -> Browser:
    """Start the browser."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


# One for each module, and not for longer: it keeps an event loop running, which other tests start for themselves.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here; Debian's package of that name has it")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    running = launch(playwright)
    yield running
    running.close()


@pytest.fixture(scope="session")
def real() -> Iterator[str]:
    """The service with the weights that ship."""
    with serving(real=True) as address:
        yield address


@pytest.fixture(scope="session")
def fake() -> Iterator[str]:
    """The service around fakes: every image's bright halves are faces."""
    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def locked() -> Iterator[str]:
    """The service behind a key."""
    with serving(key=KEY) as address:
        yield address


@dataclass
class Watch:
    """What pages did that no page may do."""

    expected: tuple[str, ...] = ()
    """Beginnings of console messages that a test brings about: the browser logs every answer of 400 and more."""
    hosts: set[str] = field(default_factory=set)
    wrongs: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))
        context.on("console", self._console)
        context.on("weberror", lambda error: self.wrongs.append(f"uncaught: {error.error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(self.expected or ("\0",)):
            self.wrongs.append(message.text)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Fails the test if a page asked another host, broke its own policy or complained."""
    watching = Watch()
    yield watching
    assert watching.wrongs == []
    assert watching.hosts == {"127.0.0.1"}


@pytest.fixture
def page(browser: Browser, watch: Watch) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT)
    watch.over(context)
    yield context.new_page()
    context.close()
