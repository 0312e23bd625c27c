"""Who is dead, how they died, and who must go with them. For a process whose children are all its own.

This file knows pids and statuses, not workers or requests.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2); from <linux/prctl.h>."""


class Death(NamedTuple):
    """One reaped child. status: as of waitpid(2). peak_memory: bytes resident at most, of it or a child of its."""

    pid: int
    status: int
    peak_memory: int

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
    if os.getpid() == 1:
        return True
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


class Reaped(NamedTuple):
    """deaths: who was collected. left: whether any child remains."""

    deaths: list[Death]
    left: bool


def reap(leader: int = 0) -> Reaped:
    """Collect every child that is dead by now. SIGCHLDs coalesce, so it asks until there is none.

    leader: a child whose process group goes with it. It is killed before the child is collected: until then the
    group's number can belong to nobody else.
    """
    deaths: list[Death] = []
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None:
                return Reaped(deaths, True)
            if seen.si_pid == leader:
                signal_group(leader, signal.SIGKILL)
            pid, status, usage = os.wait4(seen.si_pid, 0)
        except ChildProcessError:
            return Reaped(deaths, False)
        deaths.append(Death(pid, status, usage.ru_maxrss * 1024))


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the session that the child `pid` leads, if it is still there."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        return  # all that is left of the group belongs to another user; nothing more can be done from here


def sweep() -> None:
    """Kill what a dead worker left behind: orphans that fell to this process. Call it while no worker runs."""
    for pid in _children():
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # dead by now, or another user's, of whom nobody promised anything


def _children() -> list[int]:
    """This process's children. Without proc(5) they can be named only by PID 1 of a namespace: all, -1."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as listing:
            return [int(pid) for pid in listing.read().split()]
    except OSError:
        return [-1] if os.getpid() == 1 else []
