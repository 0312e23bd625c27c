"""Explain why a result could not be encoded, and which value in it is the reason.

The runtime loads this module for the first such result.
"""

from __future__ import annotations

from ..wire.errors import Fault
from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEARCHED = 20_000
"""The most values to check in the search for the value that cannot be encoded."""


class NotSerializable(Exception):
    """A value cannot be encoded.

    Attributes:
        value: The value that cannot be encoded. If that is a key of a dict, this is the dict.
        why: The reason, without the place of the value in the result.
    """

    def __init__(self, value: object, why: str) -> None:
        super().__init__(why)
        self.value = value
        self.why = why


def fault(value: object, error: BaseException, why: str, as_msgpack: bool) -> Fault:
    """Return a Fault Runtime.MarshalError for a result. Its cause is `error` if a method of the result raised it.

    Args:
        value: The result.
        error: The exception that the encoder raised.
        why: The text of `error`.
        as_msgpack: Whether the result was to be encoded as msgpack.
    """
    cause = faults.attempt(_user_cause, error)
    # The search for the place reads the value, whose own code may raise. Then do without the place.
    text = faults.attempt(_explain, value, error, why, cause, as_msgpack) or why
    found = Fault("Runtime.MarshalError", faults.clean(f"Unable to marshal response: {text}"))
    found.__cause__ = cause
    return found


def _user_cause(error: BaseException) -> BaseException | None:
    """Return the exception if the value's own code raised it, so that its stack helps the user; otherwise None."""
    calls = faults.calls_of(error)
    modules = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in calls}
    plain = issubclass(type(error), (NotSerializable, RecursionError, MemoryError))
    return None if plain or modules <= {"json", "msgpack"} else error


def _explain(value: object, error: BaseException, why: str, cause: BaseException | None, as_msgpack: bool) -> str:
    """Return the reason and the place. The reason has Python's and Lambda's words, for programs that parse it."""
    if faults.is_a(error, NotSerializable):
        offender = error.value
        return error.why + _place(value, lambda item, above: item is offender)
    if cause is not None:
        return f"{faults.type_name(error)}: {why}" if why != faults.type_name(error) else why
    circle = _place(value, lambda item, above: id(item) in above)
    if circle:
        return "Circular reference detected" + circle
    if issubclass(type(error), (RecursionError, MemoryError)) or "recursion limit" in why:
        return "out of memory" if faults.is_a(error, MemoryError) else "nested too deeply"
    return why if as_msgpack else why + _place(value, _is_huge)


def _is_huge(item: object, above: frozenset[int]) -> bool:
    """Return whether a value is an int with so many digits that Python refuses to turn it into text."""
    # Python's default limit is 4,300 digits, which are about 14,284 bits.
    return isinstance(item, int) and item.bit_length() > 14_000


def _place(root: object, wanted: Callable[[object, frozenset[int]], bool]) -> str:
    """Return the place of the first wanted value in a result, such as ": result.items[3].user"; "" if it is not found.

    Search built-in containers and the attributes of dataclasses only.

    Args:
        root: The result.
        wanted: A function that gets a value and the ids of the containers around it. It returns whether this is the
            wanted value.
    """
    todo: list[tuple[object, str, frozenset[int]]] = [(root, "result", frozenset())]
    for _ in range(SEARCHED):
        if not todo:
            return ""
        item, path, above = todo.pop()
        if wanted(item, above):
            return ": " + path
        # A longer path would not help the user. This also limits the time for a deeply nested result.
        if id(item) in above or len(path) > 512:
            continue
        parts = list(_parts(item))
        if parts:
            inside = above | {id(item)}
            todo.extend((part, path + step, inside) for step, part in reversed(parts))
    return ""


def _parts(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, dict):
        yield from ((_step(key), part) for key, part in item.items())
    elif isinstance(item, (list, tuple)):
        names = getattr(item, "_fields", None)
        for index, part in enumerate(item):
            yield _step(names[index]) if names else f"[{index}]", part
    elif isinstance(item, (set, frozenset)):
        yield from (("[…]", part) for part in item)
    elif hasattr(type(item), "__dataclass_fields__"):
        yield from ((_step(name), part) for name, part in vars(item).items())


def _step(key: object) -> str:
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() and len(key) <= 64 else f"[{faults.clean(key, 64)!r}]"
    return f"[{key!r}]" if key is None or isinstance(key, (int, float)) else f"[{faults.type_name(key)}]"
