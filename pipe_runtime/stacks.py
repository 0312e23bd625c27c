"""Where requests are that run in threads and tasks: their stacks, for an answer to DUMP.

Loaded when somebody asks. It knows Python's frames, not requests.
"""

from __future__ import annotations

import sys

from . import faults
from .shorten import HEAD_LIMIT, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .errors import StackEntry

KEPT = 10
"""Calls kept at either end of a stack: many stacks share one head."""

DEPTH = 1000
"""Calls looked at; a coroutine may await itself in a circle."""


def of_thread(thread: int) -> list[StackEntry]:
    """The calls of the function's code in a thread, most recent last."""
    frame: Any = sys._current_frames().get(thread)
    calls: list[tuple[Any, int]] = []
    while frame is not None and len(calls) < DEPTH:
        calls.append((frame, frame.f_lineno))
        frame = frame.f_back
    return faults.stack_of(_from_the_function(calls[::-1]), KEPT)


def of_coroutine(coroutine: Any) -> list[StackEntry]:
    """The calls in which a suspended coroutine waits, most recent last."""
    calls: list[tuple[Any, int]] = []
    while coroutine is not None and len(calls) < DEPTH:
        kind = "cr" if hasattr(coroutine, "cr_frame") else "ag" if hasattr(coroutine, "ag_frame") else "gi"
        frame = getattr(coroutine, f"{kind}_frame", None)
        if frame is not None:
            calls.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return faults.stack_of(_from_the_function(calls), KEPT)


def _from_the_function(calls: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Without what called the function: threading's calls and ours."""
    last = max((index for index, (frame, _) in enumerate(calls) if faults.is_own(frame)), default=-1)
    return calls[last + 1 :]


def fitting(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into a head, in order."""
    fit, size = [], 0
    for each in stacks:
        size += 64 + sum(len(clean(str(part)).encode()) + 8 for entry in each["stack"] for part in entry)
        if size > HEAD_LIMIT:
            break
        fit.append(each)
    return fit
