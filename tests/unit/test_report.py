"""Tests of text for people and tools: lines around a request, error objects, and stacks from hostile input."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.log.error_formats import ERROR_STYLES, error_object, error_text
from pipe_init.log.json_lines import json_line
from pipe_init.log.request_lines import LOG_STYLES, end_line, report_line, short_line, start_line

ID = "b3d1c0de-0000-4000-8000-000000000001"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

STACK = [["/code/index.py", 3, "handler", "    return work(event)"], ["/code/lib.py", 9, "work", ""]]
PROBLEM: dict[str, Any] = {"error_type": "ValueError", "error_message": "no", "stack": STACK}


def record(line: str, type: str) -> Any:
    """Return the record of a JSON line, after checking its other fields."""
    entry = json.loads(line)
    assert list(entry) == ["time", "type", "record"] and entry["type"] == type
    assert MOMENT.fullmatch(entry["time"])
    return entry["record"]


class TestLines:
    def test_fc(self) -> None:
        assert start_line("fc", ID, "1") == f"FC Invoke Start RequestId: {ID}"
        assert end_line("fc", ID, failed=False) == f"FC Invoke End RequestId: {ID}"
        assert end_line("fc", ID, failed=True) == f"FC Invoke End RequestId: {ID}, Error: Unhandled function error"

    def test_lambda(self) -> None:
        assert start_line("lambda", ID, "$LATEST") == f"START RequestId: {ID} Version: $LATEST"
        for failed in (False, True):
            assert end_line("lambda", ID, failed) == f"END RequestId: {ID}"

    def test_json(self) -> None:
        assert record(start_line("json", ID, "1"), "platform.start") == {"requestId": ID, "version": "1"}
        for failed, status in ((False, "success"), (True, "failure")):
            line = end_line("json", ID, failed)
            assert record(line, "platform.runtimeDone") == {"requestId": ID, "status": status}

    def test_none(self) -> None:
        assert start_line("none", ID, "1") == end_line("none", ID, True) == report_line("none", ID, {}, 1) == ""

    def test_every_style_is_tested_here(self) -> None:
        assert LOG_STYLES == ("auto", "fc", "lambda", "json", "none")
        assert ERROR_STYLES == ("auto", "text", "lambda", "fc")

    @pytest.mark.parametrize("style", [style for style in LOG_STYLES if style not in ("auto", "none")])
    def test_a_line_has_no_line_break(self, style: str) -> None:
        measured = {"duration_us": 1, "cpu_us": 1, "init_us": 1, "peak_memory_bytes": 1}
        for line in (start_line(style, ID, "1"), end_line(style, ID, True), report_line(style, ID, measured, 1)):
            assert line and "\n" not in line

    @pytest.mark.parametrize(
        ("phase", "fc"), [("initialize", "Initialize"), ("pre-stop", "PreStop"), ("pre-freeze", "PreFreeze")]
    )
    def test_hooks(self, phase: str, fc: str) -> None:
        assert start_line("fc", ID, "1", phase) == f"FC {fc} Start RequestId: {ID}"
        assert end_line("fc", ID, False, phase) == f"FC {fc} End RequestId: {ID}"
        assert end_line("fc", ID, True, phase) == f"FC {fc} End RequestId: {ID}, Error: Unhandled function error"
        assert start_line("lambda", ID, "1", phase) == f"START RequestId: {ID} Version: 1 Phase: {phase}"
        assert end_line("lambda", ID, True, phase) == f"END RequestId: {ID} Phase: {phase}"
        assert record(start_line("json", ID, "1", phase), "platform.start")["phase"] == phase
        assert record(end_line("json", ID, True, phase), "platform.runtimeDone")["phase"] == phase


class TestRawLine:
    @pytest.mark.parametrize(
        ("line", "message"),
        [(b"text", "text"), (b"", ""), (b'{"a": "\x1b"}', '{"a": "\x1b"}'), ("é\u2028".encode(), "é\u2028")],
    )
    def test_a_record_on_one_line(self, line: bytes, message: str) -> None:
        made = json_line(line, ID)
        assert b"\n" not in made
        entry = json.loads(made)
        assert MOMENT.fullmatch(entry.pop("timestamp"))
        assert entry == {"message": message, "requestId": ID}

    def test_bytes_that_are_no_text(self) -> None:
        assert json.loads(json_line(b"\xff\x00", ID))["message"] == "\\xff\x00"

    def test_of_no_request(self) -> None:
        assert set(json.loads(json_line(b"x", ""))) == {"timestamp", "message"}


class TestReport:
    MEASURED = {"duration_us": 2599, "cpu_us": 1204, "init_us": 41250, "peak_memory_bytes": 80 * 2**20 + 1}

    @pytest.mark.parametrize("style", ["fc", "lambda"])
    def test_as_the_platforms_write_it(self, style: str) -> None:
        measured = {"duration_us": 2599, "peak_memory_bytes": 80 * 2**20 + 1}
        assert report_line(style, ID, measured, 128) == (
            f"REPORT RequestId: {ID}\tDuration: 2.60 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 81 MB\t"
        )

    def test_with_all_that_can_be_measured(self) -> None:
        assert report_line("fc", ID, self.MEASURED, 128) == (
            f"REPORT RequestId: {ID}\tDuration: 2.60 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 81 MB\tCPU Time: 1.20 ms\tInit Duration: 41.25 ms\t"
        )

    def test_what_was_not_measured_is_not_there(self) -> None:
        assert report_line("fc", ID, {}, 128) == f"REPORT RequestId: {ID}\tMemory Size: 128 MB\t"
        assert record(report_line("json", ID, {}, 128), "platform.report")["metrics"] == {"memorySizeMB": 128}

    def test_json(self) -> None:
        assert record(report_line("json", ID, self.MEASURED, 128), "platform.report") == {
            "requestId": ID,
            "metrics": {
                "memorySizeMB": 128,
                "durationMs": 2.599,
                "cpuMs": 1.204,
                "initDurationMs": 41.25,
                "billedDurationMs": 3,
                "maxMemoryUsedMB": 81,
            },
        }

    @pytest.mark.parametrize(
        ("failed", "measured", "limit_mb", "line"),
        [
            (False, MEASURED, None, "done in 2.60 ms, memory 81 MB, init 41.25 ms"),
            (False, MEASURED, 256, "done in 2.60 ms, memory 81 of 256 MB, init 41.25 ms"),
            (True, {"duration_us": 2599}, None, "failed after 2.60 ms"),
            (True, {"duration_us": 2599}, 256, "failed after 2.60 ms, memory limit 256 MB"),
            (True, {"peak_memory_bytes": 1}, 16, "failed, memory 1 of 16 MB"),
            (False, {}, None, "done"),
        ],
    )
    def test_short(self, failed: bool, measured: dict[str, int], limit_mb: int | None, line: str) -> None:
        assert short_line(ID, failed, measured, limit_mb) == f"pipe-init: {ID} {line}"

    @pytest.mark.parametrize(("us", "billed"), [(0, 0), (1, 1), (1000, 1), (1001, 2), (2**64 - 1, 18446744073709552)])
    def test_a_begun_millisecond_is_billed(self, us: int, billed: int) -> None:
        assert f"\tBilled Duration: {billed} ms\t" in report_line("fc", ID, {"duration_us": us}, 1)


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
