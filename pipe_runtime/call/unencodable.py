"""Say where in a result the value is that cannot be encoded. This module knows no encoder."""

from __future__ import annotations

from . import faults
from .shorten import clean

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


def is_huge(item: object, above: frozenset[int]) -> bool:
    """Return whether a value is an int with more digits than Python turns into text."""
    # 4,300 digits, Python's default limit for an int's text, are some 14,284 bits.
    return isinstance(item, int) and item.bit_length() > 14_000


def place(root: object, wanted: Callable[[object, frozenset[int]], bool]) -> str:
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
        return f".{key}" if key.isidentifier() and len(key) <= 64 else f"[{clean(key, 64)!r}]"
    return f"[{key!r}]" if key is None or isinstance(key, (int, float)) else f"[{faults.type_name(key)}]"
