"""Prepare, in the template, the exchange of HELLOs that each worker begins with.

A forked worker pays for each page of memory that it touches. The init sends the same HELLO to each worker, and it has
sent these fields to the template, too. So the template makes the answer ahead, and a connection that has taken both
HELLOs. If a worker's HELLO is another one, the worker reads and answers it as every runtime does. This module must not
know forks or the control socket.
"""

from __future__ import annotations

from ..io.outbox import Outbox
from ..serve.loop import Loop
from ..serve.process import Conversation
from ..wire.connection import INIT, Connection
from ..wire.frames import Frame
from ..wire.messages import HELLO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..serve.hello import Configuration
    from ..serve.process import Process


class Greeting:
    """The two HELLOs of a worker to which the init sends the same HELLO as to the template."""

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
