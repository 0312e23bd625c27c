"""Find out which limit a request or a worker has hit.

The evidence is how the worker died, the limit that its error names, and the counts of its cgroup. Without evidence, the
error names no limit. The worker may be hostile: a limit that it names appears in its own error, but never changes an
exit code. This module knows no process.
"""

from __future__ import annotations

from _signal import SIGABRT, SIGBUS, SIGKILL, SIGSEGV, SIGXCPU, SIGXFSZ
from collections.abc import Mapping

from ..kernel import exit_codes
from ..kernel.plain_classes import dataclass
from ..kernel.reaper import Death
from ..limits.rlimits import CPU_GRACE, MEMORY, OPEN_FILES, PIDS, Limits
from ..model import problem as error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..limits.cgroup import Evidence

CPU_TIME = "cpu_time"
TIME = "time"
FILE_SIZE = "file_size"
OUTPUT = "output"

NAMES = (MEMORY, PIDS, CPU_TIME, TIME, OPEN_FILES, FILE_SIZE, OUTPUT)
"""The limits that an error can name. memory, file_size and output are in bytes, cpu_time and time in milliseconds."""

FIELDS = {FILE_SIZE: "file_bytes", OUTPUT: "output_bytes"}
"""The fields of Limits whose names differ from the limit's name. Limits of time have no such field."""

DATA = "allocated data"
"""The quantity that RLIMIT_DATA counts: allocated memory, resident or not. It limits memory if there is no cgroup."""

MEMORY_SIGNALS = (SIGKILL, SIGSEGV, SIGABRT, SIGBUS)
"""Signals that can end a process without memory: the kernel kills it, or it uses the null pointer that malloc gave."""

MEMORY_SHARE = 0.9
"""Without a cgroup: if a process had at least this share of its memory limit resident, lack of memory has ended it."""

CPU_SHARE = 0.5
"""The least share of the CPU limit that a process ended by this limit has used, as it is reported afterwards.

The kernel enforces the limit with a count of clock ticks, and reports a more exact figure. If processes share the CPU,
the two can differ by a third."""

CPU_SHARE_OF_KILL = 0.7
"""The least share of the hard CPU limit that a process killed by it has used, if its limits at its death are unknown.

Any process may send SIGKILL. So without this evidence the share must be larger, but not so large that it excludes a
count of ticks that is a third too high."""

MOST = 2**63 - 1
"""The largest number that the init believes from a worker."""


@dataclass(frozen=True)
class LimitHit:
    """The error for a worker that a limit has ended.

    Attributes:
        kind: The error's type.
        why: The part of the error's message that names the limit.
        code: The exit code.
        limit: The error's `limit` (docs/protocol.md, ERROR).
    """

    kind: str
    why: str
    code: int
    limit: dict[str, Any]


def limit(
    name: str, value: int | None = None, peak: int | None = None, counts: str | None = None, resident: int | None = None
) -> dict[str, Any]:
    """Return an error's `limit` (docs/protocol.md, ERROR), without the fields whose values are not known.

    Args:
        name: One of NAMES.
        value: The limit's value.
        peak: The highest measured value of the limited quantity. A peak below the limit is left out, because the limit
            was hit: the kernel has counted by another method.
        counts: The quantity that the limit counts, if its name does not say so.
        resident: The most resident memory in bytes, if the limit counts another kind of memory.
    """
    if peak is not None and value is not None and peak < value:
        peak = None
    found = {"name": name, "value": value, "peak": peak, "counts": counts, "resident": resident}
    return {key: each for key, each in found.items() if each is not None}


