"""Held: for how long a thread has been at the same piece of work."""


class Held:
    """For how long it was, by those who look.

    The time is the sum of what is between looks, so that a process which was frozen finds it as it was.

    Attributes:
        seconds: in which all looks met the same piece of work.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._work: int | None = None

    def look(self, work: int | None, seconds: float) -> None:
        """Take in what it is at.

        Args:
            work: the number of the piece of work; None if it is at none.
            seconds: since the last look.
        """
        self.seconds = self.seconds + seconds if work is not None and work == self._work else 0.0
        self._work = work
