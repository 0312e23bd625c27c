"""Write results to a descriptor that is never made non-blocking, and never wait for it in vain.

It knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..outlet import Outlet, Patience
from ..signals import Signals

if TYPE_CHECKING:
    from ..journal import Journal


class OutputError(click.ClickException):
    """The descriptor takes no more, for another reason than that its reader is gone."""


class Output:
    """Write to `descriptor`, in order, what is added.

    Args:
        descriptor: Where results go, usually 1.
        signals: What may ask for an end.
        patience: Seconds that a reader has from then on. A second signal leaves it none.

    Attributes:
        given_up: An end was asked for, and its reader did not read: from then on nothing is written.

    Raises:
        BrokenPipeError: Its reader is gone. Every method that writes raises it.
        OutputError: It takes no more. Every method that writes raises it.
    """

    def __init__(self, descriptor: int, signals: Signals, patience: float) -> None:
        self._outlet = Outlet(descriptor)
        self._patience = Patience(signals, patience)
        self.given_up = False
        self._waiting: deque[tuple[Iterator[bytes | memoryview], Callable[[], None]]] = deque()
        self._piece = memoryview(b"")  # what is left of the piece that is being written
        self._begun = False
        self._log: Journal | None = None

    def share(self, log: Journal) -> None:
        """Take turns with the log, which is written to the same file: neither interrupts a line of the other."""
        self._log = log
        log.held_back = lambda: self._begun and self.pending

    @property
    def descriptor(self) -> int:
        """What is to be polled for POLLOUT while something is pending."""
        return self._outlet.descriptor

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
        if self._log is not None and self._waiting and not self._begun:
            self._log.end_line()
            self._log.flush()
        while self._waiting and not (self._log is not None and self._log.cut):
            if not self._piece and not self._next_piece():
                moved = True
                continue
            size = self._write_piece()
            if not size:
                break
            self._piece, self._begun = self._piece[size:], True
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
        self._begun = False
        written()
        return False

    def write(self, data: bytes) -> None:
        """Write all of it, after what waits, unless an end is asked for while the reader does not read."""
        self.add((data,))
        self.finish()

    def finish(self) -> None:
        """Write what waits. From when the patience is at its end, nothing is written any more, not even later."""
        waited = False
        while self._waiting and not self.given_up:
            self.write_some()
            if self._waiting:
                waited = True
                self.given_up = not self._patience.wait(self.descriptor)
        if self.given_up:
            self._waiting.clear()
            self._piece = memoryview(b"")
        if waited:
            self._patience.over()

    def _write_piece(self) -> int:
        try:
            return self._outlet.write(self._piece)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EBADF and _was_closed(self.descriptor):
                return len(self._piece)  # the results go nowhere, as with /dev/null
            raise OutputError(f"The result cannot be written to stdout: {error.strerror}.") from None


def _was_closed(descriptor: int) -> bool:
    """Return whether stdout was closed from the start, in a place without /dev/null.

    Then it is still closed, or entry.py has put a pipe there that can only be read.
    """
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return True
    return is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _nothing() -> None:
    """Do nothing: nobody waits for it to be written."""
