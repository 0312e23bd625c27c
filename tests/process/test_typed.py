"""Typed events: which annotations ask for something, what is built, what does not fit and how that is said.

The annotations of this file are text, as in many a function: they are worked out in this module's names.
"""

from __future__ import annotations

import asyncio
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import pathlib
import subprocess
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, Generic, Literal, NewType, TypedDict, TypeVar

import pytest

from pipe_runtime.adapters import typed
from pipe_runtime.cloudevent import CloudEvent
from pipe_runtime.wire.errors import Fault
from pipe_testing import tools
from pipe_testing.environment import unmeasured

UTC = datetime.timezone.utc
T = TypeVar("T")
Cents = NewType("Cents", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Headers(TypedDict):
    host: str


class Readable(typing.Protocol):
    def read(self) -> bytes: ...


class Plain:
    """A class that nothing can be built of."""


@dataclasses.dataclass
class Item:
    name: str
    price: float


@dataclasses.dataclass
class Order:
    items: list[Item]
    customer: str | None = None
    tags: set[str] = dataclasses.field(default_factory=set)
    kind: ClassVar[str] = "order"


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Page(Generic[T]):
    entries: list[T]


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number == 0:
            raise LookupError("the class's own failure")
        if self.number < 0:
            raise ValueError("must be\npositive")


@dataclasses.dataclass
class Derived(Positive):
    """Inherits a field, and has one of each kind that the constructor treats specially."""

    scale: dataclasses.InitVar[int] = 1
    result: int = dataclasses.field(init=False, default=0)
    label: str = dataclasses.field(kw_only=True, default="none")

    def __post_init__(self, scale: int) -> None:  # type: ignore[override]
        self.result = self.number * scale


@dataclasses.dataclass
class Cat:
    kind: Literal["cat"]
    lives: int


@dataclasses.dataclass
class Dog:
    kind: Literal["dog"]
    name: str


@dataclasses.dataclass(init=False)
class OwnConstructor:
    size: int

    def __init__(self, width: int, height: Any = 1, **others: object) -> None:
        self.size = width * height


def takes(annotation: object) -> Callable[..., object]:
    """A handler whose event is annotated so."""

    def handler(event: object, context: object) -> object:
        return event

    handler.__annotations__["event"] = annotation
    return handler


def build(annotation: object, event: object) -> Any:
    convert = typed.converter(takes(annotation))
    assert convert is not None
    return convert(event)


def build_field(annotation: object, value: object) -> Any:
    """What becomes of the value in a dataclass's field."""
    return build(dataclasses.make_dataclass("Holder", [("x", annotation)]), {"x": value}).x


def mismatch(annotation: object, event: object) -> str:
    with pytest.raises(Fault) as caught:
        build(annotation, event)
    assert caught.value.error_type == "Runtime.UnmarshalError"
    prefix = "Unable to unmarshal input: "
    assert caught.value.message.startswith(prefix)
    return caught.value.message[len(prefix) :]


def field_mismatch(annotation: object, value: object) -> str:
    return mismatch(dataclasses.make_dataclass("Holder", [("x", annotation)]), {"x": value}).removeprefix("event.x")


# Which annotations ask for something


@pytest.mark.parametrize(
    "annotation",
    [
        dict, list, str, int, bytes, object, None, Any, "dict", "dict[str, Any]", dict[str, Any], list[int], Headers,
        "typing.Dict[str, Any]", dict | None, "typing.Optional[dict]", "collections.abc.Mapping[str, object]",
        Plain, Colour, datetime.datetime,
        "Unknown", "list[Unknown]", "1 / 0", "not Python", Literal["Order"], BinaryIO, T, Callable[[], int], 5,
    ],
)  # fmt: skip
def test_other_annotations_ask_for_nothing(annotation: object) -> None:
    assert typed.converter(takes(annotation)) is None


@pytest.mark.parametrize(
    "annotation",
    [
        Item, "Item", "'Item'", list[Item], "list[Item]", list["Item"], "typing.Optional[Item]",
        "typing.Union[Item, str]", Item | None,
        dict[str, list[Item]], "typing.List['Item']", typing.Annotated[Item, "note"], NewType("Thing", Item), Page[int],
        Page[Item], CloudEvent, "CloudEvent", list[CloudEvent],
    ],
)  # fmt: skip
def test_structures_ask_wherever_they_are(annotation: object) -> None:
    assert typed.converter(takes(annotation)) is not None


class Handlers:
    def method(self, event: Item, context: object) -> object:
        return event

    @classmethod
    def of_class(cls, event: Item) -> object:
        return event

    @staticmethod
    def static(event: Item) -> object:
        return event

    def __call__(self, event: Item, context: object) -> object:
        return event


def third(first: int, second: int, event: Item, context: object) -> object:
    return event


def logged(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def parsing(function: Callable[..., object]) -> Callable[..., object]:
    """A decorator that looks into the event before the handler does."""

    @functools.wraps(function)
    def wrapper(event: Any, context: object) -> object:
        return function(event["detail"], context)

    return wrapper


@pytest.mark.parametrize(
    "handler",
    [
        Handlers().method, Handlers.of_class, Handlers.static, Handlers(), functools.partial(third, 1, 2),
        functools.partial(Handlers().method), logged(takes(Item)), logged(logged(takes(Item))),
    ],
)  # fmt: skip
def test_every_kind_of_callable_is_asked(handler: object) -> None:
    convert = typed.converter(handler)
    assert convert is not None
    assert convert({"name": "a", "price": 1}) == Item("a", 1.0)


def no_parameters() -> None:
    """A handler without an event."""


def keywords_only(*, event: Item) -> None:
    """Takes no event by position."""


@pytest.mark.parametrize(
    "handler",
    [
        no_parameters, keywords_only, functools.partial(third, 1), parsing(takes(Item)), Handlers, print, 5, None,
        lambda event: event, "text",
    ],
)  # fmt: skip
def test_other_callables_ask_for_nothing(handler: object) -> None:
    assert typed.converter(handler) is None
    assert typed.wants_stream(handler) == ""


def test_wrappers_in_a_circle_ask_for_nothing() -> None:
    one = logged(takes(Item))
    one.__dict__["__wrapped__"] = one
    assert typed.converter(one) is None


def test_annotation_with_hostile_code_asks_for_nothing() -> None:
    class Meta(type):
        def __getattr__(cls, name: str) -> object:
            raise LookupError(name)

    assert typed.converter(takes(Meta("Hostile", (), {}))) is None
    assert typed.wants_stream(takes(Meta("Hostile", (), {}))) == ""


def test_plain_handler_costs_no_import() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from pipe_runtime.adapters import typed; before = set(sys.modules)\n"
        "def handler(event: 'dict[str, list[int]]', context: object) -> object: return event\n"
        "assert typed.converter(handler) is None and typed.wants_stream(handler) == ''\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "print(*{'typing', 'dataclasses', 'inspect', 're'} & set(sys.modules))\n"
    )
    folder = str(pathlib.Path(typed.__file__).parents[3])
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder], capture_output=True, env=unmeasured(), text=True
    )
    assert (child.stdout.split(), child.stderr) == ([], "")


