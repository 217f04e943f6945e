"""What several commands run with."""

import pytest

from manet.recognizer import Recognizer
from testing.fakes import FakeBackend, recognizer


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """The network that a command runs, in the place of the real one."""
    backend = FakeBackend()
    monkeypatch.setattr(Recognizer, "from_weights", lambda *_args, **_options: recognizer(backend))
    return backend
