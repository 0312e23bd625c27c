"""An event function on an exchange: its event, whole or as a stream; its result, whole or item by item.

Loaded only where the loop's own short way does not do. It knows values and exchanges; not how frames travel, and
neither WSGI nor ASGI.
"""

from __future__ import annotations

import io

from .. import namespace
from ..call import codec
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import JSON
from .exchange import Exchange, check_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import Any

    from ..call.context import Context
    from .async_exchange import AsyncExchange

_NOTHING = object()


class EventFunction:
    """A handler of (event, context), and how it wants its event.

    Attributes:
        stream: "file", "iterator" or "async" if it reads the event as it arrives; "" if it gets the whole event.
        convert: Makes an event of the annotated type from the decoded event.
        platform: The platform whose trigger turns an HTTP request into an event; "" for none.
    """

    def __init__(
        self,
        handler: Callable[[Any, Any], Any],
        stream: str = "",
        convert: Callable[[object], object] | None = None,
        platform: str = "",
    ) -> None:
        self._handler = handler
        self._stream = stream
        self._convert = convert
        self._platform = platform

    def serve(self, exchange: Exchange) -> None:
        """Call the handler and answer with what it returns; raises what it raises."""
        if "http" in exchange.request:
            trigger = self._trigger()
            event = self._http_event(trigger, exchange.request, exchange.body.whole(), exchange.context)
            value = self._handler(event, exchange.context)
            value = run(value) if hasattr(type(value), "__await__") else value
            exchange.respond(*trigger.answer_of(self._platform, _one(value)))
            return
        if self._stream == "iterator":
            event = iter(lambda: exchange.take(-1), b"")
        elif self._stream:
            event = io.BufferedReader(exchange.body)
        else:
            event = self._event(exchange.body.whole(), exchange.request)
        answer(exchange, self._handler(event, exchange.context))

    async def serve_async(self, exchange: AsyncExchange) -> None:
        """The same for a coroutine function or an asynchronous generator."""
        if "http" in exchange.request:
            trigger = self._trigger()
            event = self._http_event(trigger, exchange.request, await exchange.whole(), exchange.context)
            value = self._handler(event, exchange.context)
            value = await value if hasattr(type(value), "__await__") else value
            exchange.respond(*trigger.answer_of(self._platform, _one(value)))
            return
        if self._stream:
            event = AsyncBody(exchange)
        else:
            event = self._event(await exchange.whole(), exchange.request)
        value = self._handler(event, exchange.context)
        if hasattr(type(value), "__await__"):
            value = await value
        await answer_async(exchange, value)

    def _event(self, payload: bytes, request: dict[str, Any]) -> object:
        event = codec.decode_event(payload, request["content_type"])
        return event if self._convert is None else self._convert(event)

    def _trigger(self) -> Any:
        """Return the module that makes an event of an HTTP request. Raise Fault if the function cannot take one."""
        trigger = namespace.own("adapters.http_trigger")
        if self._platform not in trigger.PLATFORMS or self._stream:
            why = "it is an HTTP request, and this function takes an event (is it an application? --type wsgi or asgi)"
            raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {why}")
        return trigger

    def _http_event(self, trigger: Any, request: dict[str, Any], body: bytes, context: Context) -> object:
        event: object = trigger.event_of(self._platform, request, body, context)
        if self._convert is None:
            return event
        if isinstance(event, bytes):
            event = codec.decode_event(event, JSON)
        return self._convert(event)


def _one(value: object) -> object:
    """Return the value of an HTTP answer. Raise Fault if it is a stream of items."""
    if hasattr(type(value), "__next__") or hasattr(type(value), "__anext__"):
        why = "the HTTP answer is an iterator; only an application (WSGI, ASGI) streams one"
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {why}")
    return value


def answer(exchange: Exchange, value: object) -> None:
    """Answer with a value; an iterator's items go out one by one, as they come."""
    accept = exchange.request["accept"]
    if hasattr(type(value), "__await__") or hasattr(type(value), "__anext__"):
        answer(exchange, run(value))
    elif hasattr(type(value), "__next__"):
        items: Iterator[object] = value  # type: ignore[assignment]
        try:
            _answer_items(exchange, items, accept)
        finally:
            _close(items)
    else:
        send_whole(exchange, *codec.encode_result(value, accept))


