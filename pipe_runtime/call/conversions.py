"""Convert a value that an encoder does not know to a value that it knows: for example a date to text, a set to a list.

The runtime loads this module for the first such value. The encoders themselves handle str, numbers, bytes, list, tuple
and dict. This module must not know how a value is encoded.
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
"""The most conversions of one value. A to_json() may return an object that has a to_json() again, and so on."""

_PACKED = (str, int, float, bytes, bytearray, memoryview, dict, list, tuple, type(None))  # the types that msgpack packs

DECIMAL_DIGITS = 4300
"""The most digits of an integral Decimal that becomes an int. Python has the same limit for the text of an int."""


class Raw(str):
    """A piece of JSON text that the encoder writes unchanged."""


def exact(value: object) -> object:
    """Return a value that json can write in place of `value`; None if the class of `value` is not in _EXACT.

    It converts objects of some standard classes, but not of their subclasses. So it runs no code of the function.
    """
    kind = type(value)
    rule = _EXACT.get(f"{kind.__module__}.{kind.__qualname__}")
    return None if rule is None else rule(value)


def convert(value: object, rules: dict[str, Callable[[Any], object]] | None = None) -> object:
    """Return a simpler value for a value that the encoder does not know. The encoder may call this again on the result.

    Args:
        value: The value.
        rules: {name of a class: a function that converts an object of the class}. Default: RULES.

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
    # _collections_abc and not collections.abc: Python itself has loaded it before it runs any code.
    abc = late._collections_abc
    if isinstance(value, abc.Mapping):
        return dict(value)
    if isinstance(value, abc.Collection):
        return list(value)
    raise NotSerializable(value, f"Object of type {faults.type_name(value)} is not JSON serializable")


def for_msgpack(value: Any) -> object:
    """Return a value that msgpack can encode in place of `value`.

    The Packer calls this only once for each value. So this repeats the conversion until msgpack knows the result.

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
    """Return the result of the value's _asdict().

    If the value has no _asdict(), or if _asdict() raises TypeError, return None. simplejson also ignores it then.

    Raises:
        NotSerializable: _asdict() did not return a dict.
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

    The rules use names, because a rule with decimal.Decimal itself would import decimal even if no value needs it.
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
    # Check the size first: int(Decimal("1e999999999")) would fill the memory.
    if value.adjusted() < DECIMAL_DIGITS and value == value.to_integral_value():
        return int(value)
    number = float(value)
    if number - number != 0:
        raise NotSerializable(value, "Decimal beyond the range of a number")
    return number


def _decimal_digits(value: Any) -> Raw:
    # Do not call str(), because a subclass may define it to return a text such as "$1.50".
    kind: Any = next(cls for cls in type(value).__mro__ if (cls.__module__, cls.__qualname__) == ("decimal", "Decimal"))
    if kind.is_nan(value):
        return Raw("NaN")
    return Raw(kind.__str__(value))


def _exact_decimal(value: Any) -> float | None:
    """Return an int or a float that has the same text as the Decimal; None if there is no such number."""
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
    """Return the text of a RawJSON, simplejson's class for ready JSON. The text has to be exactly one JSON value."""
    text = value.encoded_json
    try:
        late.json.loads(text)
    except (TypeError, ValueError):
        raise NotSerializable(value, "RawJSON that is not one JSON value") from None
    # In valid JSON, a line break never stands inside a string. A result of --events has to be a single line.
    return Raw(str(text).replace("\r", " ").replace("\n", " "))


def _sorted(value: Any) -> list[object]:
    try:
        return sorted(value)
    except Exception:  # the members' own comparison may raise anything
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
"""{name of a class: a function that converts an object of the class or of a subclass}."""

JSON_RULES = {**RULES, "decimal.Decimal": _decimal_digits, "simplejson.raw_json.RawJSON": _raw_json}
"""The rules for `json_writer`, which can write Raw."""

_EXACT: dict[str, Callable[[Any], object]] = {
    "decimal.Decimal": _exact_decimal,
    "datetime.datetime": _isoformat,
    "datetime.date": _isoformat,
    "datetime.time": _isoformat,
    "uuid.UUID": str,
}
