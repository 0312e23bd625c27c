"""Set limits of this process, find the limit that caused an exception, and keep memory for the time when it runs out.

The runtime loads this module before the function, because no module can be loaded after descriptors or memory have run
out. It must not know frames or handlers.
"""

from __future__ import annotations

# Import the names themselves, because the function may replace the modules' attributes.
from os import O_CLOEXEC, O_RDONLY, close, read
from os import open as open_file
from resource import (
    RLIM_INFINITY,
    RLIMIT_CPU,
    RLIMIT_DATA,
    RLIMIT_FSIZE,
    RLIMIT_NOFILE,
    RLIMIT_STACK,
    getrlimit,
    setrlimit,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

CPU_GRACE = 1
"""Seconds of CPU time between SIGXCPU, which a function can catch, and SIGKILL, which it cannot catch."""

_EAGAIN, _ENOMEM, _EMFILE, _EFBIG = 11, 12, 24, 27
"""Error numbers of errno(3). Python supports no Linux on which they differ. A module `errno` may be the function's."""

_FORKS = frozenset(("fork", "forkpty", "fork_exec", "_fork_exec", "posix_spawn", "posix_spawnp"))
"""The names of the functions that start a process, in `os` and in the modules that `subprocess` uses."""

_NO_THREAD = "can't start new thread"
"""Python's message if pthread_create(3) fails: the limit on processes is reached, or a stack finds no memory."""

_THREAD_STACK = 8 * 1024 * 1024
"""The most bytes that glibc reserves for a thread's stack if RLIMIT_STACK is unlimited."""


RESERVE_BYTES = 2 * 1024 * 1024
"""The size of the reserve in bytes. When it is taken for the first time, it uses address space only."""

RESERVE_PIECES = (64 * 1024, 8 * 1024, 1024)
"""The sizes of the reserve's pieces, in bytes. They are small, so that small free blocks of memory can be used."""

reserve: list[bytes] = []
"""Memory that the function cannot get. If memory runs out, the runtime frees the reserve, to report the error and to
read the next request. Before it calls the function again, it takes the reserve again. So even a function that keeps all
memory that it can get never gets this part. The list is empty before the first request, and while the reserve is freed.
"""

free_reserve = reserve.clear
"""Free the reserve. Calling this needs no memory at all, not even for a bound method or a traceback entry."""


def take_reserve(room: int = 0) -> None:
    """Fill the reserve again, as far as there is memory for it.

    Args:
        room: How many bytes to leave free if there is too little memory for the whole reserve.
    """
    missing = RESERVE_BYTES - sum(map(len, reserve))
    for size in RESERVE_PIECES:
        try:
            while missing >= size:
                reserve.append(bytes(size))
                missing -= size
        except MemoryError:
            continue
    if missing >= RESERVE_PIECES[-1]:
        del reserve[: room // RESERVE_PIECES[0]]


def status_figure(name: bytes) -> int:
    """Return a field of /proc/self/status, in KiB (see proc(5)); 0 if it cannot be read."""
    try:
        status = open_file("/proc/self/status", O_RDONLY | O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = read(status, 8192)
    except OSError:
        return 0
    finally:
        close(status)
    _, found, rest = text.partition(name)
    return int(rest.split(None, 1)[0]) if found else 0


def limit_of(error: BaseException, code: CodeType | None) -> dict[str, object] | None:
    """Return the limit that caused an exception, as ERROR's `limit`; None if no limit did, or if it is unclear which.

    If the process has no descriptor left, this opens no file.

    Args:
        error: The exception.
        code: The code of the innermost call.
    """
    if isinstance(error, MemoryError):
        return _limit("memory", RLIMIT_DATA)
    if isinstance(error, OSError):
        number = error.errno
        if number == _EMFILE:
            limit = _limit("open_files", RLIMIT_NOFILE)
            return limit and {**limit, "peak": limit["value"]}
        if number == _EFBIG:
            return _limit("file_size", RLIMIT_FSIZE)
        if number == _ENOMEM:
            return _limit("memory", RLIMIT_DATA)
        forks = code is not None and not _FORKS.isdisjoint(code.co_names)
        return {"name": "pids"} if number == _EAGAIN and forks else None
    return _no_thread() if isinstance(error, RuntimeError) and error.args == (_NO_THREAD,) else None


def limit_itself(cpu_seconds: int | None, open_files: int | None) -> None:
    """Set limits of this process, but do not raise a hard limit. None leaves a limit unchanged."""
    for which, value, beyond in ((RLIMIT_CPU, cpu_seconds, CPU_GRACE), (RLIMIT_NOFILE, open_files, 0)):
        if value is not None:
            hard = getrlimit(which)[1]
            allowed = value + beyond if hard == RLIM_INFINITY else min(value + beyond, hard)
            setrlimit(which, (min(value, allowed), allowed))


def _no_thread() -> dict[str, object] | None:
    """Return the limit that made pthread_create(3) fail: the limit on processes, or on memory, which a stack needs."""
    memory = _limit("memory", RLIMIT_DATA)
    if memory is None:
        return {"name": "pids"}
    data, stack = status_figure(b"VmData:"), getrlimit(RLIMIT_STACK)[0]  # RLIMIT_DATA limits VmData
    if not data:
        return None
    needed = _THREAD_STACK if stack == RLIM_INFINITY else stack
    return memory if data * 1024 + needed > getrlimit(RLIMIT_DATA)[0] else {"name": "pids"}


def _limit(name: str, resource: int) -> dict[str, object] | None:
    value = getrlimit(resource)[0]
    return None if value == RLIM_INFINITY else {"name": name, "value": value}
