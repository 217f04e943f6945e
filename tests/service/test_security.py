"""Who is admitted, how much one client may ask for, and what a browser is told not to do."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import limits
import pytest
from pydantic import SecretStr, ValidationError
from starlette.types import Scope

from service.errors import RateLimitedError
from service.keys import KeyStore, read_keys
from service.middleware.rate_limit import RateLimiter, client_of
from service.settings import Settings
from testing.fakes import RED_FACE, FakeBackend, make_app, post, running, until
from testing.processes import ROOT
from tests.service.test_problems import check

KEY, OTHER = "k1-abcdefghijklmnop", "k2-abcdefghijklmnop"
KEYED: dict[str, Any] = {"api_keys": f"{KEY},{OTHER}"}
GUARDED = [("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/none")]


# -- keys


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_without_a_known_key_nothing_but_probes_and_pages_is_answered(method: str, path: str) -> None:
    async with running(make_app(**KEYED)) as client:
        none = await client.request(method, path)
        wrong = await client.request(method, path, headers={"Authorization": "Bearer k3-abcdefghijklmnop"})
        for answer, words in ((none, "no API key"), (wrong, "not known")):
            check(answer, 401, "unauthorized", words)
            assert answer.headers["www-authenticate"] == 'Bearer realm="manet"'
            assert answer.headers["x-request-id"]
        for open_path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
            assert (await client.get(open_path)).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {OTHER}"},
        {"X-API-Key": OTHER},
        {"Authorization": "Basic eDp5", "X-API-Key": KEY},
    ],
    ids=["bearer", "any case", "header", "beside another scheme"],
)
async def test_a_known_key_opens(headers: dict[str, str]) -> None:
    async with running(make_app(**KEYED)) as client:
        client.headers.update(headers)
        assert (await post(client, RED_FACE)).status_code == 200
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("almost", ["", KEY[:-1], KEY + "x", KEY.upper(), "é" * 20, f"{KEY},{OTHER}"])
async def test_almost_a_key_is_none(almost: str) -> None:
    async with running(make_app(**KEYED)) as client:
        headers = {b"X-API-Key": almost.encode("latin-1")}
        assert (await client.get("/model", headers=headers)).status_code == 401


@pytest.mark.anyio
async def test_a_refusal_reads_no_byte_of_the_body() -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield bytes(1000)

    async with running(make_app(**KEYED)) as client:
        assert (await client.post("/predict", content=body())).status_code == 401
    assert read == 0


def test_keys_are_kept_as_hashes_and_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyStore([KEY, OTHER])
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)

    assert [keys.owner(key) for key in (KEY, OTHER, "another")] == ["key 1", "key 2", None]
    assert len(compared) == 6, "a match ended the comparison early"
    assert {len(side) for pair in compared for side in pair} == {32}
    assert KEY not in repr(vars(keys))


def test_a_file_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# team one\n{KEY}\n\n  {OTHER}  \n")
    assert len(read_keys([KEY], file)) == 2

    file.write_text("# no one yet\n")
    with pytest.raises(ValueError, match="holds none"):
        read_keys([], file)
    with pytest.raises(OSError, match="No such file"):
        read_keys([], tmp_path / "missing")


@pytest.mark.parametrize("bad", ["short", "a key with spaces in it", "schlüssel-schlüssel"])
def test_a_weak_key_is_refused_and_not_repeated(bad: str) -> None:
    with pytest.raises(ValueError, match="at least 16 characters") as caught:
        KeyStore([KEY, bad])
    assert bad not in str(caught.value)


@pytest.mark.anyio
async def test_the_contract_shows_how_a_key_is_sent_and_where_it_is_needed() -> None:
    async with running(make_app(**KEYED)) as client:
        keyed = (await client.get("/openapi.json")).json()
    async with running(make_app()) as client:
        plain = (await client.get("/openapi.json")).json()

    for contract in (keyed, plain):
        assert set(contract["components"]["securitySchemes"]) == {"bearer", "header"}
        assert "401" in contract["paths"]["/predict"]["post"]["responses"]
    assert keyed["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "security" not in keyed["paths"]["/health/live"]["get"]
    assert "security" not in plain["paths"]["/predict"]["post"]


# -- where it may listen


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "faces.example.org"])
def test_elsewhere_it_does_not_start_without_keys_unless_that_is_said(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="MANET_ALLOW_ANONYMOUS"):
        Settings(host=host)

    for said in ({"allow_anonymous": True}, {"api_keys": KEY}, {"api_keys_file": tmp_path / "keys"}):
        assert Settings(host=host, **said).host == host


def test_the_process_refuses_too_and_names_no_key() -> None:
    def refused(**variables: str) -> str:
        environment = {**os.environ, **variables}
        command = [sys.executable, "-m", "service"]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "MANET_ALLOW_ANONYMOUS" in refused(MANET_HOST="0.0.0.0")
    assert "secret-secret" not in refused(MANET_API_KEYS="secret-secret-secret", MANET_PORT="70000")


def test_settings_show_no_key() -> None:
    settings = Settings(api_keys=(SecretStr(KEY),))
    assert KEY not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()


# -- how much one client may ask for


@pytest.mark.anyio
async def test_a_client_that_sends_too_much_is_refused_and_others_are_not() -> None:
    async with running(make_app(**KEYED, rate_limit="3/hour")) as client:
        mine, yours = {"X-API-Key": KEY}, {"X-API-Key": OTHER}
        answers = [await client.get("/model", headers=mine) for _ in range(5)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        check(answers[3], 429, "rate-limited", "3 per 1 hour")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 7200
        assert (await client.get("/model", headers=yours)).status_code == 200
        assert (await client.get("/health/ready", headers=mine)).status_code == 200
        assert (await client.get("/model")).status_code == 401, "who has no key costs no one's allowance"


@pytest.mark.anyio
async def test_the_allowance_comes_back() -> None:
    async with running(make_app(rate_limit="2/second")) as client:
        statuses = {(await client.get("/model")).status_code for _ in range(20)}
        assert statuses == {200, 429}
        async with asyncio.timeout(10):
            while (await client.get("/model")).status_code != 200:
                await asyncio.sleep(0.1)


@pytest.mark.anyio
async def test_requests_of_one_client_at_once_are_bounded() -> None:
    backend = FakeBackend()
    backend.gate.clear()
    async with running(make_app(backend, **KEYED, max_client_requests=1)) as client:
        first = asyncio.create_task(client.post("/predict", files={"image": RED_FACE}, headers={"X-API-Key": KEY}))
        await until(backend.entered)
        second = await client.get("/model", headers={"X-API-Key": KEY})
        other = await client.get("/model", headers={"X-API-Key": OTHER})
        backend.gate.set()

        check(second, 429, "rate-limited", "1 requests of this client")
        assert second.headers["retry-after"] == "1"
        assert other.status_code == 200
        assert (await first).status_code == 200
        assert (await client.get("/model", headers={"X-API-Key": KEY})).status_code == 200, "the place was given back"


def test_any_number_of_addresses_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.middleware.rate_limit.BUCKETS", 100)
    limiter = RateLimiter(rate=limits.parse("1000/hour"), at_once=5)
    _count_addresses(limiter, range(1000))
    tracemalloc.start()
    try:
        _count_addresses(limiter, range(1000, 21_000))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert grown < 100_000, "20,000 addresses more took memory of their own"


def _count_addresses(limiter: RateLimiter, numbers: Iterable[int]) -> None:
    for number in numbers:
        with contextlib.suppress(RateLimitedError), limiter.entering(f"10.0.{number // 256}.{number % 256}"):
            pass


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_clients_without_a_key_are_distinguished_by_address(address: str, client: str) -> None:
    scope: Scope = {"type": "http", "client": (address, 1)}
    assert client_of(scope) == client
    assert client_of({"type": "http", "client": None}) == ""


def test_a_rate_that_is_none_is_an_error() -> None:
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(rate_limit="often")


def test_a_refused_request_takes_no_place() -> None:
    limiter = RateLimiter(rate=None, at_once=1)
    with limiter.entering("a"), pytest.raises(RateLimitedError), limiter.entering("a"):
        pass
    with limiter.entering("a"):
        pass


# -- browsers and proxies


@pytest.mark.anyio
async def test_every_answer_has_security_headers() -> None:
    async with running(make_app(max_upload_bytes=1000)) as client:
        answers = [
            await client.get("/docs"),
            await client.get("/openapi.json"),
            await client.get("/health/ready"),
            await client.get("/nowhere"),
            await post(client, RED_FACE),
            await post(client, bytes(2000)),
        ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
    policy = dict(directive.split(" ", 1) for directive in answers[0].headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert not [answer for answer in answers[1:] if "content-security-policy" in answer.headers]


@pytest.mark.anyio
async def test_other_origins_are_not_admitted_unless_named() -> None:
    origin = {"Origin": "https://app.example.org"}
    ask = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with running(make_app()) as client:
        plain = await client.get("/model", headers=origin)
        assert not [name for name in plain.headers if name.startswith("access-control")]
    named = {**KEYED, "cors_origins": "https://app.example.org"}
    async with running(make_app(**named)) as client:
        preflight = await client.options("/predict", headers=ask)
        refused = await client.get("/model", headers=origin)
        stranger = await client.get("/model", headers={"Origin": "https://evil.example.org"})

        for wanted in ("Inference-Header-Content-Length", "Content-Encoding", "traceparent", "X-Request-ID"):
            asked = {**ask, "Access-Control-Request-Headers": wanted}
            assert (await client.options("/v2/models/ferplus/infer", headers=asked)).status_code == 200, wanted
        shown = refused.headers["access-control-expose-headers"]
        assert {"Inference-Header-Content-Length", "Server-Timing", "Retry-After"} <= set(shown.split(", "))
        assert preflight.status_code == 200, "a preflight carries no key"
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-credentials" not in preflight.headers
        assert refused.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "access-control-allow-origin" not in stranger.headers
