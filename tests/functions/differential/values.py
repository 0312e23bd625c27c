"""Handlers that return one value each. `echo` and similar handlers return what they were given."""

import array
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import types
import uuid
import warnings
from typing import NamedTuple

warnings.filterwarnings("ignore", "coroutine .* was never awaited")

Point = collections.namedtuple("Point", "x y")
Decimal = decimal.Decimal


class Typed(NamedTuple):
    name: str
    price: Decimal = Decimal("9.90")


class Level(enum.IntEnum):
    HIGH = 3


class Colour(enum.Enum):
    RED = "red"


class Text(str, enum.Enum):
    RED = "red"


class Money(Decimal):
    pass


class Row(dict):
    def _asdict(self):
        return {"row": True}


class Record:
    def __init__(self, **fields):
        self.fields = fields

    def _asdict(self):
        return self.fields


class Refusing:
    def _asdict(self):
        raise ValueError("not today")


class Counting:
    def __init__(self):
        self.n = 0

    def __iter__(self):
        return iter([1, 2])


class Spoken:
    def __str__(self):
        return "spoken"

    def to_json(self):
        return {"to": "json"}


@dataclasses.dataclass
class User:
    name: str


def circular():
    value = {}
    value["self"] = value
    return value


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def generator(event, context):
    yield 1
    yield 2


async def coroutine(event, context):
    return 1


def changes_its_event(event, context):
    event["added"] = [1]
    return event


RETURNED = {
    "none": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "minus_zero": lambda: -0.0,
    "int": lambda: 42,
    "int_64": lambda: 2**64,
    "int_of_100_digits": lambda: 10**100,
    "int_of_5000_digits": lambda: 10**5000,
    "float": lambda: 0.1 + 0.2,
    "float_large": lambda: 1e300,
    "float_small": lambda: 5e-324,
    "nan": lambda: [float("nan")],
    "infinity": lambda: {"a": float("inf"), "b": -float("inf")},
    "text": lambda: "plain",
    "text_empty": lambda: "",
    "text_unicode": lambda: "größer 日本語 😀 \u2028 \u2029 \x85 \x7f",
    "text_control": lambda: '\x00\x01\x1f\t\r\n\b\f\\"/',
    "text_json": lambda: '{"a": 1}',
    "text_surrogate": lambda: "a\ud800b",
    "text_surrogate_key": lambda: {"\udcff": 1},
    "text_long": lambda: "x" * 100_000,
    "list": lambda: [1, "a", None, [2, []]],
    "tuple": lambda: (1, (2,)),
    "dict": lambda: {"b": 1, "a": {"c": {}}},
    "response": lambda: {"statusCode": 200, "headers": {"Content-Type": "text/html"}, "body": "<p>"},
    "response_image": lambda: {"statusCode": 200, "isBase64Encoded": True, "body": base64.b64encode(b"\x89PNG")},
    "response_decimal": lambda: {"Items": [{"id": "1", "price": Decimal("12.50"), "count": Decimal(3)}]},
    "bytes": lambda: b"plain",
    "bytes_json": lambda: b'{"a": 1}',
    "bytes_binary": lambda: b"\x89PNG\xff",
    "bytes_inside": lambda: {"a": [b"caf\xc3\xa9"]},
    "bytes_inside_binary": lambda: {"a": [b"\xff"]},
    "bytes_key": lambda: {b"a": 1, "b": {b"c": 2}},
    "bytearray": lambda: {"a": bytearray(b"x")},
    "memoryview": lambda: [memoryview(b"x")],
    "bytesio": lambda: io.BytesIO(b"x"),
    "decimal": lambda: [Decimal("1.10"), Decimal("100"), Decimal("1E+5"), Decimal("1e-9")],
    "decimal_long": lambda: Decimal("3.14159265358979323846264338327950288"),
    "decimal_nan": lambda: [Decimal("NaN"), Decimal("Infinity")],
    "decimal_key": lambda: {Decimal("1"): 1},
    "decimal_subclass": lambda: Money("1.50"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "complex": lambda: 1j,
    "namedtuple": lambda: Point(1, [Point(2, 3)]),
    "namedtuple_typed": lambda: [Typed("tea"), Typed("cup", Decimal("1.00"))],
    "namedtuple_key": lambda: {Point(1, 2): 1},
    "asdict": lambda: [Record(a=1, b=Record(c=b"x"))],
    "asdict_of_a_dict": lambda: Row(a=1),
    "asdict_raises": lambda: [Refusing()],
    "int_enum": lambda: {"level": Level.HIGH, Level.HIGH: 1},
    "text_enum": lambda: [Text.RED],
    "enum": lambda: Colour.RED,
    "keys": lambda: {2: 1, 2.5: 2, None: 3, True: 4, False: 5, 2**70: 6},
    "key_tuple": lambda: {"a": {(1, 2): 3}},
    "key_enum": lambda: {Colour.RED: 1},
    "key_twice": lambda: {1: "a", "1": "b"},
    "ordered_dict": lambda: collections.OrderedDict(z=1, a=2),
    "default_dict": lambda: collections.defaultdict(list, a=[1]),
    "counter": lambda: collections.Counter("aab"),
    "chain_map": lambda: collections.ChainMap({"a": 1}),
    "mapping_proxy": lambda: types.MappingProxyType({"a": 1}),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "deque": lambda: collections.deque([1, 2]),
    "array": lambda: array.array("i", [1, 2]),
    "set": lambda: {"tags": {1, 2}},
    "frozenset": lambda: frozenset("a"),
    "range": lambda: range(3),
    "dict_keys": lambda: {"a": 1}.keys(),
    "map": lambda: [map(str, [1])],
    "iterator": lambda: iter([1, 2]),
    "iterable": lambda: [Counting()],
    "datetime": lambda: datetime.datetime(2026, 1, 31, 12, 30),
    "datetime_utc": lambda: {"at": datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc)},
    "date": lambda: [datetime.date(2026, 1, 31)],
    "time": lambda: datetime.time(1, 2),
    "timedelta": lambda: datetime.timedelta(1),
    "uuid": lambda: {"id": uuid.UUID(int=1)},
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "dataclass": lambda: {"user": User("ann")},
    "to_json": lambda: Spoken(),
    "exception": lambda: ValueError("returned"),
    "function": lambda: print,
    "class": lambda: User,
    "module": lambda: types,
    "object": lambda: {"a": [object()]},
    "ellipsis": lambda: ...,
    "circular": circular,
    "deep": lambda: deep(500),
    "too_deep": lambda: deep(100_000),
}

CASES = {
    "echo": lambda event, context: event,
    "echo_repr": lambda event, context: repr(event),
    "echo_unicode": lambda event, context: event,
    "echo_surrogate": lambda event, context: repr(event),
    "echo_nan": lambda event, context: repr(event),
    "echo_type": lambda event, context: type(event).__name__,
    "changes_its_event": changes_its_event,
    "generator": generator,
    "coroutine": coroutine,
    **{name: lambda event, context, make=make: make() for name, make in RETURNED.items()},
}
