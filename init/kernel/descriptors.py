"""Close all descriptors except some. This module does not know what those are for."""

from __future__ import annotations

import os
from collections.abc import Collection


def keep_only(kept: Collection[int]) -> None:
    """Close all descriptors except these.

    Where there is proc(5), that includes descriptors above a limit that was lowered after they were opened.
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        start = 0
        for descriptor in sorted(kept):
            if start < descriptor:  # where Python uses close_range(2), an empty range means all descriptors
                os.closerange(start, descriptor)
            start = descriptor + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in map(int, names):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)  # ignores that the one for the listing is closed already
