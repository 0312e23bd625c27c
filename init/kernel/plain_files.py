"""Read a file that a function's process may have made or may change meanwhile. Read only plain files, and never wait.

This module knows paths and sizes, not what a file is for.
"""

from __future__ import annotations

import os
import stat


def read_plain(path: str, limit: int) -> bytes | None:
    """Return the first bytes of a plain file; None if there is no such file, or it cannot be read.

    Another process can replace the file at any time. So this opens the file first, without waiting for the writer of a
    FIFO, and then checks what it has opened.

    Args:
        path: The file's path.
        limit: The most bytes to read.
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
