"""The test process's children: which there are, waiting for them, and ending those that a test left behind.

Knows nothing of pytest, nor of what runs in the processes. The test process is a subreaper, so an orphan,
however deep, becomes its own child. The pid of an own child is not given to another process before we have
waited for it: that is why only own children are signalled here, never a pid found any other way.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Collection

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def become_subreaper() -> None:
    """Let orphaned descendants fall to this process. Raises OSError where the kernel will not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(error)}")


def children() -> set[int]:
    """Return the pids of this process's children, zombies included."""
    if not _any_child():
        return set()
    own = str(os.getpid())
    return {int(name) for name in os.listdir("/proc") if name.isdecimal() and _stat(int(name))[1] == own}


def describe(pid: int) -> str:
    """Return one line about a process: pid, state as in proc(5), command line (of a zombie: its name)."""
    state, _, name = _stat(pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:  # it went away, or is another user's behind hidepid: the name must do
        command = ""
    return f"pid {pid}, {'zombie' if state == 'Z' else f'state {state}'}: {command or f'[{name}]'}"


def wait_for_children(keep: Collection[int] = (), limit: float = 10.0) -> dict[int, int]:
    """Wait until every child outside `keep` has ended, descendants that fall to us in the meantime included.

    For tests that kill an init and expect its workers to die by themselves. Returns {pid: exit code, or minus
    the signal's number}; raises TimeoutError, naming it, when one still runs after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    ended = {}
    while waiting := children() - set(keep):
        for pid in sorted(waiting):
            ended[pid] = _wait(pid, deadline)
    return ended


def end_children(keep: Collection[int] = (), limit: float = 10.0) -> list[str]:
    """Kill and reap every child outside `keep`, and what falls to us thereby; return a line about each.

    Raises TimeoutError when one does not end within `limit` seconds of its SIGKILL.
    """
    deadline = time.monotonic() + limit
    ended = []
    while left := children() - set(keep):
        for pid in sorted(left):  # all before the first wait: one may be held by another that traces it
            ended.append(describe(pid))
            os.kill(pid, signal.SIGKILL)
        for pid in sorted(left):
            _wait(pid, deadline)
    return ended


def _any_child() -> bool:
    """Ask the kernel, without reaping: this runs after every test, and reading all of /proc is dear."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _wait(pid: int, deadline: float) -> int:
    """Reap one own child; return its exit code, or minus the signal's number."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(pidfd)
    # The pidfd is readable as soon as the child is dead, but a dead child that is traced belongs to its tracer yet.
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there: {describe(pid)}")
        select.select([], [], [], 0.001)
    return os.waitstatus_to_exitcode(ended[1])


def _stat(pid: int) -> tuple[str, str, str]:
    """Return state, parent's pid and name from /proc/PID/stat; of a process that is gone, question marks."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return "?", "?", "?"
    # The name stands in parentheses and may hold parentheses and blanks of its own: cut at the last one.
    head, _, rest = text.rpartition(")")
    state, parent = rest.split()[:2]
    return state, parent, head.partition("(")[2]
