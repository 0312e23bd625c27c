"""Convert a value that an encoder does not know to a value that it knows: for example a date to text, a set to a list.

The runtime loads this module for the first such value. The encoders themselves handle str, numbers, bytes, list, tuple
and dict. This module also copies a result that json's C encoder would write in another way than Lambda's encoder, or
not at all. Such a result contains a value with an _asdict(), such as a namedtuple, or a Decimal with more digits than a
float has. Or it contains keys that are bytes, or objects of the function's own classes. The C encoder then writes the
copy. This module must not know how bytes are written.
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
"""The rules for `copied`, which can write Raw."""

_EXACT = {name: RULES[name] for name in ("datetime.datetime", "datetime.date", "datetime.time", "uuid.UUID")}
_EXACT["decimal.Decimal"] = _exact_decimal


# A copy of a result for json's C encoder

DEPTH = 10_000
"""The most levels of nesting. It stops a to_json() that returns a new object with a to_json() inside of a list each
time. The C encoder may write fewer levels."""

QUICK_DEPTH = 100
"""Down to this depth, each part of the result is first tried with the C encoder. In a deep result, each part contains
most of the rest, so each try would take long."""

_BYTES = (bytes, bytearray, memoryview)
_WRITTEN = frozenset((str, int, float, bool, type(None)))


class _Name(str):
    """A key that was bytes. It differs from every other key: Lambda's encoder writes both "a" and b"a" of one dict."""

    __eq__, __hash__ = object.__eq__, object.__hash__


def copied(root: object, quick: Callable[[Any], str | None], bytes_json: Callable[[Any], object]) -> object:
    """Return a copy of a result. json's C encoder, with `quote`, writes the copy as Lambda's encoder writes the result.

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
            above[place] = Raw(text)
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
    return text if type(text) is Raw else late._json.encode_basestring(text)


def _basic(value: Any, bytes_json: Callable[[Any], object]) -> Any:
    """Return the str, number, None, list, tuple or dict that stands for a value."""
    for _ in range(CONVERSIONS):
        kind = type(value)
        if value is None or issubclass(kind, (str, int, float)):
            return value
        if issubclass(kind, (list, tuple, dict)):
            fields = as_dict(value)
            if fields is value:
                break
            # If this dict has an _asdict() of its own, simplejson does not call it.
            return value if fields is None else fields
        value = bytes_json(value) if issubclass(kind, _BYTES) else convert(value, JSON_RULES)
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
