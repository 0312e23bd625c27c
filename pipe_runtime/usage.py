"""What a piece of work has cost this process: time, CPU time, and the most memory. Knows no requests."""

from __future__ import annotations

import os
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns, process_time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage

LONGEST_US = 2**63 - 1
"""What fits into a head; a function may have replaced the clocks."""


class Meter:
    """Measures this process, all of its threads together.

    Of memory, the most that it has had resident: getrusage(2) also counts what the process was before exec, a copy of
    a possibly larger parent. Only a peak above the one at the start is surely ours; until then the kernel's VmHWM is
    asked, where /proc is there, but only after a page fault: without one, nothing has grown.
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
        """What it took since `start`, as in RESULT's metadata: duration_us, cpu_us, peak_memory_bytes."""
        usage = getrusage(RUSAGE_SELF)
        duration = (perf_counter_ns() - self._begun) // 1000
        cpu = int((usage.ru_utime + usage.ru_stime) * 1e6) - self._cpu  # one call tells both, memory and CPU time
        if not (0 <= duration <= LONGEST_US and 0 <= cpu <= LONGEST_US):
            duration, cpu = (min(max(0, each), LONGEST_US) for each in (duration, cpu))
        return {"duration_us": duration, "cpu_us": cpu, "peak_memory_bytes": self._peak_of(usage)}

    def peak_memory(self) -> int:
        """The peak so far, in bytes."""
        return self._peak_of(getrusage(RUSAGE_SELF))

    def _peak_of(self, usage: struct_rusage) -> int:
        peak = usage.ru_maxrss
        if peak <= self._at_start:
            faults = usage.ru_minflt + usage.ru_majflt
            if faults != self._faults:
                self._faults, self._peak = faults, _high_water_mark()
            peak = self._peak or peak
        return peak * 1024


def _high_water_mark() -> int:
    """VmHWM of proc(5) in KiB, 0 where it cannot be read."""
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(status, 8192)
    except OSError:
        return 0
    finally:
        os.close(status)
    _, found, rest = text.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) if found else 0
