"""Describe an exception as data: what an ERROR frame says about an exception of the handler's.

Its class may be the function's own, so its text may fail and its attributes may raise. `describe` returns an
answer nevertheless. This module does not know frames, handlers, or how an error is printed in the end.
"""

from __future__ import annotations

from .. import namespace
from ..wire.errors import Fault
from .shorten import clean, fit, omitted, shorten
from .usage import limit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any

    from ..wire.errors import StackEntry

NAME_LIMIT = 1024
"""Bytes of UTF-8 of a class, a file, a function or a source line: each of a hundred frames has three of these."""

FRAMES_KEPT = 50
"""Frames kept at either end of a long stack."""

MEMBER_FRAMES_KEPT = 10
"""The same inside a group's members."""

CAUSES = 8
"""Links of a chain of causes."""

GROUP_WIDTH = 16
"""Members of one group, and notes of one exception."""

GROUP_DEPTH = 4
"""Groups inside one another."""

NODES = 64
"""Exceptions that are described in all. More would not fit, and each costs reading source files."""

UNREADABLE = "its details could not be read"

RESERVE = 2 * 1024 * 1024
"""Bytes that are released when there is no memory left to describe an error with: what Python's allocator asks for at
once (1 MiB), and a source file. Nothing writes to them, so they take address space only."""

_reserve: list[bytes] = []

_IMPORT_SYSTEM = frozenset((
    "importlib", "importlib._bootstrap", "importlib._bootstrap_external",
    "_frozen_importlib", "_frozen_importlib_external",
))  # fmt: skip


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
        described = _described(error)
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


def _set_aside() -> None:
    try:
        _reserve.append(bytes(RESERVE))  # not a bytearray, which is written to
    except MemoryError:
        _reserve.clear()  # until there is memory again, errors are described briefly


def _described(error: BaseException) -> dict[str, object]:
    try:
        return fit(_Description().node(error, CAUSES, 0, FRAMES_KEPT))
    except MemoryError:
        if not _reserve:
            raise
    _reserve.clear()
    try:
        return fit(_Description().node(error, CAUSES, 0, FRAMES_KEPT))
    finally:
        _set_aside()


def _briefly(error: BaseException) -> dict[str, object]:
    name = "BaseException"
    try:
        name = type(error).__name__[:256]  # no call: the stack may have no room for another frame of Python's
        message = message_of(error)
    except BaseException:  # see describe
        message = UNREADABLE
    return {"error_type": name, "error_message": message, "stack": []}


_set_aside()


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

    Attributes:
        seen: The identities of the exceptions that are described.
        budget: How many more may be described.
    """

    def __init__(self) -> None:
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
            described["cause"] = self.node(cause, causes - 1, depth, frames)
        if depth < GROUP_DEPTH:
            members = [
                self.node(member, causes, depth + 1, MEMBER_FRAMES_KEPT)
                for member in _members(error)[:GROUP_WIDTH]
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
            traceback = each.__traceback__
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            limit = limit_of(each, None if traceback is None else traceback.tb_frame.f_code)
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
    if isinstance(error, Fault) and error.stack:
        return shorten([_entry(*entry) for entry in error.stack], kept)  # type: ignore[arg-type]
    stack = stack_of(_calls(error.__traceback__), kept)
    if isinstance(error, SyntaxError) and error.filename and error.lineno is not None:
        # Where the offending line is. It was never called, so no traceback has it.
        file, line = error.filename, error.lineno
        stack.append(_entry(file, line, "<module>", error.text or _source(file, line, None)))
    return stack


def _calls(traceback: TracebackType | None) -> list[tuple[Any, int]]:
    """Return the calls of a traceback, without the runtime's own, nor the import system's and asyncio's on top."""
    calls: list[tuple[Any, int]] = []
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
        if not namespace.is_own(frame) and (calls or not _calls_the_function(frame)):
            calls.append((frame, line or 0))  # None for an instruction that belongs to no line
    return calls


def _calls_the_function(frame: Any) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module in _IMPORT_SYSTEM or module.partition(".")[0] == "asyncio"


def stack_of(calls: list[tuple[Any, int]], kept: int) -> list[StackEntry]:
    """Return calls, as (frame, line), as a stack; `kept` at either end of a long one."""
    gone = max(0, len(calls) - 2 * kept)
    # A recursion has the same place again and again, and each costs looking at a file.
    places: dict[tuple[Any, int], StackEntry] = {}
    stack = []
    for frame, line in calls[:kept] + calls[kept + gone :]:
        code = frame.f_code
        if (code, line) not in places:
            source = _source(code.co_filename, line, frame.f_globals)
            places[code, line] = _entry(code.co_filename, line, code.co_name, source)
        stack.append(places[code, line])
    return [*stack[:kept], omitted(gone), *stack[kept:]] if gone else stack


def _entry(file: str, line: int, function: str, source: str) -> StackEntry:
    return [clean(file, NAME_LIMIT), line, clean(function, NAME_LIMIT), clean(source, NAME_LIMIT).strip()]


def _source(file: str, line: int, variables: dict[str, object] | None) -> str:
    """Return one source line, or "" if there is none."""
    try:
        return namespace.source_line(file, line, variables)
    except BaseException:  # a loader's get_source is the function's code; and see describe
        return ""
