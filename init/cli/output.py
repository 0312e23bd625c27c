"""Write results to a descriptor that is never made non-blocking, and never wait for it in vain.

It knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import click

from ..signals import Signals

PIPE_BUF = 4096
"""Bytes that a pipe takes at once when poll(2) says that it is writable."""


class OutputError(click.ClickException):
    """The descriptor takes no more, for another reason than that its reader is gone."""


class Output:
    """Write to `descriptor`, in order, what is added.

    Args:
        descriptor: Where results go, usually 1.
        signals: What may ask for an end.
        patience: Seconds that a reader has from then on. A second signal leaves it none.

    Raises:
        BrokenPipeError: Its reader is gone. Every method that writes raises it.
        OutputError: It takes no more. Every method that writes raises it.
    """

    def __init__(self, descriptor: int, signals: Signals, patience: float) -> None:
        self.descriptor = descriptor
        self._signals = signals
        self._patience = patience
        self._gives_up_at: float | None = None
        self._given_up = False
        self._waiting: deque[tuple[Iterator[bytes | memoryview], Callable[[], None]]] = deque()
        self._piece = memoryview(b"")  # what is left of the piece that is being written
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

    def add(self, pieces: Iterable[bytes | memoryview], written: Callable[[], None] | None = None) -> None:
        """Take pieces to be written when it is their turn.

        Args:
            pieces: Each is asked for when the one before it was written, so that they need not be in memory together.
            written: Called when all of them were written.
        """
        self._waiting.append((iter(pieces), written or _nothing))

    def write_some(self) -> bool:
        """Write what goes without waiting. Return whether anything went."""
        moved = False
        while self._waiting:
            if not self._piece and not self._next_piece():
                moved = True
                continue
            if not self._is_file and not self._poll.poll(0):
                break
            size = self._write_piece()
            if not size:
                break  # poll(2) has promised too much
            self._piece = self._piece[size:]
            moved = True
        return moved

    def _next_piece(self) -> bool:
        """Go on to the next piece that is not empty. False: those that were added together are at their end."""
        pieces, written = self._waiting[0]
        for piece in pieces:
            if piece:
                self._piece = memoryview(piece)
                return True
        self._waiting.popleft()
        written()
        return False

    def write(self, data: bytes) -> None:
        """Write all of it, after what waits, unless an end is asked for while the reader does not read."""
        self.add((data,))
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
            self._piece = memoryview(b"")
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

    def _write_piece(self) -> int:
        try:
            return os.write(self.descriptor, self._piece[: self._step])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EBADF and not _is_open(self.descriptor):
                return len(self._piece)  # closed from the start, in a place without /dev/null: the results go nowhere
            raise OutputError(f"The result cannot be written to stdout: {error.strerror}.") from None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _nothing() -> None:
    """Do nothing: nobody waits for it to be written."""
