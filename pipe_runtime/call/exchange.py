"""Hold a request and its answer if they may come in pieces: for streamed bodies, HTTP functions and iterators.

This module sends and receives bodies in pieces, within the credit of each side. It must not know descriptors, threads
or tasks: it sends and waits through an object called Line. The adapters and event_function.py interpret the request.
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
        """The interface through which an exchange sends frames to the init, and waits for frames.

        If requests run in threads, the methods that wait block and return None. If requests run in tasks, these methods
        return an awaitable.

        Attributes:
            cancels: Whether a cancelled request raises CallerGone. An ASGI application gets a message instead.
        """

        cancels: bool

        def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
            """Send a frame, as Outbox.post does."""

        def credit(self, id: int) -> int:
            """Return how many bytes of the streamed answer may be sent now."""

        def look(self) -> Awaitable[object] | None:
            """Read the frames that have come, without waiting. It is cheap enough to be called for every item."""

        def wait(self, exchange: Exchange, seen: int) -> Awaitable[object] | None:
            """Wait until a frame may have come for `exchange`: until its `news` differs from `seen`."""

        def tell(self, exchange: Exchange) -> None:
            """Wake the threads or tasks that wait for `exchange`, because a frame has come for it."""


MAX_BODY = 1024 * 1024 * 1024
"""The most bytes of an event that comes in pieces and is passed to the function whole. A whole result that is sent in
pieces has the same limit."""

LOOK_SECONDS = 0.001
"""The shortest time, in seconds, between two checks for frames while a function streams items. Each check is a system
call. In between, `look` only reads the clock."""

NO_EVENT = b"{}"
"""The event of a request whose caller gave no event. An HTTP application gets an empty body instead."""

GIVEN_UP = "the caller has given up on this request"


class CallerGone(BrokenPipeError):
    """The caller has given up on the request: its body will not come, and its answer is not wanted."""


class Exchange:
    """One request and its answer. The code that reads frames calls `hear` for each frame that belongs to the request.

    A task awaits the coroutines of this class. A thread calls them through `at_once`.

    Args:
        payload: The body, or the part of it that has come.
        line: The Line that sends the frames of the answer, and waits for frames.

    Attributes:
        id: The id of the request's frames.
        request: INVOKE's metadata.
        news: A counter of the frames that have come, and of calls of `wake`.
        heard: The event that is set whenever `news` grows; only for a task.
        started: The perf_counter_ns() at which the request's task began.
        begun: Whether a streamed answer has begun.
        gone: Whether no more frames will come, because the init's stream or the request has ended.
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
        """Take a frame that has come for this request: CHUNK, END, CREDIT or CANCEL."""
        if kind == CHUNK:
            self._pieces.append(payload)
        elif kind == END:
            self._ended = True
        elif kind == CANCEL:
            self.cancelled = True
        self.wake()

    def hang_up(self) -> None:
        """End every wait for frames, because no more will come for this request."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Wake the threads or tasks that wait for a frame, so that they check what has changed."""
        self.news += 1
        self._line.tell(self)

    # The body

    async def read(self, size: int = -1) -> bytes:
        """Wait for the body's next bytes and return up to `size` of them; b"" at the end of the body.

        Args:
            size: The most bytes to return; -1 for a piece of any size, as it came.

        Raises:
            CallerGone: The caller has given up on the request, or no more frames will come.
        """
        if self._streamed:
            await self.check()
        while True:
            seen = self.news
            piece = self.take(size)
            if piece is not None:
                return piece
            if not await self.wait(seen):
                return b""

    def take(self, size: int = -1) -> bytes | None:
        """Return the body's next bytes, as `read` does, or None if they have not come yet."""
        ended = self._ended  # read before _pieces: another thread may call `hear` in between
        if not self._pieces:
            return b"" if ended else None
        piece = self._pieces.popleft()
        if 0 <= size < len(piece):
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        self._taken += len(piece)
        # Grant credit for several pieces at once, to save frames.
        if not (self._ended or self.gone) and self._taken >= STREAM_BYTES // 2:
            due, self._taken = self._taken, 0
            self._line.post(CREDIT, self.id, {"bytes": due})
        return piece

    async def whole(self) -> bytes:
        """Return the whole body.

        Raises:
            CallerGone: See `read`.
            MemoryError: The body has more than MAX_BODY bytes.
        """
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_BODY:
                raise MemoryError(f"the event has more than {MAX_BODY} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def http_map(self) -> dict[str, Any]:
        """Return the request's `http` map. Call this before the body is read.

        If the request has no map, it counts as GET / if its payload is empty or NO_EVENT. Otherwise it counts as
        POST / with the payload as its body and the content type as its only header.
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
        """Begin a streamed answer: send RESULT. The pieces follow through `write`.

        Raises:
            RuntimeError: The request has an answer, which a thread of the function may not have noticed.
        """
        if self._outcome is not None:
            raise RuntimeError("the request is answered already")
        self._outcome = (END, {}, b"")
        self._line.post(RESULT, self.id, {**_head(content_type, http), "stream": True})
        self.begun = True

    def respond(self, body: bytes, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Set the whole answer. It is sent after the adapter has returned, in pieces if one frame cannot hold it."""
        if len(body) > LARGEST_PAYLOAD:
            self.begin(content_type, http)
            self._large = body
        else:
            self._outcome = (RESULT, _head(content_type, http), body)

    async def write(self, data: bytes) -> None:
        """Send a piece of a streamed answer. Wait for credit if the init grants none yet.

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
            elif not await self.wait(seen):
                return

    async def outcome(self) -> tuple[int, dict[str, Any], bytes]:
        """Send the rest of a large answer, and return the frame that ends the exchange.

        Call this after the adapter has returned.

        Raises:
            CallerGone: The adapter has set no answer, because the request was cancelled.
        """
        large, self._large = self._large, b""
        if large:
            await self.write(large)
        if self._outcome is None:
            raise CallerGone(GIVEN_UP)
        return self._outcome

    # Waiting

    async def check(self) -> None:
        """Read the frames that have come, and raise if the request was cancelled.

        Raises:
            CallerGone: The request was cancelled.
        """
        turn = self._line.look()
        if turn is not None:
            await turn
        if self.cancelled and self._line.cancels:
            raise CallerGone(GIVEN_UP)

    async def change(self, seen: int) -> None:
        """Wait until a frame has come for this request, or `wake` was called."""
        turn = self._line.wait(self, seen)
        if turn is not None:
            await turn

    async def wait(self, seen: int) -> bool:
        """Wait for a frame. If none will come, raise CallerGone, or return False if Line.cancels is False."""
        if self.cancelled or self.gone:
            if self._line.cancels:
                raise CallerGone(GIVEN_UP)
            self.cancelled = True  # no frame will come: tell the application that the request was cancelled
            self._line.tell(self)
            return False
        await self.change(seen)
        return True


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of an exchange in a thread, and return its result. It never suspends, because its Line blocks."""
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
        """Fill the buffer with the bytes that have come. Wait for at least one byte, unless the body has ended."""
        view = memoryview(buffer).cast("B")
        data = at_once(self._exchange.read(len(view))) if view else b""
        view[: len(data)] = data
        return len(data)
