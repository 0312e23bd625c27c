"""Describe an exception as data: what an ERROR frame says about an exception of the handler's.

Its class may be the function's own, so its text may fail and its attributes may raise. `describe` returns an
answer nevertheless. This module does not know frames, handlers, or how an error is printed in the end.
"""

from __future__ import annotations

import msgpack

from .. import namespace
from ..wire.errors import Fault
from .usage_and_limits import limit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from ..wire.errors import StackEntry

NAME_LIMIT = 1024
"""Bytes of UTF-8 of a class, a file, a function or a source line: each of a hundred frames has three of these."""

TEXT_LIMIT = 8 * 1024
"""Bytes of UTF-8 that one text may take, marker included."""

CUT = "… [cut]"
"""The marker at the place where a text was cut."""

HEAD_LIMIT = 56 * 1024
"""Bytes that a packed description of an error may take. A head has 64 KiB: the rest is for ids and durations."""

CAUSES = 8
"""Links of a chain of causes."""

GROUP_WIDTH = 16
"""Members of one group, and notes of one exception."""

GROUP_DEPTH = 4
"""Groups inside one another."""

NODES = 64
"""Exceptions that are described in all. More would not fit, and each costs reading source files."""

LEVELS = (
    (50, 50, GROUP_WIDTH, CAUSES),
    (50, 10, GROUP_WIDTH, CAUSES),
    (50, 3, 4, CAUSES),
    (50, 3, 0, CAUSES),
    (50, 3, 0, 0),
    (20, 3, 0, 0),
    (6, 3, 0, 0),
)
"""Frames at either end of the error's own stack, the same of causes and members, members, and causes. The first level
at which an error packs into HEAD_LIMIT bytes is taken. At the last one every error does."""

UNREADABLE = "its details could not be read"


def describe(error: BaseException) -> dict[str, object]:
    """Return an exception as an ERROR's metadata. It never raises, whatever the exception's class does.

    Returns:
        {error_type: str, error_message: str, stack: [[file, line, function, source line]…] most recent last} and, if
        there is one, cause: the same of `__cause__` or of an unsuppressed `__context__`; exceptions: a list of the same
        for a group's members; limit: {name, value, peak} of the limit that the exception, or a cause of it, stands for.
        Every text is valid UTF-8 of at most TEXT_LIMIT bytes. Without the limit, all of it packs into HEAD_LIMIT bytes.
    """
    # BaseException here and below: an exception's own code may raise KeyboardInterrupt or SystemExit like any other,
    # and memory or stack may run out in the middle. The request still needs its answer.
    try:
        described = _fitting(error)
    except BaseException:
        described = _briefly(error)
    try:
        limit = _limit_of(error)
    except BaseException:  # the answer can do without it
        limit = None
    return described if limit is None else {**described, "limit": limit}


def in_words(error: BaseException) -> str:
    """Return an exception as lines for a log: its class and text, its stack, its causes, and the members of a group."""
    return "\n".join(_lines(describe(error)))


def _lines(problem: Mapping[str, Any]) -> Iterator[str]:
    yield f"{problem['error_type']}: {problem['error_message']}"
    for file, line, function, source in problem.get("stack", ()):
        yield f'  File "{file}", line {line}, in {function}' if file else f"  {function}"
        if source:
            yield f"    {source}"
    for member in problem.get("exceptions", ()):
        yield from (f"  | {line}" for line in _lines(member))
    if "cause" in problem:
        cause, *rest = _lines(problem["cause"])
        yield f"caused by {cause}"
        yield from rest


def _fitting(error: BaseException) -> dict[str, object]:
    """Describe an exception in as much detail as fits into a head."""
    for frames, inner_frames, members, causes in LEVELS:
        described = _Description(inner_frames, members).node(error, causes, 0, frames)
        if len(msgpack.packb(described)) <= HEAD_LIMIT:
            break
    return described


def _briefly(error: BaseException) -> dict[str, object]:
    name = "BaseException"
    try:
        name = type(error).__name__[:256]  # no call: the stack may have no room for another frame of Python's
        message = message_of(error)
    except BaseException:  # see describe
        message = UNREADABLE
    return {"error_type": name, "error_message": message, "stack": []}


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text that any peer can decode: lone surrogates escaped, and at most `limit` bytes of UTF-8.

    If the text was cut, it ends with a marker. The result is a plain str.
    """
    # A character takes a byte at least, so the slice bounds the work for a text of any size.
    encoded = text[: limit + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def type_name(value: object) -> str:
    """Return the name of a value's class."""
    return clean(type(value).__name__, NAME_LIMIT)


