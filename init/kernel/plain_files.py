"""Read files that a function's process may have made, or may be changing: only plain ones, and never with a wait.

It knows paths and sizes, not what a file is for.
"""

from __future__ import annotations

import os
import stat


def read_plain(path: str, limit: int) -> bytes | None:
    """Return the first bytes of a plain file; None if there is no such file, or it cannot be read.

    What `path` names may be replaced at any time. So the file is opened without waiting for the writer of a FIFO, and
    looked at only then.

    Args:
        path: The file.
        limit: Bytes to read, at most.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return os.read(descriptor, limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
