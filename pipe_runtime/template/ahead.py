"""Make in the template what each worker needs first: its HELLO, and a rehearsal of a request.

A forked worker shares its memory with the template. When a worker first writes to a page of memory, the kernel copies
the page, which takes time. Python writes even to objects that it only reads, because it counts references. With what
this module prepares, a worker writes to fewer pages and is ready sooner. This module must not know forks or the control
socket.
"""

from __future__ import annotations

from .. import namespace
from ..io.outbox import Outbox
from ..io.pipes import Pipes
from ..log.writer import LogStream
from ..serve.loop import Loop
from ..serve.process import Conversation
from ..wire.connection import INIT, Connection
from ..wire.frames import Frame
from ..wire.messages import HELLO, INVOKE, JSON, READY, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..call.context import Context
    from ..serve.function import Function
    from ..serve.hello import Configuration
    from ..serve.process import Process

EVENT = b'{"text": "rehearsal", "number": 1, "list": [true, null]}'
REQUEST = {
    "request_id": "rehearsal",
    "timeout_ms": 1000,
    "deadline_ms": 1000,
    "content_type": JSON,
    "accept": JSON,
}


class Greeting:
    """The two HELLOs with which each worker begins.

    The init sends the same HELLO to each worker, and its fields have also come in the template's HELLO. So before any
    fork, the template makes the worker's answer, and a connection that has already seen both HELLOs. If a worker gets a
    different HELLO, it reads and answers it as every runtime does.
    """

    def __init__(self, process: Process, metadata: Mapping[str, Any]) -> None:
        """Make both HELLOs.

        Args:
            process: The template. Its own conversation stays as it is.
            metadata: The metadata of the template's HELLO.
        """
        sent: list[bytes] = []
        conversation = Conversation(process.pipes.copy())
        conversation.outbox = Outbox(conversation.connection.send, sent.append)
        for_a_worker = {name: value for name, value in metadata.items() if name != "template"}
        self._hello = Connection(INIT).send(HELLO, 0, for_a_worker)
        hello = conversation.connection.next_frame(self._hello)
        assert isinstance(hello, Frame)
        self._configuration = Loop(process.stand_in(conversation)).greet(hello)
        self._answer = b"".join(sent)
        self._connection = conversation.connection

    def exchange(self, process: Process, loop: Loop) -> Configuration | None:
        """Read the init's HELLO and answer it, in a worker.

        Returns:
            The configuration in the init's HELLO; None if the init has ended its stream.
        """
        data = process.guard.wait(process.pipes.read)
        if data != self._hello:
            process.connection.receive(data)
            hello = loop.next_frame()
            return None if hello is None else loop.greet(hello)
        with process.outbox.lock:  # another thread's LOG frame must not come before the HELLO
            process.pipes.write(self._answer)
            process.connection = self._connection
            process.outbox.encode = self._connection.send
        return self._configuration


class Rehearsal:
    """Serve a number of made-up requests in the way in which `process` will serve real requests for `function`.

    A rehearsal makes the kernel copy, before the first real request, the pages of memory that a request touches. It
    touches few other pages, because the template has made its objects. A made-up request goes through the whole loop
    except the pipes. None of the function's code runs, and the function sees nothing of the rehearsal.

    The state of `process` and `function` does not change. The template serves all the requests except the last. Each
    worker inherits this object and serves the last one.

    Args:
        process: The process that serves the requests.
        function: The function. The handler `_echo` takes the place of the function's handler.
        times: The number of requests.
    """

    def __init__(self, process: Process, function: Function, times: int) -> None:
        namespace.own("call.conversions")  # many results need it: load it here once instead of in each worker
        self._pipes = _NoPipes()
        self._conversation = Conversation(self._pipes)
        init, connection = Connection(INIT), self._conversation.connection
        connection.next_frame(init.send(HELLO, 0, {"versions": [VERSION]}))
        init.receive(connection.send(HELLO, 0, {"versions": [VERSION], "window_requests": times}))
        init.receive(connection.send(READY))
        while init.next_frame() is not None:
            continue
        self._pipes.data = [init.send(INVOKE, id, REQUEST, EVENT) for id in range(1, times + 1)]
        self._process = process.stand_in(self._conversation)
        self._loop = Loop(self._process)
        self._loop.function = function.stand_in(_echo)
        self._stream = LogStream(self._process.log, "stdout", 1)

    def run(self, prints: bool = False) -> None:
        """Serve the next request.

        Args:
            prints: Whether the handler prints a line.
        """
        self._process.restart(self._conversation)
        frame = self._loop.next_frame()
        assert frame is not None
        if prints:
            self._stream.write(b"rehearsal\n")
        self._loop.answer(frame)


class _NoPipes(Pipes):
    """Take the place of the pipes. A worker has already used the real pipes, for the two HELLOs."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def read(self) -> bytes:
        """Return the next request."""
        return self.data.pop(0)

    def write(self, data: bytes) -> None:
        """Discard the answer."""


def _echo(event: Any, context: Context) -> Any:
    """Take the place of the function's handler."""
    return event
