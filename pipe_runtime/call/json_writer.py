"""Copy a result that json's C encoder would write in another way than Lambda's encoder, or not at all.

Such a result contains a value with an _asdict(), such as a namedtuple, or a Decimal with more digits than a float has.
Or it contains keys that are bytes, or objects of the function's own classes. The C encoder then writes the copy. The
runtime loads this module for the first such result. This module must not know how bytes are written.
"""

from __future__ import annotations

from ..namespace import late
from . import conversions, faults
from .unencodable import NotSerializable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DEPTH = 10_000
"""The most levels of nesting. It stops a to_json() that returns a new object with a to_json() inside of a list each
time. The C encoder may write fewer levels."""

QUICK_DEPTH = 100
"""The depth up to which the C encoder is tried on each part. In a deep result each part contains most of the rest, so
each try would take long."""

_BYTES = (bytes, bytearray, memoryview)
_WRITTEN = frozenset((str, int, float, bool, type(None)))


class _Name(str):
    """A key that was bytes. It differs from every other key: Lambda's encoder writes both "a" and b"a" of one dict."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def copied(root: object, quick: Callable[[Any], str | None], bytes_json: Callable[[Any], object]) -> object:
    """Return a copy of a result that the C encoder, with `quote`, writes as Lambda's encoder writes the result.

    The copy consists of str, numbers, None, lists and dicts. If the result contains itself, so does the copy. This
    function calls the _asdict() or to_json() of a value's class once for each value. It works without recursion,
    because Python's limit would allow only 300 levels.

    Args:
        root: The result. quick() has returned None for it.
        quick: A function that returns a value as JSON, or None if this module has to copy the value.
        bytes_json: A function that returns the str or dict that stands for bytes.

    Raises:
        NotSerializable: A value in it cannot be written as JSON.
        ValueError: The conversions of a value never end, for example because they lead back to the value.
        RecursionError: The value is nested too deeply.
        BaseException: An exception of a method of the function's classes.
    """
    whole: dict[int, object] = {}
    copies: dict[int, tuple[object, object]] = {}  # {id: (value, its copy)}; the value is kept, so the id stays its own
    todo: list[tuple[object, Any, Any, int]] = [(root, whole, 0, 0)]  # (value, where its copy goes: container, key)
    while todo:
        value, above, place, depth = todo.pop()
        if id(value) in copies:
            above[place] = copies[id(value)][1]
            continue
        if depth > DEPTH:
            raise RecursionError
        text = quick(value) if 0 < depth < QUICK_DEPTH else None
        if text is not None:
            above[place] = conversions.Raw(text)
            continue
        found = _basic(value, bytes_json)
        copy: Any
        if issubclass(type(found), dict):
            copy = {_key(found, key, bytes_json): item for key, item in found.items()}
            parts = list(copy.items())
        elif issubclass(type(found), (list, tuple)):
            copy = list(found)
            parts = list(enumerate(copy))
        else:
            above[place] = found
            continue
        above[place] = copy
        copies[id(value)] = value, copy
        todo += [(item, copy, key, depth + 1) for key, item in reversed(parts) if type(item) not in _WRITTEN]
    return whole[0]


def quote(text: str) -> str:
    """Return a str as JSON. Return a Raw unchanged."""
    return text if type(text) is conversions.Raw else late._json.encode_basestring(text)


def _basic(value: Any, bytes_json: Callable[[Any], object]) -> Any:
    """Return the str, number, None, list, tuple or dict that stands for a value."""
    for _ in range(conversions.CONVERSIONS):
        kind = type(value)
        if value is None or issubclass(kind, (str, int, float)):
            return value
        if issubclass(kind, (list, tuple, dict)):
            fields = conversions.as_dict(value)
            if fields is value:
                break
            # If this dict has an _asdict() of its own, simplejson does not call it.
            return value if fields is None else fields
        value = bytes_json(value) if issubclass(kind, _BYTES) else conversions.convert(value, conversions.JSON_RULES)
    raise ValueError("Circular reference detected")


def _key(above: dict[Any, Any], key: Any, bytes_json: Callable[[Any], object]) -> Any:
    """Return a dict's key in a form that the C encoder writes."""
    kind = type(key)
    if key is None or issubclass(kind, (str, int, float)):
        return key
    text = None
    if issubclass(kind, bytes):
        try:
            text = bytes_json(key)
        except NotSerializable as error:
            raise NotSerializable(above, f"{error.why}, in a key") from None
    if isinstance(text, str):
        return _Name(text)
    name = faults.type_name(key)
    raise NotSerializable(above, f"keys must be str, int, float, bool or None, not {name}")
