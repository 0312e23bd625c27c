"""Handle one worker's cgroup: set its limits, read what the kernel has counted, and kill everything in it.

A cgroup is a folder of version 2, or one folder in each of several hierarchies of version 1. cgroups(7) and the
kernel's own documents say what the files mean. This file knows files and processes, not workers or requests.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence

from ..kernel.plain_classes import dataclass, replace
from .rlimits import CPUS, MEMORY, PIDS, Limits

PROCS = "cgroup.procs"

FILES = {
    MEMORY: ("memory.max", "memory.limit_in_bytes"),
    PIDS: ("pids.max",),
    CPUS: ("cpu.max", "cpu.cfs_quota_us"),
}
"""{limit: the names of the file that sets it, in version 2 and in version 1}. If the file exists, the controller for
the limit is on."""

CPU_PERIOD = 100_000
"""The period in microseconds over which the kernel measures a share of the CPUs. This is the kernel's default."""

LEAST_QUOTA = 1000
"""The smallest share in microseconds per period that the kernel accepts."""


@dataclass(frozen=True)
class Evidence:
    """The kernel's counts for a cgroup. None means that the kernel has no such count, or that the controller is off.

    Attributes:
        memory_peak: The most memory in bytes that the cgroup has used.
        pids_peak: The most processes and threads that the cgroup has had at one time.
        oom_kills: The processes that the kernel has killed since `Group.mark`, because memory was short.
        pids_refused: The forks that the kernel has refused since `Group.mark`.
        holds_memory: Whether the cgroup enforces the memory limit.
    """

    memory_peak: int | None = None
    pids_peak: int | None = None
    oom_kills: int = 0
    pids_refused: int = 0
    holds_memory: bool = False


class Group:
    """One worker's cgroup.

    The worker joins its cgroup between fork and exec: it writes b"0" to descriptors that the init has opened. So none
    of its children is ever outside, and the kernel charges all of its memory to the cgroup.

    Args:
        folders: The cgroup's folder in each delegated folder.
        limits: The limits to set.

    Attributes:
        folders: The folders that are not removed yet.
        join_descriptors: The descriptors to which a process writes b"0" to join the cgroup.

    Raises:
        OSError: The kernel does not accept the cgroup's limits.
    """

    def __init__(self, folders: Sequence[str], limits: Limits) -> None:
        self.folders = list(folders)
        self._holds_memory = limits.memory is not None and self.has(MEMORY)
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
        if self._holds_memory:
            self._write(limits.memory, *FILES[MEMORY])
            # Swap is limited too: version 2 counts it separately, version 1 together with memory.
            self._write(0, "memory.swap.max")
            self._write(limits.memory, "memory.memsw.limit_in_bytes")
            self._write(1, "memory.oom.group")
        if limits.pids is not None:
            self._write(limits.pids, *FILES[PIDS])
        if limits.cpus is not None:
            quota = max(LEAST_QUOTA, int(limits.cpus * CPU_PERIOD))
            self._write(f"{quota} {CPU_PERIOD}", "cpu.max")
            self._write(CPU_PERIOD, "cpu.cfs_period_us")
            self._write(quota, "cpu.cfs_quota_us")

    def mark(self) -> None:
        """Restart the counts of events: `evidence` returns only those that come after this call."""
        self._before = self._read()

    def evidence(self) -> Evidence:
        """Return the counts of events since `mark`, and the peaks since the cgroup was made."""
        now, before = self._read(), self._before
        return replace(
            now, oom_kills=now.oom_kills - before.oom_kills, pids_refused=now.pids_refused - before.pids_refused
        )

    def _read(self) -> Evidence:
        return Evidence(
            number(self._text("memory.peak", "memory.max_usage_in_bytes")),
            number(self._text("pids.peak")),
            field(self._text("memory.events", "memory.oom_control"), "oom_kill"),
            field(self._text("pids.events"), "max"),
            self._holds_memory,
        )

    def members(self) -> set[int]:
        """Return the pids of the cgroup's processes in this process's PID namespace."""
        found: set[int] = set()
        for folder in self.folders:
            try:
                found.update(int(pid) for pid in words(os.path.join(folder, PROCS)))
            except OSError:
                continue  # the folder is removed already
        return found - {0}

    def kill(self) -> None:
        """Send SIGKILL to every process in the cgroup, including newly forked ones. Do not wait for their end."""
        if self._try(1, "cgroup.kill"):
            return
        # Prevent forks: in version 2, frozen processes cannot fork. Version 1 does not kill frozen processes, so there
        # a limit on processes prevents forks.
        frozen = self._try(1, "cgroup.freeze")
        self._try(0, *FILES[PIDS])
        killed: set[int] = set()
        while members := self.members() - killed:
            handles = dict(_handles(members))
            try:
                # A pid that is still a member now has not been reused before its pidfd was opened.
                for pid in self.members() & handles.keys():
                    _end(handles[pid])
            finally:
                for handle in handles.values():
                    os.close(handle)
            killed |= members
        if frozen:
            self._try(0, "cgroup.freeze")

    def close(self) -> bool:
        """Kill every process in the cgroup, and remove it. Return False if some still live; then call it again."""
        for descriptor in self.join_descriptors:
            os.close(descriptor)
        self.join_descriptors = ()
        self.kill()
        self.folders = [folder for folder in self.folders if not removed(folder)]
        return not self.folders

    def has(self, name: str) -> bool:
        """Return whether the cgroup can enforce this limit, because the controller is on."""
        return self._file(*FILES[name]) is not None

    def _file(self, *names: str) -> str | None:
        """Return the path of the first of these files that exists in any of the folders."""
        paths = (os.path.join(folder, name) for name in names for folder in self.folders)
        return next((path for path in paths if os.path.exists(path)), None)

    def _write(self, value: object, *names: str) -> bool:
        """Write to the first of these files that exists. Return False if none exists."""
        path = self._file(*names)
        if path is not None:
            put(path, str(value).encode())
        return path is not None

    def _try(self, value: int, *names: str) -> bool:
        """Write to the first of these files that exists. Return False if none exists, or if the write fails."""
        try:
            return self._write(value, *names)
        except OSError:
            return False

    def _text(self, *names: str) -> str:
        path = self._file(*names)
        try:
            with open(path or os.devnull) as file:
                return file.read()
        except OSError:
            return ""  # the cgroup is gone, or the file cannot be read


def number(text: str) -> int | None:
    """Return the number that a cgroup's file contains; None if it contains "max" or no number."""
    return int(text) if text.strip().isdecimal() else None


def field(text: str, name: str) -> int:
    """Return the number in the line `name NUMBER` of a cgroup's file; 0 if there is no such line."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def put(path: str, data: bytes) -> None:
    """Write data to a cgroup's file with one system call.

    Raises:
        OSError: The kernel does not accept the data. The error contains the path.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def words(path: str) -> set[str]:
    """Return the words in a cgroup's file.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path) as file:
        return set(file.read().split())


def removed(folder: str) -> bool:
    """Remove a cgroup's folder. Return False if the kernel refuses, because the cgroup still has processes."""
    try:
        os.rmdir(folder)
    except OSError:
        return not os.path.exists(folder)
    return True


def _handles(pids: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Yield a pair (pid, pidfd) for each pid that still exists."""
    for pid in pids:
        try:
            yield pid, os.pidfd_open(pid)
        except OSError:
            continue


def _end(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # the process has ended, or the init may not signal it
