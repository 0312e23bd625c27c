"""Write results to stdout in order, without blocking while nobody reads stdout.

This file knows descriptors and bytes, not what a result is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ...kernel.outlet import Outlet, Patience
from ...kernel.signals import Signals
from ...log.journal import Journal
from ..options.usage_errors import CommandError


class OutputError(CommandError):
    """A write has failed, for example because the disk is full. A reader that is gone is a BrokenPipeError instead."""


class Output:
    """Write pieces to a descriptor in the order in which they were added.

    Every method that writes raises BrokenPipeError if the reader is gone, and OutputError if a write fails for another
    reason.

    Args:
        descriptor: The descriptor to write to, usually 1.
        signals: The signals of this process, which may ask pipe-init to end.
        patience: How many seconds the reader has to read after such a signal. A second signal ends the wait at once.

    Attributes:
        descriptor: The descriptor to poll for POLLOUT while something is pending.
        given_up: Whether the reader did not read in time after a signal. If so, nothing is written any more.
    """

    def __init__(self, descriptor: int, signals: Signals, patience: float) -> None:
        self._outlet = Outlet(descriptor)
        self.descriptor = self._outlet.descriptor
        self._patience = Patience(signals, patience)
        self.given_up = False
        self._waiting: deque[tuple[Iterator[bytes | memoryview], Callable[[], None]]] = deque()
        self._piece = memoryview(b"")  # the unwritten rest of the current piece
        self._begun = False  # whether some pieces of the current `add` are written, and others are not yet
        self._in_line = False  # whether the last byte that was written is not a line break
        self._log: Journal | None = None

    def share(self, log: Journal) -> None:
        """Take turns with `log`, which writes to the same file, so that neither breaks into a line of the other."""
        self._log = log
        log.held_back = lambda: self._begun and self.pending

    def leave_line(self) -> bool:
        """Return whether the output ended without a line break. If so, the caller must write one to the terminal."""
        in_line, self._in_line = self._in_line, False
        return in_line

    @property
    def shared(self) -> bool:
        """Return whether the log is written to the same file."""
        return self._log is not None

    @property
    def pending(self) -> bool:
        """Return whether something waits to be written."""
        return bool(self._waiting)

    def add(self, pieces: Iterable[bytes | memoryview], written: Callable[[], None] = lambda: None) -> None:
        """Append pieces to those that wait to be written.

        Args:
            pieces: The pieces. The iterator is asked for a piece only after the piece before it is written. So they
                need not be in memory at the same time.
            written: A function that is called when all of these pieces are written.
        """
        self._waiting.append((iter(pieces), written))

    def write_some(self) -> bool:
        """Write as much as possible without waiting. Return whether anything was done."""
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
        """Go to the next piece that is not empty. Return False after the last of the pieces from one call of `add`."""
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
        """Write everything that waits. If the reader does not read in time after a signal, drop the rest for good."""
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
            if error.errno == errno.EBADF and stat.S_ISFIFO(os.fstat(self.descriptor).st_mode):
                # Stdout was closed, and without /dev/null entry.py has put the reading end of a pipe there.
                return len(self._piece)
            raise OutputError(f"The result cannot be written to stdout: {error.strerror}.") from None
