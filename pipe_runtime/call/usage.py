"""Measure what a request costs this process in time, CPU time and memory.

This module must not know frames, handlers or limits.
"""

from __future__ import annotations

# These names, and not the attributes of `os`: the function may replace those.
from os import O_CLOEXEC, O_RDONLY, close, read
from os import open as open_file
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns, process_time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage

LONGEST_US = 2**63 - 1
"""The largest duration that fits into a head. A function may have replaced the clocks."""


class Meter:
    """Measures this process, all of its threads together.

    Its memory is the most that was resident. getrusage(2) also counts what the process was before exec: a copy of a
    parent that may be larger. So only a peak above the one at the start is surely ours. Until then the meter reads the
    kernel's VmHWM, if /proc is there, but only after a page fault: without one, nothing has grown.
    """

    def __init__(self) -> None:
        self._at_start = getrusage(RUSAGE_SELF).ru_maxrss
        self._faults = -1
        self._peak = 0
        self._begun = self._cpu = 0

    def start(self) -> None:
        """Measure from now on."""
        self._begun, self._cpu = perf_counter_ns(), process_time_ns() // 1000

    def read(self) -> dict[str, int]:
        """Return the use since start() as RESULT's metadata has it: duration_us, cpu_us, peak_memory_bytes."""
        usage = getrusage(RUSAGE_SELF)
        duration = (perf_counter_ns() - self._begun) // 1000
        cpu = int((usage.ru_utime + usage.ru_stime) * 1e6) - self._cpu  # one call tells both, memory and CPU time
        if not (0 <= duration <= LONGEST_US and 0 <= cpu <= LONGEST_US):
            duration, cpu = (min(max(0, each), LONGEST_US) for each in (duration, cpu))
        return {"duration_us": duration, "cpu_us": cpu, "peak_memory_bytes": self._peak_of(usage)}

    def peak_memory(self) -> int:
        """Return the peak so far, in bytes."""
        return self._peak_of(getrusage(RUSAGE_SELF))

    def _peak_of(self, usage: struct_rusage) -> int:
        peak = usage.ru_maxrss
        if peak <= self._at_start:
            faults = usage.ru_minflt + usage.ru_majflt
            if faults != self._faults:
                self._faults, self._peak = faults, status_figure(b"VmHWM:")  # the most that was resident
            peak = self._peak or peak
        return peak * 1024


def status_figure(name: bytes) -> int:
    """Return a figure in KiB of proc(5)'s status, 0 if it cannot be read."""
    try:
        status = open_file("/proc/self/status", O_RDONLY | O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = read(status, 8192)
    except OSError:
        return 0
    finally:
        close(status)
    _, found, rest = text.partition(name)
    return int(rest.split(None, 1)[0]) if found else 0
