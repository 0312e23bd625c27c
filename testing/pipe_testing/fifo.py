"""A named pipe that a function's processes hold open: how a test learns where they are, and that they are gone.

A function writes to it when it is where the test wants it; the kernel closes it with the last process that holds it.
Knows nothing of what runs there.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

LIMIT = 30.0
"""Seconds until something counts as not happening."""


class Fifo:
    """A named pipe that processes hold open for writing for as long as they live. path: where it is."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def wait_for(self, text: bytes) -> None:
        """Wait until a process has written just this text.

        Raises:
            TimeoutError: No process writes it.
            AssertionError: Another text was written, or the last process that held the pipe has closed it.
        """
        seen = b""
        while len(seen) < len(text) and (piece := self._read()):
            seen += piece
        assert seen == text

    def wait_until_closed(self) -> None:
        """Wait until nobody holds it open any more; whoever did must have written something before."""
        while self._read():
            continue

    def expect_all_gone(self) -> None:
        """Somebody has held it open, has written "here", and by now nobody holds it any more."""
        data = b""
        while piece := os.read(self._reader, 4096):  # BlockingIOError: somebody is still there
            data += piece
        assert data == b"here\n"

    def _read(self) -> bytes:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(LIMIT * 1000):
            raise TimeoutError(f"nothing happened to {self.path}")
        return os.read(self._reader, 4096)

    def close(self) -> None:
        """Let go of the reading end."""
        os.close(self._reader)
