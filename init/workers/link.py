"""Talk to one child process, a worker or a template: write frames, read and understand what comes, report it.

A link never blocks, whatever the process does. It must not know why a process is started or ended, which requests have
an outcome, or who observes it.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections import deque
from collections.abc import Mapping
from typing import Any

from pipe_runtime.wire.connection import INIT, Connection, EndOfStream
from pipe_runtime.wire.errors import ProtocolError, TruncatedStream
from pipe_runtime.wire.frames import MAX_FRAME, Frame
from pipe_runtime.wire.messages import CHUNK, DUMP, END, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP

from ..kernel.poller import Poller
from .child import Child
from .observer import Observer

READ_SIZE = 64 * 1024
"""Bytes in one read: what a pipe holds by default (pipe(7))."""

READ_ROUND = 1024 * 1024
"""Bytes read in a row before the caller looks at other things: a flood must not delay a deadline."""

DUMP_LIMIT = 64 * 1024
"""Bytes of stacks to keep. faulthandler writes at most 100 calls for each thread."""

LAST_WORDS = MAX_FRAME
"""The most bytes to read from a dead process's pipe, however large the process has made the pipe."""


class Link:
    """The conversation with one process.

    Attributes:
        child: The process.
        pipes: The init's ends of the process's pipes.
        connection: The protocol's state.
        ended: Whether the process has closed its answers.
        deaf: Whether the process has closed its requests.
        stopping: Whether it was sent STOP.
    """

    def __init__(self, child: Child, poller: Poller, observer: Observer) -> None:
        """Begin the conversation.

        Args:
            child: The process.
            poller: Where to wait for its pipes.
            observer: Hears what the process says.
        """
        self.child = child
        self.pipes = pipes = child.pipes
        self.connection = Connection(INIT)
        self.ended = self.deaf = self.stopping = False
        self._poller = poller
        self._observer = observer
        self._heard = True
        self._out: deque[memoryview] = deque()
        self._writing = False  # the poller waits until the process reads
        for descriptor in (pipes.answers, pipes.log, pipes.dump):  # the answers first: see _read_answers
            poller.add(descriptor, owner=self)

    # To the process

    def invoke(self, id: int, metadata: Mapping[str, Any], payload: bytes, trusted: bool) -> None:
        """Send a request. What its cgroup counts from now on belongs to it, if no other request is open.

        Args:
            id: The request's id.
            metadata: As for Connection.send, like the payload and `trusted`.

        Raises:
            LocalProtocolError: As Connection.send.
        """
        if self.child.group is not None:
            self.child.count_for(0 if self.connection.open_requests else id)
        self.send(INVOKE, id, metadata, payload, trusted)

    def send(
        self,
        kind: int,
        id: int = 0,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> None:
        """Send a frame, now or as the process reads.

        Raises:
            LocalProtocolError: As Connection.send.
        """
        data = self.connection.send(kind, id, metadata, payload, trusted)
        written = 0
        if not self._out:
            try:
                written = os.write(self.pipes.requests, data)
            except (BlockingIOError, BrokenPipeError):
                written = 0  # `flush` finds out which
            if written == len(data):
                return
        self._out.append(memoryview(data)[written:])
        self.flush()

    @property
    def wants_to_write(self) -> bool:
        """Return whether something waits until the process reads."""
        return bool(self._out)

    def flush(self) -> None:
        """Write what the process takes now."""
        out = self._out
        try:
            while out:
                written = os.write(self.pipes.requests, out[0])
                if written == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][written:]
        except BlockingIOError:
            pass  # the rest waits
        except BrokenPipeError:
            out.clear()  # whether and how the process died is learned in another way
            self.deaf = True
        if self.deaf:  # it is dying, or it will never see what it was sent
            self._observer.closed()
        if out and not self._writing:
            self._poller.add(self.pipes.requests, select.POLLOUT, owner=self)
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
        """Send STOP. The process's input ends once it has read what was sent before."""
        self.stopping = True
        self.send(STOP)
        self.flush()

    def end_input(self) -> None:
        """Close the process's input now. The process can still read what the pipe holds."""
        self._out.clear()
        if self._writing:
            self._poller.remove(self.pipes.requests)
            self._writing = False
        self.pipes.close_requests()

    # From the process

    def handle(self, ready: Mapping[int, int]) -> None:
        """Deal with the descriptors that are ready: read and report, or write."""
        pipes = self.pipes
        if pipes.closed:
            return  # something that was ready at the same time has ended the conversation
        if pipes.log in ready:
            self._read_log()
        if pipes.answers in ready:
            self._read_answers(READ_ROUND)
        if pipes.dump in ready:
            self._read_dump()
        if self._writing:
            self.flush()

    def ignore(self) -> None:
        """Report no frame of the process any more."""
        self._heard = False
        self._poller.remove(self.pipes.answers)

    def read_last_words(self) -> None:
        """Report what a dead process has left in its pipes. Whatever comes later, comes from other processes."""
        for descriptor, read in ((self.pipes.dump, self._read_dump), (self.pipes.log, self._read_log)):
            left = _capacity(descriptor)
            while left > 0 and (size := read()):
                left -= size
        self._read_answers(_capacity(self.pipes.answers), to_the_end=True)

    def _read_log(self) -> int:
        """Report what is in the log pipe, up to one read. Return its size."""
        data = _read(self.pipes.log)
        if data:
            self._observer.raw_lines(data)
        elif data is not None:
            self._poller.remove(self.pipes.log)
        return len(data or b"")

    def _read_dump(self) -> int:
        """Take what is in the dump pipe, up to one read. Return its size."""
        data = _read(self.pipes.dump)
        if data:
            dump = self.child.end.dump
            dump += data[: DUMP_LIMIT - len(dump)]
            if b'  File "' in dump:  # a busy machine may pause the process after the first line
                self._observer.dumped()
        elif data is not None:
            self._poller.remove(self.pipes.dump)
        return len(data or b"")

    def _read_answers(self, limit: int, to_the_end: bool = False) -> None:
        """Read and report frames.

        Args:
            limit: The most bytes to read.
            to_the_end: Read until nothing is left. Otherwise one short read is enough: what is left then, because the
                process has made its pipe one of packets (O_DIRECT), comes with the next poll.
        """
        connection, answers = self.connection, self.pipes.answers
        # Raw lines that came before a frame are reported before it, if they can only be of its request. Those before
        # the first frame were read: poll(2) looks at the answers, then at the log. A flood in both pipes must not
        # delay a deadline.
        first, log_left = True, 0 if to_the_end else READ_ROUND
        try:
            while limit > 0 and self._heard:
                try:
                    data = os.read(answers, READ_SIZE)
                except BlockingIOError:
                    return
                event = connection.next_frame(data)
                while event is not None:
                    if not first and log_left > 0 and self._is_of_the_only_request(event):
                        log_left -= self._read_log()
                    first = False
                    self._take(event)
                    if not self._heard:
                        return
                    event = connection.next_frame() if connection.buffered else None
                size = len(data)
                if not size:
                    self._end()
                    return
                if size < READ_SIZE and not to_the_end:
                    return
                limit -= size
        except TruncatedStream:  # most likely the process was killed while it wrote: its death will be seen
            self._end()
            self._observer.closed()
        except ProtocolError as error:
            self.ignore()
            self._observer.violated(str(error))

    def _end(self) -> None:
        self.ended = True
        self._poller.remove(self.pipes.answers)

    def _is_of_the_only_request(self, event: Frame | EndOfStream) -> bool:
        """Return whether the frame is of a request, or its outcome, and no other request is open."""
        requests = self.connection.open_requests
        return isinstance(event, Frame) and len(requests) == (event.id in requests)

    def _take(self, event: Frame | EndOfStream) -> None:
        """Report one frame, or the end of the answers."""
        observer = self._observer
        if isinstance(event, EndOfStream):
            observer.closed()
            return
        kind, metadata = event.kind, event.metadata
        if kind == RESULT and "stream" in metadata and metadata["stream"]:
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
        """Close the conversation, and with it the process's pipes."""
        self._heard = False
        self._poller.forget(self)
        self.child.close()


def _capacity(descriptor: int) -> int:
    """Return the most bytes that a pipe may hold now. What is read beyond them was written later."""
    return min(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ), LAST_WORDS)


def _read(descriptor: int) -> bytes | None:
    """Return what is in a pipe, up to one read; b"" at its end, None if there is nothing now."""
    try:
        return os.read(descriptor, READ_SIZE)
    except BlockingIOError:
        return None
