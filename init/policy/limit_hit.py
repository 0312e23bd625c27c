"""Name the limit that a request or a worker has hit, from how the worker died, its own claim, and its cgroup's counts.

Where the evidence is for no limit, none is named. The process that runs a handler is hostile: what it says of limits
counts for its own error only, and never decides about an exit code. This module knows no process.
"""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGABRT, SIGBUS, SIGKILL, SIGSEGV, SIGXCPU, SIGXFSZ
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.death import Death
from ..limits.rlimits import CPU_GRACE, MEMORY, OPEN_FILES, PIDS, Limits
from ..model import problem as error

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence

CPU_TIME = "cpu_time"
TIME = "time"
FILE_SIZE = "file_size"
OUTPUT = "output"

NAMES = (MEMORY, PIDS, CPU_TIME, TIME, OPEN_FILES, FILE_SIZE, OUTPUT)
"""What `limit` in an error can name. memory, file_size and output are in bytes, cpu_time and time in milliseconds."""

FIELDS = {FILE_SIZE: "file_bytes", OUTPUT: "output_bytes"}
"""The fields of Limits that have another name than the limit. Limits of time have none."""

DATA = "allocated data"
"""What RLIMIT_DATA, the memory limit without a cgroup, counts: allocated memory, resident or not."""

MEMORY_SIGNALS = (SIGKILL, SIGSEGV, SIGABRT, SIGBUS)
"""The signals of a process that runs out of memory: the kernel kills it, or it does not check what malloc returned."""

MEMORY_SHARE = 0.9
"""The share of its limit at which a process dies of memory, where no cgroup counts."""

CPU_SHARES = {int(SIGXCPU): 0.5, int(SIGKILL): 0.8}
"""For each signal of the CPU limit: the share of that CPU time which the dead process must have used at least. The
kernel decides by counting ticks and reports a sharper figure afterwards. Where processes share the CPU, the two differ
by a quarter either way. SIGKILL needs the larger share, because any process may send it."""

MOST = 2**63 - 1
"""The largest number that the init believes from a worker."""


class LimitHit(NamedTuple):
    """A death by a limit.

    Attributes:
        kind: The error's type.
        why: Words for its message.
        code: The exit code.
        limit: ERROR's `limit`.
    """

    kind: str
    why: str
    code: int
    limit: dict[str, Any]


def limit(
    name: str, value: int | None = None, peak: int | None = None, counts: str | None = None, resident: int | None = None
) -> dict[str, Any]:
    """Return ERROR's `limit`, without what is not known.

    Args:
        name: One of NAMES.
        value: The limit.
        peak: The most that was measured of the same quantity. It is left out if it is below the limit, which was hit:
            the kernel decides by a figure of its own.
        counts: The quantity, if the name does not say it.
        resident: The most resident memory in bytes, where the limit counts something else.
    """
    if peak is not None and value is not None and peak < value:
        peak = None
    found = {"name": name, "value": value, "peak": peak, "counts": counts, "resident": resident}
    return {key: each for key, each in found.items() if each is not None}


