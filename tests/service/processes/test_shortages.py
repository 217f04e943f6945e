"""What a process does that cannot be connected to another one, or is told to stop by someone else."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from service.processes import channel
from service.processes.channel import Channel, pair
from testing.front_ends import serving_with_front_ends
from testing.live import until


@pytest.mark.slow
def test_a_front_end_with_too_many_files_open_for_a_new_engine_is_restarted(tmp_path: Path) -> None:
    with serving_with_front_ends(tmp_path) as service:
        [front_end] = service.pids("front end 0")
        _, most = resource.prlimit(front_end, resource.RLIMIT_NOFILE)
        resource.prlimit(front_end, resource.RLIMIT_NOFILE, (3, most))
        os.kill(service.pids("engine")[-1], signal.SIGKILL)

        until(lambda: service.text.count("front end 0 is up") == 2, 60)
        assert [service.status() for _ in range(8)] == [200] * 8
        assert "too many files are open" in service.text


@pytest.mark.slow
def test_a_front_end_stops_when_the_supervisor_says_so_and_by_no_signal(tmp_path: Path) -> None:
    with serving_with_front_ends(tmp_path) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(service.pids("front end 0")[-1], number)
            assert [service.status() for _ in range(8)] == [200] * 8
        assert len(service.pids("front end 0")) == 1


@pytest.mark.anyio
async def test_a_process_whose_notes_are_not_taken_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []

    class GaveUpError(Exception):
        """In place of the end of the process."""

    def give_up(reason: str) -> None:
        reasons.append(reason)
        raise GaveUpError

    class FullSocket:
        """A socket whose system has no memory for what is sent."""

        def __init__(self) -> None:
            self._end, self.other = pair()
            self.fileno, self.setblocking = self._end.fileno, self._end.setblocking
            self.close = self._end.close

        def send(self, _packet: bytes) -> int:
            raise OSError(errno.ENOBUFS, "no buffer space")

    monkeypatch.setattr(channel, "give_up", give_up)
    end = FullSocket()
    with end.other:
        ours = Channel(end, lambda _packet: None, lambda: None)  # type: ignore[arg-type]
        ours.put(b"note")
        with pytest.raises(GaveUpError):
            ours.close()
        end.close()
    assert len(reasons) == 1
    assert "no buffer space" in reasons[0]
