"""Arm the alive pipe: when the init dies, the kernel kills the process that holds the pipe's read end.

Both the init and the runtime use this module. It must know neither of them.
"""

from __future__ import annotations

# From _signal and not from signal: the function's folder may have a signal.py, which would be imported instead.
from _signal import SIGKILL

# Import the names now: the function may later replace the modules' attributes, as gevent and eventlet do.
from fcntl import F_GETFL, F_SETFL, F_SETOWN, F_SETSIG, fcntl
from os import O_ASYNC, _exit, getpid
from select import poll

ALIVE_FD = 3
"""In a runtime: the read end of the alive pipe. When the init closes the write end, the kernel kills the process."""

EXIT_ALONE = 127
"""The exit code of a process whose init died before the process could arm its alive pipe."""


def arm(descriptor: int, alone: bool = False) -> None:
    """Make the kernel kill the process group of this process when the write end of the alive pipe closes.

    The process must lead its group. If the write end is closed already, the process exits.

    Args:
        descriptor: The read end.
        alone: Whether to kill this process only, because it does not lead a group yet.
    """
    fcntl(descriptor, F_SETOWN, getpid() if alone else -getpid())
    fcntl(descriptor, F_SETSIG, SIGKILL)
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_ASYNC)
    watch = poll()
    watch.register(descriptor, 0)
    if watch.poll(0):  # the write end closed before the pipe was armed
        _exit(EXIT_ALONE)
