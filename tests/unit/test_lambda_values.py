"""Tests of results as JSON: each row of the table in docs/run.md is encoded here and by Lambda's own encoder.

The table is the test's data. What it says of Lambda is compared with awslambdaric, and what it says of this runtime
with codec. A row that says "same" must give the same text. Any other row must give another text and a reason.
"""

from __future__ import annotations

import collections
import datetime
import enum
import json
import os
import pathlib
import re
import types
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
from hypothesis import given
from hypothesis import strategies as st
from simplejson import RawJSON

from pipe_runtime.call import codec
from pipe_runtime.wire.errors import Fault

DOCUMENT = pathlib.Path(os.environ["PIPE_INIT_TREE"]) / "docs" / "run.md"
JSON = "application/json"

Point = namedtuple("Point", "x y")


class StrKind(str):
    """A text whose str() differs from its content. Both encoders must use the content."""

    def __str__(self) -> str:
        return "another text"


class Money(Decimal):
    """A Decimal whose str() is not a number."""

    def __str__(self) -> str:
        return f"${super().__str__()}"


class Level(enum.IntEnum):
    """An enumeration whose members are integers."""

    HIGH = 3


class Colour(enum.Enum):
    """An enumeration whose members are not integers."""

    RED = "red"


class Row(list):  # type: ignore[type-arg]
    """A class derived from list."""

    def _asdict(self) -> dict[str, int]:
        return {"id": 7}


class Table(dict):  # type: ignore[type-arg]
    """A class derived from dict."""

    _asdict = Row._asdict


class Record:
    """A class that is neither a list nor a dict."""

    _asdict = Row._asdict


class Wrong:
    """A class whose _asdict() does not return a dict."""

    def _asdict(self) -> int:
        return 3


class Own:
    """A class whose instances have an _asdict() that the class does not have."""

    def __init__(self) -> None:
        self._asdict = lambda: {"id": 7}


class Upper(dict):  # type: ignore[type-arg]
    """A dict whose items() differs from its content."""

    def items(self) -> Any:
        return [(key.upper(), value) for key, value in super().items()]


class Answer:
    """A class with two methods that both return its JSON."""

    def to_json(self) -> dict[str, str]:
        return {"to": "json"}

    def for_json(self) -> dict[str, str]:
        return {"for": "json"}


@dataclass
class User:
    """A dataclass."""

    name: str


def circular() -> object:
    """Return a list that contains itself."""
    value: list[object] = []
    value.append(value)
    return value


NAMES = {
    **globals(),
    **vars(collections),
    **vars(types),
    "UUID": uuid.UUID,
    "Path": pathlib.Path,
    "date": datetime.date,
    "datetime": datetime.datetime,
}
"""The names that the expressions in the table may use."""


@pytest.fixture
def marshal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return Lambda's encoder as it is since Python 3.12, where it writes UTF-8 unescaped."""
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_Lambda_python3.12")
    marshaller = LambdaMarshaller()

    def encode(value: object) -> str:
        try:
            payload, content_type = marshaller.marshal_response(value)
        except FaultException as fault:
            assert fault.msg.startswith("Unable to marshal response: ")
            return "MarshalError"
        if content_type != JSON:
            return "the bytes, not JSON"
        try:
            payload.encode()  # Lambda's client does this before it sends
        except UnicodeEncodeError:
            return "no answer"
        return str(payload)

    return encode


def ours(value: object) -> str:
    try:
        return codec.encode_result(value, JSON)[1].decode()
    except Fault as fault:
        assert fault.error_type == "Runtime.MarshalError"
        return "MarshalError"


