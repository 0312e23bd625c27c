"""Hold one request and its answer, for a task of an event loop.

It is exchange.Exchange, with coroutines in place of calls that wait. This module must not know descriptors, nor how
tasks are run.
"""

from __future__ import annotations

from time import monotonic

from ..namespace import late
from .exchange import GIVEN_UP, LOOK_SECONDS, MAX_BODY, CallerGone, Incoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Protocol

    from ..wire.frames import Frame
    from .exchange import Sender

    class AsyncLine(Sender, Protocol):
        """The way to the init.

        Attributes:
            cancels: Whether a CANCEL cancels the task. An ASGI application hears of it by a message instead.
            looks_at: When the event loop must read again what has come, a time of monotonic().
        """

        cancels: bool
        looks_at: float


class AsyncExchange(Incoming):
    """One request, for a task.

    Attributes:
        started: When its task began, a perf_counter_ns().
    """

    def __init__(self, id: int, request: dict[str, Any], payload: bytes, line: AsyncLine) -> None:
        super().__init__(id, request, payload, line)
        self._line = line
        self._heard: asyncio.Event = late.asyncio.Event()
        self.started = 0

    def hear(self, frame: Frame) -> None:
        """Take a frame, and wake the task that waits."""
        super().hear(frame)
        self._heard.set()

    def hang_up(self) -> None:
        """Tell the task that nothing more will come."""
        super().hang_up()
        self._heard.set()

    async def finish(self) -> None:
        """Send what `respond` could not."""
        large, self._large = self._large, b""
        await self.write(large)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer, as soon as the other side takes it.

        Raises:
            CallerGone: The request was cancelled.
        """
        start, size = 0, len(data)
        if not size:
            await self.give_way()
        while start < size:
            sent = self._send_some(data, start)
            if sent > start:
                start = sent
                await late.asyncio.sleep(0)  # other tasks have their turn, however fast the credit comes
            elif not await self._wait():
                return

    async def give_way(self) -> None:
        """Let the event loop read what has come, at most every LOOK_SECONDS, between steps that do not wait."""
        now = monotonic()
        if now >= self._line.looks_at:
            self._line.looks_at = now + LOOK_SECONDS
            await late.asyncio.sleep(0)

    async def read(self) -> bytes:
        """Return the next piece of the body as it came, b"" at its end.

        Raises:
            CallerGone: The piece will not come.
        """
        while (piece := self._next_piece()) is None:
            if not await self._wait():
                return b""
        self._give_credit()
        return piece

    async def whole(self) -> bytes:
        """Return all of the body.

        Raises:
            MemoryError: It has more than MAX_BODY bytes.
        """
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_BODY:
                raise MemoryError(f"the event has more than {MAX_BODY} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def until_cancelled(self) -> None:
        """Return when the caller has given up on the request."""
        while not self.cancelled:
            self._heard.clear()
            await self._heard.wait()

    async def _wait(self) -> bool:
        """Wait for something to come. Return False if nothing will, and the adapter learns of that without an error."""
        if self.cancelled or self.gone:
            if self._line.cancels:
                raise CallerGone(GIVEN_UP)
            self.cancelled = True  # what it waits for cannot come: the application hears of it as of a cancellation
            self._heard.set()
            return False
        self._heard.clear()
        await self._heard.wait()
        return True
