"""Results on their way to stdout, which others share: it is never made non-blocking, and never waited for in vain.

It knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Callable

import click

from ..journal import write_all

PIPE_BUF = 4096
"""Bytes that a pipe takes at once when poll(2) says that it is writable."""


class Output:
    """Writes to `descriptor`. BrokenPipeError: nobody reads. click.ClickException: it takes no more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._waiting: deque[tuple[memoryview, Callable[[], None]]] = deque()
        try:
            self._step = 2**30 if stat.S_ISREG(os.fstat(descriptor).st_mode) else PIPE_BUF
        except OSError:
            self._step = PIPE_BUF
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    @property
    def pending(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._waiting)

    def add(self, data: bytes, written: Callable[[], None]) -> None:
        """Write it when it is its turn; `written` is called then."""
        self._waiting.append((memoryview(data), written))

    def write_some(self) -> None:
        """Write what goes without waiting."""
        while self._waiting and self._poll.poll(0):
            data, written = self._waiting.popleft()
            data = data[self._write_piece(data) :]
            if data:
                self._waiting.appendleft((data, written))
            else:
                written()

    def _write_piece(self, data: memoryview) -> int:
        return self._guarded(lambda: os.write(self.descriptor, data[: self._step])) if data else 0

    def drop(self) -> None:
        """Forget what waits: nobody is to wait for it any more."""
        self._waiting.clear()

    def write(self, data: bytes) -> None:
        """Write it all, now."""
        self._guarded(lambda: self._write_all(data))

    def _write_all(self, data: bytes) -> int:
        write_all(self.descriptor, data)
        return len(data)

    def _guarded(self, write: Callable[[], int]) -> int:
        try:
            return write()
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EBADF:
                return 2**30  # closed from the start, in a place without /dev/null: nobody wants to know
            raise click.ClickException(f"The result cannot be written to stdout: {error.strerror}.") from None
