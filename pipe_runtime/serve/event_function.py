"""Call a function that takes an event. The event may be whole or a stream, and the result whole or sent item by item.

The runtime loads this module only for a function that the loop does not serve by itself. This module knows values and
exchanges. It must not know how frames are sent, nor WSGI or ASGI.
"""

from __future__ import annotations

import io

from .. import namespace
from ..call import codec
from ..call.exchange import MAX_BODY, Body, Exchange, at_once
from ..load import handler
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import Any

_NOTHING = object()


class EventFunction:
    """A handler that takes an event, in the form that the handler's annotation asks for.

    Args:
        found: The handler.
        platform: The platform whose HTTP trigger determines the event of an HTTP request; "" for no platform.
    """

    def __init__(self, found: Callable[..., Any], platform: str) -> None:
        self._handler = handler.adapt(found)
        self._is_async = handler.is_async(found)
        self._platform = platform
        self._stream, self._convert = "", None
        annotation, scope = handler.event_annotation(found)
        if not handler.is_plain_annotation(annotation):
            self._stream, self._convert = namespace.own("adapters.typed").reading(annotation, scope)

    def serve(self, exchange: Exchange) -> None:
        """Call the handler and answer with its result. Raise what the handler raises."""
        value = self._handler(at_once(self._event(exchange)), exchange.context)
        if "http" in exchange.request:
            self._respond_http(exchange, run(value) if hasattr(type(value), "__await__") else value)
        else:
            answer(exchange, value)

    async def serve_async(self, exchange: Exchange) -> None:
        """Call a coroutine function or an asynchronous generator function, and answer as `serve` does."""
        value: Any = self._handler(await self._event(exchange), exchange.context)
        if hasattr(type(value), "__await__"):
            value = await value
        if "http" in exchange.request:
            self._respond_http(exchange, value)
        else:
            await answer_async(exchange, value)

    async def _event(self, exchange: Exchange) -> object:
        """Return the event. Raise Fault if the request cannot be turned into an event."""
        request = exchange.request
        if "http" in request:
            trigger = self._trigger()
            event = trigger.event_of(self._platform, request, await exchange.whole(), exchange.context)
            if self._convert is not None and isinstance(event, bytes):
                event = codec.decode_event(event, JSON)
        elif self._stream:
            if self._is_async:
                return AsyncBody(exchange)
            is_iterator = self._stream == "iterator"
            return iter(lambda: at_once(exchange.read()), b"") if is_iterator else io.BufferedReader(Body(exchange))
        else:
            event = codec.decode_event(await exchange.whole(), request["content_type"])
        return event if self._convert is None else self._convert(event)

    def _trigger(self) -> Any:
        """Return the module that turns an HTTP request into an event. Raise Fault if the function cannot take one."""
        trigger = namespace.own("adapters.http_trigger")
        if self._platform not in trigger.PLATFORMS or self._stream:
            why = "it is an HTTP request, and this function takes an event (is it an application? --type wsgi or asgi)"
            raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {why}")
        return trigger

    def _respond_http(self, exchange: Exchange, value: object) -> None:
        """Answer an HTTP request with a value. Raise Fault if the value is an iterator."""
        if hasattr(type(value), "__next__") or hasattr(type(value), "__anext__"):
            why = "the HTTP answer is an iterator; only an application (WSGI, ASGI) streams one"
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {why}")
        exchange.respond(*self._trigger().answer_of(self._platform, value))


def answer(exchange: Exchange, value: object) -> None:
    """Answer with a value. If the value is an iterator, send each item as soon as the iterator yields it."""
    while hasattr(type(value), "__await__") or hasattr(type(value), "__anext__"):
        value = run(value)
    at_once(answer_async(exchange, value))


async def answer_async(exchange: Exchange, value: object) -> None:
    """Answer with the result of a coroutine function, or with the items of an asynchronous generator."""
    is_iterator = hasattr(type(value), "__next__")
    if is_iterator or hasattr(type(value), "__anext__"):
        items: Any = _asynchronous(value) if is_iterator else value  # type: ignore[arg-type]
        try:
            async for item in items:
                content_type, piece = codec.encode_item(item, exchange.request["accept"])
                if not exchange.begun:
                    exchange.begin(content_type)
                await exchange.write(piece)
            if not exchange.begun:
                exchange.begin(codec.stream_type(exchange.request["accept"]))
        finally:
            close: Any = getattr(type(items), "aclose", None)
            if close is not None:
                await close(items)
            close = getattr(type(value), "close", None) if is_iterator else None
            if close is not None:
                close(value)
    else:
        send_whole(exchange, *codec.encode_result(value, exchange.request["accept"]))


def send_whole(exchange: Exchange, content_type: str, payload: bytes) -> None:
    """Answer with an encoded result, in pieces if one frame cannot hold it. Raise Fault if it exceeds MAX_BODY."""
    if len(payload) > MAX_BODY:
        message = f"The result is too large: it has {len(payload)} bytes; the limit is {MAX_BODY}"
        raise Fault("Function.ResponseSizeTooLarge", message)
    exchange.respond(payload, content_type)


async def _asynchronous(items: Iterator[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


# Awaitables that plain functions return


def run(value: Any) -> object:
    """Run an awaitable or an asynchronous iterator on a new event loop. Return its result, or an ordinary iterator."""
    loop = late.asyncio.new_event_loop()
    if hasattr(type(value), "__anext__"):
        return _items(loop, value)
    try:
        found: object = loop.run_until_complete(result_of(value))
        return found
    finally:
        _close_loop(loop)


async def result_of(work: Awaitable[Any]) -> Any:
    """Return the result of any awaitable. This is a coroutine function, because an event loop runs coroutines only."""
    return await work


def _items(loop: Any, items: Any) -> Iterator[object]:
    async def following() -> object:
        return await anext(items, _NOTHING)  # called in the loop, so that the loop closes an unfinished generator

    try:
        while (item := loop.run_until_complete(following())) is not _NOTHING:
            yield item
    finally:
        _close_loop(loop)


def end_tasks(loop: Any) -> None:
    """Cancel the tasks that still run on an event loop, and wait for their end, as asyncio.run() does.

    If such a task raises an exception, the loop's exception handler gets it, and asyncio logs it.
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
    """The event of an asynchronous function that reads it as a stream: `async for piece in body`, `await read()`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncBody:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self, size: int = 0) -> bytes:
        """Return the next piece of the body; b"" at the end.

        Args:
            size: The most bytes to return; 0 for a piece of any size, as it came; -1 for the rest of the body.
        """
        await self._exchange.check()
        if size >= 0:
            return await self._exchange.read(size or -1)
        pieces = []
        while piece := await self._exchange.read():
            pieces.append(piece)
        return b"".join(pieces)
