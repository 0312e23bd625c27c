"""Exchange frames with one child process, a worker or a template, and report its frames to an observer.

A link never blocks, whatever the process does. It must not know why a process is started or ended, which requests have
an outcome, or what the observer does.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections import deque

from pipe_runtime.wire.connection import INIT, Connection, EndOfStream
from pipe_runtime.wire.errors import ProtocolError, TruncatedStream
from pipe_runtime.wire.frames import MAX_FRAME, Frame
from pipe_runtime.wire.messages import CHUNK, DUMP, END, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP

from ..kernel.poller import Poller
from ..model import Metadata
from .child import Child
from .observer import Observer

READ_SIZE = 64 * 1024
"""The most bytes of one read. A pipe holds as many by default (pipe(7))."""

LARGE_PIPE = 512 * 1024
"""Bytes that a pipe may hold, and one read may return, while large frames come or go: fewer wake-ups for each of them.

It is not more, because all pipes of a user together may hold 64 MiB (pipe-user-pages-soft in pipe(7)).
"""

READ_ROUND = 1024 * 1024
"""The most bytes to read in a row, so that a process that writes without end does not delay a deadline."""

DUMP_LIMIT = 64 * 1024
"""The most bytes of stacks to keep. faulthandler writes at most 100 calls for each thread."""

LAST_WORDS = MAX_FRAME
"""The most bytes to read from a dead process's pipe, even if the process has made the pipe larger."""


