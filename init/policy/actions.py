"""What a Policy can ask for: one small object for each thing to do.

Plain classes: made by dataclasses, they would take several milliseconds of every start. This file knows no policy.
"""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """Why the init answers a request in the runtime's place."""

    TIMED_OUT = "timed out"
    DIED = "died"
    VIOLATION = "broke the protocol"
    NOT_LOADED = "could not load the handler"
    START_TIMED_OUT = "was not ready in time"
    START_FAILED = "could not be started"
    STOPPED = "stopped"
    TOO_LARGE = "answered more than it may"


class Action:
    """One thing to do. Two are equal when kind and parts are."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]  # its parts can be changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._parts()))})"

    def _parts(self) -> list[object]:
        names: tuple[str, ...] = self.__slots__
        return [getattr(self, name) for name in names]


class Start(Action):
    """Start a worker."""

    __slots__ = ()


class Send(Action):
    """Write request `id` to the worker."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class Begin(Action):
    """Request `id` is now the one that the worker works on; its time runs."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class Answer(Action):
    """Answer request `id` in the runtime's place."""

    __slots__ = ("id", "cause")

    def __init__(self, id: int, cause: Cause) -> None:
        self.id = id
        self.cause = cause


class Cancel(Action):
    """Tell the worker that nobody waits for request `id` any more."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class Dump(Action):
    """Ask the worker for its stacks: by a signal, and wake it if it is stopped, or by a frame that it can answer."""

    __slots__ = ("by_signal",)

    def __init__(self, by_signal: bool = True) -> None:
        self.by_signal = by_signal


class Stop(Action):
    """Tell the worker to finish: STOP, and the end of its input."""

    __slots__ = ()


class Signal(Action):
    """Send signal `number` to the worker's process group (and wake it, so that it can act)."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Sweep(Action):
    """The killed worker is still there: kill whatever may keep it, such as a tracer that it has left behind."""

    __slots__ = ()


class Lose(Action):
    """The killed worker does not end: go on without it."""

    __slots__ = ()
