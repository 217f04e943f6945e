"""The page's files as HTTP gives them."""

import re
from importlib import resources

import pytest

from service.routes.page import CONTENT_SECURITY_POLICY
from testing.fakes import make_app, running

pytestmark = pytest.mark.anyio


async def test_the_page_comes_with_a_policy_that_names_no_other_host() -> None:
    async with running(make_app()) as client:
        answer = await client.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "camera=(self)" in answer.headers["permissions-policy"]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", answer.text)


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/web/page.css", "/web/drawn-faces.jpg"])
async def test_a_file_that_the_browser_has_is_not_sent_again(path: str) -> None:
    async with running(make_app()) as client:
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        changed = await client.get(path, headers={"If-None-Match": '"other"'})
        head = await client.head(path)

    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200
    assert changed.content == first.content
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "page", ""])
async def test_nothing_but_the_page_is_served(name: str) -> None:
    async with running(make_app()) as client:
        answer = await client.get(f"/web/{name}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_module_is_requested_at_once() -> None:
    modules = {
        entry.name for entry in resources.files("service").joinpath("web").iterdir() if entry.name.endswith("js")
    }
    async with running(make_app()) as client:
        page = (await client.get("/")).text
        types = {(await client.get(f"/web/{name}")).headers["content-type"] for name in modules}

    assert set(re.findall(r'(?:modulepreload" href|script type="module" src)="web/(\w+\.js)"', page)) == modules
    assert types == {"text/javascript; charset=utf-8"}


async def test_the_page_is_not_part_of_the_contract() -> None:
    async with running(make_app()) as client:
        assert not {"/", "/web/{name}"} & set((await client.get("/openapi.json")).json()["paths"])


async def test_every_problem_of_the_routes_that_the_page_calls_has_a_sentence_of_its_own() -> None:
    script = resources.files("service").joinpath("web/words.js").read_text()
    [sentences] = re.findall(r"const SENTENCES = \{(.*?)\n\};", script, re.DOTALL)
    async with running(make_app()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    responses = [*paths["/predict"]["post"]["responses"].values(), *paths["/model"]["get"]["responses"].values()]
    named = {kind for one in responses for kind in re.findall(r"urn:manet:problem:([a-z-]+)", one["description"])}

    assert {"rate-limited", "detector-unavailable"} < named
    assert named <= set(re.findall(r'^  "?([a-z-]+)"?: "', sentences, re.MULTILINE))