# What is built


def test_dataclass_is_built_to_its_depth() -> None:
    event = {"items": [{"name": "a", "price": 2}, {"name": "b", "price": 0.5, "other": 1}], "tags": ["x"], "kind": "no"}
    order = build(Order, event)
    assert order == Order([Item("a", 2.0), Item("b", 0.5)], None, {"x"})
    assert type(order.items[0].price) is float and order.kind == "order"


def test_dataclass_may_lie_in_itself() -> None:
    event = {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]}
    assert build(Node, event) == Node(1, [Node(2, [Node(3)])])


def test_constructor_parameters_are_what_counts() -> None:
    assert build(Derived, {"number": 3, "scale": 5, "result": 99}) == build(Derived, {"number": 3, "scale": 5})
    derived = build(Derived, {"number": 3, "scale": 5, "label": "new"})
    assert (derived.number, derived.result, derived.label) == (3, 15, "new")
    assert mismatch(Derived, {"number": 3, "scale": "5"}) == "event.scale: expected int, got str '5'"


def test_constructor_may_be_the_class_s_own() -> None:
    assert build(OwnConstructor, {"width": 2, "height": 3, "size": "x", "others": 1}).size == 6
    assert mismatch(OwnConstructor, {"width": "2"}) == "event.width: expected int, got str '2'"
    assert mismatch(OwnConstructor, {"width": 2, "height": {}}).startswith("event: TypeError: ")