def of_death(death: Death, limits: Limits, evidence: Evidence | None = None) -> LimitHit | None:
    """Return the limit that a worker has died of, or None.

    Args:
        death: How it died.
        limits: Its limits.
        evidence: The counts of its cgroup, if it had one.
    """
    memory, seconds = limits.memory, limits.cpu_seconds
    if evidence is not None and evidence.oom_kills > 0 and death.signal == SIGKILL and memory is not None:
        why = f"out of memory: all of its {memory / 2**20:.0f} MB are used"
        hit = limit(MEMORY, memory, evidence.memory_peak)
        return LimitHit("Runtime.OutOfMemory", why, 128 + SIGKILL, hit)
    if seconds is not None:
        # The CPU time may include that of the worker's children. So the signal has to be the limit's own.
        allowed = {int(SIGXCPU): seconds, int(SIGKILL): seconds + CPU_GRACE}.get(death.signal)
        if allowed is not None and death.cpu_seconds >= allowed * CPU_SHARES[death.signal]:
            used = f"; {death.cpu_seconds:.2f} were used" if death.cpu_seconds >= seconds else ""
            why = f"CPU time exceeded: the limit is {seconds} second{'s' * (seconds != 1)}{used}"
            hit = limit(CPU_TIME, seconds * 1000, round(death.cpu_seconds * 1000))
            return LimitHit("Runtime.CpuTimeExceeded", why, 128 + SIGXCPU, hit)
    if death.signal == SIGXFSZ and limits.file_bytes is not None:
        why = f"file too large: the limit is {limits.file_bytes} bytes"
        return LimitHit("Runtime.FileSizeExceeded", why, 128 + SIGXFSZ, limit(FILE_SIZE, limits.file_bytes))
    if memory is None or (evidence is not None and evidence.holds_memory):
        return None  # where the cgroup counts memory, the kernel has killed no process of it
    if death.signal not in MEMORY_SIGNALS or death.peak_memory < memory * MEMORY_SHARE:
        return None
    resident = death.peak_memory / 2**20
    why = f"out of memory: it may allocate {memory / 2**20:.0f} MB, and had {resident:.0f} MB resident"
    hit = limit(MEMORY, memory, counts=DATA, resident=death.peak_memory)
    return LimitHit("Runtime.OutOfMemory", why, 128 + SIGKILL, hit)


def completed(
    problem: Mapping[str, Any], limits: Limits, evidence: Evidence | None, measured: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a worker's error with its `limit` as far as it is known, or without one.

    Args:
        problem: ERROR's metadata.
        limits: The worker's limits.
        evidence: The counts of the worker's cgroup since the request began.
        measured: What is known of the request's cost.
    """
    claim, child_killed = claimed(problem.get("limit")), False
    if claim is None and evidence is not None:
        if evidence.pids_refused > 0:
            claim = {"name": PIDS}
        elif evidence.oom_kills > 0:
            claim, child_killed = {"name": MEMORY}, True  # the worker itself has answered
    if claim is None:
        return {key: value for key, value in problem.items() if key != "limit"}
    name = claim["name"]
    value, peak = claim.get("value", getattr(limits, FIELDS.get(name, name), None)), claim.get("peak")
    if name == MEMORY and not child_killed:  # the process's own limit has refused an allocation
        return {**problem, "limit": limit(MEMORY, value, peak, DATA, measured.get("peak_memory_bytes"))}
    if peak is None and evidence is not None:
        peak = {MEMORY: evidence.memory_peak, PIDS: evidence.pids_peak}.get(name)
    return timed({**problem, "limit": limit(name, value, peak)}, measured)


def timed(problem: Mapping[str, Any], measured: Mapping[str, int]) -> Mapping[str, Any]:
    """Return an error with the time that the request took, if its limit was one of time."""
    found = problem.get("limit", {})
    if found.get("name") != TIME or "peak" in found or "duration_us" not in measured:
        return problem
    return {**problem, "limit": limit(TIME, found.get("value"), measured["duration_us"] // 1000)}


def claimed(found: object) -> dict[str, Any] | None:
    """Return a worker's `limit` without what has a wrong form; None if it names no limit."""
    if not isinstance(found, dict) or found.get("name") not in NAMES:
        return None
    numbers = {key: found[key] for key in ("value", "peak") if type(found.get(key)) is int and 0 <= found[key] <= MOST}
    return {"name": found["name"], **numbers}


def too_large(size: int, value: int, streamed: bool) -> dict[str, Any]:
    """Return the error of a result of `size` bytes that may have `value`. A streamed one was cut after so many."""
    has, when = ("had", " when it was cut") if streamed else ("has", "")
    message = f"The result {has} {size} bytes{when}; the limit is {value}"
    return {**error("Function.ResponseSizeTooLarge", message), "limit": limit(OUTPUT, value, size)}