def of_death(death: Death, limits: Limits, evidence: Evidence | None = None) -> LimitHit | None:
    """Return the limit that has ended a worker; None if no limit did.

    Args:
        death: How the worker died.
        limits: The worker's limits.
        evidence: The counts of the worker's cgroup, if it had one.
    """
    memory, seconds = limits.memory, limits.cpu_seconds
    if evidence is not None and evidence.oom_kills > 0 and death.signal == SIGKILL and memory is not None:
        why = f"out of memory: all of its {memory / 2**20:.0f} MB are used"
        hit = limit(MEMORY, memory, evidence.memory_peak)
        return LimitHit("Runtime.OutOfMemory", why, exit_codes.OUT_OF_MEMORY, hit)
    if seconds is not None:
        # The CPU time may include the time of the worker's children. So check also that the signal fits the limit.
        if death.cpu_seconds >= seconds * CPU_SHARE and (death.signal == SIGXCPU or _killed_by_cpu(death, seconds)):
            used = f"; {death.cpu_seconds:.2f} were used" if death.cpu_seconds >= seconds else ""
            why = f"CPU time exceeded: the limit is {seconds} second{'s' * (seconds != 1)}{used}"
            hit = limit(CPU_TIME, seconds * 1000, round(death.cpu_seconds * 1000))
            return LimitHit("Runtime.CpuTimeExceeded", why, 128 + SIGXCPU, hit)
    if death.signal == SIGXFSZ and limits.file_bytes is not None:
        why = f"file too large: the limit is {limits.file_bytes} bytes"
        return LimitHit("Runtime.FileSizeExceeded", why, 128 + SIGXFSZ, limit(FILE_SIZE, limits.file_bytes))
    if memory is None or (evidence is not None and evidence.holds_memory):
        return None  # a cgroup limits memory, and the kernel has killed none of its processes
    if death.signal not in MEMORY_SIGNALS or death.peak_memory < memory * MEMORY_SHARE:
        return None
    resident = death.peak_memory / 2**20
    why = f"out of memory: it may allocate {memory / 2**20:.0f} MB, and had {resident:.0f} MB resident"
    hit = limit(MEMORY, memory, counts=DATA, resident=death.peak_memory)
    return LimitHit("Runtime.OutOfMemory", why, exit_codes.OUT_OF_MEMORY, hit)


def _killed_by_cpu(death: Death, seconds: int) -> bool:
    """Return whether the limit on CPU time has sent SIGKILL.

    At the soft limit the kernel sends SIGXCPU and raises the soft limit by a second, which is then as high as the hard
    one. So SIGKILL came from elsewhere if the soft limit is still lower. No share of a count can tell this.
    """
    if death.signal != SIGKILL:
        return False
    if death.cpu_limit is not None:
        return death.cpu_limit[0] >= death.cpu_limit[1]
    return death.cpu_seconds >= (seconds + CPU_GRACE) * CPU_SHARE_OF_KILL


def completed(
    problem: Mapping[str, Any], limits: Limits, evidence: Evidence | None, measured: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a worker's error, with its `limit` completed if a limit was hit, else without `limit`.

    Args:
        problem: ERROR's metadata.
        limits: The worker's limits.
        evidence: The counts of the worker's cgroup since the request began.
        measured: The time and memory that the request took, as far as they are known.
    """
    claim, child_killed = claimed(problem.get("limit")), False
    if claim is None and evidence is not None:
        if evidence.pids_refused > 0:
            claim = {"name": PIDS}
        elif evidence.oom_kills > 0:
            claim, child_killed = {"name": MEMORY}, True  # not the worker itself, because it has answered
    if claim is None:
        return {key: value for key, value in problem.items() if key != "limit"}
    name = claim["name"]
    value, peak = claim.get("value", getattr(limits, FIELDS.get(name, name), None)), claim.get("peak")
    if name == MEMORY and not child_killed:  # RLIMIT_DATA has refused an allocation
        return {**problem, "limit": limit(MEMORY, value, peak, DATA, measured.get("peak_memory_bytes"))}
    if peak is None and evidence is not None:
        peak = {MEMORY: evidence.memory_peak, PIDS: evidence.pids_peak}.get(name)
    return timed({**problem, "limit": limit(name, value, peak)}, measured)


def timed(problem: Mapping[str, Any], measured: Mapping[str, int]) -> Mapping[str, Any]:
    """Return the error. If its limit is the time limit, add the time that the request took."""
    found = problem.get("limit", {})
    if found.get("name") != TIME or "peak" in found or "duration_us" not in measured:
        return problem
    return {**problem, "limit": limit(TIME, found.get("value"), measured["duration_us"] // 1000)}


def claimed(found: object) -> dict[str, Any] | None:
    """Return the `limit` that a worker has sent, without malformed fields; None if it names no limit."""
    if not isinstance(found, dict) or found.get("name") not in NAMES:
        return None
    numbers = {key: found[key] for key in ("value", "peak") if type(found.get(key)) is int and 0 <= found[key] <= MOST}
    return {"name": found["name"], **numbers}


def too_large(size: int, value: int, streamed: bool) -> dict[str, Any]:
    """Return the error for a result that is too large.

    Args:
        size: Bytes of the result. If the result was streamed, the bytes that had come when the init cut it.
        value: The most bytes that a result may have.
        streamed: Whether the result was streamed.
    """
    has, when = ("had", " when it was cut") if streamed else ("has", "")
    message = f"The result {has} {size} bytes{when}; the limit is {value}"
    return {**error("Function.ResponseSizeTooLarge", message), "limit": limit(OUTPUT, value, size)}
