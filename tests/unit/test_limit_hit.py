"""Tests of finding out from the facts which limit ended a worker. Every pair of limits that look alike has a test."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.kernel.reaper import Death
from pipe_init.limits.cgroup import Evidence
from pipe_init.limits.rlimits import Limits
from pipe_init.policy import limit_hit
from pipe_init.policy.limit_hit import MEMORY_SHARE, MOST, NAMES, claimed, completed, of_death, timed

MIB = 2**20
FULL = 100 * MIB
ALL = Limits(memory=FULL, pids=10, cpu_seconds=2, open_files=64, file_bytes=MIB, output_bytes=MIB)
MEMORY, CPU, FILE = "Runtime.OutOfMemory", "Runtime.CpuTimeExceeded", "Runtime.FileSizeExceeded"

FEW = st.integers(0, 2)
EVIDENCE = st.builds(Evidence, st.none() | st.integers(0, MOST), st.none() | FEW, FEW, FEW, st.booleans())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "value", "peak", "x"]), inner | st.sampled_from(NAMES), max_size=4)
    ),
    max_leaves=12,
)


def death(number: int, peak: int = 10 * MIB, cpu: float = 0.1, cpu_limit: tuple[int, int] | None = None) -> Death:
    return Death(1, number, peak, cpu, cpu_limit)


def of_memory(peak: int) -> dict[str, Any]:
    """Return the limit of a cgroup, which counts resident memory."""
    return {"name": "memory", "value": FULL, "peak": peak}


def of_data(resident: int) -> dict[str, Any]:
    """Return the limit of setrlimit(2), which does not count the resident memory that was measured."""
    return {"name": "memory", "value": FULL, "counts": "allocated data", "resident": resident}


@pytest.mark.parametrize(
    ("dead", "evidence", "kind", "code", "limit"),
    [
        # rlimits: memory by its peak, CPU time by its signal and by the time used
        (death(9, 95 * MIB), None, MEMORY, 137, of_data(95 * MIB)),
        (death(11, FULL), None, MEMORY, 137, of_data(FULL)),
        (death(24, cpu=2.01), None, CPU, 152, {"name": "cpu_time", "value": 2000, "peak": 2010}),
        (death(24, cpu=1.96), None, CPU, 152, {"name": "cpu_time", "value": 2000}),
        (death(9, cpu=3.01), None, CPU, 152, {"name": "cpu_time", "value": 2000, "peak": 3010}),
        (death(9, cpu=1.5, cpu_limit=(3, 3)), None, CPU, 152, {"name": "cpu_time", "value": 2000}),
        (death(9, 95 * MIB, 1.5, (3, 3)), None, CPU, 152, {"name": "cpu_time", "value": 2000}),
        (death(9, 95 * MIB, 3.01, (2, 3)), None, MEMORY, 137, of_data(95 * MIB)),
        (death(9, 95 * MIB, 3.01), None, CPU, 152, {"name": "cpu_time", "value": 2000, "peak": 3010}),
        (death(24, 95 * MIB, 2.01), None, CPU, 152, {"name": "cpu_time", "value": 2000, "peak": 2010}),
        (death(9, 95 * MIB, 2.0), None, MEMORY, 137, of_data(95 * MIB)),
        (death(25), None, FILE, 153, {"name": "file_size", "value": MIB}),
        # a cgroup: memory by the kernel's report alone
        (death(9), Evidence(FULL, 3, 1, 0, True), MEMORY, 137, of_memory(FULL)),
        (death(9, cpu=9.0), Evidence(99 * MIB, 3, 1, 0, True), MEMORY, 137, {"name": "memory", "value": FULL}),
        (death(9, cpu=3.01), Evidence(9, 3, 0, 7, True), CPU, 152, {"name": "cpu_time", "value": 2000, "peak": 3010}),
        (death(9, 95 * MIB), Evidence(None, 3, 0, 0, False), MEMORY, 137, of_data(95 * MIB)),
    ],
)  # fmt: skip
def test_a_death_by_a_limit(
    dead: Death, evidence: Evidence | None, kind: str, code: int, limit: dict[str, Any]
) -> None:
    found = of_death(dead, ALL, evidence)
    assert found is not None
    assert (found.kind, found.code, found.limit) == (kind, code, limit)


@pytest.mark.parametrize(
    ("dead", "evidence"),
    [
        (death(9), None),
        (death(9, 80 * MIB, 1.9), None),
        (death(15, 99 * MIB, 9.0), None),
        (death(24, cpu=0.5), None),
        (death(24, cpu=0.5, cpu_limit=(3, 3)), None),
        (death(9, cpu=0.5, cpu_limit=(3, 3)), None),  # the function has raised its soft limit
        (death(9, cpu=2.9, cpu_limit=(2, 3)), None),  # SIGXCPU has not come yet, so SIGKILL was not the limit's
        (Death(1, 3 << 8, 99 * MIB, 9.0), None),
        (death(9, 99 * MIB), Evidence(99 * MIB, 10, 0, 5, True)),
        (death(11, 99 * MIB), Evidence(99 * MIB, 3, 0, 0, True)),
        (death(15), Evidence(99 * MIB, 3, 1, 0, True)),
    ],
)
def test_a_death_by_none(dead: Death, evidence: Evidence | None) -> None:
    assert of_death(dead, ALL, evidence) is None


@given(
    number=st.integers(1, 64),
    peak=st.integers(0, 200 * MIB),
    cpu=st.floats(0, 10),
    evidence=st.none() | EVIDENCE,
)
def test_who_has_no_limit_dies_of_none(number: int, peak: int, cpu: float, evidence: Evidence | None) -> None:
    assert of_death(death(number, peak, cpu), Limits(pids=3, open_files=20, output_bytes=1), evidence) is None


class TestMemory:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
    def test_who_dies_at_its_limit_dies_of_it(self, number: int) -> None:
        limits, peak = Limits(memory=1000), int(1000 * MEMORY_SHARE)
        found = of_death(death(number, peak), limits)
        assert found is not None and found.kind == MEMORY
        assert of_death(death(number, peak - 1), limits) is None

    @pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU])
    def test_other_deaths_are_not_of_memory(self, number: int) -> None:
        assert of_death(death(number, 2000), Limits(memory=1000)) is None


DATA = {"name": "memory", "value": 7}
FILES = {"name": "open_files", "value": 32, "peak": 32}
PLAIN = {"error_type": "E", "error_message": "m"}


@pytest.mark.parametrize(
    ("claim", "evidence", "expected"),
    [
        (None, None, None),
        (None, Evidence(5, 6, 0, 0, True), None),
        (None, Evidence(5, 6, 0, 1), {"name": "pids", "value": 10}),
        (None, Evidence(5, 10, 0, 1), {"name": "pids", "value": 10, "peak": 10}),
        (None, Evidence(5, 6, 1, 0, True), {"name": "memory", "value": FULL}),
        (None, Evidence(FULL, 6, 1, 0, True), of_memory(FULL)),
        ({"name": "pids"}, None, {"name": "pids", "value": 10}),
        ({"name": "pids"}, Evidence(5, 11, 0, 1), {"name": "pids", "value": 10, "peak": 11}),
        (FILES, Evidence(5, 6, 1, 1), FILES),
        (DATA, None, {**DATA, "counts": "allocated data", "resident": 3}),
        (DATA, Evidence(FULL, 6, 1, 1, True), {**DATA, "counts": "allocated data", "resident": 3}),
        ({**DATA, "peak": 6}, None, {**DATA, "counts": "allocated data", "resident": 3}),
        ({"name": "time", "value": 1}, None, {"name": "time", "value": 1, "peak": 2}),
        ({"name": "time", "value": 7}, None, {"name": "time", "value": 7}),
        ({"name": "open_files", "value": 7, "peak": 6}, None, {"name": "open_files", "value": 7}),
        ({"name": "file_size"}, None, {"name": "file_size", "value": MIB}),
        ({"name": "luck"}, None, None),
        ("memory", None, None),
    ],
)  # fmt: skip
def test_what_is_known_is_filled_in(claim: object, evidence: Evidence | None, expected: object) -> None:
    problem = PLAIN if claim is None else {**PLAIN, "limit": claim}
    found = completed(problem, ALL, evidence, {"peak_memory_bytes": 3, "duration_us": 2500})
    assert found == ({**PLAIN, "limit": expected} if expected else PLAIN)


@given(claim=ANYTHING)
def test_whatever_is_claimed(claim: object) -> None:
    found = claimed(claim)
    assert found is None or (found["name"] in NAMES and found.keys() <= {"name", "value", "peak"})
    limit = completed({**PLAIN, "limit": claim}, Limits(), None, {}).get("limit")
    assert (limit is None) == (found is None)
    if found is not None and limit is not None:
        assert (limit["name"], limit.get("value")) == (found["name"], found.get("value"))
        assert limit.get("peak", MOST) >= limit.get("value", 0)


@given(number=st.integers(1, 64), peak=st.integers(0, 200 * MIB), cpu=st.floats(0, 10), evidence=st.none() | EVIDENCE)
def test_no_peak_is_below_the_limit_that_was_hit(number: int, peak: int, cpu: float, evidence: Evidence | None) -> None:
    hit = of_death(death(number, peak, cpu), ALL, evidence)
    assert hit is None or hit.limit.get("peak", MOST) >= hit.limit["value"]


@pytest.mark.parametrize(
    ("dead", "evidence", "words"),
    [
        (death(24, cpu=1.96), None, "CPU time exceeded: the limit is 2 seconds"),
        (death(24, cpu=2.01), None, "CPU time exceeded: the limit is 2 seconds; 2.01 were used"),
        (death(9, 95 * MIB), None, "out of memory: it may allocate 100 MB, and had 95 MB resident"),
        (death(9), Evidence(99 * MIB, 3, 1, 0, True), "out of memory: all of its 100 MB are used"),
    ],
)
def test_the_words_name_the_limit_and_what_was_measured(dead: Death, evidence: Evidence | None, words: str) -> None:
    found = of_death(dead, ALL, evidence)
    assert found is not None and found.why == words


def test_the_time_that_a_request_took() -> None:
    late = {**PLAIN, "limit": {"name": "time", "value": 300}}
    assert timed(late, {"duration_us": 301_900})["limit"] == {"name": "time", "value": 300, "peak": 301}
    assert timed(late, {"duration_us": 299_999})["limit"] == {"name": "time", "value": 300}
    assert timed(late, {}) == late and timed(PLAIN, {"duration_us": 5}) == PLAIN


def test_an_answer_that_is_too_large() -> None:
    whole, cut = limit_hit.too_large(30, 20, streamed=False), limit_hit.too_large(30, 20, streamed=True)
    assert whole["limit"] == cut["limit"] == {"name": "output", "value": 20, "peak": 30}
    assert whole["error_message"] == "The result has 30 bytes; the limit is 20"
    assert cut["error_message"] == "The result had 30 bytes when it was cut; the limit is 20"
