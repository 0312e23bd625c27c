"""Write results to stdout in order, without blocking while its reader does not read.

This file knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import click

from ...kernel.outlet import Outlet, Patience
from ...kernel.signals import Signals
from ...log.journal import Journal


class OutputError(click.ClickException):
    """The descriptor takes no more, for a reason other than that its reader is gone, such as a full disk."""


class Output:
    """Write pieces to a descriptor in the order in which they were added.

    Args:
        descriptor: Where results go, usually 1.
        signals: The signals that may ask pipe-init to end.
        patience: Seconds that the reader has after such a signal. A second signal ends the wait at once.

    Attributes:
        given_up: Whether a signal came and the reader did not read in time. Nothing is written any more.

    Raises:
        BrokenPipeError: The reader is gone. Every method that writes raises it.
        OutputError: The descriptor takes no more. Every method that writes raises it.
    """

    def __init__(self, descriptor: int, signals: Signals, patience: float) -> None:
        self._outlet = Outlet(descriptor)
        self._patience = Patience(signals, patience)
        self.given_up = False
        self._waiting: deque[tuple[Iterator[bytes | memoryview], Callable[[], None]]] = deque()
        self._piece = memoryview(b"")  # what is left of the piece that is being written
        self._begun = False
        self._in_line = False  # whether the last byte that was written is no line break
        self._log: Journal | None = None

    def share(self, log: Journal) -> None:
        """Take turns with the log, which is written to the same file, so that neither breaks a line of the other."""
        self._log = log
        log.held_back = lambda: self._begun and self.pending

    def leave_line(self) -> bool:
        """Return whether the last result ended without a line break; the caller writes one to the same terminal."""
        in_line, self._in_line = self._in_line, False
        return in_line

    @property
    def descriptor(self) -> int:
        """Return the descriptor to poll for POLLOUT while something is pending."""
        return self._outlet.descriptor

    @property
    def pending(self) -> bool:
        """Return whether something waits to be written."""
        return bool(self._waiting)

    def add(self, pieces: Iterable[bytes | memoryview], written: Callable[[], None] = lambda: None) -> None:
        """Append pieces to those that wait to be written.

        Args:
            pieces: The pieces. The next one is requested only after the one before it was written, so that they need
                not be in memory together.
            written: Called when all of them were written.
        """
        self._waiting.append((iter(pieces), written))

    def write_some(self) -> bool:
        """Write as much as goes without waiting. Return whether anything was done."""
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
            self._in_line = self._piece[size - 1] != ord("\n")
            self._piece, self._begun = self._piece[size:], True
            moved = True
        return moved

    def _next_piece(self) -> bool:
        """Go on to the next piece that is not empty. Return False at the end of pieces that were added together."""
        pieces, written = self._waiting[0]
        for piece in pieces:
            if piece:
                self._piece = memoryview(piece)
                return True
        self._waiting.popleft()
        self._begun = False
        written()
        return False

    def finish(self) -> None:
        """Write everything that waits. Once the patience is over, nothing is written any more, not even later."""
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
