"""Describe an exception of the function as data, for the metadata of an ERROR frame.

The function may define the exception's class. So its `__str__` and its attributes may raise. `describe` returns a
description nevertheless. This module does not know frames, handlers, or how an error is printed in the end.
"""

from __future__ import annotations

import os
import sys

import msgpack

from .. import namespace
from ..limits import free_reserve, limit_of, reserve
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeGuard, TypeVar

    from ..wire.errors import StackEntry

    T = TypeVar("T")

NAME_LIMIT = 1024
"""The most bytes of UTF-8 in the name of a class, a file or a function, or in a source line. Each of up to a hundred
calls in a stack has three of these texts."""

TEXT_LIMIT = 8 * 1024
"""The most bytes of UTF-8 in a text, including the marker."""

CUT = "… [cut]"
"""The marker at the place where a text was cut."""

HEAD_LIMIT = 56 * 1024
"""The most bytes of a packed description of an error. A head may have 64 KiB. The rest is for ids and durations."""

CAUSES = 8
"""The most causes that are described in a chain of exceptions."""

GROUP_WIDTH = 16
"""The most members of one exception group that are described, and the most notes of one exception."""

GROUP_DEPTH = 4
"""How many levels of exception groups inside one another are described."""

NODES = 64
"""The most exceptions that are described in total. More would not fit, and each may need source files to be read."""

LEVELS = (
    (50, 50, GROUP_WIDTH, CAUSES),
    (50, 10, GROUP_WIDTH, CAUSES),
    (50, 3, 4, CAUSES),
    (50, 3, 0, CAUSES),
    (50, 3, 0, 2),
    (50, 3, 0, 1),
    (50, 3, 0, 0),
    (20, 3, 0, 0),
    (6, 3, 0, 0),
)
"""Levels of detail, from the most to the least. Each has four numbers:

- the calls to keep at each end of the error's own stack
- the calls to keep at each end of the stacks of causes and group members
- the most members of a group
- the most causes in a chain

`describe` uses the first level at which the description fits into HEAD_LIMIT bytes. At the last level each one fits."""

SOURCE_LIMIT = 16 * 1024 * 1024
"""The most bytes of a file in which a source line is looked up, because all of the file is read."""

UNREADABLE = "its details could not be read"


def describe(error: BaseException) -> dict[str, object]:
    """Return an exception as an ERROR's metadata. It never raises, whatever the exception's class does.

    Returns:
        A dict with error_type: str, error_message: str, and stack: [[file, line, function, source line]…] with the most
        recent call last. It also has these keys, if they apply:

        - cause: a dict like this one, for the exception's `__cause__`, or else for its `__context__` if not suppressed.
        - exceptions: a list of such dicts, for the members of an exception group.
        - limit: {name, value, peak} of the resource limit that led to the exception or to one of its causes.

        Every text is valid UTF-8 of at most TEXT_LIMIT bytes. Without `limit`, the dict packs into HEAD_LIMIT bytes.
    """
    if is_a(error, MemoryError) or is_a(_stored(error, "__context__"), MemoryError):
        free_reserve()
    described = attempt(_fitting, error) or _briefly(error)
    limit = attempt(_limit_of, error)
    return described if limit is None else {**described, "limit": limit}


def attempt(read: Callable[..., T], *arguments: object) -> T | None:
    """Return what `read` returns, or None if it raises. If there is no memory left, release the reserve and try again.

    So if one part of an exception cannot be read, only this part is missing. The exception's own code may raise any
    exception, also KeyboardInterrupt or SystemExit. Memory or stack may run out. The request still needs its answer.
    """
    try:
        return read(*arguments)
    except BaseException as failure:
        if not (reserve and is_a(failure, MemoryError)):
            return None
    free_reserve()
    return attempt(read, *arguments)


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
    name = "MemoryError" if is_a(error, MemoryError) else "BaseException"
    try:
        name = type(error).__name__[:256]  # no function is called, because the stack may have no room for a call
        message = message_of(error)
    except BaseException:  # not only Exception, for the reason in `attempt`
        message = UNREADABLE
    return {"error_type": name, "error_message": message, "stack": []}


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text that any peer can decode: escape lone surrogates, and keep at most `limit` bytes of UTF-8.

    If the text was cut, it ends with a marker. The result is a str, never an instance of a subclass.
    """
    # A character has at least one byte. So this slice limits the work for a text of any size.
    encoded = text[: limit + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def type_name(value: object) -> str:
    """Return the name of a value's class."""
    return clean(
        type.__dict__["__name__"].__get__(type(value)), NAME_LIMIT
    )  # a metaclass may have a `__name__` of its own


def message_of(error: BaseException) -> str:
    """Return an exception's text, at most TEXT_LIMIT bytes. If its `__str__` raises, return a text that says so."""
    try:
        return _text(error.code if is_a(error, SystemExit) else error)
    except BaseException as failure:  # not only Exception, for the reason in `attempt`
        return "its text could not be read: __str__ raised " + type_name(failure)


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """Return isinstance(value, kind), without reading the value's `__class__`, which may be the function's code."""
    return issubclass(type(value), kind)


