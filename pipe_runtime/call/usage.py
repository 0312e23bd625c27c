"""Measure the time and the memory that a request takes.

The runtime loads this module before the function, because no module can be loaded after descriptors or memory have run
out. It must not know frames or handlers.
"""

from __future__ import annotations

# Import the names themselves, because the function may replace the modules' attributes.
from resource import RUSAGE_SELF, getrusage
from time import perf_counter_ns

from ..limits import status_figure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage

LONGEST_US = 2**63 - 1
"""The largest duration that fits into a head. Clocks that a function has replaced may give a larger one."""


class Meter:
    """Measure this process, with all of its threads.

    It reports the peak of the resident memory. The peak from getrusage(2) includes the time before exec, when the
    process was a copy of its parent, which may be larger. So the meter uses that peak only once it is above its value
    at the start. Until then the meter reads the kernel's VmHWM, if /proc exists. It looks for a new peak only after
    another page fault, because without a page fault the memory has not grown.

    Args:
        forked: Whether a template has forked the process. Then there was no exec, and the peak is the process's own.
    """

    def __init__(self, forked: bool = False) -> None:
        self._at_start = 0 if forked else getrusage(RUSAGE_SELF).ru_maxrss
        self._faults = -1
        self._peak = 0

    def read(self, begun: int, cpu_begun: int) -> dict[str, int]:
        """Return the usage of a request as entries of RESULT's metadata: duration_us, cpu_us, peak_memory_bytes.

        Args:
            begun: The value of perf_counter_ns() when the request began.
            cpu_begun: The value of process_time_ns() when the request began.
        """
        usage = getrusage(RUSAGE_SELF)
        duration = (perf_counter_ns() - begun) // 1000
        cpu = int((usage.ru_utime + usage.ru_stime) * 1e6) - cpu_begun // 1000  # one system call gives memory and CPU
        if not (0 <= duration <= LONGEST_US and 0 <= cpu <= LONGEST_US):
            duration, cpu = (min(max(0, each), LONGEST_US) for each in (duration, cpu))
        peak = self._peak if usage.ru_minflt + usage.ru_majflt == self._faults else self.peak_memory(usage)
        return {"duration_us": duration, "cpu_us": cpu, "peak_memory_bytes": peak}

    def peak_memory(self, usage: struct_rusage | None = None) -> int:
        """Return the peak of the memory so far, in bytes. `usage` is a new result of getrusage(2); None to call it."""
        usage = usage or getrusage(RUSAGE_SELF)
        faults = usage.ru_minflt + usage.ru_majflt
        if faults != self._faults:
            peak = usage.ru_maxrss
            if peak <= self._at_start:
                peak = status_figure(b"VmHWM:") or peak  # the peak of the resident memory
            self._faults, self._peak = faults, peak * 1024
        return self._peak
