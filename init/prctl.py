"""prctl(2), which the standard library lacks. Loads ctypes, which takes a few milliseconds: only for who needs it.

This file knows the call, not what it is for.
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
