"""Write to a descriptor that other processes share, without waiting for its reader for ever.

The open file is never made non-blocking, because that would change it for the other processes too. This module knows
bytes, not what they mean.
"""

from __future__ import annotations

import os
import select
import stat
import time

from .signals import Wakeup

PIPE_BUF = 4096
"""Bytes that a pipe takes at once when poll(2) says that it is writable (pipe(7))."""


class Outlet:
    """A descriptor to write to.

    Attributes:
        descriptor: The descriptor to poll. For a terminal it is one of our own, not the one that was given.
    """

    def __init__(self, descriptor: int) -> None:
        self._own = _open_terminal_again(descriptor)
        self.descriptor = descriptor if self._own is None else self._own
        self._is_file = _is_file(descriptor)
        self._step = 2**30 if self._is_file else PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write as much as the descriptor takes without waiting, and return how many bytes that was.

        A line of up to PIPE_BUF bytes is written whole, so that other processes cannot write into the middle of it.

        Raises:
            OSError: The descriptor takes no more, as os.write says.
        """
        written = 0
        with memoryview(data) as view:
            while written < len(view) and (self._is_file or self._poll.poll(0)):
                try:
                    with view[written : self._piece_ends(view, written)] as piece:
                        written += os.write(self.descriptor, piece)
                except BlockingIOError:
                    break  # another process has made it non-blocking, or poll(2) was too optimistic
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
        """Close the descriptor that was opened here, if any; the given one stays open."""
        if self._own is not None:
            os.close(self._own)
            self._own = None


class Patience:
    """How long to wait for readers: without limit, until a signal asks pipe-init to end; then for `seconds` more.

    A second signal ends the wait at once.

    Args:
        signals: The signals that may ask for an end; None if none can.
        seconds: The time that readers have, from the first wait after the signal.
    """

    def __init__(self, signals: Wakeup | None, seconds: float) -> None:
        self._signals = signals
        self._seconds = seconds
        self._ends_at: float | None = None

    def wait(self, descriptor: int) -> bool:
        """Wait until `descriptor` is writable or a signal comes. Return False if the time is over.

        A wait consumes the wake-ups of signals. Call `over` after the last wait, to restore them.
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
        """Wake up whoever else waits for the signals that came during the waits."""
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
    """Open a terminal once more, for non-blocking writes of our own. Return None if that is impossible.

    poll(2) calls a terminal writable when it takes one byte; a blocking write of more would wait for its reader.
    """
    try:
        if os.isatty(descriptor):
            return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        pass  # without /dev/pts, or in another's mount namespace
    return None
