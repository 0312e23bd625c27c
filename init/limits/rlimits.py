"""Define the limits of one worker. If no cgroup enforces a limit, use setrlimit(2). This file makes no cgroups."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Collection

from ..kernel.plain_classes import dataclass, replace

CPU_GRACE = 1
"""Seconds of CPU time between SIGXCPU, which a function can catch, and SIGKILL, which it cannot catch. RLIMIT_CPU is
counted in whole seconds."""

MEMORY, PIDS, CPUS = "memory", "pids", "cpus"
"""The fields of Limits that a cgroup can enforce."""

CPU_SECONDS, OPEN_FILES = "cpu_seconds", "open_files"
"""Two fields of Limits that only setrlimit(2) can enforce."""

Setting = tuple[int, int, int]
"""The resource, its soft limit and its hard limit, as for setrlimit(2)."""


class CannotLimit(Exception):
    """A limit cannot be enforced on this system. The message says why, and what to do."""


class CannotUseCgroup(CannotLimit):
    """The given folders cannot be used to make a cgroup."""


@dataclass(frozen=True)
class Limits:
    """The limits of a worker and its child processes. None means no limit.

    Attributes:
        memory: The most bytes of memory.
        pids: The most processes and threads at one time.
        cpu_seconds: The most CPU time of each process in its whole life, in seconds.
        cpus: The share of CPU time, in CPUs: 0.5 is half of one CPU.
        open_files: The most open descriptors of each process.
        file_bytes: The largest file that a process may write, in bytes.
        output_bytes: The largest result of a request, in bytes. The init enforces this limit.
        log_bytes: The most bytes that one request may log. The init enforces this limit.
        growth: The most bytes by which a worker's peak memory may grow after READY. If it grows more, the init replaces
            the worker.
    """

    memory: int | None = None
    pids: int | None = None
    cpu_seconds: int | None = None
    cpus: float | None = None
    open_files: int | None = None
    file_bytes: int | None = None
    output_bytes: int | None = None
    log_bytes: int | None = None
    growth: int | None = None

    def for_cgroup(self) -> frozenset[str]:
        """Return the names of the given limits that a cgroup enforces better, or that only a cgroup enforces."""
        return frozenset(name for name in (MEMORY, PIDS, CPUS) if getattr(self, name) is not None)

    def without(self, *names: str) -> Limits:
        """Return these limits with the named ones set to None."""
        return replace(self, **dict.fromkeys(names)) if names else self


NONE = Limits()


def rlimits(limits: Limits, held: Collection[str] = (), tasks: int = 0) -> list[Setting]:
    """Return the settings with which setrlimit(2) enforces a worker's limits.

    Args:
        limits: The worker's limits.
        held: The names of the limits that a cgroup enforces.
        tasks: The number of processes and threads that the worker's user has already. RLIMIT_NPROC counts them too.
    """
    wanted: list[Setting] = []
    if limits.memory is not None and MEMORY not in held:
        wanted.append((resource.RLIMIT_DATA, limits.memory, limits.memory))
    if limits.pids is not None and PIDS not in held:
        wanted.append((resource.RLIMIT_NPROC, limits.pids + tasks, limits.pids + tasks))
    if limits.cpu_seconds is not None:
        wanted.append((resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + CPU_GRACE))
    if limits.open_files is not None:
        wanted.append((resource.RLIMIT_NOFILE, limits.open_files, limits.open_files))
    if limits.file_bytes is not None:
        wanted.append((resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes))
    return wanted


def apply(pid: int, limits: Limits, held: Collection[str] = ()) -> None:
    """Set the rlimits of a child of this process. Call this before the child runs code that needs limits.

    Args:
        pid: The child. Its own children inherit the limits.
        limits: The limits to set.
        held: The names of the limits that a cgroup enforces. They are not set.

    Raises:
        OSError: The child has ended, or this process may not set its limits.
    """
    tasks = tasks_of_user() if limits.pids is not None and PIDS not in held else 0
    for which, soft, hard in rlimits(limits, held, tasks):
        most = resource.prlimit(pid, which)[1]
        if most != resource.RLIM_INFINITY:  # only root could raise the hard limit that the child has already
            soft, hard = min(soft, most), min(hard, most)
        resource.prlimit(pid, which, (soft, hard))


def check(limits: Limits, held: Collection[str] = ()) -> None:
    """Check that each limit can be enforced, by a cgroup or by setrlimit(2).

    Args:
        limits: The limits to check.
        held: The names of the limits that a cgroup enforces.

    Raises:
        CannotLimit: A limit cannot be enforced.
    """
    if limits.cpus is not None and CPUS not in held:
        raise CannotLimit("a share of the CPUs needs a cgroup with the controller cpu: give one with --cgroup")
    if limits.pids is not None and PIDS not in held:
        if not counts_processes():
            raise CannotLimit(
                "for this user the kernel counts no processes (setrlimit(2) says who: root): give a cgroup with the "
                "controller pids with --cgroup, or run as another user"
            )
        try:
            tasks_of_user()
        except OSError:
            raise CannotLimit("processes can only be counted with /proc: give a cgroup with --cgroup") from None


def counts_processes() -> bool:
    """Return whether the kernel enforces RLIMIT_NPROC for this process. To find out, let a child try to fork.

    The kernel exempts root's user ID and privileged processes. A process cannot find out reliably in another way
    whether it is exempt.
    """
    child = os.fork()
    if child == 0:
        _exit_by_trying()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _exit_by_trying() -> None:  # Not measured: it runs in a child, which ends at once.
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        if os.fork():
            os.wait()
    except BlockingIOError:
        os._exit(0)
    finally:
        os._exit(1)


def tasks_of_user() -> int:
    """Return how many processes and threads of this process's user /proc shows. RLIMIT_NPROC counts the same ones.

    Raises:
        OSError: /proc is not mounted.
    """
    own, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if _real_user(name) == own:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # the process has ended or is hidden
    if not count:
        raise FileNotFoundError(errno.ENOENT, "no proc(5) is mounted there", "/proc")
    return count


def _real_user(pid: str) -> int:
    with open(f"/proc/{pid}/status", "rb") as status:
        _, _, rest = status.read().partition(b"\nUid:")
    return int(rest.split(None, 1)[0])
