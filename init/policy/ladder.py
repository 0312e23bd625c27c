"""End one process step by step: a worker, or a template, that is asked to end and may not do so.

This module knows no requests. The policy and the template's keeper decide when the process is to end.
"""

from __future__ import annotations

import signal
from enum import Enum

from ..model import Settings
from .actions import Action, Lose, Signal, Sweep


class Phase(Enum):
    """Where the process is. A template is only ever NONE, TERMINATING or KILLED."""

    NONE = "no worker"
    STARTING = "started, READY not yet seen"
    SERVING = "ready"
    DRAINING = "sent nothing new, since a request or the start ran out of time, or a result is too large"
    STOPPING = "told to stop, or its stream is closed"
    TERMINATING = "sent SIGTERM"
    KILLED = "sent SIGKILL"


class Ladder:
    """The phase of one process, and the steps that end it: SIGTERM, the grace time, SIGKILL, and going on without it.

    Attributes:
        settings: How long things may take, and how many requests a worker may have.
        phase: Where the process is.
        deadline: When something is due; None if only an event counts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phase = Phase.NONE
        self.deadline: float | None = None
        self._gone = False
        self._lost_at = 0.0

    def gone(self) -> None:
        """Note that the process is dead, and send it nothing more.

        The caller of a Policy tells at once what the worker had written, and then `died`.
        """
        self._gone = True

    def enter(self, phase: Phase, deadline: float | None = None) -> None:
        """Go over to a phase."""
        self.phase = phase
        self.deadline = deadline

    def climb(self, now: float) -> list[Action]:
        """Take the next step, because the deadline of the last one has passed."""
        if self.phase is Phase.STOPPING:
            return self.terminate(now)
        if self.phase is Phase.TERMINATING:
            return self.kill(now)
        if now < self._lost_at:  # a tracer or the kernel holds on to it
            self.deadline = now + self.settings.kill_wait
            return [Sweep()]
        self.deadline = None
        return [Lose()]

    def terminate(self, now: float) -> list[Action]:
        """Send SIGTERM. The process has the grace time."""
        self.enter(Phase.TERMINATING, now + self.settings.grace)
        return [] if self._gone else [Signal(signal.SIGTERM)]

    def kill(self, now: float) -> list[Action]:
        """Send SIGKILL."""
        self.enter(Phase.KILLED, now + self.settings.kill_wait)
        self._lost_at = now + self.settings.lose_wait
        return [] if self._gone else [Signal(signal.SIGKILL)]
