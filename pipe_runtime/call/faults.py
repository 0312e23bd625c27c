"""Exceptions as data: what an ERROR frame says about an exception of the handler's.

The exception is hostile input: its class may override whatever Python looks at. So its attributes are read
through the descriptors of the built-in classes, its own code runs only for its text and a group's members,
and nothing that this code raises gets out. This file knows neither frames nor handlers nor how an error is
printed in the end.
"""

from __future__ import annotations

import os

from .. import namespace
from ..wire.errors import Fault
from .shorten import clean, fit, omitted, shorten
from .usage import limit_behind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType, TracebackType
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
"""Exceptions described at all, however they hang together: more would not fit, and each costs reading source files."""

SOURCE_LIMIT = 16 * 1024 * 1024
"""Bytes of the largest file in which a source line is looked up (all of it would be read)."""

INNERMOST = 1000
"""Calls to walk through to the most recent one."""

UNREADABLE = "its details could not be read"

RESERVE = 2 * 1024 * 1024
"""Bytes that are let go when there is no memory left to describe an error with: what Python's allocator asks for at
once (1 MiB), and a source file. Nobody writes to them, so they take address space only."""

_reserve: list[bytes] = []

_SHORT = slice(0, 256)
_IMPORT_SYSTEM = frozenset((
    "importlib", "importlib._bootstrap", "importlib._bootstrap_external",
    "_frozen_importlib", "_frozen_importlib_external",
))  # fmt: skip

# The getters of the built-in classes: a property of the same name in a user's class is not asked.
_class_name = type.__dict__["__name__"].__get__
_instance_dict = BaseException.__dict__["__dict__"].__get__
_traceback = BaseException.__dict__["__traceback__"].__get__
_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__
_suppress_context = BaseException.__dict__["__suppress_context__"].__get__


def describe(error: BaseException) -> dict[str, object]:
    """An exception as an ERROR's metadata.

    Returns {error_type: str, error_message: str, stack: [[file, line, function, source line]…] most recent
    last} and, where there is one, cause: the same of `__cause__` or of an unsuppressed `__context__`, exceptions: a
    list of the same for a group's members, and limit: {name, value, peak} of the one that it, or a cause of it, has run
    into. Every text is valid UTF-8 of at most TEXT_LIMIT bytes; the whole packs into HEAD_LIMIT bytes (both:
    shorten.py), but for the limit. Never raises, whatever the exception's class does.
    """
    # BaseException here and below: an exception's own code may raise KeyboardInterrupt or SystemExit like any
    # other, and memory or stack may run out in the middle. The request still needs its answer.
    try:
        described = _described(error)
    except BaseException:
        described = _briefly(error)
    try:
        limit = _limit_of(error)
    except BaseException:  # as above; it is what the answer can do without
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
        _reserve.clear()  # as long as there is none, errors are told with fewer words


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
    try:
        # Built-in calls only: the stack may have no room for another frame of Python's.
        name = str.__getitem__(_class_name(type(error)), _SHORT)
        return {"error_type": name, "error_message": UNREADABLE, "stack": []}
    except BaseException:
        return {"error_type": "BaseException", "error_message": UNREADABLE, "stack": []}


_set_aside()


def type_name(value: object) -> str:
    """The name of a value's class, as its metaclass cannot forge it."""
    return clean(_class_name(type(value)), NAME_LIMIT)


def message_of(error: BaseException) -> str:
    """An exception's text. Where its `__str__` raises, a text that says so. At most TEXT_LIMIT bytes."""
    try:
        if issubclass(type(error), SystemExit):
            return clean(str(SystemExit.__dict__["code"].__get__(error)))
        return clean(str(error))
    except BaseException as failure:  # see describe
        return "its text could not be read: __str__ raised " + type_name(failure)


class _Description:
    """The walk over one exception and all that hangs on it: what was seen, and how many more may be described."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.budget = NODES

    def node(self, error: BaseException, causes: int, depth: int, frames: int) -> dict[str, object]:
        """causes: links still allowed on this path. depth: groups that it lies in. frames: calls kept at each end."""
        self.seen.add(id(error))
        self.budget -= 1
        described: dict[str, object] = {
            "error_type": _error_type(error),
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


def _error_type(error: BaseException) -> str:
    if issubclass(type(error), Fault):
        try:
            return clean(error.error_type, NAME_LIMIT)  # type: ignore[attr-defined]
        except BaseException:  # a user's subclass of Fault, see describe
            return type_name(error)
    return type_name(error)


def _cause_of(error: BaseException) -> BaseException | None:
    cause: BaseException | None = _cause(error)
    if cause is None and not _suppress_context(error):
        cause = _context(error)
    return cause


def _limit_of(error: BaseException) -> dict[str, object] | None:
    """The limit that it, or else the nearest of what led to it, stands for."""
    each: BaseException | None = error
    for _ in range(CAUSES + 1):
        if each is None:
            return None
        if issubclass(type(each), (MemoryError, OSError, RuntimeError)):
            limit = limit_behind(each, _innermost(_traceback(each)))
            if limit is not None:
                return limit
        each = _cause_of(each)
    return None


def _innermost(traceback: TracebackType | None) -> CodeType | None:
    """The code of the most recent call; of a recursion without end nobody asks."""
    code = None
    for _ in range(INNERMOST):
        if traceback is None:
            return code
        code, traceback = traceback.tb_frame.f_code, traceback.tb_next
    return None


def _members(error: BaseException) -> list[BaseException]:
    """A group's members. By duck typing: before Python 3.11 groups come from a package of their own."""
    try:
        members: Any = getattr(error, "exceptions", ())
        kind: type = type(members)
        found = list(members) if issubclass(kind, (tuple, list)) else []
    except BaseException:  # see describe
        return []
    return [member for member in found if issubclass(type(member), BaseException)]


