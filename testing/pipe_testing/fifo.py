"""Tell a test, through a named pipe, how far a function's processes have come and when they have all ended.

A process opens the pipe for writing and writes a text when it reaches the point that the test waits for. The kernel
closes the pipe when the last process that holds it ends. This module does not know what the processes run.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from pipe_testing.patience import HANGS


class Fifo:
    """A named pipe that processes hold open for writing until they end.

    Attributes:
        path: The path of the pipe.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def wait_for(self, text: bytes) -> None:
        """Wait until a process has written exactly this text.

        Raises:
            TimeoutError: No process writes it in time.
            AssertionError: A process wrote another text, or the last process that held the pipe closed it.
        """
        seen = b""
        while len(seen) < len(text) and (piece := self._read()):
            seen += piece
        assert seen == text

    def wait_until_closed(self) -> None:
        """Wait until no process holds the pipe open. A process must have written something before."""
        while self._read():
            continue

    def expect_all_gone(self) -> None:
        """Check that processes have held the pipe open and written "here", and that all of them have ended by now."""
        data = b""
        while piece := os.read(self._reader, 4096):  # BlockingIOError: a process still holds the pipe open
            data += piece
        assert data == b"here\n"

    def _read(self) -> bytes:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(HANGS * 1000):
            raise TimeoutError(f"nothing happened to {self.path}")
        return os.read(self._reader, 4096)

    def close(self) -> None:
        """Close the reading end."""
        os.close(self._reader)
