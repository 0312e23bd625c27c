"""Run ASGI applications on an exchange in memory: there are no processes and no frames.

This module knows pipe_runtime's ASGI adapter, and nothing of its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from pipe_runtime.adapters.asgi import serve
from pipe_runtime.call import exchange
from pipe_runtime.call.context import Context
from pipe_runtime.wire.messages import CANCEL, CHUNK, CREDIT, END

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
OK = {"status": 200, "reason": "", "headers": [["content-type", "text/plain"]]}
DISCONNECT = {"type": "http.disconnect"}


class Line:
    """The line of a request in memory. What is written needs no credit."""

    cancels = False

    def post(self, kind: int, *_: Any) -> None:
        assert kind == CREDIT

    def credit(self, id: int) -> int:
        raise AssertionError("the tests note what is written")

    def look(self) -> None:
        """Do nothing: what has come was heard at once."""

    def wait(self, exchange: Any, seen: int) -> Awaitable[object]:
        exchange.heard.clear()
        return exchange.heard.wait()  # type: ignore[no-any-return]

    def tell(self, exchange: Any) -> None:
        exchange.heard.set()


class Exchange(exchange.Exchange):
    """A request in memory, and the calls of the adapter.

    Attributes:
        answer: The adapter's calls: ("respond", body, type, http), ("begin", type, http), ("write", data) and so on.

    Args:
        http: The HTTP part of the request, if there is one.
        body: The pieces of the body, or None if `feed` gives them later.
        request: Other fields of the request.
    """

    def __init__(self, http: Message | None = None, body: Iterable[bytes] | None = (), **request: Any) -> None:
        fields: Message = {"request_id": "r-1", "content_type": "application/json", **request}
        if http is not None:
            fields["http"] = http
        super().__init__(1, fields, b"", Line())
        self.heard = asyncio.Event()
        self.logged: list[str] = []
        self.context = Context(fields, {}, "app", self.logged.append)
        self.answer: list[tuple[Any, ...]] = []
        self.room: asyncio.Semaphore | None = None
        if body is not None:
            self.feed(*body, b"")

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.hear(CHUNK if piece else END, piece)

    def cancel(self) -> None:
        self.hear(CANCEL, b"")

    def respond(self, body: bytes, content_type: str, http: Message | None) -> None:
        assert type(body) is bytes
        assert not self.answer, "a second answer"
        self.answer.append(("respond", body, content_type, http))

    def begin(self, content_type: str, http: Message | None) -> None:
        assert not self.answer, "a second answer"
        self.answer.append(("begin", content_type, http))
        self.begun = True

    async def write(self, data: bytes) -> None:
        assert type(data) is bytes
        assert self.answer and self.answer[0][0] == "begin"
        if self.room is not None:
            await self.room.acquire()
        self.answer.append(("write", data))


async def serve_quietly(app: App, exchange: Exchange, state: Scope | None = None) -> None:
    """Serve one request. Raise here what the application raises after its answer, such as a failed assertion."""
    await serve(app, exchange, state or {})
    assert exchange.logged == []


def run(app: App, make: Callable[[], Exchange] = lambda: Exchange({}), state: Scope | None = None) -> Exchange:
    """Serve one request in a loop of its own, and check that no task is left."""
    return asyncio.run(served(app, make, serve_quietly, state))


def run_noisily(app: App) -> Exchange:
    """Serve one request of an application that may raise after its answer."""
    return asyncio.run(served(app, lambda: Exchange({}), serve, {}))


async def served(app: App, make: Callable[[], Exchange], how: Callable[..., Any], state: Scope | None) -> Exchange:
    exchange = make()
    try:
        await how(app, exchange, state)
    finally:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    return exchange


def body(data: Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def scope_of(http: Message | None, *pieces: bytes, **request: Any) -> Scope:
    """Return the scope that an application gets."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send(START)
        await send(body())

    run(app, lambda: Exchange(http, pieces, **request))
    return seen[0]


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"hello"))


async def whole_body(receive: Receive) -> tuple[bytes, int]:
    """Return the request's body and the number of messages in which it came."""
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts), len(parts)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("mine")


def after(*messages: Message, error: BaseException) -> App:
    """Return an application that sends these messages and then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise error

    return app
