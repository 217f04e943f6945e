"""Kills: processes of a service with several front ends, killed at random while it is under load.

What may be lost then is what the killed process held, and nothing else: clients see connections that end, and 503 while
the network's process is started again.
"""

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.soak_load import Ledger, WakingClock

SETTLING = 30.0
"""Seconds at the end in which nothing is killed, so that all counts come to rest."""


@dataclass
class Kills:
    """What was killed, and what it may have cost.

    Attributes:
        every: seconds between two kills, on average.
        killed: by name.
        held: sockets that killed front ends had: connections of clients, and a few of their own.
    """

    every: float
    killed: Counter[str] = field(default_factory=Counter)
    held: int = 0

    async def run(self, seconds: float, log: Sequence[str], clock: WakingClock, chance: random.Random) -> None:
        """Kill for so long.

        Args:
            seconds: of the whole load.
            log: of the service, as it grows; it names each process.
            clock: counts the seconds.
            chance: chooses.
        """
        end = clock.seconds + seconds - SETTLING
        while True:
            due = clock.seconds + self.every * (0.5 + chance.random())
            while clock.seconds < due:
                await asyncio.sleep(0.1)
            if clock.seconds >= end:
                return
            newest = dict(
                re.findall(r"^INFO: +(engine|explainer|front end \d+): process (\d+)", "".join(log), re.MULTILINE)
            )
            name = chance.choice(sorted(newest))
            self._kill(name, psutil.Process(int(newest[name])))

    def _kill(self, name: str, process: psutil.Process) -> None:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return  # it is being started again
        process.suspend()  # so that what it holds is what is counted
        descriptors = Path(f"/proc/{process.pid}/fd")
        if name.startswith("front end"):
            self.held += sum(os.readlink(found).startswith("socket:") for found in descriptors.iterdir())
        process.kill()
        self.killed[name] += 1

    def promises(self, ledger: Ledger, counted: Counter[str], errors: Sequence[str], grown: float) -> dict[str, bool]:
        """Return which promises hold, besides those that hold without kills, too."""
        told = [line for line in errors if re.search(r"\(process \d+\) ended with status -9", line)]
        cut = sum(count for kind, count in ledger.cut_kinds.items() if not kind.startswith("oversize"))
        return {
            "no 500": not counted["500"] and not ledger.seen["500"],
            "no error in the log but that of each kill": len(told) == len(errors) == self.killed.total(),
            "no one waited in vain": ledger.lost == 0,
            "cut off only what killed front ends held": cut <= self.held,
            "all else was counted": 0 <= ledger.sent.total() - counted.total() <= self.held,
            "memory flat": grown <= MOST_GROWTH,
        }


MOST_GROWTH = 5.0
"""Percent. Processes of different ages are added up here, so it is more than without kills."""
