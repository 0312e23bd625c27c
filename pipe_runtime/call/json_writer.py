"""Write JSON as Lambda's encoder does, for results that json's C encoder would write differently or not at all.

Such a result contains a value with an _asdict(), such as a namedtuple, or a Decimal with more digits than a float has.
Or it contains keys that are bytes, or objects of the function's own classes. The runtime loads this module for the
first such result. The C encoder still writes the parts that it can. This module must not know how bytes are written.
"""

from __future__ import annotations

from ..namespace import late
from . import conversions, faults
from .unencodable import NotSerializable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    _Parts = Generator[tuple[str, Any], None, str]
    """Yields (the JSON before a part, the part) for each part of a value. Returns the JSON after the last part."""

_BYTES = (bytes, bytearray, memoryview)

DEPTH = 10_000
"""The most levels of nesting. In most versions of Python, json's C encoder can write fewer. The limit also stops a
to_json() that returns a new object with a to_json() each time."""

QUICK_DEPTH = 100
"""The depth up to which the writer tries the C encoder on each part. In a deep result each part contains most of the
rest, so each try would take long."""


class Writer:
    """Write values as JSON. For each value, it calls the _asdict() or to_json() of the value's class once.

    It keeps the unfinished parts of a value in a list. With recursion, Python's limit would allow only 300 levels.

    Args:
        quick: A function that returns a value as JSON, or None if this class has to write the value.
        bytes_json: A function that returns the str or dict that stands for bytes.
    """

    def __init__(self, quick: Callable[[object], str | None], bytes_json: Callable[[object], object]) -> None:
        self._quick = quick
        self._bytes_json = bytes_json
        self._quote: Callable[[str], str] = late.json.encoder.encode_basestring

    def write(self, value: object) -> str:
        """Return a value as JSON. quick() has returned None for this value.

        Raises:
            NotSerializable: A value in it cannot be written as JSON.
            ValueError: A value contains itself, or a number has too many digits.
            RecursionError: The value is nested too deeply.
            BaseException: An exception of a method of the function's classes.
        """
        pieces: list[str] = []
        open_parts: list[tuple[int, _Parts]] = [(id(value), self._parts(value))]
        above = {id(value)}
        while open_parts:
            identity, parts = open_parts[-1]
            try:
                before, item = next(parts)
            except StopIteration as end:
                pieces.append(end.value)
                open_parts.pop()
                above.remove(identity)
                continue
            pieces.append(before)
            text = self._text(item, len(open_parts))
            if text is not None:
                pieces.append(text)
            elif id(item) in above:
                raise ValueError("Circular reference detected")
            elif len(open_parts) == DEPTH:
                raise RecursionError
            else:
                open_parts.append((id(item), self._parts(item)))
                above.add(id(item))
        return "".join(pieces)

    def _text(self, value: Any, depth: int) -> str | None:
        """Return the JSON of a str, a number, or a value that `quick` can write; None for any other value."""
        kind = type(value)
        if issubclass(kind, str):
            return self._quote(value)
        if value is None or issubclass(kind, (int, float)):
            return _number(value)
        if kind is conversions.Raw:
            return value.text  # type: ignore[no-any-return]
        try:
            return self._quick(value) if depth < QUICK_DEPTH else None
        except RecursionError:
            return None

    def _parts(self, value: Any) -> _Parts:
        kind = type(value)
        fields = conversions.as_dict(value) if issubclass(kind, (list, tuple, dict)) else None
        if fields is not None:
            if fields is value:
                raise ValueError("Circular reference detected")
            # Write the fields here: if this dict has an _asdict() of its own, simplejson does not call it.
            return self._object(fields)
        if issubclass(kind, dict):
            return self._object(value)
        if issubclass(kind, (list, tuple)):
            return _array(value)
        if issubclass(kind, _BYTES):
            return _stand_in(self._bytes_json(value))
        return _stand_in(conversions.convert(value, conversions.JSON_RULES))

    def _object(self, value: dict[Any, Any]) -> _Parts:
        before = "{"
        for key, item in value.items():
            yield f"{before}{self._quote(self._key(value, key))}: ", item
            before = ", "
        return "}" if before == ", " else "{}"

    def _key(self, above: dict[Any, Any], key: Any) -> str:
        kind = type(key)
        if issubclass(kind, str):
            return key  # type: ignore[no-any-return]
        if key is None or issubclass(kind, (int, float)):
            return _number(key)
        text = None
        if issubclass(kind, bytes):
            try:
                text = self._bytes_json(key)
            except NotSerializable as error:
                raise NotSerializable(above, f"{error.why}, in a key") from None
        if isinstance(text, str):
            return text
        name = faults.type_name(key)
        raise NotSerializable(above, f"keys must be str, int, float, bool or None, not {name}")


def _array(value: Iterable[Any]) -> _Parts:
    before = "["
    for item in value:
        yield before, item
        before = ", "
    return "]" if before == ", " else "[]"


def _stand_in(value: Any) -> _Parts:
    yield "", value
    return ""


def _number(value: float | None) -> str:
    """Return the JSON of None, a bool, an int or a float, as Python's json writes it."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if issubclass(type(value), int):
        return int.__repr__(value)
    text = float.__repr__(value)
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)
