"""Tell which limit an exception stands for, and set the limits that a forked worker does not inherit.

It is loaded before the function: once descriptors or memory have run out, no module can be loaded. This module must not
know frames or handlers.
"""

from __future__ import annotations

# These names, and not the attributes of the module: the function may replace those.
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

from .usage import status_figure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

CPU_GRACE = 1
"""Seconds of CPU time between the signal that can be caught and the one that cannot."""

_EAGAIN, _ENOMEM, _EMFILE, _EFBIG = 11, 12, 24, 27
"""Linux's numbers on every machine that Python runs on. An `errno` in sys.modules may be the function's own."""

_FORKS = frozenset(("fork", "forkpty", "fork_exec", "_fork_exec", "posix_spawn", "posix_spawnp"))
"""Calls that need a process: those of os, and those that subprocess uses."""

_NO_THREAD = "can't start new thread"
"""What Python says if pthread_create(3) fails, whether for want of a process or of memory for a stack."""

_THREAD_STACK = 8 * 1024 * 1024
"""Bytes that glibc reserves for a thread at most, if RLIMIT_STACK is unlimited."""


def limit_of(error: BaseException, code: CodeType | None) -> dict[str, object] | None:
    """Return the limit that an exception stands for, as ERROR's `limit`; None if there is none, or if it is unclear.

    It opens no file if descriptors have run out.

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
    """Set limits of this process, unless lower ones are set already. None leaves a limit as it is."""
    for which, value, beyond in ((RLIMIT_CPU, cpu_seconds, CPU_GRACE), (RLIMIT_NOFILE, open_files, 0)):
        if value is not None:
            hard = getrlimit(which)[1]
            allowed = value + beyond if hard == RLIM_INFINITY else min(value + beyond, hard)
            setrlimit(which, (min(value, allowed), allowed))


def _no_thread() -> dict[str, object] | None:
    """Return why pthread_create(3) has failed. EAGAIN stands for a refused process and for no room for a stack."""
    memory = _limit("memory", RLIMIT_DATA)
    if memory is None:
        return {"name": "pids"}
    data, stack = status_figure(b"VmData:"), getrlimit(RLIMIT_STACK)[0]  # what RLIMIT_DATA counts
    if not data:
        return None
    needed = _THREAD_STACK if stack == RLIM_INFINITY else stack
    return memory if data * 1024 + needed > getrlimit(RLIMIT_DATA)[0] else {"name": "pids"}


def _limit(name: str, resource: int) -> dict[str, object] | None:
    value = getrlimit(resource)[0]
    return None if value == RLIM_INFINITY else {"name": name, "value": value}
