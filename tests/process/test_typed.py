"""Tests of typed events: which annotations ask for a conversion, what is made, and what is refused with which error.

The annotations in this file are texts, as in many functions. Their names are those of this module.
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
from typing import Any, BinaryIO, Generic, Literal, NewType, TypedDict, TypeVar

import pytest

from pipe_runtime.adapters import typed
from pipe_runtime.cloudevent import CloudEvent
from pipe_runtime.load import handler as load
from pipe_runtime.wire.errors import Fault
from pipe_testing import tools
from pipe_testing.environment import unmeasured

UTC = datetime.timezone.utc
T = TypeVar("T")
LIBRARIES = ("pydantic", "msgspec")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Headers(TypedDict):
    host: str


class Plain:
    """A class of which no library can make an object."""


@dataclasses.dataclass
class Item:
    name: str
    price: float


@dataclasses.dataclass
class Order:
    items: list[Item]
    customer: str | None = None
    tags: set[str] = dataclasses.field(default_factory=set)


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
class Unfinished:
    part: Unknown  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class Scalars:
    whole: int
    real: float
    moment: datetime.datetime
    amount: decimal.Decimal
    id: uuid.UUID
    colour: Colour
    kind: Literal["a", "b"]
    anything: Any
    counts: dict[int, str]


@dataclasses.dataclass
class Mail:
    event: CloudEvent


def takes(annotation: object) -> Callable[..., object]:
    """Return a handler whose event has this annotation."""

    def handler(event: object, context: object) -> object:
        return event

    handler.__annotations__["event"] = annotation
    return handler


def converter(handler: object) -> Callable[[object], Any] | None:
    return typed.reading(*load.event_annotation(handler))[1]


def wants_stream(handler: object) -> str:
    return typed.reading(*load.event_annotation(handler))[0]


def build(annotation: object, event: object) -> Any:
    convert = converter(takes(annotation))
    assert convert is not None
    return convert(event)


def mismatch(annotation: object, event: object) -> str:
    with pytest.raises(Fault) as caught:
        build(annotation, event)
    assert caught.value.error_type == "Runtime.UnmarshalError"
    prefix = "Unable to unmarshal input: "
    assert caught.value.message.startswith(prefix)
    return caught.value.message[len(prefix) :]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one of the two libraries the only one that the function's environment has."""
    name: str = request.param
    tools.require_module(name)
    for other in LIBRARIES:
        if other != name:
            monkeypatch.setitem(sys.modules, other, None)
    return name


# Annotations that ask for a conversion


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
    assert converter(takes(annotation)) is None


@pytest.mark.parametrize(
    "annotation",
    [
        Item, "Item", "'Item'", list[Item], "list[Item]", "typing.Optional[Item]",
        *([list["Item"]] if sys.version_info >= (3, 11) else []),
        "typing.Union[Item, str]", Item | None,
        dict[str, list[Item]], "typing.List['Item']", typing.Annotated[Item, "note"], NewType("Thing", Item), Page[int],
        Page[Item], CloudEvent, "CloudEvent", list[CloudEvent],
    ],
)  # fmt: skip
def test_structures_ask_wherever_they_are(library: str, annotation: object) -> None:
    if library == "msgspec" and annotation == "typing.Union[Item, str]":
        annotation = "typing.Union[Item, None, str]"
    assert converter(takes(annotation)) is not None


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
    """Return a decorated handler. The decorator looks into the event before the handler does."""

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
    convert = converter(handler)
    assert convert is not None
    assert convert({"name": "a", "price": 1}) == Item("a", 1.0)


def no_parameters() -> None:
    """Take no event."""


def keywords_only(*, event: Item) -> None:
    """Take an event by keyword only."""


@pytest.mark.parametrize(
    "handler",
    [
        no_parameters, keywords_only, functools.partial(third, 1), parsing(takes(Item)), Handlers, print, 5, None,
        lambda event: event, "text",
    ],
)  # fmt: skip
def test_other_callables_ask_for_nothing(handler: object) -> None:
    assert converter(handler) is None
    assert wants_stream(handler) == ""


def test_wrappers_in_a_circle_ask_for_nothing() -> None:
    one = logged(takes(Item))
    one.__dict__["__wrapped__"] = one
    assert converter(one) is None


def test_annotation_with_hostile_code_asks_for_nothing() -> None:
    class Meta(type):
        def __getattr__(cls, name: str) -> object:
            raise LookupError(name)

    assert converter(takes(Meta("Hostile", (), {}))) is None
    assert wants_stream(takes(Meta("Hostile", (), {}))) == ""


