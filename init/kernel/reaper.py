"""Who is dead, how they died, and who must go with them. For a process whose children are all its own.

This file knows pids and statuses, not workers or requests.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from .prctl import SET_CHILD_SUBREAPER, detach, prctl

PID_LIMIT = 2**22
"""Every pid is smaller: PID_MAX_LIMIT of <linux/threads.h>."""

SWEEP_SECONDS = 0.25
"""For killing what is below children, at a time: there may be many, and the kernel takes milliseconds for some."""

HANDLES = 64
"""Descriptors that such a search may take."""

NEAR = 4096
"""Pids to look at from the first child found on: what a worker leaves behind was mostly forked in a row."""


UNKNOWN = -1
"""The status of a child that other code of this process has collected."""


class Death(NamedTuple):
    """How a child has died, and what it had used.

    Attributes:
        pid: The child.
        status: As of waitpid(2), or UNKNOWN.
        peak_memory: The most bytes that were resident, of the child or of one of its own children.
        cpu_seconds: CPU time of the child alone where proc(5) tells it, else with that of children it waited for.
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
        if self.status == UNKNOWN:
            return "exit status unknown, because other code of this program has collected it"
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


def high_water_mark(pid: int) -> int:
    """Return the peak of resident memory of our own child `pid` in bytes; 0 if proc(5) does not tell."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            _, found, rest = file.read().partition(b"\nVmHWM:")
    except OSError:
        return 0
    return int(rest.split(None, 1)[0]) * 1024 if found else 0


def resident() -> int:
    """Return this process's resident memory in bytes, which is also the most that a fork of it begins with."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # without /proc its peak has to do
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


PF_EXITING = 0x4
"""In the flags of proc(5)'s stat: the process has begun to end; from <linux/sched.h>."""


def is_ending(pid: int) -> bool:
    """Whether our uncollected child `pid` is dead or about to be; False where proc(5) does not tell."""
    fields = _stat(pid)
    return bool(fields) and (fields[0] in (b"Z", b"X") or bool(int(fields[6]) & PF_EXITING))


ENDED = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
"""waitid(2)'s codes of a dead child. It also reports the stops of children that this process traces."""

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
        pidfd: A pidfd of it. It tells the child from a later one of the same number, should other code have collected
            ours; how ours ended is unknown then.
    """
    try:
        seen = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if seen is None or seen.si_code not in ENDED else _collect(seen, (signal.SIGKILL,))
    except ChildProcessError:
        return Death(pid, UNKNOWN, 0)


def _collect(seen: os.waitid_result, farewell: Sequence[int] | None) -> Death:
    """Collect a dead child. farewell: what its process group is sent before; None if it leads none of ours."""
    own_seconds = None
    if farewell is not None:
        for number in farewell:
            signal_group(seen.si_pid, number)
        if seen.si_code != os.CLD_EXITED:  # else nobody asks
            own_seconds = _cpu_seconds_of(seen.si_pid)
    pid, status, usage = os.wait4(seen.si_pid, 0)
    seconds = usage.ru_utime + usage.ru_stime if own_seconds is None else own_seconds
    return Death(pid, status, usage.ru_maxrss * 1024, seconds)


def _let_run(pid: int, status: int) -> None:
    """Detach from a child that has asked to be traced (PTRACE_TRACEME), which made us its tracer, and has stopped.

    Args:
        status: waitid(2)'s: the signal that it has stopped at.
    """
    number = status & 0x7F
    if not detach(pid, 0 if number == signal.SIGTRAP else number):
        signal_child(pid, signal.SIGKILL)  # it would stay as it is, and be reported for ever


def has_child_in(group: int) -> bool:
    """Whether an uncollected child is in this process group: while there is, its number can belong to nobody else."""
    try:
        os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def members_below(group: int) -> list[int]:
    """Who lives in this process group and descends from children of ours, as far as proc(5) tells.

    Their parents may have left the group, and live.
    """
    found, ends = _children_of(os.getpid()), time.monotonic() + SWEEP_SECONDS
    for pid in found:  # it grows
        if time.monotonic() >= ends:
            break
        found += _children_of(pid)
    return [pid for pid in found if _lives_in(group, pid)]


def kill_members(group: int) -> None:
    """Send SIGKILL to all of `members_below`."""
    for pid in members_below(group):
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue  # it has ended
        try:
            if _lives_in(group, pid):  # else its number may have been another one's before the handle was opened
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # as in signal_child
        finally:
            os.close(handle)


def _lives_in(group: int, pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and int(fields[2]) == group and fields[0] not in (b"Z", b"X")


def _cpu_seconds_of(pid: int) -> float | None:
    """CPU time of an uncollected child alone, to a tick; None: it cannot be told."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def _stat(pid: int) -> list[bytes]:
    """The fields of proc(5)'s stat from the state on; none if the process is gone, or there is no proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def has_children() -> bool:
    """Whether there is any uncollected child."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to the process group that the uncollected child `pid` leads, or is about to lead.

    Returns:
        Whether it was sent. If not, all that is left of the group belongs to another user.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return signal_child(pid, number)  # it was forked a moment ago and has not made its group yet
    except PermissionError:
        return False
    return True


def signal_child(pid: int, number: int) -> bool:
    """Send a signal to the uncollected child `pid` alone.

    Returns:
        Whether it was sent. If not, the child belongs to another user, or other code has collected it.
    """
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(pids: Iterable[int], keep: Collection[int] = ()) -> bool:
    """Send SIGKILL to these children and to all that descends from them, but for `keep` and what descends from those.
    Whether there were any.

    After SWEEP_SECONDS only to the children themselves; who calls again finds the others.
    """
    any_there, ends = False, time.monotonic() + SWEEP_SECONDS
    for pid in pids:
        any_there = True
        if pid > 0:
            sweep_below(pid, keep, ends)
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # dead by now, or another user's, of whom nobody promised anything
    return any_there


def sweep_below(pid: int, keep: Collection[int] = (), ends: float | None = None) -> None:
    """Kill what descends from the uncollected child `pid`, the youngest first, as far as proc(5) tells; keep: as above.

    Else a long chain would take a round for each of its links, since each one only falls to us when the one before it
    is dead; and a tracer among them would keep the child itself from being collected.
    ends: the time.monotonic() at which it is enough for now; None: after SWEEP_SECONDS.
    """
    if ends is None:
        ends = time.monotonic() + SWEEP_SECONDS
    found, families = [pid], []
    for parent in found:  # it grows
        if time.monotonic() >= ends:
            break
        children = [child for child in _children_of(parent) if child not in keep]
        families += [(parent, children[at : at + HANDLES]) for at in range(0, len(children), HANDLES)]
        found += children
    for parent, children in reversed(families):
        _kill_children_of(parent, children)
        if time.monotonic() >= ends:
            break


def _kill_children_of(parent: int, children: Sequence[int]) -> None:
    """These children of somebody else's, as far as they are its children now."""
    handles = []
    try:
        for child in children:
            try:
                handles.append((child, os.pidfd_open(child)))
            except OSError:
                continue  # it has ended, or there are no descriptors left: then another round will do
        there = set(_children_of(parent))
        for child, handle in handles:
            if child in there:  # else its number may have been another one's before the handle was opened
                try:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue  # as above
    finally:
        for _, handle in handles:
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
