"""Tests of decoding events and encoding results: every kind of value, and wrong or malicious results."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import threading
import tracemalloc
import types
import uuid
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_runtime.call import codec
from pipe_runtime.wire.errors import Fault
from pipe_testing.patience import HANGS

JSON = "application/json"
MSGPACK = "application/msgpack"
BYTES = "application/octet-stream"
UTC = datetime.timezone.utc


def as_json(value: object) -> str:
    content_type, payload = codec.encode_result(value, JSON)
    assert content_type == JSON
    return payload.decode("utf-8")


def as_msgpack(value: object) -> Any:
    content_type, payload = codec.encode_result(value, MSGPACK)
    assert content_type == MSGPACK
    return codec.decode_event(payload, MSGPACK)


def marshal_error(value: object, accept: str = JSON) -> str:
    with pytest.raises(Fault) as caught:
        codec.encode_result(value, accept)
    assert caught.value.error_type == "Runtime.MarshalError"
    prefix = "Unable to marshal response: "
    assert caught.value.message.startswith(prefix)
    return caught.value.message[len(prefix) :]


def unmarshal_error(payload: bytes, content_type: str) -> str:
    with pytest.raises(Fault) as caught:
        codec.decode_event(payload, content_type)
    assert caught.value.error_type == "Runtime.UnmarshalError"
    prefix = "Unable to unmarshal input: "
    assert caught.value.message.startswith(prefix)
    return caught.value.message[len(prefix) :]


class Colour(enum.Enum):
    RED = "red"
    PRICE = decimal.Decimal("1.5")


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class User:
    name: str
    tags: Any = dataclasses.field(default_factory=set)
    kind: ClassVar[str] = "not a field"


class Answer:
    """An object whose to_json() returns or raises what it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def to_json(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


# Events


@pytest.mark.parametrize(
    ("payload", "content_type", "event"),
    [
        (b'{"a": [1, 2.5, null, "\xc3\xa9"]}', JSON, {"a": [1, 2.5, None, "é"]}),
        (b"\xef\xbb\xbf{}", JSON, {}),
        (b" 1 ", "Application/JSON; charset=utf-8", 1),
        (b"-Infinity", JSON, float("-inf")),
        (b"\x82\xa1a\xc4\x01\xff\x01\x02", MSGPACK, {"a": b"\xff", 1: 2}),
        (b"\xd6\xff\x00\x00\x00\x01", MSGPACK, datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (b"\x00\xff", BYTES, b"\x00\xff"),
        (b"", BYTES, b""),
        ("größer".encode(), "text/plain", "größer"),
        (b"a", 'text/plain; charset="UTF-8"', "a"),
    ],
)
def test_event_is_decoded_by_its_content_type(payload: bytes, content_type: str, event: object) -> None:
    assert codec.decode_event(payload, content_type) == event


@pytest.mark.parametrize(
    ("payload", "content_type", "why"),
    [
        (b"", JSON, "Expecting value: line 1 column 1 (char 0)"),
        (b"{} x", JSON, "Extra data"),
        (b'"\xff"', JSON, "can't decode byte 0xff"),
        (b"[" * 200_000, JSON, "nested too deeply"),
        (b"", MSGPACK, "incomplete input"),
        (b"\x91" * 5_000 + b"\x00", MSGPACK, ""),
        (b"\xd4\x05a", MSGPACK, "ext type 5 is not known"),
        (b"\xc7\x0c\xff" + b"\xff" * 12, MSGPACK, "nanoseconds"),
        (b"\x01\x01", MSGPACK, "extra data"),
        (b"\x81\x90\x01", MSGPACK, "unhashable"),
        (b"\xa1\xff", MSGPACK, "can't decode byte 0xff"),
        (b"\xff", "text/plain", "can't decode byte 0xff"),
        (b"a", "text/plain; charset=latin-1", "charset 'latin-1' is not supported"),
        (b"{}", "application/xml", "unknown content type 'application/xml'"),
        (b"{}", "", "unknown content type ''"),
    ],
)
def test_event_that_cannot_be_decoded(payload: bytes, content_type: str, why: str) -> None:
    assert why in unmarshal_error(payload, content_type)


def test_number_of_too_many_digits_is_an_unmarshal_error() -> None:
    # Python 3.10.0 to 3.10.6 had no limit. Every interpreter in use has one.
    assert "Exceeds the limit (4300" in unmarshal_error(b"9" * 5_000, JSON)


@given(st.binary(), st.sampled_from([JSON, MSGPACK, BYTES, "text/plain", "other"]))
def test_no_payload_raises_anything_but_a_fault(payload: bytes, content_type: str) -> None:
    try:
        codec.decode_event(payload, content_type)
    except Fault as fault:
        assert fault.error_type == "Runtime.UnmarshalError"


# Results as JSON


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, 2.5]}, '{"a": 1, "b": [true, null, 2.5]}'),
        ("größer 💡", '"größer 💡"'),
        (("a", 1), '["a", 1]'),
        (2**80, "1208925819614629174706176"),
        ([float("nan"), float("inf"), float("-inf")], "[NaN, Infinity, -Infinity]"),
        ({1: "a", 2.5: "b", False: "c", None: "d"}, '{"1": "a", "2.5": "b", "false": "c", "null": "d"}'),
        (decimal.Decimal("12"), "12"),
        (decimal.Decimal("12.00"), "12.00"),
        (decimal.Decimal("12.25"), "12.25"),
        (decimal.Decimal("1e20"), "1E+20"),
        (decimal.Decimal("NaN"), "NaN"),
        (decimal.Decimal("-Infinity"), "-Infinity"),
        (decimal.Decimal("1e-999999"), "1E-999999"),
        (datetime.datetime(2026, 1, 31, 12, 30), '"2026-01-31T12:30:00"'),
        (datetime.datetime(2026, 1, 31, 12, tzinfo=UTC), '"2026-01-31T12:00:00+00:00"'),
        (datetime.date(2026, 1, 31), '"2026-01-31"'),
        (datetime.time(12, 30), '"12:30:00"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (pathlib.Path("a/b"), '"a/b"'),
        (pathlib.PurePosixPath("a"), '"a"'),
        (Colour.RED, '"red"'),
        (Colour.PRICE, "1.5"),
        (Level.HIGH, "3"),
        (User("ann", {2, 1}), '{"name": "ann", "tags": [1, 2]}'),
        ({3, 1, 2}, "[1, 2, 3]"),
        (frozenset("ba"), '["a", "b"]'),
        (b"a\xc3\xa9", '"aé"'),
        (bytearray(b"a"), '"a"'),
        (memoryview(b"abcd")[::2], '"ac"'),
        (types.MappingProxyType({"a": 1}), '{"a": 1}'),
        (collections.ChainMap({"a": 1}), '{"a": 1}'),
        (collections.deque([1, 2]), "[1, 2]"),
        (range(3), "[0, 1, 2]"),
        ({"b": 1, "a": 2}.keys(), '["b", "a"]'),
        ({"b": 1, "a": 2}.values(), "[1, 2]"),
        (Answer({"a": 1}), '{"a": 1}'),
        (Answer('{"a": [1]}'), '{"a": [1]}'),
        (Answer("no JSON"), '"no JSON"'),
        (Answer(Answer(None)), "null"),
        ("\ud83d", '"\\ud83d"'),
        ({"\udc80": "\\\udc80"}, '{"\\udc80": "\\\\\\udc80"}'),
    ],
)
def test_result_as_json(value: object, text: str) -> None:
    assert as_json(value) == text


