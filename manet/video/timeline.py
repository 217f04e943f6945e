"""Timeline: the times of one stream, in ticks since the clip's beginning, each later than the one before."""


class Timeline:
    """Sets a stream's time stamps right where a player, or a container to be written, would stumble over them.

    Args:
        start: where the clip begins, on the stream's own time stamps.
        step: ticks from one stamp to the next where one is missing, at least 1.
        second: ticks in a second.
    """

    def __init__(self, *, start: int, step: int, second: int) -> None:
        self._shift = -start
        self._step = step
        self._second = second
        self._last: int | None = None

    def place(self, stamp: int | None) -> int:
        """Return the next time, in ticks.

        A stamp that is missing follows the last one at the usual distance. One that does not come after it is an error
        of rounding and follows at once; more than a second before it, the stamps have begun again, as in recordings
        that were put one behind the other, and all that follow are moved along.

        Args:
            stamp: the stream's own, or None.
        """
        last = self._last
        if stamp is None:
            at = 0 if last is None else last + self._step
        else:
            at = stamp + self._shift
            if last is not None and at < last - self._second:
                self._shift += last + self._step - at
                at = last + self._step
            elif last is not None and at <= last:
                at = last + 1
        self._last = at
        return at
