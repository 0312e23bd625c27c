"""Hold a request and its answer if either is more than one payload: streamed bodies, HTTP functions, iterators.

This module moves bodies in pieces, within the credit that each side has. It must not know descriptors, threads or
tasks: a Line sends and waits. What a request means is the part of the adapters and of event_function.py.
"""

from __future__ import annotations

import io

from ..namespace import late
from ..wire.connection import STREAM_BYTES
from ..wire.frames import LARGEST_PAYLOAD
from ..wire.messages import CANCEL, CHUNK, CREDIT, END, RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections import deque
    from collections.abc import Awaitable, Coroutine
    from typing import Any, Protocol, TypeVar

    from .context import Context

    T = TypeVar("T")

    class Line(Protocol):
        """The way to the init and back.

        A Line for a thread waits in its methods, which return None. A Line for a task returns what the task awaits.

        Attributes:
            cancels: Whether a cancelled request raises CallerGone. An ASGI application gets a message instead.
        """

        cancels: bool

        def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
            """Send a frame; as Outbox.post."""

        def credit(self, id: int) -> int:
            """Return how many bytes of the answer's stream may be sent now."""

        def look(self) -> Awaitable[object] | None:
            """Read the frames that have come. It is cheap enough to be called for every item."""

        def wait(self, exchange: Exchange, seen: int) -> Awaitable[object] | None:
            """Wait until something may have come for `exchange`: until its `news` is no longer `seen`."""

        def tell(self, exchange: Exchange) -> None:
            """Wake what waits for `exchange`, because something has come for it."""


MAX_BODY = 1024 * 1024 * 1024
"""The most bytes of a streamed event that a function takes whole, and of a result that is sent in pieces."""

LOOK_SECONDS = 0.001
"""Seconds between two checks for frames while a function runs without waiting: one system call in a millisecond.
Otherwise each item costs one look at the clock.
"""

NO_EVENT = b"{}"
"""The event of a request whose caller gave none. To an HTTP application that is the same as no body."""

GIVEN_UP = "the caller has given up on this request"


class CallerGone(BrokenPipeError):
    """The caller has given up on the request: its body will not come, and its answer is not wanted."""


