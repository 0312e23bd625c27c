"""The processes below one process: which there are, what each is to pipe-init, and how it is struck.

All of it from proc(5), at one moment: a process may be gone by the next. Knows nothing of events and outcomes.
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
"""What a process is. FORKING: the template's child, which forks workers, and a worker that it has forked and that is
not one yet. NEIGHBOUR: what a function has left, or a process of a moment that is none of the others.
"""

CHILD_NAME = "chaos-child"
"""What the function's children call themselves."""

CONTROL_FD = 7
"""Of a template: the socket over which it is asked for workers."""

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2); from <linux/prctl.h>."""

TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One process. born: ticks since the machine's start, which with the pid names it for good. state: of proc(5)."""

    pid: int
    parent: int
    state: str
    name: str
    session: int
    born: int
    kind: str = ""

    @property
    def age(self) -> float:
        """Seconds since it was forked, to a hundredth."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.born / TICKS


def look(pid: int) -> Process | None:
    """The process with this pid; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), fields[0], head.partition("(")[2], int(fields[3]), int(fields[19]))


def children(pid: int) -> list[int]:
    """The pids of its children, whichever of its threads has forked them; none if it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        pass  # it ended meanwhile: what was found is what there was
    return found


def below(init: int) -> Iterator[Process]:
    """All that descend from the init and are not dead, with their kinds."""
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
    """Whether the process has a socket there."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


def strike(victim: Process, number: int) -> bool:
    """Send the signal to this very process. False: it is gone."""
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
    """What it has in memory, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    """How many files it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def describe(pid: int, depth: int = 0) -> Iterator[str]:
    """A line for the process and for each below it: what it is, what it waits for, and the signals that wait for it."""
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


# This process as a subreaper: what somebody leaves behind falls to it


def become_subreaper() -> None:
    """OSError: the kernel will not."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def own() -> list[int]:
    """The pids of this process's children, the dead that nobody has collected too."""
    return children(os.getpid())


def collect() -> None:
    """The dead among them."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none is left


def describe_all(pids: Iterable[int]) -> str:
    """Lines about these and all below them."""
    return "\n".join(line for pid in pids for line in describe(pid))
