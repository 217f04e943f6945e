"""HEAD wherever GET is."""

import pytest

from testing.fakes import make_app, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/model", "/model/card", "/metrics", "/health/live"])
async def test_head_is_answered_as_get_is_without_the_content(path: str) -> None:
    async with running(make_app()) as client:
        head, get = await client.head(path), await client.get(path)

    assert (head.status_code, head.content) == (get.status_code, b"")
    lasting = {"content-type", "content-length", "content-security-policy", "cache-control"} & set(get.headers)
    if path == "/metrics":  # the requests themselves are counted
        lasting -= {"content-length"}
    assert {name: head.headers[name] for name in lasting} == {name: get.headers[name] for name in lasting}


async def test_head_of_what_takes_posts_only_says_so() -> None:
    async with running(make_app()) as client:
        answer = await client.head("/predict")

    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")
