"""Collect dead children, report how each died, and kill the process groups that they led.

Except for `reap_one`, it is for a process whose children are all its own. This module knows pids and statuses, not
workers or requests.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from . import procfs
from .death import UNKNOWN, Death
from .killing import signal_child, signal_group
from .prctl import SET_CHILD_SUBREAPER, detach, prctl

PID_LIMIT = 2**22
"""Every pid is smaller: PID_MAX_LIMIT of <linux/threads.h>."""

NEAR = 4096
"""Pids to try from the first child found on: a worker mostly forks what it leaves behind in a row."""

ENDED = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
"""waitid(2)'s codes of a dead child. It also reports the stops of children that this process traces."""

REAP_ROUND = 256
"""Deaths to collect in a row: orphans may come faster than they are collected, and a deadline must not wait."""


class Reaped(NamedTuple):
    """What one round has found.

    Attributes:
        deaths: The children that were collected.
        left: Whether any child remains.
        more: Whether some of those that remain may be dead already.
    """

    deaths: list[Death]
    left: bool
    more: bool = False


def reap(leaders: Collection[int] = (), limit: int = REAP_ROUND, farewell: Sequence[int] = (signal.SIGKILL,)) -> Reaped:
    """Collect every child that is dead by now. One SIGCHLD may stand for many deaths.

    Args:
        leaders: Children whose process groups end with them. Such a group is signalled before its leader is
            collected: until then the group's number cannot belong to another group.
        limit: The most children to collect.
        farewell: The signals for those groups.
    """
    deaths: list[Death] = []
    for _ in range(limit):
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None:
                return Reaped(deaths, True)
            if seen.si_code not in ENDED:
                _let_run(seen.si_pid, seen.si_status)
                continue
            deaths.append(_collect(seen, farewell if seen.si_pid in leaders else None))
        except ChildProcessError:
            return Reaped(deaths, False)
    return Reaped(deaths, True, True)


def reap_one(pid: int, pidfd: int) -> Death | None:
    """Collect one child, after killing the process group that it leads; return None if it is alive.

    Args:
        pid: The child.
        pidfd: A pidfd of it, which refers to this child even if other code has collected it and the kernel has reused
            its number. How it ended is unknown then.
    """
    try:
        seen = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if seen is None or seen.si_code not in ENDED else _collect(seen, (signal.SIGKILL,))
    except ChildProcessError:
        return Death(pid, UNKNOWN, 0)


def _collect(seen: os.waitid_result, farewell: Sequence[int] | None) -> Death:
    """Collect a dead child. farewell: what its process group is sent before that; None if it leads none of ours."""
    own_seconds = None
    if farewell is not None:
        for number in farewell:
            signal_group(seen.si_pid, number)
        if seen.si_code != os.CLD_EXITED:  # the CPU time of one that exited is not asked for
            own_seconds = procfs.cpu_seconds(seen.si_pid)
    pid, status, usage = os.wait4(seen.si_pid, 0)
    seconds = usage.ru_utime + usage.ru_stime if own_seconds is None else own_seconds
    return Death(pid, status, usage.ru_maxrss * 1024, seconds)


def _let_run(pid: int, status: int) -> None:
    """Detach from a child that has asked to be traced (PTRACE_TRACEME), which made us its tracer, and has stopped.

    Args:
        pid: The child.
        status: As of waitid(2): the signal at which it has stopped.
    """
    number = status & 0x7F
    if not detach(pid, 0 if number == signal.SIGTRAP else number):
        signal_child(pid, signal.SIGKILL)  # it would stay as it is, and be reported again and again


def become_subreaper() -> bool:
    """Make this process the parent of orphans among its descendants. Return False if the kernel or libc refuses."""
    return os.getpid() == 1 or prctl(SET_CHILD_SUBREAPER, 1)


def is_own_child(pid: int) -> bool:
    """Return whether `pid` is an uncollected child of this process, dead or alive. No other pid may be signalled."""
    return _is_any(os.P_PID, pid)


def has_child_in(group: int) -> bool:
    """Return whether an uncollected child is in this process group, whose number is then in use."""
    return _is_any(os.P_PGID, group)


def has_children() -> bool:
    """Return whether there is any uncollected child."""
    return _is_any(os.P_ALL, 0)


def _is_any(kind: int, id: int) -> bool:
    try:
        os.waitid(kind, id, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children(alone: bool = False) -> Iterable[int]:
    """Return this process's children, dead ones that are not collected included.

    Args:
        alone: Every child, and what descends from it, is meant. Then -1, which means all processes, is the answer for
            PID 1 of a namespace without proc(5). Any other process has to search there.
    """
    listing = f"/proc/self/task/{os.getpid()}/children"
    if os.path.exists(listing):
        return procfs.listed(listing)
    return [-1] if alone and os.getpid() == 1 else _search()


def _search() -> Iterator[int]:
    """Ask of each pid whether it is a child's, upwards from our own, in the order in which the kernel gives them out.

    Not every child is found, but at least one is if there is one. Whoever calls again until none is left finds all.
    """
    if not has_children():
        return  # to ask of every possible number would take seconds
    own, end = os.getpid(), PID_LIMIT
    for pid in itertools.chain(range(own + 1, PID_LIMIT), range(2, own)):
        if pid >= end:
            return
        if not is_own_child(pid):
            continue
        end = min(end, pid + NEAR)
        yield pid
