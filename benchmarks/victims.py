"""Find the processes below pipe-init, find out the kind of each, such as worker or template, and send them signals.

The facts come from proc(5), so a process may end right after it was found. This module knows nothing of events and
outcomes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

WORKER, TEMPLATE, FORKING, NEIGHBOUR = "worker", "template", "forking", "neighbour"
"""The kinds of processes. FORKING is the template's child that forks workers, or a worker that is just being forked.
NEIGHBOUR is a process that a function has started, or any process of another kind.
"""

CHILD_NAME = "chaos-child"
"""The name that the function's children give themselves."""

CONTROL_FD = 7
"""The descriptor of the socket over which a template is asked for workers."""

PR_SET_CHILD_SUBREAPER = 36
"""The option of prctl(2), from <linux/prctl.h>."""

TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One process.

    Attributes:
        state: The letter of the process's state in proc(5).
        born: The start of the process in ticks since boot. No other process ever has the same pid and start.
        kind: WORKER, TEMPLATE, FORKING or NEIGHBOUR.
    """

    pid: int
    parent: int
    state: str
    name: str
    session: int
    born: int
    kind: str = ""

    @property
    def age(self) -> float:
        """Return the seconds since the process was forked, to a hundredth of a second."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.born / TICKS


def look(pid: int) -> Process | None:
    """Return the process with this pid, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), fields[0], head.partition("(")[2], int(fields[3]), int(fields[19]))


def children(pid: int) -> list[int]:
    """Return the pids of the children of all threads of a process; an empty list if the process is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        pass  # the process has ended meanwhile; return the children found so far
    return found


def below(init: int) -> Iterator[Process]:
    """Yield all living descendants of the init with their kinds."""
    for pid in children(init):
        process = look(pid)
        if process is None:
            continue
        kind = WORKER
        if process.name == CHILD_NAME:
            kind = NEIGHBOUR
        elif is_socket(pid, CONTROL_FD):
            kind = TEMPLATE if process.session == pid else FORKING
        yield from _with_descendants(process._replace(kind=kind))


def _with_descendants(process: Process) -> Iterator[Process]:
    if process.state not in "ZX":
        yield process
    for pid in children(process.pid):
        child = look(pid)
        if child is not None:
            kind = FORKING if process.kind in (TEMPLATE, FORKING) and child.name != CHILD_NAME else NEIGHBOUR
            yield from _with_descendants(child._replace(kind=kind))


def is_socket(pid: int, descriptor: int) -> bool:
    """Return whether this descriptor of the process is a socket."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


def strike(victim: Process, number: int) -> bool:
    """Send the signal to exactly this process. Return False if it is gone."""
    try:
        pidfd = os.pidfd_open(victim.pid)
    except OSError:
        return False
    try:
        now = look(victim.pid)
        if now is None or now.born != victim.born or now.state in "ZX":
            return False
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    """Return the number of open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def describe(pid: int, depth: int = 0) -> Iterator[str]:
    """Yield a line about a process and each of its descendants: state, age, place in the kernel, and signals."""
    process = look(pid)
    if process is None:
        return
    facts = {}
    for line in _read(f"/proc/{pid}/status").splitlines():
        name, _, value = line.partition(":")
        facts[name] = value.strip()
    pending = facts.get("SigPnd", "?"), facts.get("ShdPnd", "?"), facts.get("SigBlk", "?")
    yield (
        f"{'  ' * depth}{pid} {process.name}, state {process.state}, {process.age:.2f} s old, "
        f"in {_read(f'/proc/{pid}/wchan')}, call {_read(f'/proc/{pid}/syscall').split(' ')[0]}, signals {pending}"
    )
    for child in children(pid):
        yield from describe(child, depth + 1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        return error.strerror or "?"


# This process is a subreaper: its orphaned descendants become its children


def become_subreaper() -> None:
    """Make this process the new parent of orphaned descendants. Raise OSError if the kernel refuses."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def own() -> list[int]:
    """Return the pids of this process's children, zombies included."""
    return children(os.getpid())


def collect() -> None:
    """Reap the children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # no child is left


def describe_all(pids: Iterable[int]) -> str:
    """Return lines about these processes and all their descendants."""
    return "\n".join(line for pid in pids for line in describe(pid))
