"""Which limit was it? From how a worker died, what it claims, and what its cgroup tells, to the limit's name. Pure.

Where the evidence is for no limit, none is named. The process that runs a handler is hostile: what it says of limits
is believed where it concerns its own error only, and never decides about an exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGABRT, SIGBUS, SIGKILL, SIGSEGV, SIGXCPU, SIGXFSZ
from typing import TYPE_CHECKING, Any, NamedTuple

from ..kernel.death import Death
from ..limits.rlimits import CPU_GRACE, Limits

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence

MEMORY = "memory"
PIDS = "pids"
CPU_TIME = "cpu_time"
TIME = "time"
OPEN_FILES = "open_files"
FILE_SIZE = "file_size"
OUTPUT = "output"

DATA = "allocated data"
"""What RLIMIT_DATA, the memory limit without a cgroup, counts: allocated memory, resident or not."""

NAMES = (MEMORY, PIDS, CPU_TIME, TIME, OPEN_FILES, FILE_SIZE, OUTPUT)
"""What `limit` in an error can name. memory, file_size and output are in bytes, cpu_time and time in milliseconds."""

MEMORY_SIGNALS = (SIGKILL, SIGSEGV, SIGABRT, SIGBUS)
"""How a process ends that runs out of memory: by the kernel's hand, or by not looking at what malloc returned."""

MEMORY_SHARE = 0.9
"""Of its limit that a process must have used for its death to count as one of memory, where no cgroup tells."""

CPU_SHARES = {int(SIGXCPU): 0.5, int(SIGKILL): 0.8}
"""By signal: of what it comes after, the CPU time that a process must have used for it to be the limit's. The kernel
decides by counting ticks and reports a sharper figure afterwards: where others share the CPU they are a quarter apart,
either way. Of the two, anybody sends SIGKILL."""

MOST = 2**63 - 1
"""The largest number that is believed of a worker."""


class Verdict(NamedTuple):
    """A death by a limit. kind: error_type. why: words for its message. code: the exit code. limit: ERROR's `limit`."""

    kind: str
    why: str
    code: int
    limit: dict[str, Any]


def limit(
    name: str, value: int | None = None, peak: int | None = None, counts: str | None = None, resident: int | None = None
) -> dict[str, Any]:
    """Return ERROR's `limit`; None stands for what is not known.

    Args:
        value: the limit.
        peak: the most that was measured of the same quantity. It is left out if it is below the limit, which was hit:
            the kernel decides by a figure of its own.
        counts: the quantity, if the name does not say it.
        resident: the most resident memory in bytes, where the limit counts something else.
    """
    if peak is not None and value is not None and peak < value:
        peak = None
    found = {"name": name, "value": value, "peak": peak, "counts": counts, "resident": resident}
    return {key: each for key, each in found.items() if each is not None}


def of_death(death: Death, limits: Limits, evidence: Evidence | None = None) -> Verdict | None:
    """Which limit a worker has died of, None if of none. evidence: its cgroup's, if it had one."""
    if evidence is not None and evidence.oom_kills > 0 and death.signal == SIGKILL and limits.memory is not None:
        why = f"out of memory: all of its {limits.memory / 2**20:.0f} MB are used"
        return _memory(why, limit(MEMORY, limits.memory, evidence.memory_peak))
    seconds = limits.cpu_seconds
    if seconds is not None:
        # Its children's time may be in what is known of the dead, too: so the signal has to be the limit's own.
        allowed = {int(SIGXCPU): seconds, int(SIGKILL): seconds + CPU_GRACE}.get(death.signal)
        if allowed is not None and death.cpu_seconds >= allowed * CPU_SHARES[death.signal]:
            used = f"; {death.cpu_seconds:.2f} were used" if death.cpu_seconds >= seconds else ""
            why = f"CPU time exceeded: the limit is {seconds} second{'s' * (seconds != 1)}{used}"
            hit = limit(CPU_TIME, seconds * 1000, round(death.cpu_seconds * 1000))
            return Verdict("Runtime.CpuTimeExceeded", why, 128 + SIGXCPU, hit)
    if death.signal == SIGXFSZ and limits.file_bytes is not None:
        why = f"file too large: the limit is {limits.file_bytes} bytes"
        return Verdict("Runtime.FileSizeExceeded", why, 128 + SIGXFSZ, limit(FILE_SIZE, limits.file_bytes))
    if evidence is not None and evidence.holds_memory:
        return None  # the kernel has counted, and has killed nobody
    if limits.memory is not None and killed_for_memory(death.signal, death.peak_memory, limits.memory):
        value, resident = limits.memory, death.peak_memory
        why = f"out of memory: it may allocate {value / 2**20:.0f} MB, and had {resident / 2**20:.0f} MB resident"
        return _memory(why, limit(MEMORY, value, counts=DATA, resident=resident))
    return None


