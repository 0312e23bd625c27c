"""List the test process's own file descriptors, and find those that a test left open. It reads /proc, so Linux only."""

from __future__ import annotations

import os


def open_descriptors() -> dict[int, str]:
    """Return the open descriptors of this process. The value is the target, such as `pipe:[1234]` or a path."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor with which listdir() read the folder
    return found


def leaked(before: dict[int, str]) -> list[str]:
    """Return a line for each descriptor that is open now and, with the same target, was not open in `before`."""
    now = open_descriptors()
    return [f"{fd} -> {target}" for fd, target in sorted(now.items()) if before.get(fd) != target]
