"""Print stacks and tracebacks for `logging`, without the runtime's own calls.

The runtime loads this module when a record has a stack or cannot be formatted. This module must not know requests.
"""

from __future__ import annotations

from .. import namespace
from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO


def print_stack(frame: Any, limit: int | None, file: TextIO | None, logging: dict[str, Any]) -> None:
    """Print the stack from the function's first call to `frame`, as traceback.print_stack does.

    Args:
        frame: The frame that logged a record. If the record cannot be formatted, a frame of the runtime's log handler.
        limit: The most calls to print, counted from the first call; None for all calls.
        file: The file to print to; None for stderr.
        logging: The globals of the module `logging`. Its calls between the function and the handler are left out.
    """
    traceback = late.traceback
    if namespace.is_own(frame):
        while frame is not None and (namespace.is_own(frame) or frame.f_globals is logging):
            frame = frame.f_back
    calls = list(traceback.walk_stack(frame))[::-1] if frame is not None else []
    shown = traceback.StackSummary.extract(iter(namespace.without_own(calls)), limit=limit)
    traceback.print_list(shown, file=file)


def print_exception(exc: Any, value: Any = None, tb: Any = None, *rest: Any, **named: Any) -> None:
    """Print an exception without the runtime's own calls. The arguments are those of traceback.print_exception."""
    if isinstance(exc, BaseException):
        exc, value, tb = type(exc), exc, exc.__traceback__
    others = []
    while tb is not None:
        if not namespace.is_own(tb.tb_frame):
            others.append(tb)
        tb = tb.tb_next
    for each in reversed(others):
        tb = type(each)(tb, each.tb_frame, each.tb_lasti, each.tb_lineno or 0)
    late.traceback.print_exception(exc, value, tb, *rest, **named)
