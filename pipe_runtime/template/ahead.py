"""Make ahead what each worker would make first: its HELLO and its first request. So the worker is ready sooner.

A forked worker shares all memory with its template until it writes to it. Python writes even to what it only reads,
because it counts references, and each page costs a copy. This module must not know forks or the control socket.
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
    """The two HELLOs that each worker begins with.

    The init sends the same HELLO to each worker, and it has sent these fields to the template, too. So the template
    makes the answer ahead, and a connection that has taken both HELLOs. If a worker's HELLO is another one, the worker
    reads and answers it as every runtime does.
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
            What the init's HELLO asks for. None if the init has ended its stream.
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
    """A number of requests, served as `process` will serve those of `function`. The state of both stays as it is.

    A rehearsal touches the pages that a request will touch. It touches few others, because its objects are made ahead.
    The request goes the whole way through the loop, except for the pipes. No code of the function runs, and nothing of
    it is visible. A template serves all requests but the last. Its workers inherit the object, and each of them serves
    the last one.

    Args:
        process: The process that serves the requests.
        function: The function. A stand-in takes the place of its handler.
        times: The number of requests.
    """

    def __init__(self, process: Process, function: Function, times: int) -> None:
        namespace.own("call.json_writer")  # many results need it, and each worker would load it again
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
    """Stand-in for the pipes. A worker has used the real ones for its HELLOs."""

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def read(self) -> bytes:
        """Return the next request."""
        return self.data.pop(0)

    def write(self, data: bytes) -> None:
        """Drop the answer."""


def _echo(event: Any, context: Context) -> Any:
    """Stand in for the handler."""
    return event
