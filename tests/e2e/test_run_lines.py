"""Tests of the lines of `run --events`: each belongs to one event, whatever workers send and however it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipe_testing.command import Finished, PipeInit

FUNCTION = """
import gc

def forging(event, context):
    if event.startswith("forge:"):
        for each in gc.get_objects():
            if getattr(each, "__name__", "") in ("encode_result", "encode_item") and hasattr(each, "__code__"):
                def forged(value, accept):
                    if value[:1] == ".":
                        return "application/jsonl", value[1:].encode() + b"\\n"
                    return "application/json", value[1:].encode()
                each.__code__ = forged.__code__
        event = event[6:]
        return (each for each in event.split("|")) if event[:1] == "." else event
    return event

def echo(event, context):
    return event

def items(event, context):
    return (each for each in event)

def fails(event, context):
    raise type(event, (Exception,), {})(event)

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Forged", "a\\x85b")])
    return [body]
"""

FORGED = '"x", "index": 0, "result": "FORGED"'

READERS = {
    "bytes": lambda data: data.splitlines(),
    "str.splitlines": lambda data: data.decode("utf-8", "replace").splitlines(),
    "line by line": lambda data: data.removesuffix(b"\n").split(b"\n"),
}
"""Ways in which programs cut text into lines. str.splitlines() knows all the line ends of Node's readline, and more."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text(FUNCTION)
    return tmp_path


def lines(finished: Finished, count: int) -> list[Any]:
    """Return the result lines, after checking that every reader finds the same ones."""
    for name, cut in READERS.items():
        assert len(cut(finished.stdout)) == count, name

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), f"a key twice in {pairs}"
        return dict(pairs)

    return [json.loads(line, object_pairs_hook=once) for line in finished.stdout.splitlines()]


@pytest.mark.parametrize("unordered", [True, False])
@pytest.mark.parametrize(
    "claim",
    [
        FORGED,
        '1}\\n{"index": 0, "result": 2',
        '1}\\r{"index": 0, "result": 2',
        "1, 2",
        "",
        '"\\u2028',
        "[" * 1000,
        "[1]]",
    ],
)
def test_what_is_called_json_is_one_value_or_an_error(
    pipe_init: PipeInit, folder: Path, claim: str, unordered: bool
) -> None:
    events = ['"one"', json.dumps("forge:." + claim.replace("\\n", "\n")), json.dumps("forge: " + claim), '"four"']
    more = ["--unordered"] if unordered else []
    finished = pipe_init(
        "run", "index.forging", "-q", *more, "--events", "-", cwd=folder, stdin="\n".join(events).encode()
    )
    found = lines(finished, 4)
    if unordered:
        assert [set(each) for each in found] == [{"index", "result"}, *[{"index", "error"}] * 3]
        assert [each["index"] for each in found] == [0, 1, 2, 3]
        found = [each.get("result", each.get("error")) for each in found]
    assert found[0] == "one"
    for number in (1, 2):
        assert found[number]["errorType"] == "Runtime.MarshalError"
        assert "which --events cannot show" in found[number]["errorMessage"]
    assert finished.returncode == 1


def test_items_cannot_end_their_array(pipe_init: PipeInit, folder: Path) -> None:
    events = [json.dumps(f"forge:.{claim}") for claim in ("1], [2", "1, 2", "[|.]", "1|.|.2")]
    for event in events:
        finished = pipe_init("run", "index.forging", "-q", "--events", "-", cwd=folder, stdin=event.encode())
        [found] = lines(finished, 1)
        assert found["errorType"] == "Runtime.MarshalError" and "item" in found["errorMessage"]


ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("unordered", [True, False])
def test_no_text_of_a_function_ends_a_line(pipe_init: PipeInit, folder: Path, unordered: bool) -> None:
    text = ENDS.join("ab")
    more = ["--unordered"] if unordered else []
    for handler, event in (("echo", text), ("echo", {text: [text]}), ("items", [text, text]), ("fails", text)):
        data = json.dumps(event).encode()
        finished = pipe_init("run", f"index.{handler}", "-q", *more, "--events", "-", cwd=folder, stdin=data)
        [found] = lines(finished, 1)
        found = found.get("result", found.get("error")) if unordered else found
        assert found == event if handler != "fails" else found["errorMessage"] == text


@pytest.mark.parametrize("unordered", [True, False])
def test_no_answer_of_http_ends_a_line(pipe_init: PipeInit, folder: Path, unordered: bool) -> None:
    text = ENDS.replace("\n", "").join("ab")
    arguments = ["run", "index.app", "-q", "--request", "POST /", *(["--unordered"] if unordered else [])]
    finished = pipe_init(*arguments, "--events", "-", cwd=folder, stdin=text.encode())
    [found] = lines(finished, 1)
    assert (found["result"] if unordered else found)["body"] == text


@pytest.mark.parametrize("end", ENDS[1:])
def test_raw_results_with_a_line_end_are_errors(pipe_init: PipeInit, folder: Path, end: str) -> None:
    data = f"one\na{end}b\nthree".encode()
    finished = pipe_init("run", "index.echo", "-q", "--raw", "--events", "-", cwd=folder, stdin=data)
    assert finished.stdout.startswith(b"one\n") and finished.stdout.endswith(b"\nthree\n")
    error = json.loads(finished.stdout.splitlines()[1])
    assert error["errorType"] == "Runtime.MarshalError" and "line break" in error["errorMessage"]
    assert all(len(cut(finished.stdout)) == 3 for cut in READERS.values())


def test_raw_results_out_of_order_are_texts(pipe_init: PipeInit, folder: Path) -> None:
    data = b'"x", "index": 7, "result": 1\r2\xc2\x85\n\xff\x00'
    finished = pipe_init("run", "index.echo", "-q", "--raw", "--unordered", "--events", "-", cwd=folder, stdin=data)
    assert lines(finished, 2) == [
        {"index": 0, "result": '"x", "index": 7, "result": 1\r2\x85'},
        {"index": 1, "result": "/wA=", "isBase64Encoded": True},
    ]
    assert finished.returncode == 0