def send_whole(exchange: Exchange, content_type: str, payload: bytes) -> None:
    """Answer with an encoded result, in pieces if it is larger than a frame."""
    check_size(payload)
    exchange.respond(payload, content_type)


def _answer_items(exchange: Exchange, items: Iterator[object], accept: str) -> None:
    first = next(items, _NOTHING)
    if first is _NOTHING:
        exchange.begin(codec.stream_type(accept))
        return
    content_type, piece = codec.encode_item(first, accept)
    exchange.begin(content_type)
    exchange.write(piece)
    del first, piece
    for item in items:
        exchange.write(codec.encode_item(item, accept)[1])


async def answer_async(exchange: AsyncExchange, value: object) -> None:
    """As `answer`, for what a coroutine function returned or an asynchronous generator yields."""
    accept = exchange.request["accept"]
    if hasattr(type(value), "__anext__"):
        items: AsyncIterator[object] = value  # type: ignore[assignment]
        try:
            await _answer_async_items(exchange, items, accept)
        finally:
            close: Any = getattr(type(items), "aclose", None)
            if close is not None:
                await close(items)
    elif hasattr(type(value), "__next__"):
        await answer_async(exchange, _asynchronous(value))  # type: ignore[arg-type]
    else:
        content_type, payload = codec.encode_result(value, accept)
        check_size(payload)
        exchange.respond(payload, content_type)


async def _answer_async_items(exchange: AsyncExchange, items: AsyncIterator[object], accept: str) -> None:
    async for item in items:
        content_type, piece = codec.encode_item(item, accept)
        if not exchange.begun:
            exchange.begin(content_type)
        await exchange.write(piece)
    if not exchange.begun:
        exchange.begin(codec.stream_type(accept))


async def _asynchronous(items: Iterator[object]) -> AsyncIterator[object]:
    try:
        for item in items:
            yield item
    finally:
        _close(items)


def _close(items: object) -> None:
    close: Any = getattr(type(items), "close", None)
    if close is not None:
        close(items)


def run(value: Any) -> object:
    """What a plain function's awaitable or asynchronous iterator gives, on an event loop of its own."""
    loop = late.asyncio.new_event_loop()
    if hasattr(type(value), "__anext__"):
        return _items(loop, value)
    try:
        found: object = loop.run_until_complete(result_of(value))
        return found
    finally:
        _close_loop(loop)


async def result_of(work: Awaitable[Any]) -> Any:
    """Return what any awaitable gives: an event loop runs coroutines only."""
    return await work


def _items(loop: Any, items: Any) -> Iterator[object]:
    async def following() -> object:
        return await anext(items, _NOTHING)

    try:
        while (item := loop.run_until_complete(following())) is not _NOTHING:
            yield item
    finally:
        _close_loop(loop)


def end_tasks(loop: Any) -> None:
    """Cancel the tasks that the function has left on an event loop, and wait for their end, as asyncio.run() does.

    An exception of such a task goes to the loop's exception handler, and asyncio logs it.
    """
    asyncio = late.asyncio
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    for task in left:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "a task that the function has left running raised an exception at its end"
            loop.call_exception_handler({"message": message, "exception": error, "task": task})
    loop.run_until_complete(loop.shutdown_asyncgens())


def _close_loop(loop: Any) -> None:
    try:
        end_tasks(loop)
    finally:
        loop.close()


class AsyncBody:
    """The event of an asynchronous function that takes it as a stream: `async for piece in body`, `await read()`."""

    def __init__(self, exchange: AsyncExchange) -> None:
        self._exchange = exchange
        self._rest = b""

    def __aiter__(self) -> AsyncBody:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self, size: int = 0) -> bytes:
        """The next piece, as it came; at most `size` bytes of it if that is above 0; -1: all that is left.

        b"" at the end.
        """
        await self._exchange.give_way()
        if size < 0:
            pieces = [self._rest]
            self._rest = b""
            while piece := await self._exchange.read():
                pieces.append(piece)
            return b"".join(pieces)
        piece, self._rest = self._rest or await self._exchange.read(), b""
        if 0 < size < len(piece):
            piece, self._rest = piece[:size], piece[size:]
        return piece
