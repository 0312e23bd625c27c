"""Closing descriptors. It knows nothing of what the ones that stay are for."""

from __future__ import annotations

import os
from collections.abc import Collection


def keep_only(kept: Collection[int]) -> None:
    """Close all but these; with proc(5) also those above a limit that was lowered after they were opened."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        start = 0
        for descriptor in sorted(kept):
            if start < descriptor:  # an empty range is all descriptors, where Python uses close_range(2)
                os.closerange(start, descriptor)
            start = descriptor + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in map(int, names):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)  # ignores that the one for the listing is closed already
