"""Know the peak memory of one worker, as far as the worker and the kernel tell. This module must not know requests."""

from __future__ import annotations

from ..kernel import procfs
from ..kernel.death import Death


class PeakMemory:
    """The peak of one worker's memory, in bytes."""

    def __init__(self, executed: bool) -> None:
        """Begin with a new worker.

        Args:
            executed: Whether it is a program of its own. A fork of a template keeps the template's memory.
        """
        self._copied = procfs.resident() if executed else 0  # what it may have had before exec
        self._at_ready = self._reported = 0

    def ready(self, reported: int) -> None:
        """Take what the worker reports when it is ready."""
        self._at_ready = self._reported = reported

    def answered(self, reported: int) -> None:
        """Take what the worker reports with an outcome."""
        self._reported = max(self._reported, reported)

    def growth(self, reported: int) -> int:
        """Return by how much a report is above that at READY. A worker that lies about its memory seems not to grow."""
        return reported - self._at_ready

    def of_the_dead(self, death: Death) -> int:
        """Return the peak of the worker, which is dead.

        The kernel's figure includes the time before exec, when the worker was a copy of this process. Only a figure
        above the copy's memory is surely the worker's own. Otherwise the worker's own claim is closer, if it is lower.
        """
        if not self._reported or death.peak_memory > self._copied:
            return death.peak_memory
        return min(self._reported, death.peak_memory)
