"""Tests of errors as objects and as text. The process that sent the error may be hostile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.options.run_options import ERROR_STYLES
from pipe_init.log.error_formats import error_object, error_text

ID = "b3d1c0de-0000-4000-8000-000000000001"
STACK = [["/code/index.py", 3, "handler", "    return work(event)"], ["/code/lib.py", 9, "work", ""]]
PROBLEM: dict[str, Any] = {"error_type": "ValueError", "error_message": "no", "stack": STACK}


def test_every_style_is_tested_here() -> None:
    assert ERROR_STYLES == ("auto", "text", "lambda", "fc")


class TestErrorObject:
    def test_lambda(self) -> None:
        assert error_object("lambda", PROBLEM, ID) == {
            "errorMessage": "no",
            "errorType": "ValueError",
            "stackTrace": [
                '  File "/code/index.py", line 3, in handler\n    return work(event)\n',
                '  File "/code/lib.py", line 9, in work\n',
            ],
            "requestId": ID,
        }

    def test_fc(self) -> None:
        assert error_object("fc", PROBLEM, ID) == {
            "errorMessage": "no",
            "errorType": "ValueError",
            "stackTrace": STACK,
            "requestId": ID,
        }

    @pytest.mark.parametrize("style", ["lambda", "fc"])
    def test_causes_and_groups_have_the_same_form(self, style: str) -> None:
        group = {"error_type": "ExceptionGroup", "error_message": "two", "exceptions": [PROBLEM, PROBLEM]}
        error = error_object(style, {**PROBLEM, "cause": group}, ID)
        inner = error["cause"]
        assert inner["errorType"] == "ExceptionGroup" and inner["stackTrace"] == []
        assert [{**each, "requestId": ID} for each in inner["exceptions"]] == [error_object(style, PROBLEM, ID)] * 2
        assert "requestId" not in inner

    def test_a_stack_that_was_shortened_says_so(self) -> None:
        problem = {**PROBLEM, "stack": [["", 0, "… 12 calls left out", ""]]}
        assert error_object("lambda", problem, ID)["stackTrace"] == ["  … 12 calls left out\n"]

    @pytest.mark.parametrize(
        "entry",
        [None, 1, "x", {}, [], ["f", 1, "g"], ["f", 1, "g", "c", 5], ["f", "1", "g", "c"], ["f", True, "g", "c"]],
    )
    def test_an_entry_of_another_form_is_left_out(self, entry: object) -> None:
        assert error_object("fc", {**PROBLEM, "stack": [entry, STACK[0]]}, ID)["stackTrace"] == [STACK[0]]

    def test_endless_causes_end(self) -> None:
        problem: dict[str, Any] = {"error_type": "E"}
        problem["cause"] = problem
        assert json.dumps(error_object("lambda", problem, ID)).count("errorType") == 17
        problem["exceptions"] = [problem]
        del problem["cause"]
        assert json.dumps(error_object("lambda", problem, ID)).count("errorType") == 17

    ANYTHING = st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["error_type", "stack", "cause", "exceptions", "x"]), inner, max_size=4)
        ),
        max_leaves=20,
    )

    @given(
        problem=st.dictionaries(
            st.sampled_from(["error_type", "error_message", "stack", "cause", "exceptions"]), ANYTHING
        ),
        style=st.sampled_from(["lambda", "fc"]),
    )
    def test_whatever_was_sent_it_is_an_error_object(self, problem: dict[str, Any], style: str) -> None:
        error = error_object(style, problem, ID)
        assert isinstance(error["errorType"], str) and isinstance(error["errorMessage"], str)
        assert json.loads(json.dumps(error)) == error
        assert error_text(problem).endswith("\n")


class TestErrorText:
    def test_as_python_prints_it(self) -> None:
        assert error_text(PROBLEM) == (
            "Traceback (most recent call last):\n"
            '  File "/code/index.py", line 3, in handler\n'
            "    return work(event)\n"
            '  File "/code/lib.py", line 9, in work\n'
            "ValueError: no\n"
        )

    def test_without_a_stack(self) -> None:
        assert error_text({"error_type": "E", "error_message": "m"}) == "E: m\n"
        assert error_text({"error_type": "MemoryError", "error_message": ""}) == "MemoryError\n"

    def test_the_cause_comes_first(self) -> None:
        problem = {"error_type": "B", "error_message": "b", "cause": {"error_type": "A", "error_message": "a"}}
        assert error_text(problem) == "A: a\n\nwhich led to:\n\nB: b\n"

    def test_a_group(self) -> None:
        members = [{"error_type": "A", "error_message": "a\nb"}, {"error_type": "C", "error_message": "c"}]
        problem = {"error_type": "G", "error_message": "g", "exceptions": members}
        assert error_text(problem) == (
            "G: g\n  +-- 1 of 2:\n  | A: a\n  | b\n  +-- 2 of 2:\n  | C: c\n"
        )  # fmt: skip

    def test_endless_groups_end(self) -> None:
        problem: dict[str, Any] = {"error_type": "E", "error_message": "e"}
        problem["exceptions"] = [problem]
        assert error_text(problem).count("E: e") == 17


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ({"name": "pids"}, "Limit: pids"),
        ({"name": "open_files", "value": 32, "peak": 32}, "Limit: open_files 32, peak 32"),
        ({"name": "cpu_time", "value": 1000}, "Limit: cpu_time 1000 ms"),
        ({"name": "output", "value": 20, "peak": 30}, "Limit: output 20 bytes, peak 30 bytes"),
        (
            {"name": "memory", "value": 64, "counts": "allocated data", "resident": 21},
            "Limit: memory 64 bytes of allocated data, beyond which allocations are refused, "
            "at most 21 bytes were resident",
        ),
    ],
)
def test_the_line_of_a_limit_says_what_each_number_is(limit: dict[str, Any], line: str) -> None:
    problem = {"error_type": "MemoryError", "error_message": "", "stack": [], "limit": limit}
    assert error_text(problem).splitlines()[-1] == line
    assert error_object("lambda", problem, "id")["limit"] == limit
