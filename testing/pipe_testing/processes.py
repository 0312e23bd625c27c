"""List the test process's children, wait for them, and end those that a test left behind.

This module knows nothing of pytest, nor of what runs in the processes. The test process is a subreaper, so each orphan
among its descendants becomes its child. Only own children are signalled here. The kernel cannot reuse their pids until
this process has waited for them. Any other pid might belong to a new process by the time of the signal.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Collection

from pipe_testing.patience import HANGS

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def become_subreaper() -> None:
    """Make this process the new parent of orphaned descendants. Raise OSError if the kernel refuses."""
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
    """Return one line about a process: pid, state as in proc(5), and command line, or the name of a zombie."""
    state, _, name = _stat(pid)
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:  # the process has ended, or hidepid hides its command line: the name must do
        command = ""
    return f"pid {pid}, {'zombie' if state == 'Z' else f'state {state}'}: {command or f'[{name}]'}"


def wait_for_children(keep: Collection[int] = (), limit: float = HANGS) -> dict[int, int]:
    """Wait until every child outside `keep` has ended, and also the orphans that become children meanwhile.

    It is for tests that kill an init and expect its workers to end by themselves.

    Returns:
        The exit code of each child by pid. If a signal ended the child: minus the signal's number.

    Raises:
        TimeoutError: A child still runs after `limit` seconds. The error names it.
    """
    deadline = time.monotonic() + limit
    ended = {}
    while waiting := children() - set(keep):
        for pid in sorted(waiting):
            ended[pid] = _wait(pid, deadline)
    return ended


def end_children(keep: Collection[int] = (), limit: float = HANGS) -> list[str]:
    """Kill and reap every child outside `keep`, and the orphans that become children thereby.

    Returns:
        A line about each process that was killed.

    Raises:
        TimeoutError: A child has not ended `limit` seconds after its SIGKILL.
    """
    deadline = time.monotonic() + limit
    ended = []
    while left := children() - set(keep):
        for pid in sorted(left):  # kill all before the first wait: a child may be held by another that traces it
            ended.append(describe(pid))
            os.kill(pid, signal.SIGKILL)
        for pid in sorted(left):
            _wait(pid, deadline)
    return ended


def _any_child() -> bool:
    """Tell whether there is any child. This runs after every test, and asking the kernel is cheaper than /proc."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _wait(pid: int, deadline: float) -> int:
    """Reap one own child. Return its exit code, or minus the number of the signal that ended it."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(pidfd)
    # The pidfd is readable as soon as the child is dead. A child that is traced still belongs to its tracer then.
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there: {describe(pid)}")
        select.select([], [], [], 0.001)
    return os.waitstatus_to_exitcode(ended[1])


def _stat(pid: int) -> tuple[str, str, str]:
    """Return state, parent's pid and name from /proc/PID/stat. If the process is gone, return question marks."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return "?", "?", "?"
    # The name stands in parentheses, and may itself hold parentheses and blanks: cut at the last parenthesis.
    head, _, rest = text.rpartition(")")
    state, parent = rest.split()[:2]
    return state, parent, head.partition("(")[2]
