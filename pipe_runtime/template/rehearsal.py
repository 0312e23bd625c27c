"""A request before the first one: touches the memory that a request will touch, while nobody waits for it.

A forked process shares all memory with its template until it writes to it, and Python writes wherever it reads (it
counts references): each page costs a copy. The request here goes its whole way through the loop, on pipes of its own.
No code of the function's runs, and nothing of it is visible afterwards.
"""

from __future__ import annotations

from os import close, pipe, write

from .. import namespace
from ..io.stdio import Pipes
from ..log.writer import LogStream
from ..wire.connection import INIT, Connection
from ..wire.messages import HELLO, INVOKE, JSON, READY, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..call.context import Context
    from ..serve.loop import Runtime

EVENT = b'{"text": "rehearsal", "numbers": [0, 1, -2.5], "nested": {"yes": true, "no": false, "nothing": null}}'
REQUEST = {
    "request_id": "rehearsal",
    "timeout_ms": 1000,
    "deadline_ms": 1000,
    "content_type": JSON,
    "accept": JSON,
    "trace": "00-00000000000000000000000000000000-0000000000000000-00",
}


_said: list[bytes] = []
"""What an init says: HELLO and a request. Made in the template, and read in each worker."""


def rehearse(runtime: Runtime) -> None:
    """Serve one request as `runtime` will. Its own state stays as it is."""
    namespace.own("call.json_writer")  # many results need it, and each worker would load it again
    if not _said:
        init = Connection(INIT)
        _said.append(init.send(HELLO, 0, {"versions": [VERSION]}))
        _said.append(init.send(INVOKE, 1, REQUEST, EVENT))
    descriptors: list[int] = []
    try:
        descriptors += pipe()
        descriptors += pipe()
        requests_out, requests_in, answers_out, answers_in = descriptors
        stand_in = runtime.stand_in(Pipes(requests_out, answers_in, 0), _echo)
        stand_in.connection.receive_frame(_said[0])
        stand_in.outbox.post(HELLO, 0, {"versions": [VERSION]})
        stand_in.outbox.post(READY)
        write(requests_in, _said[1])
        frame = stand_in.next()
        assert frame is not None
        LogStream(stand_in.log, "stdout", 1).write(b"rehearsal\n")
        stand_in.answer(frame)
    finally:
        for descriptor in descriptors:
            close(descriptor)


def _echo(event: Any, context: Context) -> Any:
    """In the handler's place."""
    context.get_remaining_time_in_millis()
    return event
