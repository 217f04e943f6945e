"""Recovery: how often, and after what pause, an engine that was lost is built anew.

Pure: standard library only.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recovery:
    """The bounds within which a lost engine is replaced; beyond them the process is better started again.

    Attributes:
        attempts: rebuilds in succession, with no batch of somebody's work answered in between.
        abandoned: engines that hang and were left behind, each with its thread and its memory.
        pause: seconds before the second attempt; each further one waits twice as long.
        longest: the longest pause, in seconds.
    """

    attempts: int = 6
    abandoned: int = 2
    pause: float = 1.0
    longest: float = 30.0

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after so many attempts; none before the first."""
        return 0.0 if attempts == 0 else min(self.longest, self.pause * 2.0 ** (attempts - 1))


def out_of_memory(error: BaseException) -> bool:
    """Return whether an engine failed for want of memory, whatever it runs on.

    PyTorch raises ``torch.OutOfMemoryError`` on a device, known here by its name so that nobody loads PyTorch to ask,
    and a ``RuntimeError`` of its allocator on a CPU; OpenVINO's ``std::bad_alloc`` arrives as ``MemoryError``.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )
