"""One conversation, without input or output: bytes in, frames out, and who may say what when.

Both ends use the same class; the two transition tables below are the protocol's whole order. Whatever bytes
come, in whatever pieces, the result is a frame, "more, please", the end, or one ProtocolError that every
later call repeats.
This file knows nothing of descriptors, processes or time.
"""

from __future__ import annotations

from .errors import LocalProtocolError, ProtocolError, TruncatedStream
from .frames import MAX_FRAME, MAX_HEAD, Frame, FrameReader, FrameWriter
from .messages import (
    CANCEL,
    DUMP,
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
"""In the tables: the side has closed its stream."""
FATAL = -2
"""In the tables: ERROR with id 0, the runtime's last word."""

TRANSITIONS: dict[str, dict[str, dict[int, str]]] = {
    INIT: {
        NEW: {HELLO: OPEN, EOF: CLOSED},
        OPEN: {INVOKE: OPEN, CANCEL: OPEN, DUMP: OPEN, STOP: STOPPING, EOF: CLOSED},
        STOPPING: {CANCEL: STOPPING, DUMP: STOPPING, EOF: CLOSED},
        CLOSED: {},
    },
    RUNTIME: {
        NEW: {HELLO: STARTING, EOF: CLOSED},
        STARTING: {LOG: STARTING, READY: SERVING, FATAL: FAILED, EOF: CLOSED},
        SERVING: {LOG: SERVING, RESULT: SERVING, ERROR: SERVING, DUMP: SERVING, FATAL: FAILED, EOF: CLOSED},
        FAILED: {EOF: CLOSED},
        CLOSED: {},
    },
}
"""role: {state of that side: {what that side sends: its next state}}. The rest is a protocol error."""

BASE_WINDOW_REQUESTS = 1
BASE_WINDOW_BYTES = 1024 * 1024
"""What may wait unanswered before the runtime's HELLO says how much. One request always may, of any size."""

MIN_MAX_FRAME = 4 + MAX_HEAD
"""No side may announce a limit that cannot hold the largest head. A runtime that has not read the init's
HELLO sends nothing larger; the init may send its first INVOKE, of MAX_FRAME at most, before it reads the
runtime's."""


class End:
    """The event at the end of the peer's stream, between two frames."""

    def __repr__(self) -> str:
        return "END_OF_STREAM"


END_OF_STREAM = End()


class Connection:
    """One side's view of a conversation.

    role: INIT or RUNTIME, the side that this object is.
    open_requests: {id: payload size in bytes} of what was invoked and has no outcome yet, oldest first.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self.peer = RUNTIME if role == INIT else INIT
        self.states = {INIT: NEW, RUNTIME: NEW}
        self._allowed = {INIT: TRANSITIONS[INIT][NEW], RUNTIME: TRANSITIONS[RUNTIME][NEW]}
        self.open_requests: dict[int, int] = {}
        self._open_bytes = 0
        self._last_id = 0
        self._window = (BASE_WINDOW_REQUESTS, BASE_WINDOW_BYTES)
        self._versions: dict[str, list[int]] = {}
        self._reader = FrameReader(check)
        self._writer = FrameWriter()
        if role == RUNTIME:
            self._writer.max_frame = MIN_MAX_FRAME
        self._max_frame = MAX_FRAME
        self._failure: ProtocolError | None = None
        self._ended = False

    @property
    def version(self) -> int | None:
        """The version that both sides speak, None until both have said HELLO."""
        if len(self._versions) < 2:
            return None
        return max(set(self._versions[INIT]) & set(self._versions[RUNTIME]))

    @property
    def buffered(self) -> int:
        """Bytes that were received and not yet given out as events."""
        return self._reader.buffered

    def send(
        self,
        kind: int,
        id: int = 0,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> bytes:
        """The bytes of a frame that this side may send now.

        trusted: the caller answers for the metadata's keys and types; the peer refuses wrong ones.
        LocalProtocolError: it may not, or not so. Nothing has changed then.
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
        """Take bytes that came from the peer; b"" says that its stream has ended. Then ask for events."""
        if data:
            if not self._failure:
                self._reader.feed(data)
        else:
            self._ended = True

    def receive_event(self, data: bytes) -> Frame | End | None:
        """`receive`, then `next_event`: quicker than the two when `data` is just one frame."""
        frame = None if self._failure else self._reader.only_frame(data)
        if frame is None or frame.kind == CANCEL:
            self.receive(data)
            return self.next_event()
        try:
            self._advance(self.peer, frame.kind, frame.id, len(frame.payload), frame.metadata)
        except ProtocolError as error:
            self._failure = error
            raise
        return frame

    def next_event(self) -> Frame | End | None:
        """The next frame, END_OF_STREAM once after the last, or None: more bytes are needed.

        ProtocolError: the peer broke the protocol; from then on every call raises the same.
        """
        if self._failure:
            raise self._failure.with_traceback(None)  # each raise would add to the traceback
        try:
            while True:
                frame = self._reader.next_frame()
                if frame is None:
                    return self._end_of_stream() if self._ended else None
                self._advance(self.peer, frame.kind, frame.id, len(frame.payload), frame.metadata)
                if frame.kind != CANCEL or frame.id in self.open_requests:
                    return frame  # a CANCEL that comes after the outcome is none
        except ProtocolError as error:
            self._failure = error
            raise

    def room_for(self, size: int) -> bool:
        """Whether a request with a payload of `size` bytes may be sent now without waiting for an outcome."""
        if not self.open_requests:
            return True
        requests, total = self._window
        return len(self.open_requests) < requests and self._open_bytes + size <= total

    def _end_of_stream(self) -> End | None:
        if self._reader.buffered:
            raise TruncatedStream("the stream ended inside a frame")
        if self.states[self.peer] == CLOSED:
            return None
        self._enter(self.peer, CLOSED)
        return END_OF_STREAM

    def _advance(self, role: str, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """`role` sends a frame of this kind and id, with this much payload.

        ProtocolError: it may not; nothing has changed then.
        """
        following = self._allowed[role].get(kind if id or kind != ERROR else FATAL)
        if following is None:
            raise ProtocolError(f"{NAMES[kind]} (id {id}) from the {role} in state {self.states[role]}")
        if kind == INVOKE:
            if id <= self._last_id or self.open_requests:
                self._check_room(id, size)
            if not self._last_id:
                self._reader.max_frame = self._max_frame
            self._last_id = id
            self.open_requests[id] = size
            self._open_bytes += size
        elif kind == RESULT or kind == ERROR or kind == LOG:
            if id and id not in self.open_requests:
                raise ProtocolError(f"{NAMES[kind]} for id {id}, which is not waiting for an outcome")
            if size and kind == ERROR:
                raise ProtocolError("ERROR with a payload")
            if kind == RESULT and not id:
                raise ProtocolError("RESULT with id 0")
            if id and kind != LOG:
                self._open_bytes -= self.open_requests.pop(id)
        else:
            self._advance_seldom(role, kind, id, size, metadata)
        if following is not self.states[role]:
            self._enter(role, following)

    def _enter(self, role: str, state: str) -> None:
        self.states[role] = state
        self._allowed[role] = TRANSITIONS[role][state]

    def _check_room(self, id: int, size: int) -> None:
        """ProtocolError: no request with this id and so many bytes may be sent now."""
        if id <= self._last_id:
            raise ProtocolError(f"INVOKE with id {id}, which is not above the last one, {self._last_id}")
        if not self.room_for(size):
            requests, total = self._window
            raise ProtocolError(f"INVOKE {id} beyond the window of {requests} requests, {total} bytes")

    def _advance_seldom(self, role: str, kind: int, id: int, size: int, metadata: Mapping[str, Any]) -> None:
        """The kinds that no request needs: without a payload, and without an id but for CANCEL."""
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

    def _check_hello(self, role: str, metadata: Mapping[str, Any]) -> None:
        """ProtocolError unless the two sides have a version in common and the limits make sense."""
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

    def _greeted(self, role: str, metadata: Mapping[str, Any]) -> None:
        self._versions[role] = list(metadata["versions"])
        max_frame = metadata.get("max_frame", MAX_FRAME)
        if role == self.role:
            self._max_frame = max_frame
            # Of the init's frames, the first INVOKE may have been sent without knowing this limit.
            waits = role == RUNTIME and not self._last_id
            self._reader.max_frame = max(max_frame, MAX_FRAME) if waits else max_frame
        else:
            self._writer.max_frame = max_frame
        if role == RUNTIME:
            requests = metadata.get("window_requests", BASE_WINDOW_REQUESTS)
            self._window = (requests, metadata.get("window_bytes", BASE_WINDOW_BYTES))
