"""Tests of the scan that tells whether a text is exactly one JSON value. json.loads gives the expected answers.

The texts are values, broken values, and texts that are deep or large.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_init.cli.results.json_scan import MAX_DEPTH, STEP, scan
from pipe_init.cli.results.json_text import is_utf8
from pipe_init.log.json_lines import one_line
from pipe_runtime.call.codec import encode_result
from pipe_runtime.wire.messages import JSON


def is_one_value(data: bytes | bytearray, start: int = 0, end: int | None = None) -> bool:
    """Return whether data[start:end] is one JSON value without line breaks, possibly with blanks or tabs around it.

    It does not check that the bytes are UTF-8.
    """
    return scanned(data, start, len(data) if end is None else end)[1]


def scanned(data: bytes | bytearray, start: int, end: int) -> tuple[int, bool]:
    """Return how often a scan has paused, and its answer."""
    steps, pauses = scan(data, start, end), 0
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return pauses, finished.value
        pauses += 1


def by_json(text: str) -> bool:
    """Return the answer of Python's own decoder."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.text('"\\\n\x00é\u2028\ud800😀/', max_size=40)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=60,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_our_runtime_writes_is_accepted(value: Any) -> None:
    data = encode_result(value, JSON)[1]
    assert is_one_value(data) and is_utf8(data)
    assert json.loads(one_line(data)) == json.loads(data) or "NaN" in data.decode()
    assert len(one_line(data).decode().splitlines()) == 1


@settings(max_examples=100, deadline=None)
@given(values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_what_json_writes_is_accepted_except_line_breaks(value: Any, indent: Any, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    data = text.encode("utf-8", "backslashreplace")
    assert is_one_value(data.replace(b"\n", b" "))
    assert is_one_value(data) is (b"\n" not in data)


@settings(max_examples=400, deadline=None)
@given(values, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.sampled_from('[]{},:"\\ \tu0-1.eENtI'))))
def test_what_is_mutilated_is_judged_as_json_does(value: Any, changes: list[tuple[float, int, str]]) -> None:
    text = json.dumps(value)
    for where, taken, put in changes[:3]:
        at = int(where * len(text))
        text = text[:at] + put + text[at + taken :]
    assert is_one_value(text.encode()) is by_json(text)


@settings(max_examples=500, deadline=None)
@given(st.text('[]{},:"\\ \tu0a1.-eE', max_size=14))
def test_any_text_is_judged_as_json_does(text: str) -> None:
    assert is_one_value(text.encode()) is by_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '"x", "index": 0, "result": "FORGED"',
        '1}\t{"index": 0, "result": 2',
        "1], [2",
        "1 2",
        "",
        " ",
        "[1,]",
        "[,1]",
        '{"a":1,}',
        '{"a"}',
        "{1:2}",
        "[1}",
        '{"a":[1}]',
        "]",
        "[[1]]]",
        "[[[[1]]]",
        '"',
        '"\\x"',
        '"\\u12"',
        '"\t"',
        '"\x00"',
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "-",
        "--1",
        "-NaN",
        "nul",
        "truefalse",
        "NaNa",
        "infinity",
        "\ufeff1",
        "'a'",
        "[1\r]",
        "[1\n]",
        "[1\x0b]",
        "1\u2028",
        "\xa01",
        "/**/1",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not is_one_value(text.encode())
    nested = "[" * 40 + text + ", 1" + "]" * 40
    assert is_one_value(nested.encode()) is (by_json(nested) and not {"\n", "\r"} & {*text})


@pytest.mark.parametrize(
    "text",
    ["NaN", "-Infinity", "Infinity", '"\\ud800"', '"\x7f\u2028\u0085"', "-0.0e-0", "1" * 5000, " \t[ ]\t ", "{ }"],
)
def test_what_is_one(text: str) -> None:
    assert is_one_value(text.encode())
    nested = b'{"a": [' * 40 + text.encode() + b"]}" * 40
    assert is_one_value(nested)
    assert is_one_value(b"xx" + nested + b",", 2, 2 + len(nested))
    assert not is_one_value(nested, 0, len(nested) - 1)


@pytest.mark.parametrize("rounds", [15, 16, 17, 18, 500, 999, 1000, 1001, 3000])
def test_no_bound_of_a_repetition_is_one_of_the_value(rounds: int) -> None:
    escapes, many = "\\n" * rounds, ", ".join(["1"] * rounds)
    one = json.dumps({"a": [1], "b": {"c": [2, {"d": 3}]}}).replace("b", escapes)
    objects = ", ".join([one] * min(rounds, 20))
    members = ", ".join(f'"{number}{escapes[:40]}": [[{number}]]' for number in range(rounds))
    for text in (f'"{escapes}"', f"[{many}]", f"[[[[{many}]]]]", f"[{objects}]", f"{{{members}}}"):
        assert by_json(text) and is_one_value(text.encode())
        assert not is_one_value(text[:-1].encode()) and not is_one_value((text + "]").encode())
        assert not is_one_value(text.replace("1,", "1,,", 1).encode()) or "1," not in text


def test_depth() -> None:
    assert is_one_value(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert is_one_value(b'[{"":' * 40_000 + b"1" + b"}]" * 40_000)
    assert not is_one_value(b"[" * (MAX_DEPTH + 100) + b"]" * (MAX_DEPTH + 100))


@pytest.mark.parametrize("text", ["[[[[]]],%s0]", "[%s0]", '{"a": [[[%s0]]]}'])
def test_the_scan_of_a_large_value_pauses(text: str) -> None:
    large = (text % ("[[[]]], " * 200_000)).encode()
    assert scanned(large, 0, len(large)) == (len(large) // STEP, True)
    assert scanned(large, 0, len(large) - 1) == (len(large) // STEP, False)
    assert scanned(text.encode(), 0, 3) == (0, False)
