"""The memory limit of one worker, and how much memory the machine has. Knows no requests and no policy."""

from __future__ import annotations

import os
import resource


def limit_memory(pid: int, limit: int) -> None:
    """Let our own child `pid` have at most `limit` bytes of data (setrlimit(2), RLIMIT_DATA); its children inherit it.

    Call it before the child runs what it is to be limited for. An allocation beyond fails in the child: Python
    raises MemoryError, other code may crash. Somebody else's lower hard limit stays. OSError: the child is gone, or
    may not be limited.
    """
    _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.prlimit(pid, resource.RLIMIT_DATA, (allowed, allowed))


def physical_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