def rows() -> list[list[str]]:
    """Return the cells of the table without code marks. A first cell ends after its code."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("### Lambda's rules\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    found = []
    for first, *others in table:
        code = re.match("`(.*?)`", first)
        assert code is not None
        found.append([code[1], *(cell.strip("`") for cell in others)])
    return found


def test_the_table_is_there() -> None:
    table = rows()
    assert len(table) >= 48
    assert all(len(row) == 4 for row in table), [row for row in table if len(row) != 4]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_row(row: list[str], marshal: Any) -> None:
    expression, lambdas, here, reason = row
    assert marshal(eval(expression, NAMES)) == lambdas
    assert ours(eval(expression, NAMES)) == (lambdas if here == "same" else here)
    assert (here == "same") == (not reason)
    assert here != lambdas


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.text('ab\\"é\x00').map(str.encode)
    | st.decimals(allow_nan=True)
    | st.just(Level.HIGH),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.builds(Point, inner, inner)
        | st.dictionaries(st.text("ab") | st.text("ab").map(str.encode) | st.integers() | st.none(), inner)
        | st.dictionaries(st.text("ab"), inner).map(OrderedDict)
    ),
)


@given(VALUES)
def test_any_value_that_lambda_knows_is_written_as_lambda_writes_it(value: object) -> None:
    before = os.environ.get("AWS_EXECUTION_ENV")
    os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python3.12"
    try:
        payload, content_type = LambdaMarshaller().marshal_response(value)
    finally:
        os.environ.pop("AWS_EXECUTION_ENV")
        if before is not None:
            os.environ["AWS_EXECUTION_ENV"] = before
    assert content_type == ("application/unknown" if isinstance(value, bytes) else JSON)
    assert ours(value) == (json.dumps(payload.decode(), ensure_ascii=False) if isinstance(value, bytes) else payload)


# What the rules may cost: a value's own methods run once, and the C encoder writes the parts that need no rule.


class Counted:
    """A value that counts how often it is asked for its JSON."""

    def __init__(self) -> None:
        self.asked = 0

    def to_json(self) -> int:
        self.asked += 1
        return self.asked


def test_methods_of_the_values_own_run_once() -> None:
    class Pair(namedtuple("Pair", "a b")):
        asked = 0

        def _asdict(self) -> dict[str, Any]:
            type(self).asked += 1
            return super()._asdict()

    counted, other = Counted(), Counted()
    value = [b"a", {"x": counted}, Pair(1, [other]), Decimal("1.50"), {b"k": 1}]
    assert ours(value) == '["a", {"x": 1}, {"a": 1, "b": [1]}, 1.50, {"k": 1}]'
    assert (counted.asked, other.asked, Pair.asked) == (1, 1, 1)


def test_a_dict_that_asdict_returns_is_not_asked_again() -> None:
    class Inner(dict):  # type: ignore[type-arg]
        def _asdict(self) -> object:
            return Inner(self)

    assert ours([Inner(a=1)]) == '[{"a": 1}]'

    class Itself(dict):  # type: ignore[type-arg]
        def _asdict(self) -> object:
            return self

    assert ours(Itself()) == "MarshalError"


def test_an_asdict_that_raises() -> None:
    class Raises:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def _asdict(self) -> object:
            raise self.error

    with pytest.raises(Fault, match="ValueError: inner$"):
        codec.encode_result([Raises(ValueError("inner"))], JSON)
    with pytest.raises(Fault, match=r"Object of type Raises is not JSON serializable: result\[0\]$"):
        codec.encode_result([Raises(TypeError("inner"))], JSON)


def test_a_class_with_the_name_of_a_mapping_has_its_rows_written() -> None:
    many = {"rows": [Point(number, {"n": [number]}) for number in range(2000)], "kind": Colour.RED}
    assert json.loads(ours(many)) == {
        "rows": [{"x": number, "y": {"n": [number]}} for number in range(2000)],
        "kind": "red",
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": [b"\xff"]}, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte: result.a[0]"),
        ({"a": Point(1, b"a\xff")}, "can't decode byte 0xff in position 1: invalid start byte: result.a.y"),
        (bytearray(b"\xff"), "can't decode byte 0xff in position 0: invalid start byte: result"),
        ([{b"\xff": 1}], "can't decode byte 0xff in position 0: invalid start byte, in a key: result[0]"),
        ([{b"k": 1}, {(1,): 2}], "keys must be str, int, float, bool or None, not tuple: result[1]"),
        ({"w": Wrong()}, "_asdict() must return a dict, not int: result.w"),
        ([RawJSON("{")], "RawJSON that is not one JSON value: result[0]"),
        ([Point(1, object())], "Object of type object is not JSON serializable: result[0].y"),
        ({b"k": [10**5000]}, "Exceeds the limit (4300"),
    ],
)
def test_the_place_of_what_has_no_json(value: object, why: str) -> None:
    with pytest.raises(Fault) as caught:
        codec.encode_result(value, JSON)
    assert caught.value.message.startswith("Unable to marshal response: ")
    assert why in caught.value.message


def chain(levels: int, link: Any) -> Any:
    """Return a value that contains a value, and so on, this many times."""
    value: Any = 1
    for _ in range(levels):
        value = link(value)
    return value


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (lambda inner: Point(inner, 2), ('{"x": ', ', "y": 2}')),
        (lambda inner: {b"k": inner}, ('{"k": ', "}")),
        (lambda inner: [Decimal("1.50"), inner], ("[1.50, ", "]")),
        (lambda inner: [inner, Colour.RED], ("[", ', "red"]')),
    ],
)
def test_what_json_cannot_write_may_be_as_deep_as_on_lambda(link: Any, text: tuple[str, str]) -> None:
    for levels in (90, 900):
        assert ours(chain(levels, link)) == text[0] * levels + "1" + text[1] * levels


def test_what_has_no_end_is_too_deep() -> None:
    class Endless:
        def to_json(self) -> object:
            return [Endless()]

    for value in (Endless(), chain(100_000, lambda inner: Point(inner, 2))):
        with pytest.raises(Fault, match="nested too deeply$"):
            codec.encode_result(value, JSON)


def test_raw_json_keeps_to_one_line() -> None:
    assert ours([RawJSON('{"a":\r\n [1]}')]) == '[{"a":   [1]}]'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\x00\xff", '{"base64": "AP8="}'),
        ([bytearray(b"a"), Point(1, b"b")], '[{"base64": "YQ=="}, {"x": 1, "y": {"base64": "Yg=="}}]'),
        ({b"k": 1}, "MarshalError"),
    ],
)
def test_bytes_as_base64(value: object, text: str) -> None:
    codec.write_bytes_as("base64")
    try:
        assert ours(value) == text
        assert codec.encode_result({"a": b"\x00"}, "*/*") == (JSON, b'{"a": {"base64": "AA=="}}')
    finally:
        codec.write_bytes_as(None)
    codec.write_bytes_as("another form")
    assert ours(b"a") == '"a"'
