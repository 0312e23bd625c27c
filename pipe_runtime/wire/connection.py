"""Turn bytes into frames and frames into bytes, and check that each side sends only frames that it may send now.

The init and the runtime both use the class Connection. The table TRANSITIONS defines the order of all frames. For any
bytes in any pieces, `next_frame` returns a frame, None or END_OF_STREAM, or it raises a ProtocolError. After an error,
every later call raises the same error. This module does no input or output. It must not know processes or time.
"""

from __future__ import annotations

from .errors import LocalProtocolError, ProtocolError, TruncatedStream
from .frames import MAX_FRAME, MAX_HEAD, Frame, FrameReader, FrameWriter
from .messages import (
    CANCEL,
    CHUNK,
    CREDIT,
    DUMP,
    END,
    ERROR,
    HELLO,
    INVOKE,
    LOG,
    NAMES,
    READY,
    RESULT,
    STOP,
    VERSION,
    check,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

INIT = "init"
RUNTIME = "runtime"

NEW = "NEW"
OPEN = "OPEN"
STOPPING = "STOPPING"
STARTING = "STARTING"
SERVING = "SERVING"
FAILED = "FAILED"
CLOSED = "CLOSED"

EOF = -1
"""In TRANSITIONS: the side closes its stream."""
FATAL = -2
"""In TRANSITIONS: an ERROR with id 0. After it, the runtime sends no other frame."""

_FOR_REQUESTS = (CHUNK, END, CREDIT, CANCEL, DUMP)
_OUTCOMES_AND_STREAMS = (LOG, RESULT, ERROR, CHUNK, END, CREDIT, DUMP)

TRANSITIONS: dict[str, dict[str, dict[int, str]]] = {
    INIT: {
        NEW: {HELLO: OPEN, EOF: CLOSED},
        OPEN: {INVOKE: OPEN, **dict.fromkeys(_FOR_REQUESTS, OPEN), STOP: STOPPING, EOF: CLOSED},
        STOPPING: {**dict.fromkeys(_FOR_REQUESTS, STOPPING), EOF: CLOSED},
        CLOSED: {},
    },
    RUNTIME: {
        NEW: {HELLO: STARTING, EOF: CLOSED},
        STARTING: {LOG: STARTING, READY: SERVING, FATAL: FAILED, EOF: CLOSED},
        SERVING: {**dict.fromkeys(_OUTCOMES_AND_STREAMS, SERVING), FATAL: FAILED, EOF: CLOSED},
        FAILED: {EOF: CLOSED},
        CLOSED: {},
    },
}
"""{role: {state of that side: {kind that it sends: its next state}}}. Sending any other kind is a protocol error."""

BASE_WINDOW_REQUESTS = 1
BASE_WINDOW_BYTES = 1024 * 1024
"""The window that applies until the runtime's HELLO sets another. A window limits the requests without an outcome: how
many they are, and how many bytes their payloads have together. A single request may have any size."""

MAX_CHUNK = 64 * 1024
"""The most bytes that one CHUNK may carry."""

MAX_CONCURRENCY = 1024
"""The most requests that this runtime serves at the same time."""

STREAM_BYTES = 256 * 1024
"""The credit that the HELLOs of the init and the runtime grant: the most bytes of a stream that its reader buffers."""

CHUNK_OVERHEAD = 16
"""The most bytes that a CHUNK's frame length counts besides the payload: the u32 for the head's length, and a head with
a 64-bit id. Because of them, a CHUNK of MAX_CHUNK bytes does not fit into the smallest max_frame."""

MAX_CREDIT = 2**31 - 1
"""The largest credit of a stream, in bytes. HTTP/2 has the same limit (RFC 9113, 6.9.1)."""

CROSSING = frozenset((CANCEL, CHUNK, END, CREDIT))
"""Kinds that the init may send for a request before it reads the outcome. After the outcome, the runtime drops them."""

MIN_MAX_FRAME = 4 + MAX_HEAD
"""The smallest max_frame that a HELLO may have: the largest head fits in. Until the runtime has read the init's HELLO,
it sends no larger frame. Until the init has read the runtime's HELLO, it may send one INVOKE of up to MAX_FRAME."""


class EndOfStream:
    """The class of END_OF_STREAM, which stands for the end of the peer's stream after a complete frame."""


END_OF_STREAM = EndOfStream()


class _Stream:
    """The streamed body of a request, or of its result.

    Attributes:
        open: True until the sender has sent END.
        credit: How many bytes the sender may send now.
    """

    __slots__ = ("open", "credit")

    def __init__(self, credit: int) -> None:
        self.open = True
        self.credit = credit


class Connection:
    """The state of a conversation, as one side knows it.

    Attributes:
        role: INIT or RUNTIME, the side that uses this object.
        open_requests: {id: payload size in bytes} of the requests that have no outcome yet, oldest first.
        reader: Cuts the received bytes into frames. `reader.buffered` is how many bytes are not returned as frames yet.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self.peer = RUNTIME if role == INIT else INIT
        self.states = {INIT: NEW, RUNTIME: NEW}
        self.open_requests: dict[int, int] = {}
        self._open_bytes = 0
        self._last_id = 0
        self._window = (BASE_WINDOW_REQUESTS, BASE_WINDOW_BYTES)
        self._versions: dict[str, list[int]] = {}
        # The keys are the senders. _granted has the credit that a side's HELLO grants to each stream of its peer.
        self._streams: dict[str, dict[int, _Stream]] = {INIT: {}, RUNTIME: {}}
        self._granted = {INIT: 0, RUNTIME: 0}
        self._concurrency = 1
        self.reader = FrameReader(check)
        self._writer = FrameWriter()
        if role == RUNTIME:
            self._writer.max_frame = MIN_MAX_FRAME
        self._max_frame = MAX_FRAME
        self._failure: ProtocolError | None = None
        self._ended = False

    def send(
        self,
        kind: int,
        id: int = 0,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> bytes:
        """Return the bytes of a frame that this side may send now.

        Args:
            trusted: Whether to skip the check of the metadata's keys and types. The peer checks them anyway.

        Raises:
            LocalProtocolError: The protocol does not allow this frame now. Nothing has changed.
        """
        fields = {} if metadata is None else metadata
        try:
            if not trusted:
                check(kind, fields)
            data = self._writer.encode(kind, id, fields, payload)
            self._advance(self.role, kind, id, len(payload), fields)
        except LocalProtocolError:
            raise
        except ProtocolError as error:
            raise LocalProtocolError(str(error)) from None
        return data

    def receive(self, data: bytes) -> None:
        """Buffer bytes from the peer, for `next_frame`. The bytes b"" mean that the peer's stream has ended."""
        if data:
            if not self._failure:
                self.reader.feed(data)
        else:
            self._ended = True

    def next_frame(self, data: bytes | None = None) -> Frame | EndOfStream | None:
        """Return the next frame. After the last frame, return END_OF_STREAM once. Return None if more bytes must come.

        Args:
            data: Bytes from the peer, to buffer first, as `receive` does.

        Raises:
            ProtocolError: The peer broke the protocol. Every later call raises the same error.
        """
        if self._failure:
            raise self._failure.with_traceback(None)  # without this, each raise would make the traceback longer
        if data is None:
            data = b""
        elif not data:
            self._ended = True
        try:
            while True:
                frame = self.reader.next_frame(data)
                if frame is None:
                    return self._end_of_stream() if self._ended else None
                self._advance(self.peer, frame.kind, frame.id, len(frame.payload), frame.metadata)
                if self.role == INIT or frame.kind not in CROSSING or frame.id in self.open_requests:
                    return frame
                data = b""  # drop the frame: the init sent it before it read the request's outcome
        except ProtocolError as error:
            self._failure = error
            raise

    def room_for(self, size: int) -> bool:
        """Return whether a request with `size` bytes of payload may be sent now, without waiting for an outcome."""
        if not self.open_requests:
            return True
        requests, total = self._window
        return len(self.open_requests) < requests and self._open_bytes + size <= total

    def stream_credit(self, id: int) -> int:
        """Return how many bytes this side's next CHUNK for the request may have; 0 if this side has no open stream."""
        stream = self._streams[self.role].get(id)
        if stream is None or not stream.open or CHUNK not in TRANSITIONS[self.role][self.states[self.role]]:
            return 0
        return min(stream.credit, MAX_CHUNK, self._writer.max_frame - CHUNK_OVERHEAD)

    def answer_begun(self, id: int) -> bool:
        """Return whether the runtime has begun a streamed result for the request. If so, its outcome must be an END."""
        return id in self._streams[RUNTIME]

    def _end_of_stream(self) -> EndOfStream | None:
        if self.reader.buffered:
            raise TruncatedStream("the stream ended inside a frame")
        if self.states[self.peer] == CLOSED:
            return None
        self.states[self.peer] = CLOSED
        return END_OF_STREAM

    def _advance(self, role: str, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """Check a frame that `role` sends, with `size` bytes of payload, and update the state of the conversation.

        Raises:
            ProtocolError: `role` may not send this frame now. The state has not changed.
        """
        following = TRANSITIONS[role][self.states[role]].get(kind if id or kind != ERROR else FATAL)
        if following is None:
            raise ProtocolError(f"{NAMES[kind]} (id {id}) from the {role} in state {self.states[role]}")
        if kind == INVOKE:
            streamed = metadata.get("stream")
            if id <= self._last_id or self.open_requests:
                self._check_room(id, size)
            if streamed and size:
                raise ProtocolError("INVOKE with a stream and a payload")
            if not self._last_id:
                self.reader.max_frame = self._max_frame
            self._last_id = id
            self.open_requests[id] = size
            self._open_bytes += size
            if streamed:
                self._streams[INIT][id] = _Stream(self._granted[RUNTIME])
        elif kind == RESULT or kind == ERROR or kind == LOG:
            if id and id not in self.open_requests:
                raise ProtocolError(f"{NAMES[kind]} for id {id}, which is not waiting for an outcome")
            if size and kind == ERROR:
                raise ProtocolError("ERROR with a payload")
            if kind == RESULT and not id:
                raise ProtocolError("RESULT with id 0")
            if id and kind != LOG:
                if self._streams[RUNTIME] or self._streams[INIT] or "stream" in metadata:
                    self._advance_answer(kind, id, size, metadata)
                else:
                    self._open_bytes -= self.open_requests.pop(id)
        elif kind == CHUNK or kind == END or kind == CREDIT:
            self._advance_stream(role, kind, id, size, metadata)
        else:
            self._advance_rare(role, kind, id, size, metadata)
        self.states[role] = following

    def _check_room(self, id: int, size: int) -> None:
        """Raise ProtocolError if no request with this id and `size` bytes may be sent now."""
        if id <= self._last_id:
            raise ProtocolError(f"INVOKE with id {id}, which is not above the last one, {self._last_id}")
        if not self.room_for(size):
            requests, total = self._window
            raise ProtocolError(f"INVOKE {id} beyond the window of {requests} requests, {total} bytes")

    def _advance_answer(self, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """Apply a RESULT or an ERROR while any stream is open. It is an outcome, or it begins the result's stream."""
        if id in self._streams[RUNTIME]:
            raise ProtocolError(f"{NAMES[kind]} for id {id}, whose RESULT has a stream")
        if kind == RESULT and metadata.get("stream"):
            if size:
                raise ProtocolError("RESULT with a stream and a payload")
            self._streams[RUNTIME][id] = _Stream(self._granted[INIT])
        else:
            self._end_request(id)

    def _advance_stream(self, role: str, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """Apply a CHUNK, an END or a CREDIT. Raise ProtocolError if the request's streams do not allow it."""
        if kind == CHUNK:
            if not 0 < size <= MAX_CHUNK:
                raise ProtocolError(f"CHUNK with {size} bytes instead of 1 to {MAX_CHUNK}")
        elif size:
            raise ProtocolError(f"{NAMES[kind]} with a payload")
        if id not in self.open_requests:
            if role == INIT and self.role == RUNTIME and 0 < id <= self._last_id:
                return  # the init sent it before it read the outcome
            raise ProtocolError(f"{NAMES[kind]} for id {id}, which is not waiting for an outcome")
        sender = role if kind != CREDIT else (RUNTIME if role == INIT else INIT)
        stream = self._streams[sender].get(id)
        if stream is None or not (stream.open or kind == CREDIT):
            raise ProtocolError(f"{NAMES[kind]} from the {role} for id {id}, where it has no stream")
        if kind == CHUNK:
            if size > stream.credit:
                raise ProtocolError(f"CHUNK for id {id} with {size} bytes and a credit of {stream.credit}")
            stream.credit -= size
        elif kind == CREDIT:
            if metadata["bytes"] > MAX_CREDIT - stream.credit:
                raise ProtocolError(f"CREDIT for id {id} beyond {MAX_CREDIT} bytes")
            stream.credit += metadata["bytes"]
        elif role == INIT:
            stream.open = False
        else:
            if ("error_type" in metadata) != ("error_message" in metadata):
                raise ProtocolError("END with one of error_type and error_message, without the other")
            self._end_request(id)

    def _end_request(self, id: int) -> None:
        """Remove a request that now has its outcome, and remove its streams."""
        self._open_bytes -= self.open_requests.pop(id)
        for streams in self._streams.values():
            streams.pop(id, None)

    def _advance_rare(self, role: str, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """Apply CANCEL, HELLO, READY, DUMP or STOP. None of them has a payload, and only CANCEL has an id."""
        if size:
            raise ProtocolError(f"{NAMES[kind]} with a payload")
        if kind == CANCEL:
            if not 0 < id <= self._last_id:
                raise ProtocolError(f"CANCEL of id {id}, which was never invoked")
        elif id:
            raise ProtocolError(f"{NAMES[kind]} with id {id} instead of 0")
        elif kind == HELLO:
            self._check_hello(role, metadata)
            self._greeted(role, metadata)
        elif kind == READY and not 1 <= metadata.get("concurrency", 1) <= self._concurrency:
            raise ProtocolError(f"READY whose concurrency is not between 1 and HELLO's {self._concurrency}")

    def _check_hello(self, role: str, metadata: Mapping[str, Any]) -> None:
        """Raise ProtocolError unless the two sides have a version in common and each limit is in its range."""
        versions = metadata["versions"]
        if not versions or any(type(version) is not int or version < 0 for version in versions):
            raise ProtocolError("HELLO whose versions are not unsigned integers")
        known = self._versions.get(RUNTIME if role == INIT else INIT, [VERSION])
        if not set(versions) & set(known):
            spoken = f"{versions[:8]}; the other side {known[:8]}"
            raise ProtocolError(f"the {role} speaks protocol versions {spoken}")
        if not MIN_MAX_FRAME <= metadata.get("max_frame", MAX_FRAME) <= 0xFFFFFFFF:
            raise ProtocolError(f"HELLO whose max_frame is not between {MIN_MAX_FRAME} and {0xFFFFFFFF}")
        if metadata.get("window_requests", 1) < 1:
            raise ProtocolError("HELLO whose window_requests is 0")
        if metadata.get("concurrency", 1) < 1:
            raise ProtocolError("HELLO whose concurrency is 0")
        if metadata.get("stream_bytes", 0) > MAX_CREDIT:
            raise ProtocolError(f"HELLO whose stream_bytes is above {MAX_CREDIT}")

    def _greeted(self, role: str, metadata: Mapping[str, Any]) -> None:
        self._versions[role] = list(metadata["versions"])
        max_frame = metadata.get("max_frame", MAX_FRAME)
        if role == self.role:
            self._max_frame = max_frame
            # The init may have sent its first INVOKE before it knew this limit.
            waits = role == RUNTIME and not self._last_id
            self.reader.max_frame = max(max_frame, MAX_FRAME) if waits else max_frame
        else:
            self._writer.max_frame = max_frame
        self._granted[role] = metadata.get("stream_bytes", 0)
        if role == INIT:
            self._concurrency = metadata.get("concurrency", 1)
        if role == RUNTIME:
            for stream in self._streams[INIT].values():  # these streams began before this HELLO
                stream.credit = self._granted[RUNTIME]
            requests = metadata.get("window_requests", BASE_WINDOW_REQUESTS)
            self._window = (requests, metadata.get("window_bytes", BASE_WINDOW_BYTES))
