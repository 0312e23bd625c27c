"""Who is dead, how they died, and who must go with them. For a process whose children are all its own.

This file knows pids and statuses, not workers or requests.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from .prctl import SET_CHILD_SUBREAPER, prctl

PID_LIMIT = 2**22
"""Every pid is smaller: PID_MAX_LIMIT of <linux/threads.h>."""

NEAR = 4096
"""Pids to look at from the first child found on: what a worker leaves behind was mostly forked in a row."""


class Death(NamedTuple):
    """One reaped child. status: as of waitpid(2). peak_memory: bytes resident at most, of it or a child of its.

    cpu_seconds: CPU time of it and of the children that it has waited for.
    """

    pid: int
    status: int
    peak_memory: int
    cpu_seconds: float = 0.0

    @property
    def signal(self) -> int:
        """The signal that ended it, 0 if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def description(self) -> str:
        """As the field writes it: `exit status 1`, `signal: killed`."""
        if self.signal:
            name = signal.strsignal(self.signal) or f"signal {self.signal}"
            return f"signal: {name.lower()}"
        return f"exit status {os.WEXITSTATUS(self.status)}"


def become_subreaper() -> bool:
    """Have orphaned descendants fall to this process. False where the kernel, or libc, will not."""
    return os.getpid() == 1 or prctl(SET_CHILD_SUBREAPER, 1)


def is_own_child(pid: int) -> bool:
    """Whether `pid` is an uncollected child of this process, dead or alive. Nobody else may be signalled."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


REAP_ROUND = 256
"""Deaths to collect in a row: orphans may come faster than they are collected, and a deadline must not wait."""


class Reaped(NamedTuple):
    """deaths: who was collected. left: whether any child remains. more: whether more of them may be dead already."""

    deaths: list[Death]
    left: bool
    more: bool = False


def reap(leaders: Collection[int] = (), limit: int = REAP_ROUND, farewell: Sequence[int] = (signal.SIGKILL,)) -> Reaped:
    """Collect every child that is dead by now, at most `limit`. SIGCHLDs coalesce, so it asks until there is none.

    leaders: children whose process groups go with them. Such a group gets the signals of `farewell` before its leader
    is collected: until then the group's number can belong to nobody else.
    """
    deaths: list[Death] = []
    while len(deaths) < limit:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None:
                return Reaped(deaths, True)
            if seen.si_pid in leaders:
                for number in farewell:
                    signal_group(seen.si_pid, number)
            pid, status, usage = os.wait4(seen.si_pid, 0)
        except ChildProcessError:
            return Reaped(deaths, False)
        deaths.append(Death(pid, status, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime))
    return Reaped(deaths, True, True)


def is_group_there(group: int) -> bool:
    """Whether anybody is in this process group whom a signal of ours can reach, or an uncollected child of ours.

    The kernel gives its number to nobody else while there is.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        try:
            os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
    return True


def has_children() -> bool:
    """Whether there is any uncollected child."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group that the uncollected child `pid` leads, or is about to lead."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        signal_child(pid, number)  # it was forked a moment ago and has not made its group yet
    except PermissionError:
        return  # all that is left of the group belongs to another user; nothing more can be done from here


def signal_child(pid: int, number: int) -> None:
    """Send a signal to the uncollected child `pid` alone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # as above; it cannot be missing unless somebody else collected it


def kill(pids: Iterable[int], keep: Collection[int] = ()) -> bool:
    """Send SIGKILL to these children and to all that descends from them, but for `keep` and what descends from those.
    Whether there were any.
    """
    any_there = False
    for pid in pids:
        any_there = True
        if pid > 0:
            sweep_below(pid, keep)
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # dead by now, or another user's, of whom nobody promised anything
    return any_there


def sweep_below(pid: int, keep: Collection[int] = ()) -> None:
    """Kill what descends from the uncollected child `pid`, the youngest first, as far as proc(5) tells; keep: as above.

    Else a long chain would take a round for each of its links, since each one only falls to us when the one before it
    is dead; and a tracer among them would keep the child itself from being collected.
    """
    found, looked_at = [(0, pid)], 0
    while looked_at < len(found):
        parent = found[looked_at][1]
        found += [(parent, child) for child in _children_of(parent) if child not in keep]
        looked_at += 1
    for parent, child in reversed(found[1:]):
        try:
            handle = os.pidfd_open(child)
        except OSError:
            continue  # it has ended
        try:
            if child in _children_of(parent):  # else its number may be another one's by now
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # as above
        finally:
            os.close(handle)


def _children_of(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [child for thread in threads for child in _listed(f"/proc/{pid}/task/{thread}/children")]


def children(alone: bool = False) -> Iterable[int]:
    """This process's children: the dead that are not collected, too.

    alone: all of them, and what descends from them, are meant. Then -1, all processes, does for PID 1 of a namespace
    without proc(5). Anybody else must look for them there.
    """
    listing = f"/proc/self/task/{os.getpid()}/children"
    if os.path.exists(listing):
        return _listed(listing)
    return [-1] if alone and os.getpid() == 1 else _search()


def _listed(listing: str) -> list[int]:
    """The pids in one of proc(5)'s lists of children; none if its thread is gone."""
    try:
        with open(listing, "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _search() -> Iterator[int]:
    """Ask for each pid whether it is a child's, upwards from our own, as the kernel gives them out.

    Not all are found, but one is if there is one: whoever calls again until none is left finds the others.
    """
    if not has_children():
        return  # or it would take seconds to ask for every number that there is
    own, end = os.getpid(), PID_LIMIT
    for pid in itertools.chain(range(own + 1, PID_LIMIT), range(2, own)):
        if pid >= end:
            return
        if not is_own_child(pid):
            continue
        end = min(end, pid + NEAR)
        yield pid
