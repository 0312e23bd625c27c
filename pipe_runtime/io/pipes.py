"""Take fds 0 and 1 for the protocol, and give the function harmless ones in their place.

Replacing sys.stdout would not be enough: C extensions, os.write(1, …) and subprocesses write to the descriptor. This
module moves bytes. It must not know frames or handlers. It must work without /dev/null, /proc and /tmp.
"""

from __future__ import annotations

import os
from _thread import RLock

# These names, and not the modules' attributes: the function may replace those (gevent and eventlet do).
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import close, dup2, get_blocking, pipe, read, sched_yield, set_inheritable, write
from select import POLLIN, POLLOUT, poll
from time import perf_counter  # now: a function may replace the module's

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_SIZE = 64 * 1024
"""The size of one read in bytes: what a pipe holds by default (pipe(7))."""

PIPE_BUF = 4096
"""Bytes that a pipe on Linux takes whole or not at all. A pipe that polls writable takes them without blocking."""

READER_MS = 100
"""Milliseconds after which a thread that cannot write checks whether it must read, while the main thread reads."""

FAST_SECONDS = 0.001
"""After a request that comes this soon after the last answer, spin for the next one."""


class Pipes:
    """The two private descriptors that carry the protocol.

    The main thread reads. Any thread may write, one at a time. While a write has to wait, the writer reads and keeps
    what arrives, so that the init never waits for the runtime; `read` returns it later.

    Args:
        nonblocking: Whether a write to `answers` returns when there is no room. The init makes its pipes so. Otherwise
            the descriptor is polled before each PIPE_BUF bytes.

    Attributes:
        requests: The descriptor to read from. Only the runtime knows it, and exec closes it.
        answers: The descriptor to write to. The same holds for it.
        limit: How many bytes may be kept while a write has to wait.
        on_kept: Called by a thread that writes, before and after it keeps something, because an event loop waits for
            the descriptor only. It is called before, too, because in the main thread a signal handler may raise after.
    """

    def __init__(self, requests: int, answers: int, limit: int, nonblocking: bool = False) -> None:
        self.requests = requests
        self.answers = answers
        self.limit = limit
        self._nonblocking = nonblocking
        self.on_kept: Callable[[], object] | None = None
        self._kept: list[bytes] = []
        # Held by the thread that reads. It is reentrant: a signal handler may raise after the acquire, and the main
        # thread must not lock itself out.
        self._reading = RLock()
        self._idle = False
        self._spin = 0.0
        self._fast = False
        self._waiting = poll()
        self._waiting.register(requests, POLLIN)
        self._both = poll()
        self._both.register(answers, POLLOUT)
        self._both.register(requests, POLLIN)
        self._out = poll()
        self._out.register(answers, POLLOUT)

    def spin(self, microseconds: int) -> None:
        """Set how long to look for a request before sleeping, while requests come fast; 0 for never."""
        self._spin = microseconds / 1e6

    def read(self) -> bytes:
        """Return the next bytes, b"" at the end of the stream. No signal handler may raise here."""
        with self._reading:
            self._idle = True
            try:
                while not self._kept:
                    self._wait()
                    try:
                        return read(self.requests, READ_SIZE)
                    except BlockingIOError:
                        continue  # the function made the descriptor non-blocking; the poll above waits
                return self._kept.pop(0)
            finally:
                self._idle = False

    def wait(self) -> None:
        """Wait until `read` would return at once. A signal handler may raise here."""
        with self._reading:
            self._idle = True
            try:
                if not self._kept:
                    self._waiting.poll()
            finally:
                self._idle = False

    def ready(self) -> bool:
        """Return whether `read` would return at once."""
        return bool(self._kept or self._waiting.poll(0))

    @property
    def kept(self) -> bool:
        """Return whether there are bytes that came while a write had to wait."""
        return bool(self._kept)

    def write(self, data: bytes) -> None:
        """Write all of `data`. While the init does not read, read from it, so that it does not wait for this side.

        Raises:
            BrokenPipeError: The init no longer reads the answers.
        """
        size = len(data)
        step = size if self._nonblocking else PIPE_BUF
        done = self._write_some(data) if size <= step else 0
        if done < size:
            view = memoryview(data)
            while done < size:
                done += self._write_some(view[done : done + step])

    def _write_some(self, piece: bytes | memoryview) -> int:
        while True:
            if not self._nonblocking and not self._out.poll(0):
                self._until_writable()
            try:
                return write(self.answers, piece)
            except BlockingIOError:
                self._until_writable()

    def _until_writable(self) -> None:
        while True:
            if self._idle or not self._reading.acquire(blocking=False):
                if self._out.poll(READER_MS):
                    return
                continue
            try:
                if self._keep_or_writable():
                    return
            finally:
                self._reading.release()

    def _keep_or_writable(self) -> bool:
        """Wait. Return True when a write is possible, False when bytes were read and kept instead."""
        ended = self._kept[-1:] == [b""]
        room = not ended and sum(map(len, self._kept)) < self.limit
        ready = dict((self._both if room else self._out).poll())
        if self.answers in ready:
            return True
        if self.on_kept is not None:
            self.on_kept()
        try:
            # Read and keep without a line of Python in between, where a signal handler could raise and lose bytes.
            self._kept.extend(map(read, (self.requests,), (READ_SIZE,)))
        except BlockingIOError:
            return False
        if self.on_kept is not None:
            self.on_kept()
        return False

    def _wait(self) -> None:
        poll, clock = self._waiting.poll, perf_counter
        start = clock()
        if self._fast:
            limit = start + self._spin
            while clock() < limit:
                if poll(0):
                    return
                sched_yield()  # the init may be waiting for this CPU
        poll()
        self._fast = clock() - start < FAST_SECONDS

    def close(self) -> None:
        """Close and forget both descriptors in a forked child, whose bytes would mix with the worker's."""
        descriptors = self.requests, self.answers
        self.requests = self.answers = -1  # a write that the fork interrupted must not continue into another file
        for descriptor in descriptors:
            try:
                close(descriptor)
            except OSError:
                continue  # the function has closed it


