"""One worker process as the init sees it: its descriptors and the conversation with it.

It never blocks, whatever the process does. It moves frames; what they mean is the lane's business.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipe_runtime.wire.connection import INIT, Connection, End
from pipe_runtime.wire.frames import MAX_FRAME, Frame

from ..kernel.killing import signal_child, signal_group
from .launch import Process

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence, Group

READ_SIZE = 64 * 1024
"""Bytes in one read: what a pipe holds by default (pipe(7))."""

READ_ROUND = 1024 * 1024
"""Bytes read in a row before other things are looked at: a flood must not hold up a deadline."""

DUMP_LIMIT = 64 * 1024
"""Bytes of stacks to keep. faulthandler writes at most 100 calls for each thread."""

LAST_WORDS = MAX_FRAME
"""Bytes read from a dead worker's pipe at most, however large it has made the pipe."""


class Worker:
    """A running worker.

    connection: the conversation with it. ended: it has closed its answers. dump: what it has written of its stacks.
    deaf: it has closed its input. group: its cgroup, if it has one.
    """

    def __init__(self, process: Process, group: Group | None = None) -> None:
        self.process = process
        self.group = group
        self.connection = Connection(INIT)
        self.ended = False
        self.dump = bytearray()
        self.deaf = False
        self._out: deque[memoryview] = deque()
        self._alone = 0

    def expect(self, id: int) -> None:
        """Request `id` is about to be sent: what the cgroup counts from now on is its doing, if it is the only one."""
        if self.group is not None:
            self._alone = 0 if self.connection.open_requests else id
            if self._alone:
                self.group.mark()

    def evidence(self, id: int) -> Evidence | None:
        """What the cgroup tells of request `id`, which was just answered; None: there is none.

        Without events, if others were sent with it: a worker runs ahead of what is read of it.
        """
        if self.group is None:
            return None
        evidence = self.group.evidence()
        return evidence if self._alone == id else evidence.peaks()

    @property
    def pid(self) -> int:
        """The process's, 0 while it is not known."""
        return self.process.pid

    def send(
        self,
        kind: int,
        id: int = 0,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> bool:
        """Send a frame, now or as the worker reads. True: all is written, and nothing else has happened.

        trusted, LocalProtocolError: as Connection.send.
        """
        data = self.connection.send(kind, id, metadata, payload, trusted)
        if not self._out:
            try:
                written = os.write(self.process.requests, data)
            except (BlockingIOError, BrokenPipeError):
                written = 0  # as flush finds out
            if written == len(data):
                return True
        else:
            written = 0
        self._out.append(memoryview(data)[written:])
        self.flush()
        return False

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits until the worker reads."""
        return bool(self._out)

    def flush(self) -> None:
        """Write what the worker takes now."""
        out = self._out
        try:
            while out:
                written = os.write(self.process.requests, out[0])
                if written == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            out.clear()  # that it died, or why, comes another way
            self.deaf = True

    def end_input(self) -> None:
        """Close the worker's input. What it has not read yet of earlier frames, it still can."""
        self._out.clear()
        self.process.close_requests()

    def events(self, limit: int = READ_ROUND, to_the_end: bool = False) -> Iterator[Frame | End]:
        """Read what the worker has written, up to `limit` bytes, and tell what it says.

        to_the_end: until there is nothing more, whatever it takes. Else one short read is enough: what is left then, if
        the worker has made its pipe one of packets (O_DIRECT), comes with the next poll.
        ProtocolError: as Connection.next_frame. `ended` tells whether its stream has ended.
        """
        connection, answers = self.connection, self.process.answers
        while limit > 0:
            try:
                data = os.read(answers, READ_SIZE)
            except BlockingIOError:
                return
            self.ended = not data
            event = connection.receive_frame(data)
            while event is not None:
                yield event
                event = connection.next_frame() if connection.buffered else None
            size = len(data)
            if not size or (size < READ_SIZE and not to_the_end):
                return
            limit -= size

    def read_log(self) -> bytes | None:
        """What lies in the log pipe, up to one read; b"" at its end, None: nothing now."""
        return _read(self.process.log)

    def read_dump(self) -> bool | None:
        """Take what lies in the dump pipe, up to one read. False: it is at its end, None: nothing new."""
        data = _read(self.process.dump)
        if not data:
            return None if data is None else False
        self.dump += data[: DUMP_LIMIT - len(self.dump)]
        return True

    def signal(self, number: int) -> None:
        """Signal the worker's process group, and wake it up so that it can act on it; its cgroup is killed with it."""
        signal_group(self.pid, number)
        if number == signal.SIGKILL and self.group is not None:
            self.group.kill()
        if number != signal.SIGKILL:
            signal_group(self.pid, signal.SIGCONT)

    def ask_for_stacks(self, number: int) -> None:
        """Signal the worker itself, which is our own unreaped child, and wake it up."""
        self.dump.clear()
        signal_child(self.pid, number)
        signal_group(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Close our ends of its pipes."""
        self.process.close()


def unread(descriptor: int) -> int:
    """Bytes that may lie in a pipe now, at most. What is read beyond them was written later."""
    return min(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ), LAST_WORDS)


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, READ_SIZE)
    except BlockingIOError:
        return None
