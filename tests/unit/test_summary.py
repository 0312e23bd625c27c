"""Tests of the summary of many events: percentiles, failures by kind, constant size, and the line shown meanwhile."""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.results.summary import MAX_KINDS, MAX_NAME, Durations, Summary
from pipe_init.log.journal import Journal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the program's end of a pipe, and the test's end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield writer, reader
    os.close(reader)
    os.close(writer)


def written(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""


class TestDurations:
    @given(
        values=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 10**6), min_size=1, max_size=50),
        share=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
    )
    def test_a_percentile_is_close_to_the_exact_one(self, values: list[int], share: float) -> None:
        durations = Durations()
        for value in values:
            durations.add(value)
        exact = sorted(values)[math.ceil(share * len(values)) - 1]
        assert abs(durations.percentile(share) - exact) <= exact / 128 + 1
        assert (durations.count, durations.longest) == (len(values), max(values))

    @given(value=st.integers(0, 127))
    def test_a_short_one_is_exact(self, value: int) -> None:
        durations = Durations()
        durations.add(value)
        assert durations.percentile(0.5) == value

    def test_none(self) -> None:
        assert Durations().percentile(0.5) == 0

    def test_nothing_grows(self, seed: int) -> None:
        durations, source = Durations(), random.Random(seed)
        for _ in range(10_000):
            durations.add(int(10 ** source.uniform(0, 19)))
        assert len(durations._buckets) < 5000
        assert sum(durations._buckets.values()) == durations.count == 10_000


class TestSummary:
    def test_all_well(self) -> None:
        summary = Summary(Journal(2))
        for number in range(1, 1001):
            summary.count("", number * 100)
        assert summary.text() == ("pipe-init: 1,000 events done, 0 failed, p50 49.92 ms, p99 98.82 ms, longest 100 ms")

    def test_failures_by_type_the_most_frequent_first(self) -> None:
        summary = Summary(Journal(2))
        for name in ("KeyError", "Sandbox.Timedout", "Sandbox.Timedout", "", "HTTP 500"):
            summary.count(name, 1000)
        first, second = summary.text().split("\n")
        assert first.startswith("pipe-init: 5 events done, 4 failed, p50 1.00 ms")
        assert second == "pipe-init: failed: 2 Sandbox.Timedout, 1 KeyError, 1 HTTP 500"

    def test_events_that_were_not_begun_have_no_duration(self) -> None:
        summary = Summary(Journal(2))
        summary.count("Runtime.ImportModuleError", None)
        assert summary.text() == ("pipe-init: 1 event done, 1 failed\npipe-init: failed: 1 Runtime.ImportModuleError")

    def test_a_name_cannot_forge_a_line_or_steer_the_terminal(self) -> None:
        summary = Summary(Journal(2))
        summary.count("Error\npipe-init: forged\r\x1b[2J\u2028\ud800", 1)
        assert summary.text().split("\n")[1:] == ["pipe-init: failed: 1 Error?pipe-init: forged??[2J??"]

    def test_no_event(self) -> None:
        assert Summary(Journal(2)).text() == "pipe-init: 0 events done, 0 failed"

    def test_made_up_names_do_not_grow(self) -> None:
        summary = Summary(Journal(2))
        for number in range(1000):
            summary.count(f"Error{number}" + "x" * 1000, 1)
        summary.count("Error0" + "x" * 1000, 1)
        text = summary.text()
        assert len(summary._failures) == MAX_KINDS + 1
        assert text.endswith(f", {1000 - MAX_KINDS} others")
        assert "failed: 2 Error0x" in text
        assert max(map(len, text.split(", "))) < MAX_NAME + 40
        assert sys.getsizeof(summary._failures) < 10_000


class Clock:
    """Stand in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pipe_init.cli.results.summary.time", clock)
    return clock


class TestLine:
    def test_it_is_shown_now_and_then(self, pipe: tuple[int, int], clock: Clock) -> None:
        summary = Summary(Journal(pipe[0]))
        shown = []
        for _ in range(8):
            clock.now += 0.0625
            summary.count("", None)
            shown.append(written(pipe[1]))
        assert [bool(each) for each in shown] == [False, True] * 4
        assert shown[1] == b"\r\x1b[K2 events done, 0 failed, 16/s"

    def test_it_counts_failures_too(self, pipe: tuple[int, int], clock: Clock) -> None:
        summary = Summary(Journal(pipe[0]))
        for number in range(2000):
            summary.count("Error" if number < 1234 else "", None)
        clock.now = 2.0
        summary.count("", None)
        assert written(pipe[1]) == b"\r\x1b[K2,001 events done, 1,234 failed, 1,000/s"

    def test_it_makes_room_once(self, pipe: tuple[int, int], clock: Clock) -> None:
        summary = Summary(Journal(pipe[0]))
        summary.clear()
        assert written(pipe[1]) == b""
        clock.now = 1.0
        summary.count("", None)
        written(pipe[1])
        summary.clear()
        summary.clear()
        assert written(pipe[1]) == b"\r\x1b[K"

    def test_it_is_silent_beside_results(self, pipe: tuple[int, int], clock: Clock) -> None:
        summary = Summary(Journal(pipe[0]), is_live=False)
        for _ in range(10):
            clock.now += 1.0
            summary.count("Error", None)
        summary.clear()
        assert written(pipe[1]) == b""
