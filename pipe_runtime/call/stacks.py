"""Find where the function's threads and tasks are: their calls as stacks, for DUMP.

It is loaded when a stack is asked for. It knows Python's frames, and no requests.
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
"""Calls kept at either end of a stack: many stacks share one head."""

DEPTH = 1000
"""Calls looked at. A coroutine may await itself in a circle."""

_WAITING = {
    "coroutine": ("cr_frame", "cr_await"),
    "async_generator": ("ag_frame", "ag_await"),
    "generator": ("gi_frame", "gi_yieldfrom"),
}
"""{type: the attributes with its frame and with what it waits for}."""

_STEPS = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""Built-in types that step through a coroutine or an asynchronous generator. They do not name it."""


def of_thread(thread: int) -> list[StackEntry]:
    """Return the calls of the function's code in a thread, most recent last."""
    frame: Any = sys._current_frames().get(thread)
    calls: list[tuple[Any, int]] = []
    while frame is not None and len(calls) < DEPTH:
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return faults.stack_of(namespace.without_own(calls[::-1]), KEPT)


def of_coroutine(coroutine: Any) -> list[StackEntry]:
    """Return the calls in which a suspended coroutine waits, most recent last."""
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
    """Return what an `async for` or an `anext` waits in. Only the garbage collector knows it."""
    for found in late.gc.get_referents(step):
        if type(found).__name__ in (*_WAITING, *_STEPS):
            return found
    return None


def fitting(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return as many of the stacks as fit into a head, in order."""
    fit, size = [], 0
    for each in stacks:
        size += 64 + sum(len(faults.clean(str(part)).encode()) + 8 for entry in each["stack"] for part in entry)
        if size > faults.HEAD_LIMIT:
            break
        fit.append(each)
    return fit
