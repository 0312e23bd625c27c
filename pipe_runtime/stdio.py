"""The runtime's descriptors: takes fds 0 and 1 for the protocol, and gives the function harmless ones in their place.

Replacing sys.stdout would not be enough: C extensions, os.write(1, …) and subprocesses write to the descriptor. This
file knows no frames and no handler; it moves bytes. It must work without /dev/null, /proc and /tmp.
"""

from __future__ import annotations

import fcntl
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_SIZE = 64 * 1024
"""Bytes asked for in one read: what a pipe holds by default (pipe(7))."""

WRITE_SIZE = 4096
"""Bytes written after one poll: PIPE_BUF on Linux, which a pipe that polls writable takes without blocking."""

FAST_SECONDS = 0.001
"""A request that comes this soon after the last answer makes it worth spinning for the next one."""


class Pipes:
    """The two private descriptors that carry the protocol.

    requests, answers: descriptors that only the runtime knows, closed by exec.
    room: says whether bytes that arrive while a write must wait may still be buffered; no more so after the end.
    arrived: gets such bytes, b"" at the end of the stream.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self.requests = requests
        self.answers = answers
        self.room: Callable[[], bool] = lambda: False
        self.arrived: Callable[[bytes], None] = lambda data: None
        self._spin = 0.0
        self._fast = False
        self._waiting = select.poll()
        self._waiting.register(requests, select.POLLIN)
        self._both = select.poll()
        self._both.register(answers, select.POLLOUT)
        self._both.register(requests, select.POLLIN)
        self._out = select.poll()
        self._out.register(answers, select.POLLOUT)

    def spin(self, microseconds: int) -> None:
        """How long to look for a request before sleeping; 0: never. Used only while requests come fast."""
        self._spin = microseconds / 1e6

    def read(self) -> bytes:
        """The next bytes, as soon as there are any; b"" at the end of the stream."""
        while True:
            self._wait()
            try:
                return os.read(self.requests, READ_SIZE)
            except BlockingIOError:
                continue  # the function made the description non-blocking; the poll above waits

    def write(self, data: bytes) -> None:
        """Write all of `data`. While the other side does not read, keep reading from it (nobody may wait for us).

        BrokenPipeError: nobody reads the answers any more.
        """
        size, done = len(data), 0
        view = memoryview(data)
        while done < size:
            done += self._write_some(view[done : done + WRITE_SIZE])

    def _write_some(self, piece: memoryview) -> int:
        while True:
            if not self._out.poll(0):
                self._until_writable()
            try:
                return os.write(self.answers, piece)
            except BlockingIOError:
                continue

    def _until_writable(self) -> None:
        while True:
            watch = self._both if self.room() else self._out
            ready = dict(watch.poll())
            if self.answers in ready:
                return
            if self.requests in ready:
                self.arrived(os.read(self.requests, READ_SIZE))

    def _wait(self) -> None:
        poll = self._waiting.poll
        start = time.perf_counter()
        if self._spin and self._fast:
            limit = start + self._spin
            while time.perf_counter() < limit:
                if poll(0):
                    return
        poll()
        self._fast = time.perf_counter() - start < FAST_SECONDS

    def close(self) -> None:
        """Forget both descriptors. For a forked child, whose bytes would mix with the runtime's."""
        os.close(self.requests)
        os.close(self.answers)


def claim() -> Pipes:
    """Take fds 0 and 1 for the protocol. Afterwards fd 0 is at its end and fd 1 writes where fd 2 does.

    OSError: fd 0 or 1 is not open.
    """
    requests = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    answers = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    empty, writer = os.pipe()
    os.close(writer)
    os.dup2(empty, 0)
    if empty != 0:
        os.close(empty)
    try:
        os.dup2(2, 1)
    except OSError:
        _plug(2)
        os.dup2(2, 1)
    return Pipes(requests, answers)


def _plug(descriptor: int) -> None:
    """Open `descriptor` on something that takes writes and drops them, or at least refuses them."""
    try:
        sink = os.open("/dev/null", os.O_RDWR)
    except OSError:
        reader, sink = os.pipe()
        os.close(reader)
    os.dup2(sink, descriptor)
    if sink != descriptor:
        os.close(sink)