class Link:
    """The conversation with one process.

    Attributes:
        child: The process.
        pipes: The init's ends of the process's pipes.
        connection: The protocol's state.
        ended: Whether the process has closed the pipe on which it answers.
        deaf: Whether the process has closed the pipe from which it reads requests.
        stopping: Whether the process was sent STOP.
    """

    def __init__(self, child: Child, poller: Poller, observer: Observer) -> None:
        """Begin the conversation.

        Args:
            child: The process.
            poller: Waits for the process's pipes.
            observer: Gets a report of each frame and event of the process.
        """
        self.child = child
        self.pipes = pipes = child.pipes
        self.connection = Connection(INIT)
        self.ended = self.deaf = self.stopping = False
        self._poller = poller
        self._observer = observer
        self._heard = True
        # The empty entry makes `send` queue all frames until the pid is known. So a worker whose pid a template has
        # reported falsely has begun no request.
        self._out: deque[memoryview] = deque(() if pipes.pid else (memoryview(b""),))
        self._read_size = READ_SIZE
        self._writing = False  # whether the poller waits until the process reads
        try:
            poller.add(pipes.answers, self._read_answers)
            poller.add(pipes.log, self._read_log)  # after the answers, as _read_answers needs it
            poller.add(pipes.dump, self._read_dump)
        except OSError:
            self._forget()
            raise

    # Writing to the process

    def send(
        self,
        kind: int,
        id: int = 0,
        metadata: Metadata | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> None:
        """Send a frame now, or queue it until the process reads.

        After an INVOKE the cgroup counts its events for this request, if no other request is open.

        Raises:
            LocalProtocolError: See Connection.send.
        """
        if kind == INVOKE and self.child.group is not None:
            self.child.count_for(0 if self.connection.open_requests else id)
        data = self.connection.send(kind, id, metadata, payload, trusted)
        written, held = 0, self._poller.held
        if held is not None:
            if self not in held:
                held.append(self)
        elif not self._out:
            try:
                written = os.write(self.pipes.requests, data)
            except (BlockingIOError, BrokenPipeError):
                written = 0  # the call of `flush` below handles both errors
            if written == len(data):
                return
            _enlarge(self.pipes.requests)
        self._out.append(memoryview(data)[written:])
        if held is None:
            self.flush()

    @property
    def wants_to_write(self) -> bool:
        """Return whether frames are queued until the process reads."""
        return bool(self._out)

    def flush(self) -> None:
        """Write as much of the queued frames as the pipe takes now. Write nothing until the process's pid is known."""
        if not self.pipes.pid:
            return
        out = self._out
        if len(out) > 1 and sum(map(len, out)) <= READ_SIZE:  # one write for all of them
            data = b"".join(out)
            out.clear()
            out.append(memoryview(data))
        try:
            while out:
                written = os.write(self.pipes.requests, out[0])
                if written == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][written:]
        except BlockingIOError:
            pass  # the rest stays queued
        except BrokenPipeError:
            out.clear()  # if the process has died, the init learns that when it collects the process
            self.deaf = True
        if self.deaf:  # the process is dying, or will never read what it was sent
            self._observer.closed()
        if out and not self._writing:
            self._poller.add(self.pipes.requests, self.flush, select.POLLOUT)
        elif self._writing and not out:
            self._poller.remove(self.pipes.requests)
        self._writing = bool(out)
        if self.stopping and not out:
            self.end_input()

    def ask_for_stacks(self, by_signal: bool) -> None:
        """Ask the process for its stacks, by the dump signal or by DUMP."""
        child, end = self.child, self.child.end
        end.stacks, end.stage = {}, child.stage
        if by_signal:
            end.asked = child.signal_for_stacks() or end.asked
            return
        end.dump.clear()
        end.asked = True
        self.send(DUMP)

    def stop(self) -> None:
        """Send STOP, and close the process's input as soon as all queued frames are written."""
        self.stopping = True
        self.send(STOP)
        self.flush()

    def end_input(self) -> None:
        """Close the process's input now. The process can still read the data in the pipe."""
        self._out.clear()
        self._poller.remove(self.pipes.requests)
        self._writing = False
        self.pipes.close_requests()

    # Reading from the process

    def ignore(self) -> None:
        """Ignore all further frames of the process."""
        self._heard = False
        self._poller.remove(self.pipes.answers)

    def read_last_words(self) -> None:
        """Report what a dead process has left in its pipes. Ignore later data, which other processes have written."""
        for descriptor, read in ((self.pipes.dump, self._read_dump), (self.pipes.log, self._read_log)):
            left = _capacity(descriptor)
            while left > 0 and (size := read()):
                left -= size
        self._read_answers(_capacity(self.pipes.answers), to_the_end=True)

    def _read_log(self) -> int:
        """Read once from the log pipe, and report the data. Return its size in bytes."""
        data = _read(self.pipes.log)
        if data:
            self._observer.raw_lines(data)
        elif data is not None:
            self._poller.remove(self.pipes.log)
        return len(data or b"")

    def _read_dump(self) -> int:
        """Read once from the dump pipe, keep the data, and report it. Return its size in bytes."""
        data = _read(self.pipes.dump)
        if data:
            dump = self.child.end.dump
            dump += data[: DUMP_LIMIT - len(dump)]
            if b'  File "' in dump:  # not at the first line, after which a busy machine may pause the process
                self._observer.dumped()
        elif data is not None:
            self._poller.remove(self.pipes.dump)
        return len(data or b"")

    def _read_answers(self, limit: int = READ_ROUND, to_the_end: bool = False) -> None:
        """Read and report frames.

        Args:
            limit: The most bytes to read.
            to_the_end: Whether to read until nothing is left. If not, stop after a read that returns less than
                READ_SIZE. If data is left then, because the process has set O_DIRECT on its pipe, the next poll finds
                it.
        """
        connection, observer, answers = self.connection, self._observer, self.pipes.answers
        # Report raw lines that came before a frame before the frame, if they can only belong to its request. The lines
        # before the first frame are read already: poll(2) checks the answers before the log, and the caller handles
        # the last descriptor first. Limit the bytes, so that a process that fills both pipes does not delay a deadline.
        first, log_left = True, 0 if to_the_end else READ_ROUND
        try:
            while limit > 0 and self._heard:
                try:
                    data = os.read(answers, self._read_size)
                except BlockingIOError:
                    return
                event = connection.next_frame(data)
                while event is not None:
                    if not first and log_left > 0 and self._is_of_the_only_request(event):
                        log_left -= self._read_log()
                    first = False
                    if isinstance(event, Frame) and event.kind == RESULT and "stream" not in event.metadata:
                        observer.outcome(event)
                    else:
                        self._take(event)
                    if not self._heard:
                        return
                    event = connection.next_frame() if connection.reader.buffered else None
                size = len(data)
                if not size:
                    self._end()
                    return
                if size < READ_SIZE and not to_the_end:
                    self._read_size = READ_SIZE
                    return
                if self._read_size < LARGE_PIPE:
                    self._read_size = LARGE_PIPE
                    _enlarge(answers)
                limit -= size
        except TruncatedStream:  # most likely the process was killed while it wrote; the init will collect it
            self._end()
            self._observer.closed()
        except ProtocolError as error:
            self.ignore()
            self._observer.violated(str(error))

    def _end(self) -> None:
        self.ended = True
        self._poller.remove(self.pipes.answers)

    def _is_of_the_only_request(self, event: Frame | EndOfStream) -> bool:
        """Return whether no request is open other than the frame's own. An outcome has closed its request already."""
        requests = self.connection.open_requests
        return isinstance(event, Frame) and len(requests) == (event.id in requests)

    def _take(self, event: Frame | EndOfStream) -> None:
        """Report one frame, or the end of the process's answers."""
        observer = self._observer
        if isinstance(event, EndOfStream):
            observer.closed()
            return
        kind, metadata = event.kind, event.metadata
        if kind == RESULT and metadata.get("stream"):
            observer.stream_begun(event)
        elif kind == RESULT or kind == END or (kind == ERROR and event.id):
            observer.outcome(event)
        elif kind == CHUNK:
            observer.piece(event)
        elif kind == LOG:
            observer.lines(event)
        elif kind == HELLO:
            self.child.can_dump = "dump-signal" in metadata.get("capabilities", ())
            observer.hello(metadata)
        elif kind == READY:
            self.child.is_ready = True
            observer.ready(metadata)
            self.child.limit()
        elif kind == DUMP:
            observer.stacks(metadata.get("stacks", []))
        elif kind == ERROR:
            observer.last_word(metadata)

    def close(self) -> None:
        """End the conversation, and close the process's pipes."""
        self._heard = False
        self._out.clear()
        self._forget()
        self.child.close()

    def _forget(self) -> None:
        for descriptor in (self.pipes.answers, self.pipes.log, self.pipes.dump, self.pipes.requests):
            self._poller.remove(descriptor)


def _enlarge(pipe: int) -> None:
    """Let a pipe hold more bytes, if the system allows it."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, LARGE_PIPE)
    except OSError:
        return  # it stays as it is


def _capacity(descriptor: int) -> int:
    """Return the most bytes that a pipe may hold now, up to LAST_WORDS. Any data beyond them was written later."""
    return min(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ), LAST_WORDS)


def _read(descriptor: int) -> bytes | None:
    """Return the data of one read from a pipe; b"" at the pipe's end, None if the pipe is empty now."""
    try:
        return os.read(descriptor, READ_SIZE)
    except BlockingIOError:
        return None
