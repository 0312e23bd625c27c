"""Define the actions that a policy can ask for: one class for each kind of action.

They are plain classes, because dataclasses would add several milliseconds to every start. This module knows no policy.
"""

from __future__ import annotations

from ..kernel.plain_classes import Enum


class Cause(Enum):
    """Why the init answers a request in the worker's place. Each value completes the sentence "The worker …"."""

    TIMED_OUT = "timed out"
    DIED = "died"
    VIOLATION = "broke the protocol"
    NOT_LOADED = "could not load the handler"
    START_TIMED_OUT = "was not ready in time"
    START_FAILED = "could not be started"
    STOPPED = "was to end, because pipe-init is"
    TOO_LARGE = "answered more than it may"


class Action:
    """One thing that the policy asks its lane to do."""


class RequestAction(Action):
    """One thing that the policy asks its lane to do about request `id`."""

    def __init__(self, id: int) -> None:
        self.id = id


class Start(Action):
    """Start a worker."""


class Send(RequestAction):
    """Write the request to the worker."""


class Begin(RequestAction):
    """Record that the worker runs the request from now on, and that the request's time has begun."""


class Answer(RequestAction):
    """Answer the request in the worker's place."""

    def __init__(self, id: int, cause: Cause) -> None:
        self.id = id
        self.cause = cause


class Cancel(RequestAction):
    """Tell the worker that no caller waits for the request any more."""


class Dump(Action):
    """Ask the worker for its stacks, by a signal or by a DUMP frame. The signal also wakes a stopped worker."""

    def __init__(self, by_signal: bool = True) -> None:
        self.by_signal = by_signal


class Stop(Action):
    """Tell the worker to finish: send STOP, then close its input."""


class Signal(Action):
    """Send signal `number` to the worker's process group. Wake a stopped worker, so that it can handle the signal."""

    def __init__(self, number: int) -> None:
        self.number = number


class Sweep(Action):
    """Kill the processes that may keep a killed worker from ending, such as a tracer that it has left behind."""


class Lose(Action):
    """Give up the worker, because it was killed and does not end."""