def test_plain_handler_costs_no_import() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from pipe_runtime.adapters import typed\n"
        "from pipe_runtime.load import handler as load; before = set(sys.modules)\n"
        "def handler(event: 'dict[str, list[int]]', context: object) -> object: return event\n"
        "asked = load.event_annotation(handler)\n"
        "assert asked[0] and typed.reading(*asked) == ('', None)\n"
        "print(*sorted(set(sys.modules) - before))\n"
        "print(*{'typing', 'dataclasses', 'inspect', 're'} & set(sys.modules))\n"
    )
    folder = str(pathlib.Path(typed.__file__).parents[2])
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder], capture_output=True, env=unmeasured(), text=True
    )
    assert (child.stdout.split(), child.stderr) == ([], "")


# What is made

NOW = datetime.datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
SCALARS = {
    "whole": 2**40,
    "real": 1,
    "moment": "2026-01-31T12:30:00Z",
    "amount": "0.10",
    "id": str(ID),
    "colour": "red",
    "kind": "b",
    "anything": {"a": [1]},
    "counts": {"1": "a"},
}


def test_dataclass_is_made_to_its_depth(library: str) -> None:
    event = {"items": [{"name": "a", "price": 2}, {"name": "b", "price": 0.5, "other": 1}], "tags": ["x"]}
    order = build(Order, event)
    assert order == Order([Item("a", 2.0), Item("b", 0.5)], None, {"x"})
    assert type(order.items[0].price) is float


def test_dataclass_may_lie_in_itself(library: str) -> None:
    event = {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]}
    assert build(Node, event) == Node(1, [Node(2, [Node(3)])])


def test_structures_in_containers_are_made(library: str) -> None:
    item = {"name": "a", "price": 1}
    assert build(list[Item], [item]) == [Item("a", 1.0)]
    if sys.version_info >= (3, 11):  # before, Python's typing leaves a name in quotes inside list[…] as it is
        assert build(list["Item"], [item]) == [Item("a", 1.0)]
    assert build(Item | None, None) is None
    assert build(Item | None, item) == Item("a", 1.0)
    assert build(dict[str, Item], {"k": item}) == {"k": Item("a", 1.0)}
    assert build("tuple[Item, ...] | None", [item]) == (Item("a", 1.0),)
    assert build(Page[Item], {"entries": [item]}) == Page([Item("a", 1.0)])


@pytest.mark.parametrize("moment", ["2026-01-31T12:30:00Z", NOW], ids=["JSON", "msgpack"])
def test_fields_are_made_of_text_and_of_what_msgpack_has(library: str, moment: object) -> None:
    made = build(Scalars, {**SCALARS, "moment": moment})
    assert made == Scalars(2**40, 1.0, NOW, decimal.Decimal("0.10"), ID, Colour.RED, "b", {"a": [1]}, {1: "a"})
    assert type(made.real) is float


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement")
def test_type_statement_may_hold_itself() -> None:
    names: dict[str, Any] = {"Item": Item}
    exec("type Tree = Item | list[Tree]", names)
    assert build(names["Tree"], [[{"name": "a", "price": 1}]]) == [[Item("a", 1.0)]]
    exec("type Json = list[Json] | dict[str, Json] | str", names)
    assert converter(takes(names["Json"])) is None


# Which library makes it


def test_pydantic_is_taken_where_both_are_there() -> None:
    assert mismatch(Item, {"name": "a"}) == "event.price: Field required"


def test_struct_is_msgspec_s_where_both_are_there() -> None:
    msgspec = tools.require_module("msgspec")
    struct = msgspec.defstruct("Point", [("x", int), ("y", int, 0)])
    assert build(struct, {"x": 1}) == struct(1, 0)
    assert build(list[struct], [{"x": 1}]) == [struct(1, 0)]
    assert mismatch(struct, {"x": "1"}) == "event.x: Expected `int`, got `str`"


def test_missing_library_is_a_fault_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Fault) as caught:
        converter(takes(list[Item]))
    assert caught.value.error_type == "Runtime.ImportModuleError"
    assert caught.value.message.startswith("Unable to import module 'pydantic': ")
    assert caught.value.message.endswith("pip install 'pipe-init[typed]'")
    assert converter(takes("dict[str, object]")) is None
    assert build(CloudEvent, ENVELOPE).id == "1"


def test_type_that_the_library_does_not_support_fails_the_load(library: str) -> None:
    with pytest.raises(Exception, match=r"not fully defined|'Unknown' is not defined"):
        converter(takes(Unfinished))