def test_generic_dataclass_knows_its_variable() -> None:
    assert build(Page[Item], {"entries": [{"name": "a", "price": 1}]}) == Page([Item("a", 1.0)])
    assert build(Page, {"entries": [1, "x"]}) == Page([1, "x"])
    assert mismatch(Page[int], {"entries": [1, "x"]}) == "event.entries[1]: expected int, got str 'x'"


def test_structures_in_containers_are_built() -> None:
    item = {"name": "a", "price": 1}
    assert build(list[Item], [item]) == [Item("a", 1.0)]
    assert build(Item | None, None) is None
    assert build(Item | None, item) == Item("a", 1.0)
    assert build(dict[str, Item], {"k": item}) == {"k": Item("a", 1.0)}
    assert build("tuple[Item, ...] | None", [item]) == (Item("a", 1.0),)


def test_union_takes_the_first_that_fits() -> None:
    assert build(Cat | Dog, {"kind": "dog", "name": "Rex"}) == Dog("dog", "Rex")
    assert build(Cat | Dog, {"kind": "cat", "lives": 9}) == Cat("cat", 9)
    # What got furthest is what was meant.
    dog = {"kind": "dog", "lives": 9}
    assert mismatch("typing.Union[Cat, Dog]", dog) == "event.name: required, but missing"
    assert mismatch("typing.Union[Cat, Dog]", dog | {"name": 1}) == "event.name: expected str, got int 1"
    assert mismatch(Cat | Dog | None, "x") == "event: expected Cat | Dog | None, got str 'x'"


UNHASHABLE = "cannot use 'list' as a set element" if sys.version_info >= (3, 14) else "unhashable type: 'list'"
"""What Python says of a list in a set."""

NOW = datetime.datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("annotation", "value", "built"),
    [
        (str, "a", "a"),
        (int, 2**70, 2**70),
        (float, 1, 1.0),
        (bool, True, True),
        (bytes, b"\xff", b"\xff"),
        (bytes, {"base64": "/w=="}, b"\xff"),
        (Any, {"a": 1}, {"a": 1}),
        (object, 1, 1),
        (None, None, None),
        (datetime.datetime, "2026-01-31T12:30:00Z", NOW),
        (datetime.datetime, "2026-01-31T13:30:00.0+01:00", NOW),
        (datetime.datetime, NOW, NOW),
        (datetime.date, "2026-01-31", datetime.date(2026, 1, 31)),
        (datetime.time, "12:30:00.5", datetime.time(12, 30, 0, 500000)),
        (uuid.UUID, str(ID), ID),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (decimal.Decimal, "0.10", decimal.Decimal("0.10")),
        (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
        (decimal.Decimal, 5, decimal.Decimal(5)),
        (Colour, "red", Colour.RED),
        (Level, 1, Level.LOW),
        (Literal["a", 1], 1, 1),
        (Literal[Colour.RED], "red", Colour.RED),
        (Cents, 5, 5),
        (typing.Final[float], 5, 5.0),
        (Readable, "anything", "anything"),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1], [1]),
        (collections.abc.Sequence[float], [1], [1.0]),
        (tuple, [1], (1,)),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[Colour], ["red", "red"], {Colour.RED}),
        (frozenset[int], [1], frozenset({1})),
        (collections.abc.Set, [1], {1}),
        (dict, {"a": 1}, {"a": 1}),
        (collections.abc.Mapping[str, float], {"a": 1}, {"a": 1.0}),
        (dict[int, str], {"1": "a", 2: "b"}, {1: "a", 2: "b"}),
        (dict[float, str], {"1.5": "a"}, {1.5: "a"}),
        (dict[Colour, int], {"red": 1}, {Colour.RED: 1}),
        (Headers, {"other": 1}, {"other": 1}),
        (int | None, None, None),
        (int | str, "a", "a"),
        (float | int, 5, 5),
        (datetime.date | str, "tomorrow", "tomorrow"),
        (datetime.date | str, "2026-01-31", datetime.date(2026, 1, 31)),
        ("Unknown", 5, 5),
        (Callable[[], int] | None, None, None),
        (T, "a", "a"),
    ],
)
def test_field_is_built(annotation: object, value: object, built: object) -> None:
    result = build_field(annotation, value)
    assert result == built and type(result) is type(built)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement")
