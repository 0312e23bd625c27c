"""Read what proc(5) tells of processes. Where it tells nothing, each function returns what its docstring says.

This module only reads. It does not know what the processes are for.
"""

from __future__ import annotations

import os
import resource
import time

SEARCH_SECONDS = 0.25
"""How long one search among descendants may take: there may be many, and the kernel takes milliseconds for some."""

PF_EXITING = 0x4
"""In the flags of a process that has begun to end; from <linux/sched.h>."""

_DEAD = (b"Z", b"X")


def high_water_mark(pid: int) -> int:
    """Return the peak of a process's resident memory in bytes; 0 if it is unknown."""
    _, found, rest = _read(f"/proc/{pid}/status").partition(b"\nVmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def resident() -> int:
    """Return this process's resident memory in bytes, which is also the most that a fork of it begins with."""
    fields = _read("/proc/self/statm").split()
    if fields:
        return int(fields[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # without /proc its peak has to do


def is_ending(pid: int) -> bool:
    """Return whether a process is dead or about to be; False if that is unknown."""
    fields = _stat(pid)
    return bool(fields) and (fields[0] in _DEAD or bool(int(fields[6]) & PF_EXITING))


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process alone, to a tick; None if it is unknown."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it is unknown."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def has_member_below(group: int) -> bool:
    """Return whether a descendant of ours lives in this process group. Those between it and us need not be in it."""
    found, ends = children_of(os.getpid()), time.monotonic() + SEARCH_SECONDS
    for pid in found:  # the list grows
        fields = _stat(pid)
        if fields and int(fields[2]) == group and fields[0] not in _DEAD:
            return True
        if time.monotonic() >= ends:
            break
        found += children_of(pid)
    return False


def children_of(pid: int) -> list[int]:
    """Return the children of a process; none if they are unknown."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [child for thread in threads for child in listed(f"/proc/{pid}/task/{thread}/children")]


def listed(listing: str) -> list[int]:
    """Return the pids in one of proc(5)'s lists of children; none if its thread is gone."""
    return [int(pid) for pid in _read(listing).split()]


def _stat(pid: int) -> list[bytes]:
    """Return the fields of a process's stat, from its state on; none if they are unknown."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    """Return what a file holds; b"" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
