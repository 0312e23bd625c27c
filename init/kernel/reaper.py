"""Collect dead children, describe how each died, and kill the process groups that they led.

All functions except `reap_one` need a process in which no other code starts children. This module knows pids and
statuses, not workers or requests.
"""

from __future__ import annotations

import _signal as signal
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from . import procfs
from .killing import signal_child, signal_group
from .plain_classes import dataclass
from .prctl import SET_CHILD_SUBREAPER, detach, prctl

PID_LIMIT = 2**22
"""A number that is greater than every pid: PID_MAX_LIMIT of <linux/threads.h>."""

NEAR = 4096
"""How many pids to try after the first child that is found. The orphans of a worker often have pids close together."""

UNKNOWN = -1
"""The status of a child that other code in this process has collected, so that the kernel no longer has its status."""

ENDED = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
"""The si_code values with which waitid(2) reports deaths. It also reports stops of children that we trace."""

REAP_ROUND = 256
"""The most deaths to collect in one round. Orphans may die faster than the init collects them, and meanwhile deadlines
must not wait."""


@dataclass(frozen=True)
class Death:
    """How a child ended, and how much memory and CPU time it had used.

    Attributes:
        pid: The child's pid.
        status: The status of waitpid(2), or UNKNOWN.
        peak_memory: The most resident memory in bytes that the child had, or one of its own children if that had more.
        cpu_seconds: The CPU time of the child and of the children that it has waited for. It is the time of the child
            alone if a signal ended the child, reap() got it among `leaders`, and proc(5) has that time.
        cpu_limit: The soft and hard limit on CPU time, in seconds, that the child had when SIGKILL ended it; None if
            they are unknown. Each time that the kernel sends SIGXCPU, it raises the soft limit by a second.
    """

    pid: int
    status: int
    peak_memory: int
    cpu_seconds: float = 0.0
    cpu_limit: tuple[int, int] | None = None

    @property
    def signal(self) -> int:
        """Return the signal that ended the child; 0 if the child exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def description(self) -> str:
        """Return how the child ended in the usual words, such as `exit status 1` or `signal: killed`."""
        if self.signal:
            name = signal.strsignal(self.signal) or f"signal {self.signal}"
            return f"signal: {name.lower()}"
        if self.status == UNKNOWN:
            return "exit status unknown, because other code of this program has collected it"
        return f"exit status {os.WEXITSTATUS(self.status)}"


@dataclass(frozen=True)
class Reaped:
    """The result of one round of collecting.

    Attributes:
        deaths: The deaths of the children that were collected.
        left: Whether any child remains.
        more: Whether some of the remaining children may be dead already.
    """

    deaths: list[Death]
    left: bool
    more: bool = False


def reap(leaders: Collection[int] = (), limit: int = REAP_ROUND, farewell: Sequence[int] = (signal.SIGKILL,)) -> Reaped:
    """Collect all children that are dead now. One SIGCHLD may stand for many deaths.

    Args:
        leaders: Children whose process groups get the signals of `farewell` when they die. The group gets them before
            its leader is collected, because until then the group's number cannot belong to another group.
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
    """Kill the process group that a dead child leads, and collect the child. Return None if the child is alive.

    Args:
        pid: The child.
        pidfd: A pidfd of the child. It still refers to this child if other code has collected the child and the kernel
            has reused its pid. In that case, the death's status is unknown.
    """
    try:
        seen = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if seen is None or seen.si_code not in ENDED else _collect(seen, (signal.SIGKILL,))
    except ChildProcessError:
        return Death(pid, UNKNOWN, 0)


def _collect(seen: os.waitid_result, farewell: Sequence[int] | None) -> Death:
    """Collect a dead child. First send the signals of `farewell` to its process group, unless `farewell` is None."""
    own_seconds = cpu_limit = None
    if farewell is not None:
        for number in farewell:
            signal_group(seen.si_pid, number)
        if seen.si_code != os.CLD_EXITED:  # the init needs no CPU time of a process that exited
            own_seconds = procfs.cpu_seconds(seen.si_pid)
        if seen.si_status == signal.SIGKILL and seen.si_code == os.CLD_KILLED:
            cpu_limit = procfs.cpu_limit(seen.si_pid)
    pid, status, usage = os.wait4(seen.si_pid, 0)
    seconds = usage.ru_utime + usage.ru_stime if own_seconds is None else own_seconds
    return Death(pid, status, usage.ru_maxrss * 1024, seconds, cpu_limit)


def _let_run(pid: int, status: int) -> None:
    """Continue a stopped child that has made this process its tracer (PTRACE_TRACEME), and stop tracing the child.

    Args:
        pid: The child.
        status: The si_status of waitid(2): the signal at which the child has stopped.
    """
    number = status & 0x7F
    if not detach(pid, 0 if number == signal.SIGTRAP else number):
        signal_child(pid, signal.SIGKILL)  # else it would stay stopped, and waitid(2) would report it forever


def become_subreaper() -> bool:
    """Make this process the parent of its descendants that become orphans. Return False if that is impossible."""
    return os.getpid() == 1 or prctl(SET_CHILD_SUBREAPER, 1)


def is_own_child(pid: int) -> bool:
    """Return whether `pid` is an uncollected child of this process, dead or alive. The init signals no other pid."""
    return _is_any(os.P_PID, pid)


def has_child_in(group: int) -> bool:
    """Return whether an uncollected child is in this process group. If so, the group's number is still in use."""
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
    """Return this process's children, including the dead ones that are not collected.

    Args:
        alone: Whether the caller wants all children and their descendants. If so, PID 1 of a namespace without proc(5)
            gets -1, which stands for all processes. Any other process without proc(5) has to search.
    """
    listing = f"/proc/self/task/{os.getpid()}/children"
    if os.path.exists(listing):
        return procfs.listed(listing)
    return [-1] if alone and os.getpid() == 1 else _search()


def _search() -> Iterator[int]:
    """Try each pid, and yield the pids of children. Begin after this process's own pid, as the kernel counts upwards.

    This finds at least one child if there is one, but not always all children. A caller that kills and collects the
    found children, and calls again until none is left, finds all of them.
    """
    if not has_children():
        return  # checking every possible pid would take seconds
    own, end = os.getpid(), PID_LIMIT
    for pid in itertools.chain(range(own + 1, PID_LIMIT), range(2, own)):
        if pid >= end:
            return
        if not is_own_child(pid):
            continue
        end = min(end, pid + NEAR)
        yield pid