def test_type_statement_may_hold_itself() -> None:
    names: dict[str, Any] = {"Item": Item}
    exec("type Tree = Item | list[Tree]", names)
    assert build(names["Tree"], [[{"name": "a", "price": 1}]]) == [[Item("a", 1.0)]]
    exec("type Json = list[Json] | dict[str, Json] | str", names)
    assert typed.converter(takes(names["Json"])) is None


def test_deep_event_is_built_or_refused() -> None:
    event: dict[str, Any] = {"value": 0}
    for _ in range(100_000):
        event = {"value": 0, "children": [event]}
    assert mismatch(Node, event) == "nested too deeply"


# What does not fit


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (str, 5, "expected str, got int 5"),
        (str, "x" * 3, None),
        (int, "x" * 100, f"expected int, got str '{'x' * 60}…'"),
        (int, True, "expected int, got bool True"),
        (int, 5.0, "expected int, got float 5.0"),
        (float, "1", "expected float, got str '1'"),
        (float, True, "expected float, got bool True"),
        (float, 10**400, "expected float, got int"),
        (bool, 1, "expected bool, got int 1"),
        (str, None, "expected str, got None"),
        (None, 1, "expected None, got int 1"),
        (bytes, "a", "expected bytes or {\"base64\": …}, got str 'a'"),
        (bytes, {"base64": "!"}, "expected base64, got str '!'"),
        (datetime.datetime, "soon", "expected datetime in ISO 8601, got str 'soon'"),
        (datetime.datetime, 5, "expected datetime in ISO 8601, got int 5"),
        (datetime.date, NOW, "expected date in ISO 8601, got datetime"),
        (uuid.UUID, "x", "expected UUID, got str 'x'"),
        (decimal.Decimal, "x", "expected Decimal, got str 'x'"),
        (decimal.Decimal, True, "expected Decimal, got bool True"),
        (Colour, "green", "expected one of 'red', 'blue', got str 'green'"),
        (Colour, ["red"], "expected one of 'red', 'blue', got list"),
        (Level, True, "expected 1, got bool True"),
        (Literal["a", 1], True, "expected one of 'a', 1, got bool True"),
        (list[int], {"a": 1}, "expected list, got dict"),
        (list[int], "text", "expected list, got str 'text'"),
        (tuple[int, str], [1], "expected 2 items, got 1"),
        (tuple[int, str], {}, "expected list, got dict"),
        (Literal[1, 2, 3, 4, 5, 6, 7, 8, 9], 0, "expected one of 1, 2, 3, 4, 5, 6, 7, 8, …, got int 0"),
        (set, [[]], f"TypeError: {UNHASHABLE}"),
        (dict[str, int], [], "expected dict, got list"),
        (dict[int, str], {"one": "a"}, "expected int, got str 'one'"),
        (Headers, [], "expected dict, got list"),
        (Plain, {}, "expected Plain, got dict"),
        (int | str, 1.5, "expected int | str, got float 1.5"),
        (list[int] | None, "a", "expected list, got str 'a'"),
    ],
)
def test_field_that_does_not_fit_says_why(annotation: object, value: object, why: str | None) -> None:
    if why is None:
        assert build_field(annotation, value) == value
    else:
        said = field_mismatch(annotation, value)
        assert said.partition(": ")[2].startswith(why)