class Exchange:
    """One request and its answer. The code that reads frames hands it what the init sends for the request.

    A task awaits its coroutines. A thread calls them through `at_once`.

    Args:
        payload: The body, or what is known of it.
        line: Sends the frames of the answer, and waits.

    Attributes:
        id: The id of the request's frames.
        request: INVOKE's metadata.
        news: How many times something has come.
        heard: Set whenever something has come; only for a task.
        started: When its task began, a perf_counter_ns().
        begun: Whether a streamed answer has begun.
        gone: Whether nothing more will come, because the init's stream has ended or the request has its outcome.
    """

    context: Context
    heard: asyncio.Event
    started: int

    def __init__(self, id: int, request: dict[str, Any], payload: bytes, line: Line) -> None:
        self._line = line
        self.id = id
        self.request = request
        self.cancelled = False
        self.gone = False
        self.news = 0
        self.begun = False
        self._pieces: deque[bytes] = late.collections.deque([payload] if payload else [])
        self._streamed = bool(request.get("stream"))
        self._ended = not self._streamed
        self._taken = 0
        self._outcome: tuple[int, dict[str, Any], bytes] | None = None
        self._large = b""

    def hear(self, kind: int, payload: bytes) -> None:
        """Take what has come for this request: CHUNK, END, CREDIT or CANCEL."""
        if kind == CHUNK:
            self._pieces.append(payload)
        elif kind == END:
            self._ended = True
        elif kind == CANCEL:
            self.cancelled = True
        self.news += 1
        self._line.tell(self)

    def hang_up(self) -> None:
        """Take note that nothing more will come."""
        self.gone = True
        self.news += 1
        self._line.tell(self)

    # The body

    async def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes of the body as soon as there are any, b"" at its end.

        Args:
            size: -1 for a piece as it came.

        Raises:
            CallerGone: The caller has given up on the request, or nothing more will come.
        """
        if self._streamed:
            await self.check()
        while True:
            seen, ended = self.news, self._ended  # before the look at what is there: another thread may hear a frame
            if self._pieces:
                break
            if ended or not await self._wait(seen):
                return b""
        piece = self._pieces.popleft()
        if 0 <= size < len(piece):
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        self._taken += len(piece)
        # Not for every piece, to save frames.
        if not (self._ended or self.gone) and self._taken >= STREAM_BYTES // 2:
            due, self._taken = self._taken, 0
            self._line.post(CREDIT, self.id, {"bytes": due})
        return piece

    async def whole(self) -> bytes:
        """Return all of the body.

        Raises:
            CallerGone: As read.
            MemoryError: It has more than MAX_BODY bytes.
        """
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_BODY:
                raise MemoryError(f"the event has more than {MAX_BODY} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def http_map(self) -> dict[str, Any]:
        """Return the request's `http` map. Call it before the body is read.

        Without a map the request is GET / if its payload is empty or NO_EVENT. Otherwise it is POST / with the payload
        as its body, and with its content type as the only header.
        """
        http: dict[str, Any] | None = self.request.get("http")
        if http is not None:
            return http
        start = b""
        while len(start) <= len(NO_EVENT) and (piece := await self.read()):
            start += piece
        if start in (b"", NO_EVENT):
            return {}
        self._pieces.appendleft(start)
        self._taken -= len(start)
        return {"method": "POST", "headers": [["content-type", self.request["content_type"]]]}

    # The answer

    def begin(self, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Begin an answer that comes in pieces."""
        self._outcome = (END, {}, b"")
        self._line.post(RESULT, self.id, {**_head(content_type, http), "stream": True})
        self.begun = True

    def respond(self, body: bytes, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Set the whole answer. It is sent when the adapter has returned, in pieces if it is larger than a frame."""
        if len(body) > LARGEST_PAYLOAD:
            self.begin(content_type, http)
            self._large = body
        else:
            self._outcome = (RESULT, _head(content_type, http), body)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer, as soon as the other side takes it.

        Raises:
            CallerGone: The caller has given up on the request.
        """
        await self.check()
        start, size = 0, len(data)
        while start < size:
            seen = self.news
            room = 0 if self.cancelled else self._line.credit(self.id)
            if room:
                self._line.post(CHUNK, self.id, {}, data[start : start + room])
                start += room
            elif not await self._wait(seen):
                return

    async def outcome(self) -> tuple[int, dict[str, Any], bytes]:
        """Send what `respond` could not. Return the frame that ends the exchange. The adapter has returned.

        Raises:
            CallerGone: The adapter has not answered, because the request was cancelled.
        """
        large, self._large = self._large, b""
        if large:
            await self.write(large)
        if self._outcome is None:
            raise CallerGone(GIVEN_UP)
        return self._outcome

    # Waiting

    async def check(self) -> None:
        """Check for a cancellation between two steps, even if nothing is sent or read.

        Raises:
            CallerGone: The request was cancelled.
        """
        turn = self._line.look()
        if turn is not None:
            await turn
        if self.cancelled and self._line.cancels:
            raise CallerGone(GIVEN_UP)

    async def until_cancelled(self) -> None:
        """Return when the caller has given up on the request."""
        while not self.cancelled:
            turn = self._line.wait(self, self.news)
            if turn is not None:
                await turn

    async def _wait(self, seen: int) -> bool:
        """Wait for something to come. Return False if nothing will, and the adapter learns of that without an error."""
        if self.cancelled or self.gone:
            if self._line.cancels:
                raise CallerGone(GIVEN_UP)
            self.cancelled = True  # what it waits for cannot come: the application hears of it as of a cancellation
            self._line.tell(self)
            return False
        turn = self._line.wait(self, seen)
        if turn is not None:
            await turn
        return True


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine of an exchange gives in a thread, where it never suspends: its Line waits instead."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("a coroutine was suspended in a thread")


def _head(content_type: str, http: dict[str, Any] | None) -> dict[str, Any]:
    """Return RESULT's metadata."""
    return {"content_type": content_type} if http is None else {"content_type": content_type, "http": http}


class Body(io.RawIOBase):
    """A request's body as a file to read from, in a thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what has come. Wait for at least one byte, unless the body is at its end."""
        view = memoryview(buffer).cast("B")
        data = at_once(self._exchange.read(len(view))) if view else b""
        view[: len(data)] = data
        return len(data)