def test_set_that_cannot_be_sorted_is_a_list_all_the_same() -> None:
    assert sorted(json.loads(as_json({1, "a"})), key=str) == [1, "a"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_and_msgpack_give_plain_values_back(value: object) -> None:
    assert codec.decode_event(codec.encode_result(value, JSON)[1], JSON) == value
    assert as_json(value) == json.dumps(value, ensure_ascii=False)
    try:
        assert as_msgpack(value) == value
    except Fault as fault:
        assert "beyond the 64 bits" in fault.message


def test_lone_surrogates_come_back_through_json_and_msgpack() -> None:
    for code in (0xD800, 0xDC80, 0xDFFF):
        text = "a\\" + chr(code) + '"'
        assert json.loads(as_json({text: text})) == {text: text}
        assert as_msgpack({text: text}) == {text: text}


# Values that are no results


def circular() -> object:
    value: dict[str, Any] = {"items": [1, {}]}
    value["items"][1]["parent"] = value
    return value


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "Object of type object is not JSON serializable: result"),
        (
            {"items": [0, 1, 2, {"user": 1j}]},
            "Object of type complex is not JSON serializable: result.items[3].user",
        ),
        ({"a b": {7: (object(),)}}, "Object of type object is not JSON serializable: result['a b'][7][0]"),
        (User("ann", [object()]), "Object of type object is not JSON serializable: result.tags[0]"),
        ((x for x in "ab"), "Object of type generator is not JSON serializable: result"),
        (iter([1]), "Object of type list_iterator is not JSON serializable: result"),
        ({"a": [{(1, 2): 3}]}, "keys must be str, int, float, bool or None, not tuple: result.a[0]"),
        (circular(), "Circular reference detected: result.items[1].parent"),
        (nested(100_000), "nested too deeply"),
        ({"n": [10**5000]}, "Exceeds the limit (4300"),
        ({"n": [10**5000]}, ": result.n[0]"),
        ([Answer(ValueError("not\ntoday"))], "ValueError: not\ntoday"),
        (Answer(KeyboardInterrupt()), "KeyboardInterrupt"),
        (Answer(SystemExit(3)), "SystemExit: 3"),
        (Answer(MemoryError()), "out of memory"),
    ],
)
def test_result_that_cannot_be_encoded(value: object, why: str) -> None:
    assert why in marshal_error(value)


