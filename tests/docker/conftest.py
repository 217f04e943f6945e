"""What several tests of the configuration need: the service's own metrics."""

import pytest

from testing.fakes import RED_FACE, make_app, post, running
from tests.docker.configuration import samples


@pytest.fixture
def anyio_backend() -> str:
    """Tests of coroutines run on asyncio."""
    return "asyncio"


@pytest.fixture
async def exposed() -> dict[str, set[str]]:
    """The samples that ``/metrics`` shows after one image: name to names of labels."""
    async with running(make_app()) as client:
        assert (await post(client, RED_FACE)).status_code == 200
        return samples((await client.get("/metrics")).text)
