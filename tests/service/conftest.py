"""Settings of a test's own: whatever the machine has set is not seen."""

import os

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Tests of coroutines run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MANET_")]:
        monkeypatch.delenv(name)
