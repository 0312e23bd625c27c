"""Tests of the log lines before and after requests and hooks: start, end and report, in every style."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipe_init.log.request_lines import LOG_STYLES, end_line, report_line, short_line, start_line

ID = "b3d1c0de-0000-4000-8000-000000000001"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


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
        written = record(report_line("json", ID, self.MEASURED, 128), "platform.report")
        assert written["requestId"] == ID
        assert list(written["metrics"].items()) == [
            ("memorySizeMB", 128),
            ("durationMs", 2.599),
            ("cpuMs", 1.204),
            ("initDurationMs", 41.25),
            ("billedDurationMs", 3),
            ("maxMemoryUsedMB", 81),
        ]

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