def _text(value: object) -> str:
    return clean(str(value))


def calls_of(error: BaseException) -> list[tuple[Any, int]]:
    """Return the calls of an exception's traceback as namespace.calls_of() does."""
    return namespace.calls_of(_stored(error, "__traceback__"))


def _stored(error: BaseException, name: str) -> Any:
    """Return an attribute as Python has stored it. The exception's class may define one of the same name."""
    return BaseException.__dict__[name].__get__(error)


class _Description:
    """Describe one exception, its causes and its group members.

    Args:
        frames: How many calls to keep at each end of the stacks of causes and members.
        members: How many members of a group to keep.

    Attributes:
        seen: The ids, from id(), of the exceptions that were described so far.
        budget: How many more exceptions may be described.
    """

    def __init__(self, frames: int, members: int) -> None:
        self._frames = frames
        self._members = members
        self.seen: set[int] = set()
        self.budget = NODES

    def node(self, error: BaseException, causes: int, depth: int, frames: int) -> dict[str, object]:
        """Return the description of one exception; only its class and text if there is no more memory or stack.

        Args:
            error: The exception.
            causes: How many more causes the chain may have.
            depth: How many groups the exception is inside of.
            frames: How many calls to keep at each end of its stack.
        """
        return attempt(self._node, error, causes, depth, frames) or _briefly(error)

    def _node(self, error: BaseException, causes: int, depth: int, frames: int) -> dict[str, object]:
        self.seen.add(id(error))
        self.budget -= 1
        described: dict[str, object] = {
            "error_type": clean(error.error_type, NAME_LIMIT) if is_a(error, Fault) else type_name(error),
            "error_message": _message_with_notes(error),
            "stack": attempt(_stack, error, frames) or [],
        }
        cause = _cause_of(error)
        if cause is not None and causes > 0 and self._takes(cause):
            described["cause"] = self.node(cause, causes - 1, depth, min(frames, self._frames))
        if depth < GROUP_DEPTH:
            members = [
                self.node(member, causes, depth + 1, self._frames)
                for member in (attempt(_members, error) or [])[: self._members]
                if self._takes(member)
            ]
            if members:
                described["exceptions"] = members
        return described

    def _takes(self, error: BaseException) -> bool:
        return self.budget > 0 and id(error) not in self.seen


def _cause_of(error: BaseException) -> BaseException | None:
    cause: BaseException | None = _stored(error, "__cause__")
    return cause if cause is not None or _stored(error, "__suppress_context__") else _stored(error, "__context__")


def _limit_of(error: BaseException) -> dict[str, object] | None:
    """Return the resource limit that led to the exception, or else to the nearest of its causes."""
    each: BaseException | None = error
    for _ in range(CAUSES + 1):
        if each is None:
            return None
        if issubclass(type(each), (MemoryError, OSError, RuntimeError)):
            calls = calls_of(each)
            limit = limit_of(each, calls[-1][0].f_code if calls else None)
            if limit is not None:
                return limit
        each = _cause_of(each)
    return None


def _members(error: BaseException) -> list[BaseException]:
    """Return a group's members. Do not check its class: before Python 3.11, a separate package defines groups."""
    members = getattr(error, "exceptions", ())
    return [each for each in members if is_a(each, BaseException)] if isinstance(members, (tuple, list)) else []


def _message_with_notes(error: BaseException) -> str:
    return clean("\n".join((message_of(error), *(attempt(_notes, error) or ()))))


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    texts = [attempt(_text, note) for note in notes[:GROUP_WIDTH]] if isinstance(notes, (tuple, list)) else []
    return [text for text in texts if text is not None]


def _stack(error: BaseException, kept: int) -> list[StackEntry]:
    if is_a(error, Fault) and error.entry is not None:
        return [_entry(*error.entry)]  # type: ignore[arg-type]
    return stack_of(calls_of(error), kept) + (attempt(_syntax_error_line, error) or [])


def _syntax_error_line(error: Any) -> list[StackEntry]:
    """Return the line with a syntax error. It was never executed, so no traceback has it."""
    line = error.lineno if is_a(error, SyntaxError) and error.filename else None
    if type(line) is not int or not 0 <= line < 2**63:
        return []
    return [_entry(error.filename, line, "<module>", error.text or _source(error.filename, line, None))]


def stack_of(calls: list[tuple[Any, int]], kept: int) -> list[StackEntry]:
    """Return calls, given as (frame, line), as a stack. Of a long stack, keep `kept` calls at each end."""
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
    # The loader of a module may be the function's code.
    return (attempt(_may_read, file) and attempt(namespace.source_line, file, line, variables)) or ""


def _may_read(file: str) -> bool:
    """Return False for a pipe or a device, which may have no end, and for a very large file."""
    sizes, paths = os.path.getsize, {os.path.join(str(folder), file) for folder in ("", *sys.path)}  # as in linecache
    return all(0 < sizes(path) <= SOURCE_LIMIT if os.path.isfile(path) else not os.path.exists(path) for path in paths)
