"""Write JSON as Lambda's encoder does, for results that json's C encoder cannot write so.

Such are namedtuples and what else has an _asdict(), a Decimal with more digits than a float has, keys that are bytes,
and objects of the function's own classes. The first such result of a process loads this module. Parts of a result that
the C encoder can write, it writes. This file does not know what becomes of bytes, nor which results come here.
"""

from __future__ import annotations

from . import conversions, faults, namespace
from .culprit import NotSerializable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_BYTES = (bytes, bytearray, memoryview)


def write(value: object, quick: Callable[[object], str | None], bytes_json: Callable[[object], object]) -> str:
    """Return the value as JSON. It runs methods of the value's own, each once.

    Args:
        value: any result; quick() has returned None for it.
        quick: a value as JSON, or None where it has to be written here.
        bytes_json: what bytes become, a str or a dict.

    Raises:
        NotSerializable: a value in it has no JSON.
        ValueError: a value contains itself, or a number has too many digits.
        RecursionError: it is nested too deeply.
        BaseException: what a method of the value's own raises.
    """
    writer = _Writer(quick, bytes_json)
    writer.write_compound(value)
    return "".join(writer.pieces)


class _Writer:
    """The pieces written so far, and the values that contain the next one."""

    def __init__(self, quick: Callable[[object], str | None], bytes_json: Callable[[object], object]) -> None:
        self.pieces: list[str] = []
        self._quick = quick
        self._bytes_json = bytes_json
        self._above: set[int] = set()
        self._quote: Callable[[str], str] = namespace.stdlib("json").encoder.encode_basestring

    def write(self, value: Any) -> None:
        kind = type(value)
        if issubclass(kind, str):
            self.pieces.append(self._quote(value))
        elif value is None or issubclass(kind, (int, float)):
            self.pieces.append(_number(value))
        elif kind is conversions.Raw:
            self.pieces.append(value.text)
        else:
            text = self._quick(value)
            if text is None:
                self.write_compound(value)
            else:
                self.pieces.append(text)

    def write_compound(self, value: Any) -> None:
        """Write what is no text and no number, and not for `quick`."""
        if id(value) in self._above:
            raise ValueError("Circular reference detected")
        self._above.add(id(value))
        kind = type(value)
        fields = conversions.as_dict(value) if issubclass(kind, (list, tuple, dict)) else None
        if fields is not None:
            self._write_fields(fields)
        elif issubclass(kind, dict):
            self._write_object(value)
        elif issubclass(kind, (list, tuple)):
            self._write_array(value)
        elif issubclass(kind, _BYTES):
            self.write(self._bytes_json(value))
        else:
            self.write(conversions.convert(value, conversions.JSON_RULES))
        self._above.remove(id(value))

    def _write_fields(self, fields: dict[Any, Any]) -> None:
        # Not write(): where _asdict() returns a dict that has one, too, simplejson does not ask that one.
        if id(fields) in self._above:
            raise ValueError("Circular reference detected")
        self._above.add(id(fields))
        self._write_object(fields)
        self._above.remove(id(fields))

    def _write_array(self, value: Iterable[Any]) -> None:
        before = "["
        for item in value:
            self.pieces.append(before)
            self.write(item)
            before = ", "
        self.pieces.append("]" if before == ", " else "[]")

    def _write_object(self, value: dict[Any, Any]) -> None:
        before = "{"
        for key, item in value.items():
            self.pieces += (before, self._quote(self._key(value, key)), ": ")
            self.write(item)
            before = ", "
        self.pieces.append("}" if before == ", " else "{}")

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