def test_object_that_stands_for_itself() -> None:
    answer = Answer(None)
    answer.answer = answer
    assert marshal_error(answer) == "Circular reference detected"
    assert "without end" in marshal_error(answer, MSGPACK)


def test_exception_out_of_the_values_own_code_is_the_faults_cause() -> None:
    raised = ValueError("not today")
    with pytest.raises(Fault) as caught:
        codec.encode_result([Answer(raised)], JSON)
    assert caught.value.__cause__ is raised
    with pytest.raises(Fault) as caught:
        codec.encode_result(circular(), JSON)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def hostile_values() -> dict[str, object]:
    """Return hostile values by name. They are made inside the test, because pytest would read them."""

    class EvilMeta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit("metaclass")

    class EvilClass(metaclass=EvilMeta):
        pass

    class EvilIdentity:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise KeyboardInterrupt

    class EvilBytes(bytes):
        def __bytes__(self) -> bytes:
            raise SystemExit

        def __len__(self) -> int:
            raise SystemExit

    class EvilText(str):
        def encode(self, *args: Any, **options: Any) -> bytes:
            raise SystemExit

        __str__ = __repr__ = __hash__ = encode  # type: ignore[assignment]

    class EvilDict(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise GeneratorExit("items")

        __iter__ = keys = items  # type: ignore[assignment]

    class EvilSequence(collections.UserList):  # type: ignore[type-arg]
        def __len__(self) -> int:
            raise KeyboardInterrupt

    class EvilError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    return {
        "metaclass": EvilClass(),
        "class": EvilClass,
        "identity": EvilIdentity(),
        "bytes": EvilBytes(b"a"),
        "text": EvilText("a"),
        "dict": EvilDict(a=object()),
        "sequence": EvilSequence([1]),
        "nest": [EvilDict(a=1), EvilText("b"), EvilBytes(b"c"), EvilIdentity()],
        "range": range(10**18),
        "recursion": Answer(Answer(RecursionError())),
        "error": Answer(EvilError()),
    }


@pytest.mark.parametrize("accept", [JSON, MSGPACK, "*/*"])
@pytest.mark.parametrize("name", sorted(hostile_values()))
def test_a_hostile_value_is_a_result_or_a_fault(name: str, accept: str) -> None:
    fault = None
    try:
        content_type, payload = codec.encode_result(hostile_values()[name], accept)
        assert type(payload) is bytes and type(content_type) is str
    except Fault as raised:
        fault = raised
    assert fault is None or fault.error_type == "Runtime.MarshalError"
    assert fault is not None or name in ("text", "bytes")


def test_the_message_is_bounded_however_large_the_reason() -> None:
    assert len(marshal_error(Answer(ValueError("é" * 1_000_000))).encode()) <= 8 * 1024


def test_a_value_that_contains_itself_is_refused_before_it_grows() -> None:
    wide: list[object] = ["x" * 1000] * 1000
    wide.append({"parent": wide})
    tracemalloc.start()
    try:
        assert marshal_error(wide).startswith("Circular reference detected")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 1000 * 1000  # its JSON has 1 MB; following the circle even 100 times would take more


def test_an_event_may_have_spaces_around_it() -> None:
    assert codec.decode_event(b" \n[1] \t\r\n", JSON) == [1]


@pytest.mark.parametrize("payload", [b"[1] [2]", b"[1]\x0b", b"[1]\xc2\xa0", b" [1] x", b"", b"  "])
def test_what_stands_around_an_event_is_nothing_but_spaces(payload: bytes) -> None:
    with pytest.raises(ValueError) as expected:
        json.loads(payload.decode())
    assert unmarshal_error(payload, JSON) == str(expected.value)


def test_encoding_works_again_after_a_failure() -> None:
    for accept in (JSON, MSGPACK):
        marshal_error([1, 2, object()], accept)
        assert codec.decode_event(codec.encode_result([1], accept)[1], accept) == [1]


# Results as msgpack


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ({"a": b"\xff", 1: None}, {"a": b"\xff", 1: None}),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (datetime.datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),) * 2,
        (
            datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=8))),
            datetime.datetime(2026, 1, 31, 4, tzinfo=UTC),
        ),
        (datetime.datetime(2026, 1, 31, 12), "2026-01-31T12:00:00"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (decimal.Decimal("1.5"), 1.5),
        (Colour.PRICE, 1.5),
        ({1, 2}, [1, 2]),
        (User("ann", {b"\x00"}), {"name": "ann", "tags": [b"\x00"]}),
        (Answer('{"a": 1}'), {"a": 1}),
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_result_as_msgpack(value: object, back: object) -> None:
    assert as_msgpack(value) == back


def test_subclass_of_datetime_keeps_its_instant() -> None:
    class Stamp(datetime.datetime):
        pass

    assert as_msgpack(Stamp(2026, 1, 31, tzinfo=UTC)) == datetime.datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([2**64], "Integer beyond the 64 bits of msgpack: result[0]"),
        (decimal.Decimal("1e5000"), "Decimal beyond the range of a number: result"),
        (decimal.Decimal("1e999999"), "Decimal beyond the range of a number: result"),
        (decimal.Decimal(2**64), "Integer beyond the 64 bits of msgpack"),
        ({"a": object()}, "Object of type object is not JSON serializable: result.a"),
        (circular(), "Circular reference detected: result.items[1].parent"),
        (nested(100_000), "nested too deeply"),
        (Answer(SystemExit(1)), "SystemExit: 1"),
    ],
)
def test_result_that_msgpack_cannot_carry(value: object, why: str) -> None:
    assert why in marshal_error(value, MSGPACK)


