"""Read facts about processes from proc(5). For an unknown fact, each function returns the value that it documents.

This module only reads. It does not know what the processes are for.
"""

from __future__ import annotations

import os
import time

SEARCH_SECONDS = 0.25
"""Seconds that one search among descendants may take. There may be many, and reading one may take milliseconds."""

PF_EXITING = 0x4
"""The flag of a process that has begun to end; from <linux/sched.h>."""

_DEAD = (b"Z", b"X")


def high_water_mark(pid: int) -> int:
    """Return the peak of a process's resident memory in bytes; 0 if it is unknown."""
    _, found, rest = _read(f"/proc/{pid}/status").partition(b"\nVmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def resident() -> int:
    """Return this process's resident memory in bytes; 0 if it is unknown. A fork begins with at most as much."""
    fields = _read("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def is_ending(pid: int) -> bool:
    """Return whether a process is dead or has begun to end; False if that is unknown."""
    fields = _stat(pid)
    return bool(fields) and (fields[0] in _DEAD or bool(int(fields[6]) & PF_EXITING))


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process without its children, as exact as a clock tick; None if it is unknown."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def cpu_limit(pid: int) -> tuple[int, int] | None:
    """Return a process's soft and hard limit on CPU time in seconds; None if one is unknown or does not exist."""
    _, _, rest = _read(f"/proc/{pid}/limits").partition(b"Max cpu time")
    soft, hard = (rest.split(None, 2) + [b"", b""])[:2]
    return (int(soft), int(hard)) if soft.isdigit() and hard.isdigit() else None


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it is unknown."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def has_member_below(group: int) -> bool:
    """Return whether a living descendant of this process is in a process group, even if its parent is in another."""
    found, ends = children_of(os.getpid()), time.monotonic() + SEARCH_SECONDS
    for pid in found:  # the loop appends to the list
        fields = _stat(pid)
        if fields and int(fields[2]) == group and fields[0] not in _DEAD:
            return True
        if time.monotonic() >= ends:
            break
        found += children_of(pid)
    return False


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children; an empty list if they are unknown."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [child for thread in threads for child in listed(f"/proc/{pid}/task/{thread}/children")]


def listed(listing: str) -> list[int]:
    """Return the pids in the file `listing`, a thread's list of children; an empty list if the thread is gone."""
    return [int(pid) for pid in _read(listing).split()]


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat, beginning with the state; an empty list if they are unknown."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    """Return the content of a file; b"" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
