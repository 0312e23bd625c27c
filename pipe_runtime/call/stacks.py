"""Return the stacks of the function's threads and tasks, for the answer to DUMP.

The runtime loads this module when the init first asks for stacks. This module knows Python's frames, but no requests.
"""

from __future__ import annotations

import sys

from .. import namespace
from ..namespace import late
from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.errors import StackEntry

KEPT = 10
"""How many calls to keep at each end of a stack. One head has to hold many stacks."""

DEPTH = 1000
"""How many calls to follow. Without a limit, coroutines that await each other in a circle would never end."""

_WAITING = {
    "coroutine": ("cr_frame", "cr_await"),
    "async_generator": ("ag_frame", "ag_await"),
    "generator": ("gi_frame", "gi_yieldfrom"),
}
"""{type: (name of the attribute with its frame, name of the attribute with the object that it awaits)}."""

_STEPS = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""Built-in types that run a coroutine or an asynchronous generator. They have no attribute that refers to it."""


def of_thread(thread: int) -> list[StackEntry]:
    """Return the calls of the function's code in a thread, most recent last."""
    frame: Any = sys._current_frames().get(thread)
    calls: list[tuple[Any, int]] = []
    while frame is not None and len(calls) < DEPTH:
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return faults.stack_of(namespace.without_own(calls[::-1]), KEPT)


def of_coroutine(coroutine: Any) -> list[StackEntry]:
    """Return the calls of a suspended coroutine, and of the coroutines that it awaits, most recent last."""
    calls: list[tuple[Any, int]] = []
    for _ in range(DEPTH):
        name = type(coroutine).__name__
        if name in _STEPS:
            coroutine = _stepped_through(coroutine)
            continue
        if name not in _WAITING:
            break
        frame, awaited = (getattr(coroutine, attribute) for attribute in _WAITING[name])
        if frame is not None:
            calls.append((frame, frame.f_lineno))
        coroutine = awaited
    return faults.stack_of(namespace.without_own(calls), KEPT)


def _stepped_through(step: Any) -> Any:
    """Return the coroutine or generator that `step` runs. Only the garbage collector knows this reference."""
    for found in late.gc.get_referents(step):
        if type(found).__name__ in (*_WAITING, *_STEPS):
            return found
    return None


def fitting(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first stacks in the list, as many as fit into one head."""
    fit, size = [], 0
    for each in stacks:
        size += 64 + sum(len(faults.clean(str(part)).encode()) + 8 for entry in each["stack"] for part in entry)
        if size > faults.HEAD_LIMIT:
            break
        fit.append(each)
    return fit