def _memory(why: str, hit: dict[str, Any]) -> Verdict:
    return Verdict("Runtime.OutOfMemory", why, 128 + SIGKILL, hit)


def killed_for_memory(signal: int, peak: int, limit: int) -> bool:
    """Whether a worker that died of `signal` at a peak of `peak` bytes died of its limit of `limit` bytes."""
    return signal in MEMORY_SIGNALS and peak >= limit * MEMORY_SHARE


def completed(
    problem: Mapping[str, Any], limits: Limits, evidence: Evidence | None, measured: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a runtime's error with its `limit` as far as it is known, or without one.

    Args:
        problem: ERROR's metadata.
        evidence: of the worker's cgroup since the request began.
        measured: what is known of the request's cost.
    """
    refused = True  # an allocation, by the limit of the process
    claim = claimed(problem.get("limit"))
    if claim is None and evidence is not None:
        if evidence.pids_refused > 0:
            claim = {"name": PIDS}
        elif evidence.oom_kills > 0:  # of a child: the worker has answered
            claim, refused = {"name": MEMORY}, False
    if claim is None:
        return {key: value for key, value in problem.items() if key != "limit"} if "limit" in problem else problem
    name = claim["name"]
    value, peak = claim.get("value", _value(name, limits)), claim.get("peak")
    if name == MEMORY and refused:
        resident = measured.get("peak_memory_bytes")
        return {**problem, "limit": limit(MEMORY, value, peak, DATA, resident)}
    if peak is None and name == MEMORY and evidence is not None:
        peak = evidence.memory_peak
    elif peak is None and name == PIDS and evidence is not None:
        peak = evidence.pids_peak
    return timed({**problem, "limit": limit(name, value, peak)}, measured)


def timed(problem: Mapping[str, Any], measured: Mapping[str, int]) -> Mapping[str, Any]:
    """Return an error with the time that the request took, if its limit was one of time."""
    found = problem.get("limit", {})
    if found.get("name") != TIME or "peak" in found or "duration_us" not in measured:
        return problem
    return {**problem, "limit": limit(TIME, found.get("value"), measured["duration_us"] // 1000)}


def _value(name: str, limits: Limits) -> int | None:
    return {
        MEMORY: limits.memory,
        PIDS: limits.pids,
        OPEN_FILES: limits.open_files,
        FILE_SIZE: limits.file_bytes,
        OUTPUT: limits.output_bytes,
    }.get(name)


def claimed(found: object) -> dict[str, Any] | None:
    """A worker's `limit`, as far as it has the right form; None if it has not."""
    if not isinstance(found, dict) or found.get("name") not in NAMES:
        return None
    numbers = {key: found[key] for key in ("value", "peak") if type(found.get(key)) is int and 0 <= found[key] <= MOST}
    return {"name": found["name"], **numbers}


def too_large(size: int, value: int, streamed: bool) -> dict[str, Any]:
    """The error of a result of `size` bytes; of a streamed one, that came before it was cut."""
    has = "had" if streamed else "has"
    more = " when it was cut" if streamed else ""
    message = f"The result {has} {size} bytes{more}; the limit is {value}"
    hit = limit(OUTPUT, value, size)
    return {"error_type": "Function.ResponseSizeTooLarge", "error_message": message, "stack": [], "limit": hit}
