"""Find the function's own calls in stacks: of requests in threads and tasks, for DUMP, and of what logs something.

It is loaded when a stack is asked for. It knows Python's frames, and no requests.
"""

from __future__ import annotations

import sys

from ..namespace import late
from . import faults
from .shorten import HEAD_LIMIT, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from ..wire.errors import StackEntry

KEPT = 10
"""Calls kept at either end of a stack: many stacks share one head."""

DEPTH = 1000
"""Calls looked at; a coroutine may await itself in a circle."""

HEAP_TYPE = 1 << 9
"""Of a class's __flags__: it is not one of the interpreter's own (Py_TPFLAGS_HEAPTYPE)."""

_WAITING = {
    "coroutine": ("cr_frame", "cr_await"),
    "async_generator": ("ag_frame", "ag_await"),
    "generator": ("gi_frame", "gi_yieldfrom"),
}
"""By type: the attributes with its frame and with what it waits for."""

_CALLERS = ("threading", "asyncio")
"""Packages whose code, with ours, calls the function's."""

_STEPS = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""Built-in types that step through a coroutine or an asynchronous generator, and do not say which."""


def of_thread(thread: int) -> list[StackEntry]:
    """The calls of the function's code in a thread, most recent last."""
    frame: Any = sys._current_frames().get(thread)
    calls: list[tuple[Any, int]] = []
    while frame is not None and len(calls) < DEPTH:
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return faults.stack_of(from_the_function(calls[::-1]), KEPT)


def of_coroutine(coroutine: Any) -> list[StackEntry]:
    """The calls in which a suspended coroutine waits, most recent last."""
    calls: list[tuple[Any, int]] = []
    for _ in range(DEPTH):
        if coroutine is None or type(coroutine).__flags__ & HEAP_TYPE:
            break  # a class of the function's, whose attributes may raise or block
        name = type(coroutine).__name__
        if name in _STEPS:
            coroutine = _stepped_through(coroutine)
        elif name in _WAITING:
            frame, awaited = (getattr(coroutine, attribute) for attribute in _WAITING[name])
            if frame is not None:
                calls.append((frame, frame.f_lineno))
            coroutine = awaited
        else:
            break
    return faults.stack_of(from_the_function(calls), KEPT)


def _stepped_through(step: Any) -> Any:
    """What an `async for` or an `anext` waits in. Nothing but the garbage collector tells."""
    for found in late.gc.get_referents(step):
        if type(found).__name__ in _WAITING or type(found).__name__ in _STEPS:
            return found
    return None


def from_the_function(calls: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Return the calls, as (frame, line), without the runtime's own, most recent last."""
    start = 0
    while start < len(calls) and _calls_the_function(calls[start][0]):
        start += 1
    return [call for call in calls[start:] if not faults.is_own(call[0])]


def _calls_the_function(frame: Any) -> bool:
    name = dict.get(frame.f_globals, "__name__")
    return faults.is_own(frame) or (type(name) is str and name.partition(".")[0] in _CALLERS)


def fitting(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into a head, in order."""
    fit, size = [], 0
    for each in stacks:
        size += 64 + sum(len(clean(str(part)).encode()) + 8 for entry in each["stack"] for part in entry)
        if size > HEAD_LIMIT:
            break
        fit.append(each)
    return fit


def print_stack(frame: Any, limit: int | None, file: TextIO | None, logging: dict[str, Any]) -> None:
    """Print the calls from the function's first one to `frame`, as traceback.print_stack does.

    Args:
        frame: The frame that logged a record, or a frame of our handler, which could not format it.
        limit: The most calls to print, counted from the first one; None for all.
        file: Where to print; None for stderr.
        logging: The globals of the module `logging`, whose calls are between the function's and our handler's.
    """
    traceback = late.traceback
    if faults.is_own(frame):
        while frame is not None and (faults.is_own(frame) or frame.f_globals is logging):
            frame = frame.f_back
    calls = list(traceback.walk_stack(frame))[::-1] if frame is not None else []
    shown = traceback.StackSummary.extract(iter(from_the_function(calls)), limit=limit)
    traceback.print_list(shown, file=file)


def print_exception(exc: Any, value: Any = None, tb: Any = None, *rest: Any, **named: Any) -> None:
    """Print an exception without the runtime's own calls. The arguments are those of traceback.print_exception."""
    if isinstance(exc, BaseException):
        exc, value, tb = type(exc), exc, exc.__traceback__
    others = []
    while tb is not None:
        if not faults.is_own(tb.tb_frame):
            others.append(tb)
        tb = tb.tb_next
    for each in reversed(others):
        tb = type(each)(tb, each.tb_frame, each.tb_lasti, each.tb_lineno or 0)
    late.traceback.print_exception(exc, value, tb, *rest, **named)
