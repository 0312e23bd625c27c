"""Arm the alive pipe, by which a process dies with its init.

Both the init and the runtime use this module. It must not know either.
"""

from __future__ import annotations

# From _signal: the function's folder may hold a signal.py, and the runtime may load this late.
from _signal import SIGKILL

# These names, and not the modules' attributes: the function may replace those (gevent and eventlet do).
from fcntl import F_GETFL, F_SETFL, F_SETOWN, F_SETSIG, fcntl
from os import O_ASYNC, _exit, getpid
from select import poll

ALIVE_FD = 3
"""In a runtime: the read end of a pipe whose write end only the init has. When that closes, the kernel kills."""

EXIT_ALONE = 127
"""The exit code of a process whose init was gone before this could be armed."""


def arm(descriptor: int, alone: bool = False) -> None:
    """Have the kernel kill this process's group, which it leads, when the write end closes, for whatever reason.

    If the write end is closed already, the process exits.

    Args:
        descriptor: The read end.
        alone: Kill this process only, which does not lead its group yet.
    """
    fcntl(descriptor, F_SETOWN, getpid() if alone else -getpid())
    fcntl(descriptor, F_SETSIG, SIGKILL)
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_ASYNC)
    watch = poll()
    watch.register(descriptor, 0)
    if watch.poll(0):  # it closed before it was armed
        _exit(EXIT_ALONE)
