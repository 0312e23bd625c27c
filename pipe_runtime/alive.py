"""The pipe by which a process dies with its init. Both sides use this, and it knows nothing of either."""

from __future__ import annotations

import fcntl
import os
import select

# From _signal: the function's folder may hold a signal.py, and the runtime may load this late.
from _signal import SIGKILL

ALIVE_FD = 3
"""In a runtime: the read end of a pipe that only the init could write to. When it closes, the kernel kills."""

EXIT_ALONE = 127
"""The exit code of a process whose init was gone before this could be armed."""


def arm(descriptor: int, alone: bool = False) -> None:
    """Have the kernel kill this process's group, which it leads, when the write end closes, for whatever reason.

    descriptor: the read end. If the write end is closed already, this does not return. alone: kill this process only,
    which does not lead its group yet.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid() if alone else -os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(descriptor, 0)
    if watch.poll(0):  # it closed before it was armed
        os._exit(EXIT_ALONE)
