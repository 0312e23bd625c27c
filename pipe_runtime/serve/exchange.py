"""Hold a request and its answer if either is more than one payload: streamed bodies, HTTP functions, iterators.

This module moves bodies in pieces, within the credit that each side has. It must not know descriptors or threads: a
Line sends frames and waits. What a request means is the adapters' and event_function.py's part.
"""

from __future__ import annotations

import io

from ..namespace import late
from ..wire.connection import STREAM_BYTES
from ..wire.frames import LARGEST_PAYLOAD
from ..wire.messages import CANCEL, CHUNK, CREDIT, END, RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any, Protocol

    from ..call.context import Context
    from ..wire.frames import Frame

    class Sender(Protocol):
        """The way to the init."""

        def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
            """Send a frame; as Outbox.post."""

        def credit(self, id: int) -> int:
            """Return how many bytes of the answer's stream may be sent now."""

    class Line(Sender, Protocol):
        """The way to the init and back, for code that waits."""

        def look(self) -> None:
            """Read the frames that have come, without waiting. It is cheap enough to be called for every item."""

        def wait(self, exchange: Incoming, seen: int) -> None:
            """Wait until something may have come for `exchange`: until its `news` is no longer `seen`."""


MAX_BODY = 1024 * 1024 * 1024
"""The most bytes of a streamed event that a function takes whole, and of a result that is sent in pieces."""

LOOK_SECONDS = 0.001
"""Seconds between two checks for frames while a function runs without waiting: one system call in a millisecond.
Otherwise each item costs one look at the clock.
"""

GIVEN_UP = "the caller has given up on this request"


class CallerGone(BrokenPipeError):
    """The caller has given up on the request: its body will not come, and its answer is not wanted."""


class Incoming:
    """What the init sends for one request, and the answer so far. The code that reads frames hands them to it.

    Args:
        payload: The whole body, unless it is streamed or `give` brings it.
        sender: Sends the frames of the answer.

    Attributes:
        id: The id of the request's frames.
        request: INVOKE's metadata.
        news: How many times something has come.
        begun: Whether a streamed answer has begun.
        gone: Whether nothing more will come, because the init's stream has ended or the request has its outcome.
    """

    def __init__(self, id: int, request: dict[str, Any], payload: bytes, sender: Sender) -> None:
        self._sender = sender
        self.id = id
        self.request = request
        self.context: Context
        self.cancelled = False
        self.gone = False
        self.news = 0
        self.streamed = bool(request.get("stream"))
        self.begun = False
        self._pieces: deque[bytes] = late.collections.deque([payload] if payload else [])
        self._ended = not self.streamed
        self._taken = 0
        self._outcome: tuple[int, dict[str, Any], bytes]
        self._large = b""

    def give(self, payload: bytes) -> None:
        """Take the whole body."""
        self._pieces.append(payload)

    def hear(self, frame: Frame) -> None:
        """Take a frame for this request: CHUNK, END, CREDIT or CANCEL."""
        if frame.kind == CHUNK:
            self._pieces.append(frame.payload)
        elif frame.kind == END:
            self._ended = True
        elif frame.kind == CANCEL:
            self.cancelled = True
        self.news += 1

    def hang_up(self) -> None:
        """Take note that nothing more will come."""
        self.gone = True
        self.news += 1

    def begin(self, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Begin an answer that comes in pieces."""
        self._outcome = (END, {}, b"")
        self._sender.post(RESULT, self.id, {**_head(content_type, http), "stream": True})
        self.begun = True

    def respond(self, body: bytes, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Set the whole answer. It is sent when the adapter has returned, in pieces if it is larger than a frame."""
        if len(body) > LARGEST_PAYLOAD:
            self.begin(content_type, http)
            self._large = body
        else:
            self._outcome = (RESULT, _head(content_type, http), body)

    def outcome(self) -> tuple[int, dict[str, Any], bytes]:
        """Return the frame that ends the exchange. The adapter has returned, and has answered once."""
        return self._outcome

    def _send_some(self, data: bytes, start: int) -> int:
        """Send a piece of the answer, as large as the credit allows. Return how far `data` is sent."""
        room = 0 if self.cancelled else self._sender.credit(self.id)
        if room:
            self._sender.post(CHUNK, self.id, {}, data[start : start + room])
        return start + room

    def _next_piece(self, size: int = -1) -> bytes | None:
        """Return up to `size` bytes of the body, b"" at its end, None if nothing has come yet."""
        if not self._pieces:
            return b"" if self._ended else None
        piece = self._pieces.popleft()
        if 0 <= size < len(piece):
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        self._taken += len(piece)
        return piece

    def _give_credit(self) -> None:
        """Let the init send as much as was taken. That is not done for every piece, to save frames."""
        if self.streamed and not (self._ended or self.gone) and self._taken >= STREAM_BYTES // 2:
            due, self._taken = self._taken, 0
            self._sender.post(CREDIT, self.id, {"bytes": due})


class Exchange(Incoming):
    """One request, for code that waits: a generator, a WSGI application, a function that reads a stream."""

    def __init__(self, id: int, request: dict[str, Any], payload: bytes, line: Line) -> None:
        super().__init__(id, request, payload, line)
        self._line = line
        self.body = Body(self)

    def outcome(self) -> tuple[int, dict[str, Any], bytes]:
        """Send what `respond` could not, then do the same."""
        large, self._large = self._large, b""
        if large:
            self.write(large)
        return super().outcome()

    def check(self) -> None:
        """Check for a cancellation between two items, even if nothing is sent for them.

        Raises:
            CallerGone: The request was cancelled.
        """
        self._line.look()
        if self.cancelled:
            raise CallerGone(GIVEN_UP)

    def write(self, data: bytes) -> None:
        """Send a piece of the answer, as soon as the other side takes it.

        Raises:
            CallerGone: The caller has given up on the request.
        """
        self.check()
        start, size = 0, len(data)
        while start < size:
            seen, sent = self.news, self._send_some(data, start)
            if sent == start:
                self._wait(seen)
            start = sent

    def take(self, size: int) -> bytes:
        """Return up to `size` bytes of the body as soon as there are any, b"" at its end.

        Args:
            size: -1 for a piece as it came.

        Raises:
            CallerGone: The caller has given up on the request, or nothing more will come.
        """
        self.check()
        while True:
            seen = self.news
            piece = self._next_piece(size)
            if piece is not None:
                break
            self._wait(seen)
        self._give_credit()
        return piece

    def _wait(self, seen: int) -> None:
        if self.cancelled or self.gone:
            raise CallerGone(GIVEN_UP)
        self._line.wait(self, seen)


def _head(content_type: str, http: dict[str, Any] | None) -> dict[str, Any]:
    """Return RESULT's metadata."""
    return {"content_type": content_type} if http is None else {"content_type": content_type, "http": http}


class Body(io.RawIOBase):
    """A request's body as a file to read from."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what has come. Wait for at least one byte, unless the body is at its end."""
        view = memoryview(buffer).cast("B")
        data = self._exchange.take(len(view)) if view else b""
        view[: len(data)] = data
        return len(data)

    def whole(self) -> bytes:
        """Return all of it.

        Raises:
            MemoryError: It has more than MAX_BODY bytes.
        """
        pieces, size = [], 0
        while piece := self._exchange.take(-1):
            size += len(piece)
            if size > MAX_BODY:
                raise MemoryError(f"the event has more than {MAX_BODY} bytes")
            pieces.append(piece)
        return b"".join(pieces)
