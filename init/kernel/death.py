"""Describe how a child process ended. This module does not know how deaths are noticed, or what the child was for."""

from __future__ import annotations

import _signal as signal
import os

from .records import dataclass

UNKNOWN = -1
"""The status of a child that other code in this process has collected, so that the kernel no longer has its status."""


@dataclass(frozen=True)
class Death:
    """How a child ended, and how much memory and CPU time it had used.

    Attributes:
        pid: The child's pid.
        status: The status of waitpid(2), or UNKNOWN.
        peak_memory: The most resident memory in bytes that the child had, or one of its own children if that had more.
        cpu_seconds: The CPU time of the child and of the children that it has waited for. It is the time of the child
            alone if a signal ended the child, reap() got it among `leaders`, and proc(5) has that time.
    """

    pid: int
    status: int
    peak_memory: int
    cpu_seconds: float = 0.0

    @property
    def signal(self) -> int:
        """Return the signal that ended the child; 0 if the child exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def description(self) -> str:
        """Return how the child ended in the usual words, such as `exit status 1` or `signal: killed`."""
        if self.signal:
            name = signal.strsignal(self.signal) or f"signal {self.signal}"
            return f"signal: {name.lower()}"
        if self.status == UNKNOWN:
            return "exit status unknown, because other code of this program has collected it"
        return f"exit status {os.WEXITSTATUS(self.status)}"
