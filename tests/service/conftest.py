"""Settings of a test's own: whatever the machine has set is not seen."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Tests of coroutines run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MANET_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def quiet_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing may go wrong where only the event loop's own log would tell."""
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    assert not [record.getMessage() for record in records if record.name == "asyncio"]
