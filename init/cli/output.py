"""Results on their way to stdout, which others share: it is never made non-blocking, and never waited for in vain.

It knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable

import click

from ..journal import write_all
from ..signals import Signals

PIPE_BUF = 4096
"""Bytes that a pipe takes at once when poll(2) says that it is writable."""


class Output:
    """Writes to `descriptor`. BrokenPipeError: nobody reads. click.ClickException: it takes no more.

    signals: what may ask for an end. patience: seconds that a reader has from then on; a second signal leaves it none.
    """

    def __init__(self, descriptor: int, signals: Signals, patience: float) -> None:
        self.descriptor = descriptor
        self._signals = signals
        self._patience = patience
        self._gives_up_at: float | None = None
        self._given_up = False
        self._waiting: deque[tuple[memoryview, Callable[[], None]]] = deque()
        try:
            self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            self._is_file = False
        self._step = 2**30 if self._is_file else PIPE_BUF
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._both = select.poll()
        self._both.register(descriptor, select.POLLOUT)
        self._both.register(signals.descriptor, select.POLLIN)

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

    def write(self, data: bytes) -> None:
        """Write it all, behind what waits, unless an end is asked for while nobody reads."""
        if self._is_file and not self._waiting:
            self._guarded(lambda: self._write_all(data))
            return
        self._waiting.append((memoryview(data), _nothing))
        self.finish()

    def finish(self) -> None:
        """Write what waits. From when the patience is at its end, nothing is written any more, not even later."""
        waited = False
        while self._waiting and not self._given_up:
            self.write_some()
            if self._waiting:
                waited = True
                self._wait()
        if self._given_up:
            self._waiting.clear()
        if waited:
            self._signals.wake()  # whatever came is for others to see to

    def _wait(self) -> None:
        """Until it takes more, or patience ends."""
        endings, now = len(self._signals.endings), time.monotonic()
        if endings and self._gives_up_at is None:
            self._gives_up_at = now + self._patience
        if endings > 1 or (self._gives_up_at is not None and now >= self._gives_up_at):
            self._given_up = True
            return
        ready = self._both.poll(None if self._gives_up_at is None else (self._gives_up_at - now) * 1000 + 1)
        if any(descriptor == self._signals.descriptor for descriptor, _ in ready):
            self._signals.drain()

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


def _nothing() -> None:
    """Nobody waits for it to be written."""
