"""Where in a result the value is that cannot be encoded. Runs none of the values' own methods, knows no encoder."""

from __future__ import annotations

from . import faults
from .shorten import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEARCHED = 20_000
"""Values looked at, at most, to tell where in a result the offending one is."""


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
    """An int with more digits than Python turns into text."""
    # 4,300 digits, Python's default limit for an int's text, are some 14,284 bits.
    return isinstance(item, int) and item.bit_length() > 14_000


def place(root: object, wanted: Callable[[object, frozenset[int]], bool]) -> str:
    """Where in a result the first wanted value is, as `: result.items[3].user`; "" where it was not found.

    wanted: gets a value and the identities of the containers around it. Only builtin containers and plain
    attributes are looked into; no method of the values' own runs.
    """
    todo: list[tuple[object, str, frozenset[int]]] = [(root, "result", frozenset())]
    for _ in range(SEARCHED):
        if not todo:
            return ""
        item, path, above = todo.pop()
        if wanted(item, above):
            return ": " + path
        # A path this long helps nobody, and it bounds what a deep nesting costs.
        if id(item) in above or len(path) > 512:
            continue
        parts = list(_parts(item))
        if parts:
            inside = above | {id(item)}
            todo.extend((part, path + step, inside) for step, part in reversed(parts))
    return ""


def _parts(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, dict):
        for key, part in dict.items(item):
            yield _step(key), part
    elif isinstance(item, (list, tuple)):
        own = list if isinstance(item, list) else tuple
        names = getattr(type(item), "_fields", ()) if isinstance(item, tuple) else ()
        named = type(names) is tuple and len(names) == own.__len__(item)  # type: ignore[arg-type]
        for index, part in enumerate(own.__iter__(item)):  # type: ignore[arg-type]
            yield _step(names[index]) if named else f"[{index}]", part
    elif isinstance(item, (set, frozenset)):
        for part in list(item):
            yield "[…]", part
    elif hasattr(type(item), "__dataclass_fields__"):
        for name, part in vars(item).items():
            yield _step(name), part


def _step(key: object) -> str:
    if type(key) is str:
        return f".{key}" if key.isidentifier() and len(key) <= 64 else f"[{clean(key, 64)!r}]"
    return f"[{key!r}]" if key is None or type(key) in (int, float, bool) else f"[{faults.type_name(key)}]"
