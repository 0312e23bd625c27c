"""Tests of the JSON style of the log: lines and records become objects, whatever the function puts into them."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.log import contexts, records
from pipe_runtime.log.writer import JSON_LINE, NO_REQUEST, PIECE, LogStream, LogWriter, Tag

KNOWN = frozenset(logging.makeLogRecord({}).__dict__)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def record(extra: dict[Any, object] | None = None, **attributes: object) -> dict[str, Any]:
    """Return the JSON of a record with these attributes, for the request r-1."""
    made = logging.makeLogRecord({"msg": "text", "levelname": "INFO", **attributes})
    made.__dict__.update(extra or {})
    line = records.record_line(made, Tag(1, "r-1"), made.levelname, KNOWN)
    assert "\n" not in line
    return dict(json.loads(line, parse_constant=pytest.fail))


def printed(message: bytes, request_id: str = "r-1") -> dict[str, Any]:
    """Return the JSON of a printed line."""
    return dict(json.loads(records.printed_line(message, "stdout", request_id)))


def failure(error: BaseException) -> Any:
    """Raise an error and return its exc_info."""
    try:
        raise error
    except BaseException:
        return sys.exc_info()


def test_a_printed_line() -> None:
    fields = printed(b'"quoted" \\ \x00 \xc3\xbc \xff')
    assert MOMENT.fullmatch(fields.pop("timestamp"))
    assert fields == {"message": '"quoted" \\ \x00 ü \\xff', "stream": "stdout", "requestId": "r-1"}
    assert "requestId" not in printed(b"", "")


@pytest.mark.parametrize(
    ("message", "added"),
    [
        ('{"event": "paid", "amount": 1.50, "n": 10000000000000000000000}', "timestamp stream requestId"),
        ('  {"message": "x", "timestamp": 5, "requestId": "mine", "stream": null} \t', ""),
        ("{}", "timestamp stream requestId"),
        ('{"message": {"deep": [1, {"a": "\\ud83d"}]}, "stream": "s"}', "timestamp requestId"),
        ('{"requestId": 1, "requestId": 2}', "timestamp stream"),
        ('{"ü": "\x7f\u2028\u2029\x85"}', "timestamp stream requestId"),
        ('{"wide": [' + "[[1], {}], " * 10_000 + "0]}", "timestamp stream requestId"),
        ('{"brackets": "' + '[{\\\\\\"' * 10_000 + '"}', "timestamp stream requestId"),
        ('{"deep": ' + "[" * 255 + "]" * 255 + "}", "timestamp stream requestId"),
        ('{"n": 1e999, "digits": ' + "9" * 10_000 + "}", "timestamp stream requestId"),
    ],
)
def test_a_printed_object_passes_through(message: str, added: str) -> None:
    line = records.printed_line(message.encode(), "stdout", "r-1").decode()
    assert len(line.splitlines()) == 1
    fields, own = json.loads(line, parse_int=str), json.loads(message, parse_int=str)
    assert {name: fields[name] for name in own} == own
    assert [name for name in fields if name not in own] == added.split()
    assert MOMENT.fullmatch(str(fields["timestamp"])) or fields["timestamp"] == "5"
    assert message.strip()[1:-1].partition("\u2028")[0].rstrip("\x85") in line  # exactly as it was written


@pytest.mark.parametrize(
    "message",
    [
        "[1]",
        '"text"',
        "{a: 1}",
        '{"a": 1} {"b": 2}',
        '{"a": 1},',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1',
        '{"a": "\x01"}',
        '{"a": 1}}',
        '{"a": \xa01}',
        "{" * 100_000 + "}" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"' + '\\"[' * 60_000 + "}",
        '{"a": "' + "x" * records.LARGEST_OBJECT + '"}',
        "{",
        "}{",
    ],
)
def test_what_is_not_one_object_is_a_text(message: str) -> None:
    fields = printed(message.encode())
    assert fields["message"] == message and fields.keys() == {"timestamp", "message", "stream", "requestId"}


def test_an_object_that_is_no_utf8_is_a_text() -> None:
    assert printed(b'{"a": "\xff"}')["message"] == '{"a": "\\xff"}'


def test_an_object_of_several_lines_is_one_line() -> None:
    text = '{\r\n  "a": "\\n",\n\t"b": [1,\n2]\n}'
    line = records.printed_line(text.encode(), "log", "r-1", "INFO")
    assert b"\n" not in line and b"\r" not in line
    fields = json.loads(line)
    assert MOMENT.fullmatch(fields.pop("timestamp"))
    assert fields == {"level": "INFO", "stream": "log", "requestId": "r-1", "a": "\n", "b": [1, 2]}


def test_a_text_with_other_line_breaks_is_one_line() -> None:
    text = "a\u2028b\u2029c\x85d\x0b\x0c\x1c\x1d\x1e\r\ne"
    assert len(records.printed_line(text.encode(), "stdout", "").decode().splitlines()) == 1
    assert printed(text.encode())["message"] == text
    assert record(msg=text)["message"] == text


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ({"a": [1, None], "b": {"c": "d"}}, (), {"a": [1, None], "b": {"c": "d"}}),
        ({"when": Path("/x")}, (), {"when": "/x"}),
        ({"a": 1}, ("more",), None),
        ([1, 2], (), "[1, 2]"),
        (5, (), "5"),
        (None, (), "None"),
        ({(1,): 2}, (), "{(1,): 2}"),
        ("%(a)s", ({"a": 1},), "1"),
    ],
)
def test_a_message_that_is_a_dict_stays_an_object(message: object, args: Any, expected: object) -> None:
    if expected is None:
        with pytest.raises(TypeError):  # as str(message) % args: logging reports it
            record(msg=message, args=args)
    else:
        made = logging.LogRecord("n", 20, "p", 1, message, args, None)
        line = records.record_line(made, Tag(1, "r-1", "blue"), "INFO", KNOWN)
        fields = json.loads(line)
        assert (fields["message"], fields["tenantId"]) == (expected, "blue")


def test_a_record() -> None:
    fields = record(
        msg="%s and %d\nnext line",
        args=("a", 1),
        name="some.logger",
        levelname="WARNING",
        pathname="/code/index.py",
        funcName="handler",
        lineno=7,
        created=1769860800.0625,
    )
    assert fields == {
        "timestamp": "2026-01-31T12:00:00.062Z",
        "level": "WARNING",
        "message": "a and 1\nnext line",
        "logger": "some.logger",
        "location": "/code/index.py:handler:7",
        "requestId": "r-1",
    }


def test_a_record_of_no_request() -> None:
    assert "requestId" not in json.loads(records.record_line(logging.makeLogRecord({}), NO_REQUEST, "INFO", KNOWN))


@pytest.mark.parametrize(("name", "shown"), [("Task-1", {"taskName": "Task-1"}), (None, {})])
def test_the_task_of_a_record(name: str | None, shown: dict[str, str]) -> None:
    made = logging.makeLogRecord({"taskName": name})
    line = json.loads(records.record_line(made, NO_REQUEST, "INFO", {*KNOWN, "taskName"}))
    assert {key: value for key, value in line.items() if key == "taskName"} == shown


def test_an_exception() -> None:
    try:
        failure(KeyError("inner"))
        raise KeyError("inner")
    except KeyError:
        fields = record(exc_info=failure(ValueError("outer")))
    assert (fields["errorType"], fields["errorMessage"]) == ("ValueError", "outer")
    stack = "".join(fields["stackTrace"])
    assert "KeyError: 'inner'" in stack and stack.endswith("ValueError: outer\n")
    assert "in failure\n" in stack


def test_no_exception() -> None:
    assert record(exc_info=(None, None, None)).keys() == record().keys()


def test_the_stack() -> None:
    assert record(stack_info="Stack:\n  one")["stackInfo"] == ["Stack:", "  one"]


class Hostile(Exception):
    """An exception whose methods and attributes all raise."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    @property
    def __traceback__(self) -> Any:
        raise RuntimeError("no")

    @property
    def __cause__(self) -> Any:
        raise RuntimeError("no")


