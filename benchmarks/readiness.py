"""Send HELLO to a worker or a template, and wait for its READY."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import Any

from pipe_init.workers.launch import ProcessPipes
from pipe_runtime.wire.connection import INIT, Connection, EndOfStream
from pipe_runtime.wire.messages import HELLO, READY


def until_ready(process: ProcessPipes, hello: Mapping[str, Any], limit: float) -> Connection:
    """Send HELLO and read until READY. Raise SystemExit if READY does not come within `limit` seconds.

    Returns:
        The conversation.
    """
    connection = Connection(INIT)
    os.write(process.requests, connection.send(HELLO, metadata=hello))
    end = time.monotonic() + limit
    waiting = select.poll()
    waiting.register(process.answers, select.POLLIN)
    while waiting.poll(max(0.0, end - time.monotonic()) * 1000):
        connection.receive(os.read(process.answers, 65536))
        while (event := connection.next_frame()) is not None:
            if isinstance(event, EndOfStream):
                raise SystemExit("the worker ended before it was ready")
            if event.kind == READY:
                return connection
    raise SystemExit("the worker did not become ready in time")
