"""Write to a descriptor that other processes share, without blocking while nobody reads.

This module never makes the open file non-blocking, because that would change it for the other processes too. It knows
bytes, not what they mean.
"""

from __future__ import annotations

import os
import select
import stat
import time

from .signals import Wakeup

PIPE_BUF = 4096
"""The bytes that a pipe surely accepts in one write if poll(2) says that it is writable (pipe(7))."""


class Outlet:
    """A descriptor to write to.

    Attributes:
        descriptor: The descriptor to poll. For a terminal, it is a descriptor that this class has opened itself.
    """

    def __init__(self, descriptor: int) -> None:
        self._own = _open_terminal_again(descriptor)
        self.descriptor = descriptor if self._own is None else self._own
        self._is_file = _is_file(descriptor)
        self._step = 2**30 if self._is_file else PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write as much as the descriptor accepts without waiting. Return the number of bytes that were written.

        Write a line of up to PIPE_BUF bytes in one piece, so that other processes cannot write into the middle of it.

        Raises:
            OSError: The write has failed, and no bytes were written before.
        """
        written = 0
        with memoryview(data) as view:
            while written < len(view) and (self._is_file or self._poll.poll(0)):
                try:
                    with view[written : self._piece_ends(view, written)] as piece:
                        written += os.write(self.descriptor, piece)
                except BlockingIOError:
                    break  # another process has made the file non-blocking, or poll(2) was too optimistic
                except OSError:
                    if written:
                        break  # the next call raises it
                    raise
        return written

    def _piece_ends(self, view: memoryview, start: int) -> int:
        end = start + self._step
        if end >= len(view):
            return len(view)
        lines = bytes(view[start:end]).rfind(b"\n") + 1
        return start + lines if lines else end

    def close(self) -> None:
        """Close the descriptor that this class has opened, if any. Leave the given descriptor open."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


class Patience:
    """Limit how long pipe-init waits for readers: forever until a signal asks it to end, then for `seconds` more.

    A second signal ends the wait at once.

    Args:
        signals: The signals of this process; None if no signal can ask it to end.
        seconds: The seconds that readers have after the signal. They count from the first wait after it.
    """

    def __init__(self, signals: Wakeup | None, seconds: float) -> None:
        self._signals = signals
        self._seconds = seconds
        self._ends_at: float | None = None

    def wait(self, descriptor: int) -> bool:
        """Wait until `descriptor` is writable or a signal comes. Return False if the time is over.

        The wait may drain the wake-ups of `signals`. So call `over` after the last wait.
        """
        waiting, signals, timeout = select.poll(), self._signals, None
        waiting.register(descriptor, select.POLLOUT)
        if signals is not None:
            endings, now = len(signals.endings), time.monotonic()
            if endings and self._ends_at is None:
                self._ends_at = now + self._seconds
            if endings > 1 or (self._ends_at is not None and now >= self._ends_at):
                return False
            waiting.register(signals.descriptor, select.POLLIN)
            timeout = None if self._ends_at is None else (self._ends_at - now) * 1000 + 1
        ready = waiting.poll(timeout)
        if signals is not None and any(each == signals.descriptor for each, _ in ready):
            signals.drain()
        return True

    def over(self) -> None:
        """Restore the wake-up of signals that came during the waits, for other code that waits for them."""
        if self._signals is not None:
            self._signals.wake()


def same_file(one: int, other: int) -> bool:
    """Return whether two descriptors refer to the same pipe, terminal or other file."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False  # one of them is closed


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _open_terminal_again(descriptor: int) -> int | None:
    """Open a terminal once more, for non-blocking writes. Return None if it is no terminal, or cannot be opened.

    poll(2) reports a terminal as writable when it accepts one byte. A blocking write of more bytes could block.
    """
    try:
        if os.isatty(descriptor):
            return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        pass  # /dev/pts is not mounted, or the terminal belongs to another mount namespace
    return None
