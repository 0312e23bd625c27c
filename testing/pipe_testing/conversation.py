"""Conversations without pipes: frames and metadata that are right, what a connection makes of them, recorded ones.

It knows the protocol's modules, and no process.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from pipe_runtime.wire.connection import INIT, RUNTIME, Connection, End
from pipe_runtime.wire.errors import LocalProtocolError, ProtocolError
from pipe_runtime.wire.frames import Frame, FrameWriter
from pipe_runtime.wire.messages import CHUNK, CREDIT, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP

WINDOW = {"versions": [1], "window_requests": 64}
METADATA: dict[int, dict[str, Any]] = {
    HELLO: WINDOW,
    INVOKE: {"request_id": "r", "content_type": "application/json", "accept": "*/*"},
    RESULT: {"content_type": "application/json"},
    ERROR: {"error_type": "E", "error_message": "m"},
    LOG: {"stream": "stdout"},
    CREDIT: {"bytes": 1},
}
"""kind: the least that it needs; HELLO's opens the window."""

PAYLOAD = {CHUNK: b"c"}
"""kind: a payload, where one must be."""


def frame(kind: int, id: int = 0, metadata: dict[str, Any] | None = None, payload: bytes | None = None) -> bytes:
    """A frame that is right by itself, whoever may send it."""
    writer = FrameWriter()
    writer.max_frame = 2**32 - 1
    fields = METADATA.get(kind, {}) if metadata is None else metadata
    return writer.encode(kind, id, fields, PAYLOAD.get(kind, b"") if payload is None else payload)


def say(
    connection: Connection, sender: str, kind: int, id: int = 0, payload: bytes | None = None, **more: Any
) -> Frame:
    """Let `sender` say something to or through this connection; it must be accepted. The frame."""
    metadata = {**METADATA.get(kind, {}), **more}
    said = PAYLOAD.get(kind, b"") if payload is None else payload
    if sender == connection.role:
        connection.send(kind, id, metadata, said)
    else:
        connection.receive(frame(kind, id, metadata, said))
        assert connection.next_frame() == Frame(kind, id, metadata, said)
    return Frame(kind, id, metadata, said)


def talking(role: str, init: dict[str, Any] | None = None, **runtime: Any) -> Connection:
    """A connection whose both sides have said HELLO, with these fields, and whose runtime is ready."""
    connection = Connection(role)
    say(connection, INIT, HELLO, **(init or {}))
    say(connection, RUNTIME, HELLO, **runtime)
    say(connection, RUNTIME, READY)
    return connection


def events(connection: Connection) -> list[Frame | End]:
    """All that can be had without more bytes."""
    found = []
    while (event := connection.next_frame()) is not None:
        found.append(event)
    return found


def refused(connection: Connection, sender: str, kind: int, id: int, payload: bytes | None = None, **more: Any) -> str:
    """The error of what `sender` may not say; a local one changes nothing."""
    metadata = {**METADATA.get(kind, {}), **more}
    said = PAYLOAD.get(kind, b"") if payload is None else payload
    if sender == connection.role:
        before = snapshot(connection)
        with pytest.raises(LocalProtocolError) as local:
            connection.send(kind, id, metadata, said)
        assert snapshot(connection) == before
        return str(local.value)
    connection.receive(frame(kind, id, metadata, said))
    with pytest.raises(ProtocolError) as remote:
        connection.next_frame()
    assert type(remote.value) is ProtocolError
    assert_poisoned(connection, remote.value)
    return str(remote.value)


def assert_poisoned(connection: Connection, error: ProtocolError) -> None:
    """The same error for ever, whatever comes, and nothing more is kept."""
    kept = connection.buffered
    for more in (b"", frame(STOP), b"\xff" * 100, frame(READY)):
        connection.receive(more)
        with pytest.raises(ProtocolError) as caught:
            connection.next_frame()
        assert caught.value is error
        with pytest.raises(ProtocolError) as caught:
            connection.receive_frame(more)
        assert caught.value is error
    assert connection.buffered == kept


def streams(connection: Connection) -> dict[str, dict[int, tuple[bool, int]]]:
    """sender: {id: (whether its END is still to come, its credit)} of each body that is a stream."""
    return {
        sender: {id: (stream.open, stream.credit) for id, stream in found.items()}
        for sender, found in connection._streams.items()
    }


def snapshot(connection: Connection) -> Any:
    """All that a connection remembers of the conversation."""
    apart = ("_reader", "_writer", "_streams")
    own = {key: value for key, value in vars(connection).items() if key not in apart}
    limits = connection._writer.max_frame, connection._reader.max_frame
    return copy.deepcopy((own, streams(connection), limits, connection.buffered))


def turns(text: str) -> list[tuple[str, str, bytes]]:
    """(sender, the kind's name, bytes; none for EOF) of a conversation that is written down."""
    found = []
    for block in re.split(r"^# ", text, flags=re.M)[1:]:
        title, *lines = block.splitlines()
        match = re.fullmatch(r"(init|runtime) -> (?:init|runtime): (\w+).*", title)
        if match:
            data = bytes.fromhex("".join(line.partition("|")[0] for line in lines))
            found.append((match[1], match[2], data))
    return found
