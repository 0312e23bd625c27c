"""Make the system calls prctl(2) and ptrace(2), which the standard library lacks.

The first call loads ctypes, which takes a few milliseconds. This module does not know what the calls are for.
"""

from __future__ import annotations

SET_PDEATHSIG = 1
SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""

PTRACE_DETACH = 17
"""From <linux/ptrace.h>."""


def prctl(option: int, value: int) -> bool:
    """Set an attribute of this process. Return False if the kernel or libc refuses."""
    return _call("prctl", option, value, 0, 0, 0)


def detach(pid: int, number: int) -> bool:
    """Stop tracing a child, and continue it. Return False if that is impossible.

    Args:
        pid: The child. This process traces it, and it is stopped.
        number: The signal that the child gets; 0 for none.
    """
    return _call("ptrace", PTRACE_DETACH, pid, 0, number)


def _call(name: str, *arguments: int) -> bool:
    try:
        import ctypes

        function = ctypes.CDLL(None)[name]
    except (ImportError, OSError, AttributeError):
        return False
    function.restype = ctypes.c_long
    return bool(function(*map(ctypes.c_long, arguments)) == 0)
