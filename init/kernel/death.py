"""Describe how a child process ended. This module knows neither how deaths are noticed nor what the child was for."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

UNKNOWN = -1
"""The status of a child that other code of this process has collected."""


class Death(NamedTuple):
    """How a child has ended, and what it had used.

    Attributes:
        pid: The child.
        status: As of waitpid(2), or UNKNOWN.
        peak_memory: The most bytes that were resident, of the child or of one of its own children.
        cpu_seconds: CPU time of the child alone. If proc(5) does not tell it, its children's time is included.
    """

    pid: int
    status: int
    peak_memory: int
    cpu_seconds: float = 0.0

    @property
    def signal(self) -> int:
        """Return the signal that ended it, 0 if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def description(self) -> str:
        """Return the usual words for it: `exit status 1`, `signal: killed`."""
        if self.signal:
            name = signal.strsignal(self.signal) or f"signal {self.signal}"
            return f"signal: {name.lower()}"
        if self.status == UNKNOWN:
            return "exit status unknown, because other code of this program has collected it"
        return f"exit status {os.WEXITSTATUS(self.status)}"
