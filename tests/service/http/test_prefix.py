"""Behind a path prefix: whether a proxy strips it or not, and who is believed about it."""

import json
import re
from collections.abc import Mapping

import pytest
from pydantic import ValidationError
from websockets.sync.client import connect

from service.settings import Settings
from testing.fakes import RED_FACE, make_app, post, running
from testing.live import live

pytestmark = pytest.mark.anyio

KEY = "0123456789abcdef"
PROXY = ("127.0.0.1",)
"""Where httpx says that its requests come from."""


@pytest.mark.parametrize("before", ["", "/faces"])
async def test_every_path_answers_whether_the_proxy_strips_the_prefix_or_not(before: str) -> None:
    async with running(make_app(root_path="/faces")) as client:
        image = {"image": ("x", RED_FACE)}
        assert (await client.post(f"{before}/predict", files=image)).status_code == 200
        for path in ("/", "/web/main.js", "/docs", "/openapi.json", "/model", "/v2/health/ready", "/metrics"):
            assert (await client.get(before + path)).status_code == 200, path
        problem = (await client.get(f"{before}/v2/models/none")).json()

    assert "error" in problem, "a problem of the inference protocol"


async def test_what_names_other_paths_names_them_with_the_prefix() -> None:
    async with running(make_app(root_path="/faces")) as client:
        docs, page = (await client.get("/docs")).text, (await client.get("/")).text
        contract, card = (await client.get("/openapi.json")).json(), (await client.get("/model")).json()["card"]

        assert contract["servers"] == [{"url": "/faces"}]
        assert card == "/faces/model/card"
        assert (await client.get(card)).status_code == 200
        # The page of OAuth 2 is the library's, which gives it no prefix; nothing here uses it.
        named = [path for path in re.findall(r"""["'](/[^"']+)["']""", docs) if "oauth2" not in path]
        assert named
        for path in named:
            assert path.startswith("/faces/")
            assert (await client.get(path)).status_code == 200, path
    assert re.findall(r"""(?:href|src)="(/[^"]*)""", page) == []


@pytest.mark.parametrize(
    ("trusted", "forwarded", "servers"),
    [
        (PROXY, "/faces", [{"url": "/faces"}]),
        (PROXY, "/a/b/", [{"url": "/a/b"}]),
        (PROXY, "//evil.example.org", None),
        (PROXY, "https://evil.example.org", None),
        (PROXY, '/"><script>', None),
        (("192.0.2.1",), "/faces", None),
        ((), "/faces", None),
    ],
)
async def test_a_forwarded_prefix_is_believed_of_trusted_proxies(
    trusted: tuple[str, ...], forwarded: str, servers: list[Mapping[str, str]] | None
) -> None:
    async with running(make_app(trusted_proxies=trusted)) as client:
        found = (await client.get("/openapi.json", headers={"X-Forwarded-Prefix": forwarded})).json()
        again = (await client.get("/openapi.json")).json()

    assert found.get("servers") == servers
    assert "servers" not in again, "the next request has another prefix, or none"


@pytest.mark.parametrize("path", ["/predict", "/health/predict", "/health/health/predict", "/model", "/health/model"])
async def test_no_prefix_opens_what_needs_a_key(path: str) -> None:
    async with running(make_app(trusted_proxies=PROXY, api_keys=[KEY])) as client:
        for prefix in ("/health", "/docs", "/web", "/v2/health", "/predict", "/model"):
            headers = {"X-Forwarded-Prefix": prefix}
            posted = await client.post(path, headers=headers, files={"image": ("x", RED_FACE)})
            asked = await client.get(path, headers=headers)
            assert posted.status_code in {401, 404, 405}, prefix
            assert asked.headers["content-type"] != "application/json", prefix


@pytest.mark.parametrize("path", ["/predict/", "/model/", "/docs/", "/v2/"])
async def test_no_answer_is_a_redirect(path: str) -> None:
    async with running(make_app(root_path="/faces")) as client:
        for before in ("", "/faces"):
            assert (await client.get(before + path)).status_code == 404


async def test_the_address_that_a_trusted_proxy_names_is_the_client() -> None:
    async with running(make_app(trusted_proxies=PROXY, rate_limit="1/minute")) as client:
        statuses = [
            (await client.get("/model", headers={"X-Forwarded-For": address})).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]

    assert statuses == [200, 200, 429]


async def test_the_address_that_a_client_names_is_not_believed() -> None:
    async with running(make_app(rate_limit="1/minute")) as client:
        statuses = [
            (await client.get("/model", headers={"X-Forwarded-For": address})).status_code
            for address in ("192.0.2.1", "192.0.2.2")
        ]

    assert statuses == [200, 429]


def test_a_stream_stands_behind_the_prefix_too() -> None:
    with live(make_app(root_path="/faces")) as served:
        for path in ("/faces/stream", "/stream"):
            with connect(f"ws://127.0.0.1:{served.port}{path}", compression=None) as stream:
                stream.send(RED_FACE)
                assert len(json.loads(stream.recv(timeout=20))["faces"]) == 1


@pytest.mark.parametrize("wrong", ["faces", "/faces/", "//faces", "/fa ces", "https://example.org"])
def test_a_prefix_that_is_no_path_is_an_error(wrong: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=wrong)


async def test_the_metrics_name_the_route_behind_a_prefix_and_a_key() -> None:
    async with running(make_app(root_path="/faces", api_keys=[KEY])) as client:
        client.headers["X-API-Key"] = KEY
        assert (await post(client, RED_FACE)).status_code == 200
        text = (await client.get("/faces/metrics")).text

    assert 'manet_requests_total{route="/predict",status="200"} 1.0' in text