def message_of(error: BaseException) -> str:
    """Return an exception's text, of at most TEXT_LIMIT bytes. If its `__str__` raises, the text says so."""
    try:
        return clean(str(error.code) if isinstance(error, SystemExit) else str(error))
    except BaseException as failure:  # see describe
        return "its text could not be read: __str__ raised " + type_name(failure)


class _Description:
    """The walk over one exception and all that hangs on it.

    Args:
        frames: Calls to keep at each end of the stacks of causes and members.
        members: Members of a group to keep.

    Attributes:
        seen: The identities of the exceptions that are described.
        budget: How many more may be described.
    """

    def __init__(self, frames: int, members: int) -> None:
        self._frames = frames
        self._members = members
        self.seen: set[int] = set()
        self.budget = NODES

    def node(self, error: BaseException, causes: int, depth: int, frames: int) -> dict[str, object]:
        """Return the description of one exception.

        Args:
            error: The exception.
            causes: Links that are still allowed on this path.
            depth: Groups that it lies in.
            frames: Calls to keep at each end of its stack.
        """
        self.seen.add(id(error))
        self.budget -= 1
        described: dict[str, object] = {
            "error_type": clean(error.error_type, NAME_LIMIT) if isinstance(error, Fault) else type_name(error),
            "error_message": _message_with_notes(error),
            "stack": _stack(error, frames),
        }
        cause = _cause_of(error)
        if cause is not None and causes > 0 and self._takes(cause):
            described["cause"] = self.node(cause, causes - 1, depth, min(frames, self._frames))
        if depth < GROUP_DEPTH:
            members = [
                self.node(member, causes, depth + 1, self._frames)
                for member in _members(error)[: self._members]
                if self._takes(member)
            ]
            if members:
                described["exceptions"] = members
        return described

    def _takes(self, error: BaseException) -> bool:
        return self.budget > 0 and id(error) not in self.seen


def _cause_of(error: BaseException) -> BaseException | None:
    return error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__


def _limit_of(error: BaseException) -> dict[str, object] | None:
    """Return the limit that the exception, or else the nearest of its causes, stands for."""
    each: BaseException | None = error
    for _ in range(CAUSES + 1):
        if each is None:
            return None
        if isinstance(each, (MemoryError, OSError, RuntimeError)):
            calls = namespace.calls_of(each.__traceback__)
            limit = limit_of(each, calls[-1][0].f_code if calls else None)
            if limit is not None:
                return limit
        each = _cause_of(each)
    return None


def _members(error: BaseException) -> list[BaseException]:
    """Return a group's members. By duck typing: before Python 3.11 groups come from a package of their own."""
    members = getattr(error, "exceptions", ())
    if not isinstance(members, (tuple, list)):
        return []
    return [member for member in members if isinstance(member, BaseException)]


def _message_with_notes(error: BaseException) -> str:
    notes = getattr(error, "__notes__", ())
    if not isinstance(notes, (tuple, list)):
        notes = ()
    return clean("\n".join((message_of(error), *(clean(str(note)) for note in notes[:GROUP_WIDTH]))))


def _stack(error: BaseException, kept: int) -> list[StackEntry]:
    if isinstance(error, Fault) and error.entry is not None:
        return [_entry(*error.entry)]  # type: ignore[arg-type]
    stack = stack_of(namespace.calls_of(error.__traceback__), kept)
    if isinstance(error, SyntaxError) and error.filename and error.lineno is not None:
        # Where the offending line is. It was never called, so no traceback has it.
        file, line = error.filename, error.lineno
        stack.append(_entry(file, line, "<module>", error.text or _source(file, line, None)))
    return stack


def stack_of(calls: list[tuple[Any, int]], kept: int) -> list[StackEntry]:
    """Return calls, as (frame, line), as a stack; `kept` at either end of a long one."""
    gone = max(0, len(calls) - 2 * kept)
    stack = []
    for frame, line in calls[:kept] + calls[kept + gone :]:
        code = frame.f_code
        source = _source(code.co_filename, line, frame.f_globals)
        stack.append(_entry(code.co_filename, line, code.co_name, source))
    return [*stack[:kept], ["", 0, f"… {gone} more frames …", ""], *stack[kept:]] if gone else stack


def _entry(file: str, line: int, function: str, source: str) -> StackEntry:
    return [clean(file, NAME_LIMIT), line, clean(function, NAME_LIMIT), clean(source, NAME_LIMIT).strip()]


def _source(file: str, line: int, variables: dict[str, object] | None) -> str:
    """Return one source line, or "" if there is none."""
    try:
        return namespace.source_line(file, line, variables)
    except BaseException:  # a loader's get_source is the function's code; and see describe
        return ""