def _message_with_notes(error: BaseException) -> str:
    message = message_of(error)
    try:
        notes: Any = dict.get(_instance_dict(error), "__notes__")
        if not issubclass(type(notes), (tuple, list)):
            return message
        for note in list(notes)[:GROUP_WIDTH]:
            message += "\n" + (clean(note) if issubclass(type(note), str) else clean(repr(note)))
    except BaseException:  # see describe
        message += "\n(a note could not be read)"
    return clean(message)


def _stack(error: BaseException, kept: int) -> list[StackEntry]:
    if issubclass(type(error), Fault):
        stack = _given_stack(error, kept)
        if stack:
            return stack
    stack = _walk(_traceback(error), kept)
    if issubclass(type(error), SyntaxError):
        entry = _syntax_entry(error)
        if entry is not None:
            stack.append(entry)
    return stack


def _given_stack(error: BaseException, kept: int) -> list[StackEntry]:
    try:
        entries = [_entry(*entry) for entry in error.stack]  # type: ignore[attr-defined]
    except BaseException:  # a user's subclass of Fault, see describe
        return []
    return shorten(entries, kept)


def _walk(traceback: TracebackType | None, kept: int) -> list[StackEntry]:
    """The calls of a traceback without our own, nor the import system's and the event loop's on top; bounded while
    walking.
    """
    first: list[tuple[Any, int]] = []
    last: list[tuple[Any, int]] = []
    count = 0
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
        if namespace.is_own(frame) or (count == 0 and _calls_the_function(frame)):
            continue
        if count < kept:
            first.append((frame, line))
        elif count < 2 * kept:
            last.append((frame, line))
        else:
            last[count % kept] = (frame, line)
        count += 1
    if count > 2 * kept:
        last = last[count % kept :] + last[: count % kept]
    stack = _entries(first + last)
    if count > 2 * kept:
        stack.insert(kept, omitted(count - 2 * kept))
    return stack


def _calls_the_function(frame: Any) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module in _IMPORT_SYSTEM or module.partition(".")[0] == "asyncio"


def stack_of(calls: list[tuple[Any, int]], kept: int) -> list[StackEntry]:
    """(frame, line) of calls as a stack; of a long one `kept` at either end."""
    return shorten(_entries(calls), kept)


def _entries(calls: list[tuple[Any, int]]) -> list[StackEntry]:
    # A recursion has the same place again and again, and each costs looking at a file.
    places: dict[tuple[Any, int], StackEntry] = {}
    stack = []
    for frame, line in calls:
        place = frame.f_code, line
        if place not in places:
            places[place] = _frame_entry(frame, line)
        stack.append(places[place])
    return stack


def _frame_entry(frame: Any, line: int | None) -> StackEntry:
    code = frame.f_code
    # tb_lineno is None for an instruction that belongs to no line.
    source = _source(code.co_filename, line or 0, frame.f_globals)
    return _entry(code.co_filename, line or 0, code.co_name, source)


def _entry(file: object, line: object, function: object, source: object) -> StackEntry:
    number = int(line) if type(line) is int and 0 <= line < 2**63 else 0
    return [_name(file), number, _name(function), _name(source)]


def _name(value: object) -> str:
    return clean(value, NAME_LIMIT) if isinstance(value, str) else ""


def _syntax_entry(error: BaseException) -> StackEntry | None:
    """Where the offending line is: it was never called, so no traceback has it."""
    fields = SyntaxError.__dict__
    file, line, text = (fields[name].__get__(error) for name in ("filename", "lineno", "text"))
    if not issubclass(type(file), str) or type(line) is not int:
        return None
    source = clean(text, NAME_LIMIT).strip() if issubclass(type(text), str) else _source(file, line, None)
    return _entry(file, line, "<module>", source)


def _source(file: str, line: int, variables: dict[str, object] | None) -> str:
    """One source line, stripped as tracebacks show it; '' where there is none to be had."""
    try:
        if not _may_read(file):
            return ""
        return clean(namespace.source_line(file, line, variables), NAME_LIMIT).strip()
    except BaseException:  # a loader's get_source is user code; and see describe
        return ""


def _may_read(file: str) -> bool:
    """False for what must not be read to its end: a pipe, a device, a very large file."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        # No such file is the normal case for a module in an archive, whose loader has the source.
        return True
    return status.st_mode & 0o170000 == 0o100000 and status.st_size <= SOURCE_LIMIT
