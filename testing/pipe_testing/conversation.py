"""Hold conversations of the protocol without pipes: build valid frames, and feed them to a Connection.

This module knows the protocol's modules. It starts no processes.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from pipe_runtime.wire.connection import INIT, RUNTIME, Connection, EndOfStream
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
"""For each kind, the smallest metadata that is valid. That of HELLO makes the window wide enough for the tests."""

PAYLOAD = {CHUNK: b"c"}
"""The payload of a kind that must have one."""


def frame(kind: int, id: int = 0, metadata: dict[str, Any] | None = None, payload: bytes | None = None) -> bytes:
    """Return the bytes of a frame that is valid by itself. Whether the sender may send it now is not checked."""
    writer = FrameWriter()
    writer.max_frame = 2**32 - 1
    fields = METADATA.get(kind, {}) if metadata is None else metadata
    return writer.encode(kind, id, fields, PAYLOAD.get(kind, b"") if payload is None else payload)


def say(
    connection: Connection, sender: str, kind: int, id: int = 0, payload: bytes | None = None, **more: Any
) -> Frame:
    """Send or receive one message through this connection, which must accept it, and return its frame.

    Args:
        connection: One end of the conversation.
        sender: The role that sends. If it is the connection's own role, the connection sends; otherwise it receives.
        kind: The kind of the message.
        id: The number of the request, or 0.
        payload: The payload; by default the one in PAYLOAD, or an empty one.
        more: Metadata in addition to METADATA's.
    """
    metadata = {**METADATA.get(kind, {}), **more}
    said = PAYLOAD.get(kind, b"") if payload is None else payload
    if sender == connection.role:
        connection.send(kind, id, metadata, said)
    else:
        connection.receive(frame(kind, id, metadata, said))
        assert connection.next_frame() == Frame(kind, id, metadata, said)
    return Frame(kind, id, metadata, said)


def talking(role: str, init: dict[str, Any] | None = None, **runtime: Any) -> Connection:
    """Return a connection after both HELLOs, with these fields, and after READY."""
    connection = Connection(role)
    say(connection, INIT, HELLO, **(init or {}))
    say(connection, RUNTIME, HELLO, **runtime)
    say(connection, RUNTIME, READY)
    return connection


def events(connection: Connection) -> list[Frame | EndOfStream]:
    """Return all frames that the connection can give without more bytes."""
    found = []
    while (event := connection.next_frame()) is not None:
        found.append(event)
    return found


def refused(connection: Connection, sender: str, kind: int, id: int, payload: bytes | None = None, **more: Any) -> str:
    """Return the text of the error for a message that `sender` may not send now.

    If the connection itself is the sender, check that the error leaves its state unchanged. If it receives, check
    that it stays in the error.
    """
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
    """Check that the connection raises the same error for any further input and keeps no more bytes."""
    kept = connection.reader.buffered
    for more in (b"", frame(STOP), b"\xff" * 100, frame(READY)):
        connection.receive(more)
        with pytest.raises(ProtocolError) as caught:
            connection.next_frame()
        assert caught.value is error
        with pytest.raises(ProtocolError) as caught:
            connection.next_frame(more)
        assert caught.value is error
    assert connection.reader.buffered == kept


def streams(connection: Connection) -> dict[str, dict[int, tuple[bool, int]]]:
    """Return the open streams by sender and request: whether the sender's END is still to come, and its credit."""
    return {
        sender: {id: (stream.open, stream.credit) for id, stream in found.items()}
        for sender, found in connection._streams.items()
    }


def snapshot(connection: Connection) -> Any:
    """Return a copy of all that a connection remembers of the conversation."""
    apart = ("reader", "_writer", "_streams")
    own = {key: value for key, value in vars(connection).items() if key not in apart}
    limits = connection._writer.max_frame, connection.reader.max_frame
    return copy.deepcopy((own, streams(connection), limits, connection.reader.buffered))


def turns(text: str) -> list[tuple[str, str, bytes]]:
    """Return the turns of a conversation that a document shows in hexadecimal.

    Each turn is the sender, the name of the kind, and the bytes. The bytes are empty at the end of a stream.
    """
    found = []
    for block in re.split(r"^# ", text, flags=re.M)[1:]:
        title, *lines = block.splitlines()
        match = re.fullmatch(r"(init|runtime) -> (?:init|runtime): (\w+).*", title)
        if match:
            data = bytes.fromhex("".join(line.partition("|")[0] for line in lines))
            found.append((match[1], match[2], data))
    return found
