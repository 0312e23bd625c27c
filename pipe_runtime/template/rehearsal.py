"""Serve a request of the runtime's own before the first real one, so that the first real one is fast.

A forked worker shares all memory with its template until it writes to it. Python writes wherever it reads, because it
counts references, and each page costs a copy. A rehearsal touches the memory that a request will touch. Its request
goes the whole way through the loop, on pipes of its own. No code of the function runs, and nothing of it is visible.
"""

from __future__ import annotations

from os import close, pipe, write

from .. import namespace
from ..io.pipes import Pipes
from ..log.writer import LogStream
from ..serve.loop import Loop
from ..wire.connection import INIT, Connection
from ..wire.messages import HELLO, INVOKE, JSON, READY, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..call.context import Context
    from ..serve.function import Function
    from ..serve.process import Process

EVENT = b'{"text": "rehearsal", "numbers": [0, 1, -2.5], "nested": {"yes": true, "no": false, "nothing": null}}'
REQUEST = {
    "request_id": "rehearsal",
    "timeout_ms": 1000,
    "deadline_ms": 1000,
    "content_type": JSON,
    "accept": JSON,
    "trace": "00-00000000000000000000000000000000-0000000000000000-00",
}

_init = Connection(INIT)
_HELLO = _init.send(HELLO, 0, {"versions": [VERSION]})
_INVOKE = _init.send(INVOKE, 1, REQUEST, EVENT)
"""What an init sends. A template makes it, and its workers use it again."""


def rehearse(process: Process, function: Function) -> None:
    """Serve one request as `process` will serve one of `function`. The state of both stays as it is."""
    namespace.own("call.json_writer")  # many results need it, and each worker would load it again
    descriptors: list[int] = []
    try:
        descriptors += pipe()
        descriptors += pipe()
        requests_out, requests_in, answers_out, answers_in = descriptors
        stand_in = process.stand_in(Pipes(requests_out, answers_in, 0))
        loop = Loop(stand_in)
        loop.function = function.stand_in(_echo)
        stand_in.connection.next_frame(_HELLO)
        stand_in.outbox.post(HELLO, 0, {"versions": [VERSION]})
        stand_in.outbox.post(READY)
        write(requests_in, _INVOKE)
        frame = loop.next_frame()
        assert frame is not None
        LogStream(stand_in.log, "stdout", 1).write(b"rehearsal\n")
        loop.answer(frame)
    finally:
        for descriptor in descriptors:
            close(descriptor)


def _echo(event: Any, context: Context) -> Any:
    """Stand in for the handler."""
    context.get_remaining_time_in_millis()
    return event