def test_a_value_that_encodes_another_result_while_it_is_encoded() -> None:
    class Inner:
        def to_json(self) -> Any:
            return codec.encode_result([1, 2], MSGPACK)[1]

    assert as_msgpack(["before", Inner(), "after"]) == ["before", msgpack.packb([1, 2]), "after"]


def test_threads_encode_at_the_same_time() -> None:
    # The barrier is inside the encoding, so all threads encode at the same time.
    barrier = threading.Barrier(4)
    results: dict[int, Any] = {}

    class Meeting:
        def to_json(self) -> str:
            barrier.wait(HANGS)
            return "met"

    def work(number: int) -> None:
        results[number] = as_msgpack([number, Meeting(), number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number, "met", number] for number in range(4)}


# Raw results


@pytest.mark.parametrize(
    ("value", "content_type", "payload"),
    [
        (b"\x00\xff", BYTES, b"\x00\xff"),
        (bytearray(b"a"), BYTES, b"a"),
        (memoryview(b"abcd")[::2], BYTES, b"ac"),
        ("größer", "text/plain; charset=utf-8", "größer".encode()),
        ("a\udcff", "text/plain; charset=utf-8", b"a\xff"),
        ("\ud83d", "text/plain; charset=utf-8", b"\\ud83d"),
        ({"a": b"\x00"}, JSON, b'{"a": "\\u0000"}'),
        (None, JSON, b"null"),
    ],
)
def test_raw_result(value: object, content_type: str, payload: bytes) -> None:
    assert codec.encode_result(value, "*/*") == (content_type, payload)


@pytest.mark.parametrize("accept", ["", "text/html", "Application/JSON; q=1"])
def test_what_nobody_knows_to_accept_means_json(accept: str) -> None:
    assert codec.encode_result("a", accept) == (JSON, b'"a"')


@pytest.mark.parametrize("accept", [JSON, MSGPACK, "*/*"])
def test_large_text(accept: str) -> None:
    text = "aé\n" * 3_000_000
    content_type, payload = codec.encode_result(text, accept)
    assert codec.decode_event(payload, content_type) == text
