"""Convert a value that an encoder does not know to one that it knows: a date to text, a set to a list.

The first such value of a process loads this module. It knows no encoder, and it never sees str, numbers, bytes, list,
tuple and dict, which the encoders handle themselves.
"""

from __future__ import annotations

import msgpack

from ..namespace import late
from . import faults
from .unencodable import NotSerializable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONVERSIONS = 64
"""How often one value may be converted again, if for example a to_json() returns something with a to_json()."""

_PACKED = (str, int, float, bytes, bytearray, memoryview, dict, list, tuple, type(None))  # what msgpack takes

DECIMAL_DIGITS = 4300
"""Digits of the largest integral Decimal that becomes an int: Python's own limit for the text of an int."""


class Raw:
    """A piece of JSON that is written as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def exact(value: object) -> object:
    """Return a value that json can write in place of this one, or None if there is none.

    It handles only classes of the standard library, not their subclasses: their values run no code of the function.
    """
    kind = type(value)
    rule = _EXACT.get(f"{kind.__module__}.{kind.__qualname__}")
    return None if rule is None else rule(value)


def convert(value: object, rules: dict[str, Callable[[Any], object]] | None = None) -> object:
    """Return a simpler value for a value that the encoder does not know. The encoder may call it again on the result.

    Args:
        value: The value.
        rules: {name of a class: the conversion of its values}. Default: RULES.

    Raises:
        NotSerializable: There is no conversion for the value.
    """
    own = type(value)
    fields = as_dict(value)
    if fields is not None:
        return fields
    to_json = getattr(own, "to_json", None)
    if callable(to_json):
        return _embedded(to_json(value))
    for name in class_names(value):
        rule = (rules or RULES).get(name)
        if rule is not None:
            return rule(value)
    if hasattr(own, "__dataclass_fields__"):
        fields = late.dataclasses.fields(value)
        return {field.name: getattr(value, field.name) for field in fields}
    if hasattr(own, "__fspath__"):
        return own.__fspath__(value)
    # Not collections.abc: every interpreter has loaded this one before its first line.
    abc = late._collections_abc
    if isinstance(value, abc.Mapping):
        return dict(value)
    if isinstance(value, abc.Collection):
        return list(value)
    raise NotSerializable(value, f"Object of type {faults.type_name(value)} is not JSON serializable")


def for_msgpack(value: Any) -> object:
    """Return a value that msgpack can encode in place of this one.

    Convert it completely, because the Packer asks only once for each value.

    Raises:
        NotSerializable: There is no conversion for the value.
    """
    for _ in range(CONVERSIONS):
        if isinstance(value, int):
            raise NotSerializable(value, "Integer beyond the 64 bits of msgpack")
        if "datetime.datetime" in class_names(value) and value.tzinfo is not None:
            return msgpack.Timestamp.from_datetime(value)
        value = convert(value)
        if isinstance(value, _PACKED) and not (isinstance(value, int) and not -(2**63) <= value < 2**64):
            return value
    raise NotSerializable(value, f"Object of type {faults.type_name(value)} is converted without end")


def as_dict(value: object) -> Any:
    """Return what the value's _asdict() returns.

    If it has no _asdict(), or if that raises TypeError, return None, as simplejson does.

    Raises:
        NotSerializable: _asdict() returned something other than a dict.
    """
    method = getattr(type(value), "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method(value)
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise NotSerializable(value, f"_asdict() must return a dict, not {faults.type_name(fields)}")
    return fields


def class_names(value: object) -> list[str]:
    """Return the qualified names of a value's class and its bases.

    Names are used because decimal.Decimal itself would import decimal for functions that never use it.
    """
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__]


def _embedded(answer: object) -> object:
    if not isinstance(answer, str):
        return answer
    try:
        return late.json.loads(answer)
    except (ValueError, RecursionError):
        return answer


def _decimal(value: Any) -> int | float:
    if not value.is_finite():
        return float("nan") if value.is_nan() else float(value)
    # The size is checked first, because the int of Decimal("1e999999999") would fill the memory.
    if value.adjusted() < DECIMAL_DIGITS and value == value.to_integral_value():
        return int(value)
    number = float(value)
    if number - number != 0:
        raise NotSerializable(value, "Decimal beyond the range of a number")
    return number


def _decimal_digits(value: Any) -> Raw:
    # Do not call str() of a subclass: it may return "$1.50".
    kind: Any = next(cls for cls in type(value).__mro__ if (cls.__module__, cls.__qualname__) == ("decimal", "Decimal"))
    if kind.is_nan(value):
        return Raw("NaN")
    return Raw(kind.__str__(value))


def _exact_decimal(value: Any) -> float | None:
    """Return an int or a float if its text is the same as the Decimal's, otherwise None."""
    if not value.is_finite():
        return _decimal(value)
    text = str(value)
    if len(text) > 20:
        return None
    number = float(text)
    if repr(number) == text:
        return number
    return int(value) if text.lstrip("-").isdigit() and text != "-0" else None


def _raw_json(value: Any) -> Raw:
    """Return the text of simplejson's RawJSON, if it is one JSON value, since every result has to be one."""
    text = value.encoded_json
    try:
        late.json.loads(text)
    except (TypeError, ValueError):
        raise NotSerializable(value, "RawJSON that is not one JSON value") from None
    # In valid JSON, line breaks are only between its parts. A line of --events must not have one.
    return Raw(str(text).replace("\r", " ").replace("\n", " "))


def _sorted(value: Any) -> list[object]:
    try:
        return sorted(value)
    except Exception:  # whatever the members' own comparison raises
        return list(value)


def _isoformat(value: Any) -> object:
    return value.isoformat()


RULES: dict[str, Callable[[Any], object]] = {
    "decimal.Decimal": _decimal,
    "datetime.datetime": _isoformat,
    "datetime.date": _isoformat,
    "datetime.time": _isoformat,
    "uuid.UUID": str,
    "enum.Enum": lambda value: value.value,
    "builtins.set": _sorted,
    "builtins.frozenset": _sorted,
}
"""Name of a class: the conversion of its values and of those of its subclasses."""

JSON_RULES = {**RULES, "decimal.Decimal": _decimal_digits, "simplejson.raw_json.RawJSON": _raw_json}
"""The same for `json_writer`, which can write Raw."""

_EXACT: dict[str, Callable[[Any], object]] = {
    "decimal.Decimal": _exact_decimal,
    "datetime.datetime": _isoformat,
    "datetime.date": _isoformat,
    "datetime.time": _isoformat,
    "uuid.UUID": str,
}