def test_mismatch_names_the_place() -> None:
    items = [{"name": "a", "price": 1}, {"name": "b", "price": 2}, {"name": "c", "price": "abc"}]
    assert mismatch(Order, {"items": items}) == "event.items[2].price: expected float, got str 'abc'"
    assert mismatch(list[Order], [{"items": items}]).startswith("event[0].items[2].price: ")
    assert mismatch(dict[str, Item], {"a b": 5}) == "event['a b']: expected Item, got int 5"
    assert mismatch("tuple[int, Item]", [1, {"name": 2}]) == "event[1].name: expected str, got int 2"
    assert mismatch(Item, b"raw") == "event: expected Item, got bytes b'raw'"


def test_missing_fields_are_named_together() -> None:
    assert mismatch(Item, {}) == "event.name: required, but missing; event.price: required, but missing"
    wide = dataclasses.make_dataclass("Wide", [(name, int) for name in "abcde"])
    assert mismatch(wide, {}).endswith("event.c: required, but missing; and 2 more")


def test_long_message_is_cut() -> None:
    assert len(mismatch(dict[str, Item], {"k" * 100_000: 5})) < 600
    assert len(mismatch(dict[str, dict[str, Item]], {"k": {"\ud800": 5}})) < 600


def test_class_that_refuses_its_values_is_a_mismatch() -> None:
    with pytest.raises(Fault) as caught:
        build(list[Positive], [{"number": 1}, {"number": -1}])
    assert caught.value.message == "Unable to unmarshal input: event[1]: ValueError: must be positive"
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_failure_of_a_class_passes() -> None:
    with pytest.raises(LookupError, match="the class's own failure"):
        build(Positive, {"number": 0})


def test_refusal_in_a_union_lets_the_next_try() -> None:
    assert build(Positive | dict, {"number": -1}) == {"number": -1}
    assert mismatch(Positive | str, {"number": -1}) == "event: ValueError: must be positive"


# CloudEvents and pydantic

TIME = "2026-01-31T12:30:00Z"
ENVELOPE = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "time": "2026-01-31T12:30:00Z",
    "data": {"a": 1},
}


def test_cloudevent_is_built() -> None:
    event = build(CloudEvent, ENVELOPE)
    assert (type(event), event.id, event.data) == (CloudEvent, "1", {"a": 1})
    assert [event.id for event in build(list[CloudEvent], [ENVELOPE])] == ["1"]


def test_cloudevent_says_what_is_missing() -> None:
    needs = "a CloudEvent needs specversion, id, source, type"
    assert mismatch(CloudEvent, {"id": "1"}) == f"event: {needs}; missing: specversion, source, type"
    assert mismatch(CloudEvent, 5) == "event: expected a CloudEvent, got int"


@pytest.mark.parametrize("module", ["cloudevents.http", "cloudevents.v1.http", "cloudevents.core.v1.event"])
def test_event_of_the_package_cloudevents_is_built(module: str) -> None:
    tools.require_module("cloudevents")
    cls: Any = pytest.importorskip(module, exc_type=ImportError).CloudEvent  # version 1 has the first, 2 has the others
    event = build(cls, ENVELOPE)
    assert isinstance(event, cls) and event.get_data() == {"a": 1}
    assert event.get_attributes()["id"] == "1"
    time = event.get_attributes()["time"]
    assert time == (TIME if hasattr(cls, "create") else NOW)
    bare = {name: value for name, value in ENVELOPE.items() if name not in ("data", "time")}
    assert build(cls, bare).get_data() is None
    binary = {name: value for name, value in ENVELOPE.items() if name != "data"} | {"data_base64": "/w==", "time": NOW}
    assert build(cls, binary).get_data() == b"\xff"
    assert mismatch(cls, {**ENVELOPE, "id": None}).endswith("missing: id")
    assert "specversion" in mismatch(cls, {**ENVELOPE, "specversion": "7"})


