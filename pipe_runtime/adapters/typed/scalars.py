"""The types that hold no others: how a value of one is made of a decoded one.

    ====================  ==========================================================================
    annotation            what fits, and what becomes of it
    ====================  ==========================================================================
    str, int, float,      just that: a bool is no int, and text is no number; an int where a float
    bool                  is expected becomes one
    bytes                 bytes, or a map {"base64": "…"}
    datetime, date, time  the same, or its text in ISO 8601
    UUID, Path            the same, or its text
    Decimal               the same, or text, int or float
    Enum                  the value of a member
    Literal               one of the values
    object, Any           everything, as it is
    another class         an instance of it
    ====================  ==========================================================================

This file knows neither what these values lie in nor where an event comes from.
"""

from __future__ import annotations

from ... import namespace
from .. import iso8601
from .mismatch import shown, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_CHOICES_SHOWN = 8


def builder(cls: Any) -> Callable[[Any], Any]:
    """What makes a value of the class; where it is no class, what leaves a value as it is.

    The function returned raises Mismatch.
    """
    if not isinstance(cls, type) or cls is object:
        return as_it_is
    if cls in _SIMPLE:
        return _SIMPLE[cls]
    names = [f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in cls.__mro__]
    if names[0] == "typing.Any":  # a class since Python 3.11
        return as_it_is
    # By name, so that nothing is imported; Enum first, for a member may be of any of the other types as well.
    for name, rule in _RULES.items():
        if name in names:
            return rule(cls)
    return instance(cls)


def as_it_is(value: Any) -> Any:
    """Every value fits."""
    return value


def none(value: Any) -> None:
    """None alone fits."""
    if value is not None:
        raise wrong("None", value)


def number(value: Any) -> float:
    """A float, or an int."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise wrong("float", value) from None
    raise wrong("float", value)


def instance(cls: Any) -> Callable[[Any], Any]:
    """An instance of the class fits. A class that cannot tell its instances takes everything."""
    try:
        isinstance(None, cls)
    except Exception:  # a Protocol, or a metaclass of somebody's own
        return as_it_is

    def build(value: object) -> object:
        if not isinstance(value, cls):
            raise wrong(cls.__name__, value)
        return value

    return build


def literal(options: Sequence[Any]) -> Callable[[Any], Any]:
    """One of the options. A member of an Enum is there by its value."""
    values = [(getattr(option, "value", option), option) for option in options]
    expected = _one_of([value for value, _ in values])

    def build(value: object) -> object:
        for known, option in values:
            if type(known) is type(value) and known == value:
                return option
        raise wrong(expected, value)

    return build


def key(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As `make`, for the key of a map: where it makes numbers, their texts fit too, for JSON has no other keys."""
    kind = {_SIMPLE[int]: int, number: float}.get(make)
    if kind is None:
        return make

    def build(value: object) -> object:
        try:
            return kind(value) if isinstance(value, str) else make(value)
        except ValueError:
            raise wrong(kind.__name__, value) from None

    return build


def _exactly(kind: type) -> Callable[[Any], Any]:
    def build(value: object) -> object:
        if type(value) is not kind:
            raise wrong(kind.__name__, value)
        return value

    return build


def _bytes(value: object) -> bytes:
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("base64"), str):
        try:
            decoded: bytes = namespace.stdlib("base64").b64decode(value["base64"], validate=True)
        except ValueError:
            raise wrong("base64", value["base64"]) from None
        return decoded
    if type(value) is not bytes:
        raise wrong('bytes or {"base64": …}', value)
    return value


def _iso8601(cls: Any) -> Callable[[Any], Any]:
    return _from(cls, (str,), lambda value: iso8601.parse(cls, value), f"{cls.__name__} in ISO 8601")


def _from_text(cls: Any) -> Callable[[Any], Any]:
    return _from(cls, (str,), cls, cls.__name__)


def _decimal(cls: Any) -> Callable[[Any], Any]:
    return _from(cls, (str, int, float), lambda value: cls(str(value)), cls.__name__)


def _from(cls: Any, kinds: tuple[type, ...], make: Callable[[Any], Any], expected: str) -> Callable[[Any], Any]:
    def build(value: object) -> object:
        if type(value) is cls:
            return value
        if type(value) not in kinds:
            raise wrong(expected, value)
        try:
            return make(value)
        except (ValueError, ArithmeticError):  # decimal's InvalidOperation is the latter
            raise wrong(expected, value) from None

    return build


def _enum(cls: Any) -> Callable[[Any], Any]:
    expected = _one_of([member.value for member in cls])

    def build(value: object) -> object:
        try:
            member = cls(value)
        except (ValueError, TypeError):
            raise wrong(expected, value) from None
        if type(value) is bool and type(member.value) is not bool:  # True equals 1
            raise wrong(expected, value)
        return member

    return build


def _one_of(values: Sequence[object]) -> str:
    texts = [shown(value).partition(" ")[2] or shown(value) for value in values[:_CHOICES_SHOWN]]
    if len(values) > len(texts):
        texts.append("…")
    return f"one of {', '.join(texts)}" if len(values) > 1 else texts[0] if texts else "nothing"


_SIMPLE: dict[type, Callable[[Any], Any]] = {
    **{kind: _exactly(kind) for kind in (str, int, bool)},
    float: number,
    bytes: _bytes,
    type(None): none,
}

_RULES = {
    "enum.Enum": _enum,
    "datetime.datetime": _iso8601,
    "datetime.date": _iso8601,
    "datetime.time": _iso8601,
    "uuid.UUID": _from_text,
    "pathlib.PurePath": _from_text,
    "decimal.Decimal": _decimal,
}
