"""Move the protocol from fds 0 and 1 to private descriptors, and give the function harmless fds 0 and 1.

It would not be enough to replace sys.stdout: C extensions, os.write(1, …) and subprocesses write to the descriptor.
This module moves bytes. It must not know frames or handlers. It must work without /dev/null, /proc and /tmp.
"""

from __future__ import annotations

import os
from _thread import RLock

# Import the names now: the function may later replace the modules' attributes, as gevent and eventlet do.
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import close, dup2, get_blocking, pipe, read, sched_yield, set_inheritable, write
from select import POLLIN, POLLOUT, poll
from time import perf_counter

from ..wire.spin import EVERY, Spin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_SIZE = 64 * 1024
"""The most bytes of one read. A pipe holds as many bytes by default (pipe(7))."""

PIPE_BUF = 4096
"""Linux writes up to this many bytes to a pipe whole or not at all (pipe(7)). If poll(2) reports that a pipe is
writable, such a write does not block."""

READER_MS = 100
"""How often, in milliseconds, a thread that waits to write checks whether the main thread still reads. If the main
thread does not, the waiting thread reads."""


class Pipes:
    """The two private descriptors that carry the protocol.

    The main thread reads. Any thread may write, one at a time. If the pipe for answers is full, the writing thread
    reads requests meanwhile and buffers them. So the init never has to wait until the runtime reads. `read` returns the
    buffered bytes later.

    Args:
        nonblocking: See the attribute.

    Attributes:
        requests: The descriptor to read from. The function does not know it, and exec closes it.
        answers: The descriptor to write to. The function does not know it either, and exec closes it.
        limit: How many bytes may be buffered while a write has to wait.
        nonblocking: Whether a write to `answers` fails with EAGAIN if the pipe is full. The init makes such pipes. For
            other pipes, the writer calls poll(2) before each PIPE_BUF bytes.
        free_memory: A callable that frees memory. If `read` has no memory for its result, it calls this and retries.
        on_kept: A callable that tells an event loop of buffered bytes, because the loop watches the descriptor only. A
            writing thread calls it before and after it buffers bytes. The first call is needed because a signal handler
            may raise before the second one.
    """

    def __init__(self, requests: int, answers: int, limit: int, nonblocking: bool = False) -> None:
        self.requests = requests
        self.answers = answers
        self.limit = limit
        self.nonblocking = nonblocking
        self.free_memory: Callable[[], object] = bool  # by default it does nothing
        self.on_kept: Callable[[], object] | None = None
        self._kept: list[bytes] = []
        # The thread that reads holds this lock. It is reentrant because a signal handler may raise just after the
        # acquire. The main thread must still be able to take the lock then.
        self._reading = RLock()
        self._idle = False
        self._spin = Spin(0.0)
        self._waiting = poll()
        self._waiting.register(requests, POLLIN)
        self._both = poll()
        self._both.register(answers, POLLOUT)
        self._both.register(requests, POLLIN)
        self._out = poll()
        self._out.register(answers, POLLOUT)

    def copy(self) -> Pipes:
        """Return another object for the same descriptors. It has no buffered bytes."""
        return Pipes(self.requests, self.answers, self.limit, self.nonblocking)

    def spin(self, microseconds: int) -> None:
        """Set the longest time to look for a request before the process sleeps; 0 for not at all."""
        self._spin = Spin(microseconds / 1e6)

    def read(self) -> bytes:
        """Wait for the next bytes and return them; b"" at the end of the stream. No signal handler may raise here."""
        with self._reading:
            self._idle = True
            try:
                if self._kept:
                    return self._kept.pop(0)
                spin, poll = self._spin, self._waiting.poll
                begun = now = perf_counter()
                limit = begun + spin.limit
                while now < limit and not poll(0):
                    sched_yield()  # the init may need this CPU to send the request
                    now = perf_counter()
                while True:
                    try:
                        data = read(self.requests, READ_SIZE)
                        break
                    except BlockingIOError:
                        poll()  # the function made the descriptor non-blocking
                    except MemoryError:  # the function has all the memory; nothing was read
                        self.free_memory()
                        bytes(READ_SIZE)  # this raises if there is still no memory
                spin.unlearned += now < limit
                if now >= limit or spin.unlearned >= EVERY:
                    spin.learn(perf_counter() - begun)
                return data
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
        """Return whether there are bytes that were buffered while a write had to wait."""
        return bool(self._kept)

    def write(self, data: bytes) -> None:
        """Write all of `data`. While the pipe is full, read and buffer requests, so that the init need not wait.

        Raises:
            BrokenPipeError: The init no longer reads the answers.
        """
        left: bytes | memoryview = data
        while left:
            if not self.nonblocking and not self._out.poll(0):
                self._until_writable()
            try:
                done = write(self.answers, left if self.nonblocking else left[:PIPE_BUF])
            except BlockingIOError:
                self._until_writable()
                continue
            if done == len(left):
                return
            left = memoryview(left)[done:]

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
        """Wait until a write or a read is possible. Return True for a write. For a read, buffer bytes; return False."""
        ended = self._kept[-1:] == [b""]
        room = not ended and sum(map(len, self._kept)) < self.limit
        ready = dict((self._both if room else self._out).poll())
        if self.answers in ready:
            return True
        if self.on_kept is not None:
            self.on_kept()
        try:
            # Read and store the bytes in one call into C. A signal handler could raise between two lines of Python, and
            # the bytes would be lost.
            self._kept.extend(map(read, (self.requests,), (READ_SIZE,)))
        except BlockingIOError:
            return False
        if self.on_kept is not None:
            self.on_kept()
        return False

    def close(self) -> None:
        """Close both descriptors in a forked child, because bytes from the child would mix with the worker's."""
        descriptors = self.requests, self.answers
        self.requests = self.answers = -1  # if the fork interrupted a write, the child must not write to another file
        for descriptor in descriptors:
            try:
                close(descriptor)
            except OSError:
                continue  # the function has closed it


def claim(limit: int) -> Pipes:
    """Move fds 0 and 1 to private descriptors. Afterwards fd 0 is an empty stream, and fd 1 is a copy of fd 2.

    Args:
        limit: See Pipes.

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
    """Make fd 0 the read end of an empty pipe that has no writer."""
    empty, writer = pipe()
    close(writer)
    dup2(empty, 0)
    close(empty)


def replace(pipes: Pipes, requests: int, answers: int, log: int) -> None:
    """Replace the template's pipes with a forked worker's own pipes, under the same numbers.

    The given descriptors stay open. fd 0 becomes an empty stream. fds 1 and 2 become copies of `log`.

    Args:
        pipes: A copy of the template's pipes, which the template has not used.
        requests: The descriptor to read from.
        answers: The descriptor to write to.
        log: The descriptor for what is printed.
    """
    dup2(requests, pipes.requests, False)  # by position: a keyword would touch more memory, and each page costs
    dup2(answers, pipes.answers, False)
    pipes.nonblocking = not get_blocking(answers)
    end_input()
    dup2(log, 1)
    dup2(log, 2)


def _plug(descriptor: int) -> None:
    """Open `descriptor` on /dev/null, or, if that does not exist, on a pipe without a reader, so that writes fail."""
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
    """Write all of `data` to a descriptor, even if other code has made the descriptor non-blocking."""
    while data:
        try:
            data = data[write(descriptor, data) :]
        except BlockingIOError:
            writable = poll()
            writable.register(descriptor, POLLOUT)
            writable.poll()
