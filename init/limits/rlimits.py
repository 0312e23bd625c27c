"""What one worker may use, and how far setrlimit(2) can hold it to that. Knows no requests and no cgroups."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Collection
from dataclasses import dataclass

CPU_GRACE = 1
"""Seconds of CPU time between SIGXCPU, which a function may catch, and SIGKILL, which it cannot; whole ones only."""

MEMORY, PIDS, CPUS = "memory", "pids", "cpus"
"""What a cgroup can limit: fields of Limits."""

Setting = tuple[int, int, int]
"""(resource, soft, hard) of setrlimit(2)."""


class CannotLimit(Exception):
    """A limit cannot be had here; the text says why, and what to do."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use; None: as much as it likes.

    memory, file_bytes, output_bytes, log_bytes: bytes. pids: processes and threads at the same time. cpu_seconds: CPU
    time of each process in its whole life. cpus: CPUs' worth of time, 0.5 for half of one. open_files: descriptors of
    each process. output_bytes, log_bytes: of one request; the init itself counts those.
    """

    memory: int | None = None
    pids: int | None = None
    cpu_seconds: int | None = None
    cpus: float | None = None
    open_files: int | None = None
    file_bytes: int | None = None
    output_bytes: int | None = None
    log_bytes: int | None = None

    def for_cgroup(self) -> frozenset[str]:
        """Those given that a cgroup holds better, or that only a cgroup holds."""
        return frozenset(name for name in (MEMORY, PIDS, CPUS) if getattr(self, name) is not None)


NONE = Limits()


def rlimits(limits: Limits, held: Collection[str] = (), tasks: int = 0) -> list[Setting]:
    """What setrlimit(2) is to hold a worker to.

    held: what its cgroup sees to. tasks: that the worker's user has already, which RLIMIT_NPROC counts too.
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


def lowered(setting: Setting, hard: int) -> Setting:
    """The setting where somebody else has set the hard limit `hard` before: theirs stays if it is lower."""
    which, soft, wanted = setting
    if hard == resource.RLIM_INFINITY:
        return setting
    return which, min(soft, hard), min(wanted, hard)


def apply(pid: int, limits: Limits, held: Collection[str] = ()) -> None:
    """Hold our own child `pid` to `limits`, but for those that its cgroup sees to; its children inherit it.

    Call it before the child runs what it is to be limited for. OSError: the child is gone, or may not be limited.
    """
    tasks = tasks_of_user() if limits.pids is not None and PIDS not in held else 0
    for wanted in rlimits(limits, held, tasks):
        which, soft, hard = lowered(wanted, resource.prlimit(pid, wanted[0])[1])
        resource.prlimit(pid, which, (soft, hard))


def check(limits: Limits, held: Collection[str] = ()) -> None:
    """CannotLimit: a limit that the cgroup does not see to, if there is one, cannot be had another way."""
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
    """Whether RLIMIT_NPROC holds for this process: who is privileged is not asked. Found out by trying."""
    child = os.fork()
    if child == 0:
        _exit_by_trying()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _exit_by_trying() -> None:  # Not measured: a process of its own, which ends by a limit or at once.
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        if os.fork():
            os.wait()
    except BlockingIOError:
        os._exit(0)
    finally:
        os._exit(1)


def tasks_of_user() -> int:
    """Processes and threads of this process's user, as RLIMIT_NPROC counts them, as far as /proc shows them.

    OSError: there is no /proc.
    """
    own, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if _real_user(name) == own:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EACCES):
                    raise  # else it has ended meanwhile, or is not to be seen
    if not count:
        raise FileNotFoundError(errno.ENOENT, "no proc(5) is mounted there", "/proc")
    return count


def _real_user(pid: str) -> int:
    with open(f"/proc/{pid}/status", "rb") as status:
        _, _, rest = status.read().partition(b"\nUid:")
    return int(rest.split(None, 1)[0])


def physical_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
