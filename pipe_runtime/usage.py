"""How much memory this process has had at its peak. Knows no requests."""

from __future__ import annotations

import os
import resource


class PeakMemory:
    """The most memory that this process has had resident.

    getrusage(2) also counts what the process was before exec, a copy of a possibly larger parent. Only a peak above
    the one at the start is surely ours; until then the kernel's VmHWM is asked, where /proc is there, but only after
    a page fault: without one, nothing has grown.
    """

    def __init__(self) -> None:
        self._at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._faults = -1
        self._peak = 0

    def read(self) -> int:
        """The peak so far, in bytes."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
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