class Text(str):
    """A text that formats as another text."""

    def __str__(self) -> str:
        return self

    def __format__(self, spec: str) -> str:
        return "forged"


def test_a_hostile_exception() -> None:
    fields = record(exc_info=(Hostile, Hostile(), None))
    assert fields["errorType"] == "Hostile"
    assert fields["errorMessage"] == "<a Hostile whose text could not be read>"
    assert fields["stackTrace"]


def circle() -> list[object]:
    """Return a list that contains itself."""
    found: list[object] = []
    found.append(found)
    return found


def deep() -> list[object]:
    """Return lists inside one another, deeper than any recursion can follow."""
    found: list[object] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        ("ü\n", "ü\n"),
        (None, None),
        ({"a": [1, 2.5, True]}, {"a": [1, 2.5, True]}),
        ({1: "a"}, {"1": "a"}),
        ({(1, 2): "a"}, "{(1, 2): 'a'}"),
        (Path("/code"), "/code"),
        ({"path": Path("/code")}, {"path": "/code"}),
        (b"x", "b'x'"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (Text("real"), "real"),
        (circle(), "[[...]]"),
        (deep(), "<a list whose text could not be read>"),
        (Hostile(), "<a Hostile whose text could not be read>"),
        ([Hostile()], ["<a Hostile whose text could not be read>"]),
        (10**5000, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_extra_fields(value: object, expected: object) -> None:
    fields = record({"added": value})
    if value != 10**5000:
        assert fields["added"] == expected
    assert fields["message"] == "text"


def test_a_lone_surrogate_is_escaped() -> None:
    made = logging.makeLogRecord({"msg": "\udc80"})
    line = records.record_line(made, NO_REQUEST, "INFO", KNOWN).encode("utf-8", "backslashreplace")
    assert json.loads(line)["message"] == "\udc80"


def test_extra_fields_do_not_replace_ours() -> None:
    extra: dict[Any, object] = {"timestamp": 0, "requestId": "x", "location": 1, "logger": 2, "level": 3}
    assert {**record(extra), "timestamp": ""} == {**record(), "timestamp": ""}
    assert record({"errorType": "mine"})["errorType"] == "mine"
    assert record({"aws_request_id": 1, "asctime": 2, "message": 3}).keys() == record().keys()


class Unhashable(str):
    """A text that has no hash, so that it cannot be a key."""

    __hash__ = None  # type: ignore[assignment]


class Named:
    """An object whose str() is an Unhashable."""

    def __str__(self) -> str:
        return Unhashable("named")


def test_names_of_extra_fields_that_are_no_texts() -> None:
    fields = record({5: "five", Hostile(): "odd", Text("shop"): "real", Named(): "odd, too"})
    assert (fields["5"], fields["shop"], fields["named"]) == ("five", "real", "odd, too")
    assert fields["<a Hostile whose text could not be read>"] == "odd"


class Sent:
    """A log in the JSON style.

    Attributes:
        objects: The objects that it has sent, decoded.
        pieces: The same as it was sent: request, bytes, and whether the line continues.
    """

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes, bool]] = []
        self.log = LogWriter(self.take)
        self.log.configure("JSON", "INFO")
        self.raw = LogStream(self.log, "stdout", 1)
        self.log._streams.append(self.raw)

    def take(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        self.pieces.append((tag.id, text, "continues" in metadata))

    @property
    def objects(self) -> list[dict[str, Any]]:
        output = b"".join(text if continues else text + b"\n" for _, text, continues in self.pieces)
        return [json.loads(line) for line in output.splitlines()]

    @property
    def messages(self) -> list[str]:
        return [each["message"] for each in self.objects]


def test_each_printed_line_is_an_object() -> None:
    sent = Sent()
    sent.log.current = Tag(5, "r-5")
    sent.raw.write(b"one\n\ntwo\nthr")
    sent.raw.write(b"ee\n")
    assert sent.messages == ["one", "", "two", "three"]
    assert {each["requestId"] for each in sent.objects} == {"r-5"}
    assert {id for id, _, _ in sent.pieces} == {5}


def test_what_is_flushed_is_an_object_at_once() -> None:
    sent = Sent()
    sent.raw.write(b"half")
    assert sent.pieces == []
    sent.raw.flush()
    assert sent.messages == ["half"]
    sent.raw.write(b"other half")
    sent.log.flush()
    sent.log.flush()
    assert sent.messages == ["half", "other half"]


@pytest.mark.parametrize("length", [PIECE, 10 * PIECE, JSON_LINE])
def test_a_long_line_is_one_object_in_pieces(length: int) -> None:
    sent = Sent()
    sent.raw.write(b"\n" * 3 + b"\x01" * length)
    sent.raw.write(b"\n")
    assert sent.messages == ["", "", "", "\x01" * length]
    assert all(len(text) <= PIECE for _, text, _ in sent.pieces)


def test_an_endless_line_does_not_grow() -> None:
    sent = Sent()
    text = "é".encode() * 1001
    for _ in range(200):
        sent.raw.write(text)
        assert sum(len(part) for _, part in sent.raw.partial.values()) <= JSON_LINE
    sent.log.flush()
    assert len(sent.messages) == 2
    assert "".join(sent.messages) == "é" * 200_200


def test_a_text_of_several_lines_is_one_object() -> None:
    sent = Sent()
    sent.log.write("two\nlines\n")
    assert sent.messages == ["two\nlines"]
    assert sent.objects[0]["stream"] == "log"


def test_objects_have_no_prefix() -> None:
    sent = Sent()
    sent.log.contexts = contexts.Contexts(sent.log)
    token = sent.log.enter(Tag(1, "r-1"))
    sent.raw.write(b"printed\nhalf")
    sent.log.write("logged")
    sent.log.flush(1)
    sent.log.leave(token)
    assert sent.messages == ["printed", "logged", "half"]
    assert {each["requestId"] for each in sent.objects} == {"r-1"}
    assert sent.raw.partial == {}


# In a real runtime
