"""What a request has cost: CPU time and peak memory of this process. Knows no requests."""

from __future__ import annotations

import os
import resource

_AT_START = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes.

    getrusage(2) also counts what the process was before exec, a copy of a possibly larger parent. Only a peak above
    the one at the start is surely ours; until then the kernel's VmHWM is asked, where /proc is there.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak <= _AT_START:
        peak = _high_water_mark() or peak
    return peak * 1024


def _high_water_mark() -> int:
    """VmHWM of proc(5) in KiB, 0 where it cannot be read."""
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(status, 8192)
    finally:
        os.close(status)
    _, found, rest = text.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) if found else 0
