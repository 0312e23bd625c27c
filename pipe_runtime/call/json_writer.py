"""Write JSON as Lambda's encoder does, for results that json's C encoder cannot write in that way.

Such results hold a value with an _asdict(), such as a namedtuple, or a Decimal of more digits than a float has. Others
hold keys that are bytes, or objects of the function's own classes. The first such result of a process loads this
module. It leaves to the C encoder what that can write. It does not know how bytes are written.
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
    """Yields the parts of a value, each with the JSON in front of it; returns the JSON after the last one."""

_BYTES = (bytes, bytearray, memoryview)

DEPTH = 10_000
"""Levels of nesting: more than json's C encoder can write in most versions of Python. The limit also stops a to_json()
that returns a new object each time, without end."""

QUICK_DEPTH = 100
"""The depth up to which the C encoder is tried on parts. In a deep result each part contains most of the rest."""


class Writer:
    """Write values as JSON. It calls methods of the function's classes, each once for a value.

    It walks a value with a list of open parts. With recursion Python's limit would allow only 300 levels.

    Args:
        quick: Returns a value as JSON, or None if the value has to be written here.
        bytes_json: Returns the str or dict that stands for bytes.
    """

    def __init__(self, quick: Callable[[object], str | None], bytes_json: Callable[[object], object]) -> None:
        self._quick = quick
        self._bytes_json = bytes_json
        self._quote: Callable[[str], str] = late.json.encoder.encode_basestring

    def write(self, value: object) -> str:
        """Return the value, for which quick() has returned None, as JSON.

        Raises:
            NotSerializable: A value in it cannot be written as JSON.
            ValueError: A value contains itself, or a number has too many digits.
            RecursionError: The value is nested too deeply.
            BaseException: Anything that a method of the function's classes raises.
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
        """Return the JSON of a text, a number, or what `quick` can write; None of anything else."""
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
            # Not through write(): if _asdict() returns a dict that has an _asdict(), simplejson does not call that one.
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
