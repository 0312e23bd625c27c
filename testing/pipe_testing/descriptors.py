"""The test process's own file descriptors, to see which ones a test left open. Linux: read from /proc."""

from __future__ import annotations

import os


def open_descriptors() -> dict[int, str]:
    """Return every open descriptor of this process with what it leads to, such as `pipe:[1234]` or a path."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor with which listdir() read the folder
    return found


def leaked(before: dict[int, str]) -> list[str]:
    """Return a line about each descriptor that is open now and was not, number and target alike, `before`."""
    now = open_descriptors()
    return [f"{fd} -> {target}" for fd, target in sorted(now.items()) if before.get(fd) != target]
