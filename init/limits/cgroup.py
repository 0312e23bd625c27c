"""One worker's cgroup: its limits, what it tells, its end. Of version 2, or of version 1 in several hierarchies.

It knows files and processes, not workers or requests. What the files mean: cgroups(7), and the kernel's own documents.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .rlimits import CPUS, MEMORY, PIDS, Limits

PROCS = "cgroup.procs"

FILES = {
    MEMORY: ("memory.max", "memory.limit_in_bytes"),
    PIDS: ("pids.max",),
    CPUS: ("cpu.max", "cpu.cfs_quota_us"),
}
"""The file that takes each limit, in version 2 and 1: where it is, the controller is on."""

CPU_PERIOD = 100_000
"""Microseconds over which a share of the CPUs is counted: the kernel's default."""

LEAST_QUOTA = 1000
"""Microseconds of them at least: the kernel takes no less."""


class Evidence(NamedTuple):
    """What a group tells of its processes. None: its controller is not on, or the kernel does not say.

    memory_peak: bytes. pids_peak: processes and threads. oom_kills: processes killed for memory, pids_refused: refused
    forks, both since `Group.mark`. holds_memory: it sees to the memory limit.
    """

    memory_peak: int | None = None
    pids_peak: int | None = None
    oom_kills: int = 0
    pids_refused: int = 0
    holds_memory: bool = False

    def peaks(self) -> Evidence:
        """Without the events: where they may be another request's."""
        return self._replace(oom_kills=0, pids_refused=0)


class Group:
    """One worker's cgroup: a folder in each of the delegated ones.

    held: the limits that it sees to. join_descriptors: whoever writes b"0" to each of them joins it.
    OSError: it cannot be made, or does not take its limits.
    """

    def __init__(self, folders: Sequence[str], limits: Limits) -> None:
        self.folders = list(folders)
        self.held = frozenset(name for name in FILES if getattr(limits, name) is not None and self.has(name))
        self.join_descriptors: tuple[int, ...] = ()
        self._before = Evidence()
        try:
            self._limit(limits)
            for folder in folders:
                self.join_descriptors += (os.open(os.path.join(folder, PROCS), os.O_WRONLY | os.O_CLOEXEC),)
        except OSError:
            self.close()
            raise
        self.mark()

    def _limit(self, limits: Limits) -> None:
        if MEMORY in self.held:
            self._write(limits.memory, *FILES[MEMORY])
            # Swap is no way out: version 2 counts it apart, version 1 together with the memory.
            self._write(0, "memory.swap.max")
            self._write(limits.memory, "memory.memsw.limit_in_bytes")
            self._write(1, "memory.oom.group")
        if PIDS in self.held:
            self._write(limits.pids, *FILES[PIDS])
        if CPUS in self.held:
            assert limits.cpus is not None
            quota = max(LEAST_QUOTA, int(limits.cpus * CPU_PERIOD))
            self._write(f"{quota} {CPU_PERIOD}", "cpu.max")
            self._write(CPU_PERIOD, "cpu.cfs_period_us")
            self._write(quota, "cpu.cfs_quota_us")

    def mark(self) -> None:
        """Count what happens from now on."""
        self._before = self._read()

    def evidence(self) -> Evidence:
        """What has happened since `mark`, and the peaks so far."""
        now, before = self._read(), self._before
        return now._replace(
            oom_kills=now.oom_kills - before.oom_kills, pids_refused=now.pids_refused - before.pids_refused
        )

    def _read(self) -> Evidence:
        return Evidence(
            number(self._text("memory.peak", "memory.max_usage_in_bytes")),
            number(self._text("pids.peak")),
            field(self._text("memory.events", "memory.oom_control"), "oom_kill"),
            field(self._text("pids.events"), "max"),
            MEMORY in self.held,
        )

    def members(self) -> set[int]:
        """The pids of its processes, as this process knows them; those of other PID namespaces are not seen."""
        found: set[int] = set()
        for folder in self.folders:
            try:
                with open(os.path.join(folder, PROCS), "rb") as file:
                    found.update(int(pid) for pid in file.read().split())
            except OSError:
                continue  # it is removed
        return found - {0}

    def kill(self) -> None:
        """SIGKILL to every process in it, those that are forked meanwhile too. They end soon, not at once."""
        if self._try(b"1", "cgroup.kill"):
            return
        # Who cannot run cannot fork. Version 1 does not end what it has frozen: so it must not be able to fork.
        frozen = self._try(b"1", "cgroup.freeze")
        self._try(b"0", *FILES[PIDS])
        killed: set[int] = set()
        while members := self.members() - killed:
            handles = dict(_handles(members))
            try:
                for pid in self.members() & handles.keys():  # a pid may have become somebody else's meanwhile
                    _end(handles[pid])
            finally:
                for handle in handles.values():
                    os.close(handle)
            killed |= members
        if frozen:
            self._try(b"0", "cgroup.freeze")

    def close(self) -> bool:
        """End what is in it, and remove it. False: something in it has not ended yet; call it again."""
        for descriptor in self.join_descriptors:
            os.close(descriptor)
        self.join_descriptors = ()
        self.kill()
        self.folders = [folder for folder in self.folders if not removed(folder)]
        return not self.folders

    def has(self, name: str) -> bool:
        """Whether it can hold this limit: the controller is on."""
        return self._file(*FILES[name]) is not None

    def _file(self, *names: str) -> str | None:
        """The path of the first of these files that is in any of the folders."""
        paths = (os.path.join(folder, name) for name in names for folder in self.folders)
        return next((path for path in paths if os.path.exists(path)), None)

    def _write(self, value: object, *names: str) -> None:
        path = self._file(*names)
        if path is not None:
            put(path, str(value).encode())

    def _try(self, data: bytes, *names: str) -> bool:
        """Write to the first of these files. False: there is none, as with an older kernel, or it does not take it."""
        path = self._file(*names)
        if path is None:
            return False
        try:
            put(path, data)
        except OSError:
            return False
        return True

    def _text(self, *names: str) -> str:
        path = self._file(*names)
        try:
            with open(path or os.devnull) as file:
                return file.read()
        except OSError:
            return ""  # the group is gone, or the kernel does not tell


def number(text: str) -> int | None:
    """The number that a file of a group holds; None for "max", and where there is none."""
    return int(text) if text.strip().isdecimal() else None


def field(text: str, name: str) -> int:
    """The number behind `name` in a file of lines of two words; 0 where there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def put(path: str, data: bytes) -> None:
    """Write to a file of the kernel's, in one go. OSError, with the path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def words(path: str) -> set[str]:
    """The words in a file of the kernel's. OSError: it cannot be read."""
    with open(path) as file:
        return set(file.read().split())


def removed(folder: str) -> bool:
    """Remove a group's folder. False: there is still something in it."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _handles(pids: Iterable[int]) -> Iterable[tuple[int, int]]:
    """A pidfd for each of the pids that is still there."""
    for pid in pids:
        try:
            yield pid, os.pidfd_open(pid)
        except OSError:
            continue


def _end(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # it has ended, or is not ours to end
