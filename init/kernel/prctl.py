"""prctl(2) and ptrace(2), which the standard library lacks. They load ctypes, which takes a few milliseconds.

This file knows the calls, not what they are for.
"""

from __future__ import annotations

SET_PDEATHSIG = 1
SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""


def prctl(option: int, value: int) -> bool:
    """Set an attribute of this process. False where the kernel, or libc, will not."""
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


PTRACE_DETACH = 17
"""From <linux/ptrace.h>."""


def detach(pid: int, number: int) -> bool:
    """Let a child that is traced by this process, and has stopped, go on untraced. False: it cannot be done.

    Args:
        number: the signal that it gets, 0 for none.
    """
    try:
        import ctypes

        ptrace = ctypes.CDLL(None).ptrace
        ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        ptrace.restype = ctypes.c_long
        return bool(ptrace(PTRACE_DETACH, pid, None, number) == 0)
    except (ImportError, OSError, AttributeError):
        return False