@pytest.fixture(scope="module")
def models() -> Any:
    """Models of pydantic 2."""
    pydantic = tools.require_module("pydantic")
    tools.require(pydantic.VERSION >= "2", "needs pydantic 2")

    class Line(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        price: float
        count: int = 1

        @pydantic.field_validator("count")
        @classmethod
        def check(cls, value: int) -> int:
            if value == 0:
                raise LookupError("the validator's own failure")
            if value < 0:
                raise ValueError("must not\nbe negative")
            return value

    Line.model_rebuild(_types_namespace={})
    bill = pydantic.create_model("Bill", lines=(list[Line], ...))

    @pydantic.dataclasses.dataclass
    class Checked:
        limit: int

    return types.SimpleNamespace(line=Line, bill=bill, checked=Checked)


def test_pydantic_model_is_built(models: Any) -> None:
    assert build(models.line, {"price": "1.5"}) == models.line(price=1.5, count=1)
    assert build(list[models.line], [{"price": 1}]) == [models.line(price=1.0)]
    assert build_field(models.line, {"price": 2}) == models.line(price=2.0)
    assert build(models.checked, {"limit": "5", "other": 1}).limit == 5


def test_pydantic_mismatch_is_one_line(models: Any) -> None:
    said = mismatch(models.bill, {"lines": [{"price": "abc"}, {}]})
    assert said.startswith("event.lines[0].price: Input should be a valid number")
    assert "got str 'abc'; event.lines[1].price: Field required" in said
    assert mismatch(models.bill, {"lines": [{"price": 1, "count": -1}]}) == (
        "event.lines[0].count: Value error, must not be negative, got int -1"
    )
    assert mismatch(models.bill, {"lines": [{}] * 9}).endswith("; and 6 more")
    assert mismatch(list[models.checked], [{"limit": []}]).startswith("event[0].limit: Input should be a valid integer")
    assert mismatch(models.line, "x").startswith(
        "event: Input should be a valid dictionary or instance of Line, got str"
    )


def test_other_failure_of_a_validator_passes(models: Any) -> None:
    with pytest.raises(LookupError, match="the validator's own failure"):
        build(models.line, {"price": 1, "count": 0})


def test_model_of_pydantic_1_is_built() -> None:
    class ValidationError(ValueError):
        def errors(self) -> list[dict[str, Any]]:
            return [{"loc": ("__root__", "price"), "msg": "value is not\na valid float", "type": "type_error.float"}]

    class Model:
        __fields__: ClassVar[dict[str, object]] = {}

        @classmethod
        def parse_obj(cls, value: Any) -> Any:
            if "price" not in value:
                raise ValidationError
            return cls()

    assert isinstance(build(Model, {"price": 1}), Model)
    assert mismatch(Model, {}) == "event.price: value is not a valid float"


def test_error_that_is_called_like_pydantic_s_keeps_its_text() -> None:
    class ValidationError(ValueError):
        """Has no errors()."""

    @dataclasses.dataclass
    class Strict:
        def __post_init__(self) -> None:
            raise ValidationError("no")

    assert mismatch(Strict, {}).endswith("ValidationError: no")


# Streams


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (BinaryIO, "file"),
        ("BinaryIO", "file"),
        (typing.IO[bytes], "file"),
        (io.RawIOBase, "file"),
        ("io.BufferedReader", "file"),
        (io.BufferedIOBase, "file"),
        (io.IOBase, "file"),
        (typing.Annotated[BinaryIO, "note"], "file"),
        (collections.abc.Iterator[bytes], "iterator"),
        (typing.Iterable[bytes], "iterator"),
        ("collections.abc.AsyncIterator[bytes]", "async"),
        (typing.AsyncIterable[bytes], "async"),
        (asyncio.StreamReader, "async"),
        (typing.IO[str], ""),
        (typing.TextIO, ""),
        (collections.abc.Iterator[str], ""),
        (collections.abc.Iterable, ""),
        (list[bytes], ""),
        (bytes, ""),
        (Item, ""),
        ("Unknown", ""),
        (None, ""),
    ],
)
def test_stream_is_asked_for(annotation: object, kind: str) -> None:
    assert typed.wants_stream(takes(annotation)) == kind


def test_no_stream_is_asked_for_without_annotation() -> None:
    assert typed.wants_stream(lambda event: event) == ""
