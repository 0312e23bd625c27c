"""The runtime's descriptors: takes fds 0 and 1 for the protocol, and gives the function harmless ones in their place.

Replacing sys.stdout would not be enough: C extensions, os.write(1, …) and subprocesses write to the descriptor. This
file knows no frames and no handler; it moves bytes. It must work without /dev/null, /proc and /tmp.
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
"""Bytes asked for in one read: what a pipe holds by default (pipe(7))."""

PIPE_BUF = 4096
"""Bytes that a pipe takes whole or not at all, on Linux; one that polls writable takes them without blocking."""

READER_MS = 100
"""How often a thread that cannot write looks whether it should read, while the main thread does. Only in that case."""

FAST_SECONDS = 0.001
"""A request that comes this soon after the last answer makes it worth spinning for the next one."""


class Pipes:
    """The two private descriptors that carry the protocol.

    requests, answers: descriptors that only the runtime knows, closed by exec.
    limit: bytes that may be kept while a write has to wait; what arrives then is given out by read().
    nonblocking: whether whoever made `answers` has made it so that a write returns when there is no room. Else each
    piece is polled for.

    One thread reads, the main thread; any thread writes, one at a time.
    on_kept: called by a thread that writes, before and after it keeps something: an event loop waits for the
    descriptor only. Before it, because in the main thread a signal handler may raise behind it.
    """

    def __init__(self, requests: int, answers: int, limit: int, nonblocking: bool = False) -> None:
        self.requests = requests
        self.answers = answers
        self.limit = limit
        self._nonblocking = nonblocking
        self.on_kept: Callable[[], object] | None = None
        self._kept: list[bytes] = []
        # Whoever waits for requests, so that no two threads do. Reentrant: a signal handler may raise behind the
        # acquire, and the main thread must not lock itself out.
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
        """How long to look for a request before sleeping; 0: never. Used only while requests come fast."""
        self._spin = microseconds / 1e6

    def read(self) -> bytes:
        """The next bytes, as soon as there are any; b"" at the end of the stream. No signal handler may raise here."""
        with self._reading:
            self._idle = True
            try:
                while not self._kept:
                    self._wait()
                    try:
                        return read(self.requests, READ_SIZE)
                    except BlockingIOError:
                        continue  # the function made the description non-blocking; the poll above waits
                return self._kept.pop(0)
            finally:
                self._idle = False

    def wait(self) -> None:
        """Until read() has something to give at once. A signal handler may raise here."""
        with self._reading:
            self._idle = True
            try:
                if not self._kept:
                    self._waiting.poll()
            finally:
                self._idle = False

    def ready(self) -> bool:
        """Whether read() has something to give at once."""
        return bool(self._kept or self._waiting.poll(0))

    @property
    def kept(self) -> bool:
        """Whether bytes that came while a write had to wait are to be read."""
        return bool(self._kept)

    def write(self, data: bytes) -> None:
        """Write all of `data`. While the other side does not read, keep reading from it (nobody may wait for us).

        BrokenPipeError: nobody reads the answers any more.
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
        """Wait until there is something to do: True if that is to write, False if bytes were read and kept."""
        ended = self._kept[-1:] == [b""]
        room = not ended and sum(map(len, self._kept)) < self.limit
        ready = dict((self._both if room else self._out).poll())
        if self.answers in ready:
            return True
        if self.on_kept is not None:
            self.on_kept()
        try:
            # Read and kept without a line of Python in between, where a signal handler could raise and lose it.
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
                sched_yield()  # the init may wait for this very CPU
        poll()
        self._fast = clock() - start < FAST_SECONDS

    def close(self) -> None:
        """Forget both descriptors. For a forked child, whose bytes would mix with the runtime's."""
        descriptors = self.requests, self.answers
        self.requests = self.answers = -1  # what a signal handler's fork has interrupted must not go on elsewhere
        for descriptor in descriptors:
            try:
                close(descriptor)
            except OSError:
                continue  # the function has closed it


def claim(limit: int) -> Pipes:
    """Take fds 0 and 1 for the protocol. Afterwards fd 0 is at its end and fd 1 writes where fd 2 does.

    limit: as in Pipes.
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
    """Put the end of an empty stream on fd 0: a description of this process's own."""
    empty, writer = pipe()
    close(writer)
    dup2(empty, 0)
    close(empty)


def replace(pipes: Pipes, requests: int, answers: int, log: int) -> Pipes:
    """In a forked worker: put other pipes under the numbers that the template has for its own. Returns them.

    requests, answers, log: descriptors of the new ones, which are not closed. Of fds 0 to 2 it makes what claim() does.
    """
    dup2(requests, pipes.requests, inheritable=False)
    dup2(answers, pipes.answers, inheritable=False)
    end_input()
    dup2(log, 1)
    dup2(log, 2)
    return Pipes(pipes.requests, pipes.answers, pipes.limit, not get_blocking(answers))


def _plug(descriptor: int) -> None:
    """Open `descriptor` on something that takes writes and drops them, or at least refuses them."""
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
