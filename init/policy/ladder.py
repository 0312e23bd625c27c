"""End one process, a worker or a template, with stronger means at each step until it is gone.

This module knows no requests. The policy and the template's keeper decide when the process must end.
"""

from __future__ import annotations

import _signal as signal

from ..kernel.plain_classes import Enum
from ..model import Settings
from .actions import Action, Lose, Signal, Sweep


class Phase(Enum):
    """The state of the process. A template is always NONE, TERMINATING or KILLED."""

    NONE = "no worker"
    STARTING = "started, READY not yet seen"
    SERVING = "ready"
    DRAINING = "gets no new requests, because a request or the start ran out of time, or a result is too large"
    STOPPING = "told to stop, or its stream is closed"
    TERMINATING = "sent SIGTERM"
    KILLED = "sent SIGKILL"


class Ladder:
    """The phase of one process, and the steps that end it.

    The steps are: send SIGTERM, wait for the grace time, send SIGKILL, and give up a process that still does not end.

    Attributes:
        settings: The time limits, and how many requests a worker may have.
        phase: The state of the process.
        deadline: When the next step is due; None if the process only has to wait for an event.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phase = Phase.NONE
        self.deadline: float | None = None
        self._gone = False
        self._lost_at = 0.0

    def gone(self) -> None:
        """Record that the process is dead, so that no signal and no frame is sent to it any more.

        After this, the owner of a Policy must report all that the worker had written, and then call `died`.
        """
        self._gone = True

    def enter(self, phase: Phase, deadline: float | None = None) -> None:
        """Change to another phase, with the deadline for its next step."""
        self.phase = phase
        self.deadline = deadline

    def climb(self, now: float) -> list[Action]:
        """Take the next step, because the deadline of the present step has passed."""
        if self.phase is Phase.STOPPING:
            return self.terminate(now)
        if self.phase is Phase.TERMINATING:
            return self.kill(now)
        if now < self._lost_at:  # a tracer or the kernel still holds the process
            self.deadline = now + self.settings.kill_wait
            return [Sweep()]
        self.deadline = None
        return [Lose()]

    def terminate(self, now: float) -> list[Action]:
        """Send SIGTERM, and give the process the grace time to end."""
        self.enter(Phase.TERMINATING, now + self.settings.grace)
        return [] if self._gone else [Signal(signal.SIGTERM)]

    def kill(self, now: float) -> list[Action]:
        """Send SIGKILL, and wait for the process to be gone."""
        self.enter(Phase.KILLED, now + self.settings.kill_wait)
        self._lost_at = now + self.settings.lose_wait
        return [] if self._gone else [Signal(signal.SIGKILL)]