def claim(limit: int) -> Pipes:
    """Take fds 0 and 1 for the protocol. Afterwards fd 0 is at its end, and fd 1 writes where fd 2 does.

    Args:
        limit: As in Pipes.

    Raises:
        OSError: fd 0 or 1 is not open.
    """
    requests = fcntl(0, F_DUPFD_CLOEXEC, 3)
    answers = fcntl(1, F_DUPFD_CLOEXEC, 3)
    end_input()
    try:
        dup2(2, 1)
    except OSError:
        _plug(2)
        dup2(2, 1)
    return Pipes(requests, answers, limit, not get_blocking(answers))


def end_input() -> None:
    """Make fd 0 the end of an empty stream, which no other process shares."""
    empty, writer = pipe()
    close(writer)
    dup2(empty, 0)
    close(empty)


def replace(pipes: Pipes, requests: int, answers: int, log: int) -> Pipes:
    """Put a forked worker's pipes in the place of the template's, under the same numbers, and return them.

    The given descriptors stay open. Fds 0 to 2 become what `claim` makes of them.
    """
    dup2(requests, pipes.requests, inheritable=False)
    dup2(answers, pipes.answers, inheritable=False)
    end_input()
    dup2(log, 1)
    dup2(log, 2)
    return Pipes(pipes.requests, pipes.answers, pipes.limit, not get_blocking(answers))


def _plug(descriptor: int) -> None:
    """Open `descriptor` on something that drops what is written to it, or at least refuses it."""
    try:
        sink = os.open("/dev/null", os.O_RDWR)
    except OSError:
        reader, sink = pipe()
        close(reader)
    if sink == descriptor:
        set_inheritable(sink, True)
    else:
        dup2(sink, descriptor)
        close(sink)


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a descriptor that others may have made non-blocking."""
    while data:
        try:
            data = data[write(descriptor, data) :]
        except BlockingIOError:
            writable = poll()
            writable.register(descriptor, POLLOUT)
            writable.poll()