# What does not fit


def test_mismatch_names_the_place(library: str) -> None:
    items = [{"name": "a", "price": 1}, {"name": "b", "price": 2}, {"name": "c", "price": "abc"}]
    said = mismatch(Order, {"items": items})
    assert said.startswith("event.items[2].price: ") and "number" in said or "`float`" in said
    assert mismatch(list[Order], [{"items": items}]).startswith("event[0].items[2].price: ")
    assert mismatch("Item | None", {"name": 5, "price": 1}).startswith("event.name: ")
    assert mismatch(Item, b"raw").startswith("event: ")


def test_mismatch_of_pydantic_says_what_came() -> None:
    assert mismatch(Item, {"name": 5, "price": 1}) == "event.name: Input should be a valid string, got int 5"
    assert mismatch(Item, {"name": "a", "price": "x" * 100}).endswith(f", got str '{'x' * 100}'")
    said = mismatch(Item, {"name": "a", "price": "x" * 1_000_000})
    assert len(said.encode()) <= 512 and said.endswith("xxx… [cut]")
    assert mismatch(Item, {"name": "a", "price": []}).endswith(", got list")
    assert mismatch(Item, {"name": True, "price": 1}).endswith(", got bool True")


def test_problems_of_one_event_are_told_together() -> None:
    assert mismatch(Item, {}) == "event.name: Field required; event.price: Field required"
    wide = dataclasses.make_dataclass("Wide", [(name, int) for name in "abcde"])
    assert mismatch(wide, {}).endswith("event.c: Field required; and 2 more")


def test_long_message_is_cut(library: str) -> None:
    assert len(mismatch(dict[str, Item], {"k" * 100_000: 5})) < 600
    assert len(mismatch(dict[str, dict[str, Item]], {"k": {"\ud800": 5}})) < 600


def test_class_that_refuses_its_values_is_a_mismatch(library: str) -> None:
    said = mismatch(list[Positive], [{"number": 1}, {"number": -1}])
    assert said.startswith("event[1]: ") and "must be positive" in said


def test_other_failure_of_a_class_passes(library: str) -> None:
    with pytest.raises(LookupError, match="the class's own failure"):
        build(Positive, {"number": 0})


# CloudEvents and pydantic

TIME = "2026-01-31T12:30:00Z"
ENVELOPE = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "time": TIME,
    "data": {"a": 1},
}


def test_cloudevent_is_made() -> None:
    event = build(CloudEvent, ENVELOPE)
    assert (type(event), event.id, event.data) == (CloudEvent, "1", {"a": 1})


def test_cloudevent_in_another_type_is_the_library_s(library: str) -> None:
    assert [event.id for event in build(list[CloudEvent], [ENVELOPE])] == ["1"]
    assert build(CloudEvent | None, None) is None
    assert build(Mail, {"event": ENVELOPE}).event.time == NOW
    said = mismatch(list[CloudEvent], [ENVELOPE, {"id": "1"}])
    assert said.startswith("event[1]: ") and "missing: specversion, source, type" in said


def test_cloudevent_says_what_is_missing() -> None:
    needs = "a CloudEvent needs specversion, id, source, type"
    assert mismatch(CloudEvent, {"id": "1"}) == f"event: {needs}; missing: specversion, source, type"
    assert mismatch(CloudEvent, 5) == "event: expected a CloudEvent, got int"


@pytest.mark.parametrize("module", ["cloudevents.http", "cloudevents.v1.http", "cloudevents.core.v1.event"])
def test_event_of_the_package_cloudevents_is_built(module: str) -> None:
    tools.require_module("cloudevents")
    cls: Any = pytest.importorskip(module, exc_type=ImportError).CloudEvent  # the modules of version 1 and of version 2
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
    """Return models of pydantic 2."""
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


def test_pydantic_model_is_made(models: Any) -> None:
    assert build(models.line, {"price": "1.5"}) == models.line(price=1.5, count=1)
    assert build(list[models.line], [{"price": 1}]) == [models.line(price=1.0)]
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


def test_model_of_pydantic_1_fails_the_load() -> None:
    class Model:
        @classmethod
        def parse_obj(cls, value: Any) -> Any:
            """Stand for the method that pydantic 1 has under this name."""

    with pytest.raises(Exception, match="schema"):
        converter(takes(Model))


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
    assert wants_stream(takes(annotation)) == kind


def test_no_stream_is_asked_for_without_annotation() -> None:
    assert wants_stream(lambda event: event) == ""
