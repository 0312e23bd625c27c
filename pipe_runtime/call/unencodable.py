"""Say why a result could not be encoded, and where in it the value is. It is loaded when that has happened."""

from __future__ import annotations

from .. import namespace
from ..wire.errors import Fault
from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEARCHED = 20_000
"""The most values that are searched for the one that cannot be encoded."""


class NotSerializable(Exception):
    """A value cannot be encoded.

    Attributes:
        value: That value, or the dict if the value is a key of it.
        why: The reason, without the place.
    """

    def __init__(self, value: object, why: str) -> None:
        super().__init__(why)
        self.value = value
        self.why = why


def fault(value: object, error: BaseException, why: str, as_msgpack: bool) -> Fault:
    """Return a Fault Runtime.MarshalError for a result. If the value's own code has raised, that is its cause.

    Args:
        value: The result.
        error: What its encoding has raised.
        why: The text of `error`.
        as_msgpack: Whether it was encoded as msgpack.
    """
    cause = _user_cause(error)
    try:
        text = _explain(value, error, why, cause, as_msgpack)
    except BaseException:  # the place is a courtesy, and finding it reads a value that is known to be odd
        text = why
    found = Fault("Runtime.MarshalError", faults.clean(f"Unable to marshal response: {text}"))
    found.__cause__ = cause
    return found


def _user_cause(error: BaseException) -> BaseException | None:
    """Return the exception if it comes out of the value's own code, where its stack helps; otherwise None."""
    calls = namespace.calls_of(error.__traceback__)
    modules = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in calls}
    plain = isinstance(error, (NotSerializable, RecursionError, MemoryError))
    return None if plain or modules <= {"json", "msgpack"} else error


def _explain(value: object, error: BaseException, why: str, cause: BaseException | None, as_msgpack: bool) -> str:
    """Return Python's and Lambda's words first, for programs that parse them; then the place."""
    if isinstance(error, NotSerializable):
        offender = error.value
        return error.why + _place(value, lambda item, above: item is offender)
    if cause is not None:
        return f"{faults.type_name(error)}: {why}" if why != faults.type_name(error) else why
    circle = _place(value, lambda item, above: id(item) in above)
    if circle:
        return "Circular reference detected" + circle
    if isinstance(error, (RecursionError, MemoryError)) or "recursion limit" in why:
        return "out of memory" if isinstance(error, MemoryError) else "nested too deeply"
    return why if as_msgpack else why + _place(value, _is_huge)


def _is_huge(item: object, above: frozenset[int]) -> bool:
    """Return whether a value is an int with more digits than Python turns into text."""
    # 4,300 digits, Python's default limit for an int's text, are some 14,284 bits.
    return isinstance(item, int) and item.bit_length() > 14_000


def _place(root: object, wanted: Callable[[object, frozenset[int]], bool]) -> str:
    """Return where in a result the first wanted value is, such as ": result.items[3].user"; "" if it is not found.

    Args:
        root: The result.
        wanted: Gets a value and the identities of the containers around it. Only builtin containers and the attributes
            of dataclasses are searched.
    """
    todo: list[tuple[object, str, frozenset[int]]] = [(root, "result", frozenset())]
    for _ in range(SEARCHED):
        if not todo:
            return ""
        item, path, above = todo.pop()
        if wanted(item, above):
            return ": " + path
        # A path this long helps no reader, and the limit bounds what a deep nesting costs.
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
