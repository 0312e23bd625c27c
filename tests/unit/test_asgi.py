"""ASGI's http and lifespan protocols, against an exchange that lies in memory."""

from __future__ import annotations

import asyncio
import gc
import http
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest

from pipe_runtime.adapters.asgi import Lifespan, LifespanFailed, serve
from pipe_runtime.call.context import Context

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
OK = {"status": 200, "reason": "", "headers": [["content-type", "text/plain"]]}
DISCONNECT = {"type": "http.disconnect"}


class Exchange:
    """An AsyncExchange in memory.

    answer: what the adapter did: ("respond", body, type, http), ("begin", type, http), ("write", data)…
    pieces: the body's pieces; one that is not there yet is fed later.
    """

    def __init__(self, http: Message | None = None, body: Iterable[bytes] | None = (), **request: Any) -> None:
        self.request: Message = {"request_id": "r-1", "content_type": "application/json", **request}
        if http is not None:
            self.request["http"] = http
        self.logged: list[str] = []
        self.context = Context(self.request, {}, "app", 0.0, self.logged.append)
        self.cancelled = False
        self.answer: list[tuple[Any, ...]] = []
        self.reads = 0
        self.room: asyncio.Semaphore | None = None
        self._cancelled = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False
        if body is not None:
            self.feed(*body, b"")

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def cancel(self) -> None:
        self.cancelled = True
        self._cancelled.set()

    async def read(self) -> bytes:
        assert not self._ended, "read beyond the end"
        self.reads += 1
        piece = await self._pieces.get()
        self._ended = not piece
        return piece

    def respond(self, body: bytes, content_type: str, http: Message | None) -> None:
        assert type(body) is bytes
        assert not self.answer, "a second answer"
        self.answer.append(("respond", body, content_type, http))

    def begin(self, content_type: str, http: Message | None) -> None:
        assert not self.answer, "a second answer"
        self.answer.append(("begin", content_type, http))

    async def write(self, data: bytes) -> None:
        assert type(data) is bytes
        assert self.answer and self.answer[0][0] == "begin"
        if self.room is not None:
            await self.room.acquire()
        self.answer.append(("write", data))

    async def until_cancelled(self) -> None:
        await self._cancelled.wait()


async def serve_quietly(app: App, exchange: Exchange, state: Scope | None = None) -> None:
    """Serve one request. What the application raises after its answer, a failed assertion for one, is raised here."""
    await serve(app, exchange, state or {})
    assert exchange.logged == []


def run(app: App, make: Callable[[], Exchange] = lambda: Exchange({}), state: Scope | None = None) -> Exchange:
    """Serve one request in a loop of its own; no task may be left."""
    return asyncio.run(served(app, make, serve_quietly, state))


def run_noisily(app: App) -> Exchange:
    """The same for an application that raises after its answer."""
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
    """The scope that an application gets."""
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
    """The request's body, and in how many messages it came."""
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


# The scope


def test_scope_has_what_the_request_says() -> None:
    scope = scope_of(
        {
            "method": "put",
            "path": "/caf%C3%A9/a%2Fb",
            "query": "q=1&q=%20",
            "headers": [["Host", "example"], ["X-Two", "a"], ["x-two", "b\xe9"]],
            "scheme": "https",
            "host": "example",
            "port": 8443,
            "client": ["10.0.0.1", 4711],
            "version": "1.0",
        }
    )
    assert scope.pop("pipe_init.context") is scope.pop("aws.context")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0",
        "method": "PUT",
        "scheme": "https",
        "path": "/café/a/b",
        "raw_path": b"/caf%C3%A9/a%2Fb",
        "query_string": b"q=1&q=%20",
        "root_path": "",
        "headers": [(b"host", b"example"), (b"x-two", b"a"), (b"x-two", b"b\xe9")],
        "client": ("10.0.0.1", 4711),
        "server": ("example", 8443),
        "state": {},
        "extensions": {},
    }


def test_scope_of_an_empty_map_is_that_of_the_smallest_request() -> None:
    scope = scope_of({})
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == ("GET", "/", b"/", b"")
    assert (scope["scheme"], scope["http_version"], scope["headers"]) == ("http", "1.1", [])
    assert scope["client"] is None and scope["server"] is None


@pytest.mark.parametrize("path, expected", [("/é", "/é"), ("/%ff", "/\ufffd"), ("/100%", "/100%"), ("", "/")])
def test_odd_paths(path: str, expected: str) -> None:
    scope = scope_of({"path": path})
    assert scope["path"] == expected
    assert scope["raw_path"] == (path or "/").encode()


@pytest.mark.parametrize(
    "given, expected, server",
    [
        ({"host": "h"}, [(b"host", b"h")], ("h", 80)),
        ({"host": "h", "port": 80}, [(b"host", b"h")], ("h", 80)),
        ({"host": "h", "port": 8000}, [(b"host", b"h:8000")], ("h", 8000)),
        ({"host": "h", "scheme": "https"}, [(b"host", b"h")], ("h", 443)),
        ({"host": "h", "headers": [["HOST", "x"]]}, [(b"host", b"x")], ("h", 80)),
        ({"host": "h", "headers": [["a", "b"]]}, [(b"host", b"h"), (b"a", b"b")], ("h", 80)),
    ],
)
def test_host_header_only_where_there_is_none(given: Message, expected: object, server: object) -> None:
    scope = scope_of(given)
    assert (scope["headers"], scope["server"]) == (expected, server)


def test_state_is_a_shallow_copy_for_each_request() -> None:
    state: Scope = {"pool": [1]}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["state"] == {"pool": [1]}
        scope["state"]["pool"].append(2)
        scope["state"]["own"] = True
        await hello(scope, receive, send)

    run(app, state=state)
    assert state == {"pool": [1, 2]}


def test_context_is_the_requests() -> None:
    exchanges: list[Exchange] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["pipe_init.context"] is exchanges[0].context
        assert scope["aws.context"].aws_request_id == "r-1"
        await hello(scope, receive, send)

    def make() -> Exchange:
        exchanges.append(Exchange({}))
        return exchanges[0]

    run(app, make)


# Requests that are no HTTP requests


@pytest.mark.parametrize(
    "pieces, method, expected, messages",
    [
        ((), "GET", b"", 1),
        ((b"{}",), "GET", b"", 1),
        ((b"{", b"}"), "GET", b"", 1),
        ((b"[]",), "POST", b"[]", 1),
        ((b'{"a": 1}',), "POST", b'{"a": 1}', 1),
        ((b"{", b"}", b" "), "POST", b"{} ", 1),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_event_becomes_a_request(
    pieces: tuple[bytes, ...], method: str, expected: bytes, messages: int, stream: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["method"], scope["path"]) == (method, "/")
        assert scope["headers"] == ([(b"content-type", b"application/json")] if method == "POST" else [])
        data, count = await whole_body(receive)
        assert data == expected
        # Of a stream that is longer than two bytes, the end is not known yet.
        assert count == messages + (stream and len(expected) > 2)
        await hello(scope, receive, send)

    run(app, lambda: Exchange(None, pieces, stream=stream))


# receive


def test_whole_body_comes_in_one_message_and_then_nothing_until_the_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "http.request", "body": b"abc", "more_body": False}
        waiting = asyncio.ensure_future(receive())
        await settle()
        assert not waiting.done()
        await hello(scope, receive, send)
        assert await waiting == DISCONNECT
        assert await receive() == DISCONNECT

    run(app, lambda: Exchange({}, [b"abc"]))


def test_no_body_is_one_empty_message() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await hello(scope, receive, send)

    run(app)


def test_streamed_body_comes_piece_by_piece_as_it_arrives() -> None:
    async def main() -> None:
        exchange = Exchange({"method": "POST"}, None, stream=True)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for piece in (b"one", b"two"):
                exchange.feed(piece)
                assert await receive() == {"type": "http.request", "body": piece, "more_body": True}
            exchange.feed(b"")
            assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
            await hello(scope, receive, send)

        await serve_quietly(app, exchange)

    asyncio.run(main())


def test_streamed_body_is_not_read_ahead() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"1"
        await settle()
        await hello(scope, receive, send)

    assert run(app, lambda: Exchange({}, [b"1", b"2"], stream=True)).reads == 1


def test_a_receive_that_is_given_up_loses_nothing() -> None:
    async def main() -> None:
        exchange = Exchange({}, None, stream=True)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            waiting = asyncio.ensure_future(receive())
            await settle()
            waiting.cancel()
            exchange.feed(b"kept", b"")
            await settle()
            assert await whole_body(receive) == (b"kept", 2)
            await hello(scope, receive, send)

        await serve_quietly(app, exchange)

    asyncio.run(main())


def test_receives_of_two_tasks_get_each_piece_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = await asyncio.gather(receive(), receive(), receive())
        assert sorted(message["body"] for message in messages) == [b"", b"1", b"2"]
        await hello(scope, receive, send)

    run(app, lambda: Exchange({}, [b"1", b"2"], stream=True))


def test_an_error_while_reading_reaches_the_application() -> None:
    class Broken(Exchange):
        async def read(self) -> bytes:
            raise OSError("the pipe is gone")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(OSError, match="gone"):
        run(app, lambda: Broken({}, stream=True))


def test_a_read_that_fails_after_the_answer_is_nobodys_error() -> None:
    class Broken(Exchange):
        async def read(self) -> bytes:
            await self.until_cancelled()
            raise OSError("the pipe is gone")

    async def main() -> list[object]:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what))
        exchange = Broken({}, stream=True)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            waiting = asyncio.ensure_future(receive())
            await settle()
            await hello(scope, receive, send)
            assert await waiting == DISCONNECT
            exchange.cancel()
            await settle()

        await serve_quietly(app, exchange)
        gc.collect()
        return reported

    assert asyncio.run(main()) == []


# send


def test_an_answer_in_one_message_is_whole() -> None:
    assert run(hello).answer == [("respond", b"hello", "text/plain", OK)]


def test_repeated_headers_keep_their_order_and_spelling() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [[b"Set-Cookie", b"a=1"], (b"X-L", b"\xe9"), [b"Set-Cookie", b"b=2"], [b"Content-Type", b"text/css"]]
        await send({"type": "http.response.start", "status": http.HTTPStatus.CREATED, "headers": iter(headers)})
        await send({"type": "http.response.body"})

    [(_, data, content_type, answered)] = run(app).answer
    assert (data, content_type) == (b"", "text/css")
    assert type(answered["status"]) is int
    pairs = [["Set-Cookie", "a=1"], ["X-L", "\xe9"], ["Set-Cookie", "b=2"], ["Content-Type", "text/css"]]
    assert answered == {"status": 201, "reason": "", "headers": pairs}


def test_an_answer_without_content_type_is_bytes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send(body())

    plain = {"status": 204, "reason": "", "headers": []}
    assert run(app).answer == [("respond", b"", "application/octet-stream", plain)]


def test_nothing_is_answered_before_the_first_body() -> None:
    async def main() -> None:
        exchange = Exchange({})

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            assert exchange.answer == []
            await send(body(b"", True))
            assert exchange.answer[0] == ("begin", "text/plain", OK)
            await send(body(bytearray(b"1"), True))
            await send(body(memoryview(b"2"), True))
            await send(body())

        await serve_quietly(app, exchange)
        assert [step[1] for step in exchange.answer[1:]] == [b"", b"1", b"2", b""]

    asyncio.run(main())


def test_a_slow_reader_holds_back_the_application() -> None:
    async def main() -> None:
        exchange = Exchange({})
        exchange.room = asyncio.Semaphore(1)
        sent: list[int] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            for number in range(3):
                await send(body(b"%d" % number, number < 2))
                sent.append(number)

        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        for taken in range(3):
            await settle()
            assert len(sent) == taken + 1
            assert serving.done() == (taken == 2)
            exchange.room.release()
        await serving

    asyncio.run(main())


def test_messages_of_two_tasks_do_not_mix() -> None:
    class Narrow(Exchange):
        async def write(self, data: bytes) -> None:
            for byte in data:
                await super().write(bytes([byte]))
                await asyncio.sleep(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await asyncio.gather(send(body(b"11", True)), send(body(b"22", True)), send(body(b"33")))

    assert b"".join(step[1] for step in run(app, lambda: Narrow({})).answer[1:]) == b"112233"


def test_both_directions_stream_at_once() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(body(message["body"], more))

    pieces = [b"%d" % number for number in range(100)]
    answer = run(echo, lambda: Exchange({"method": "POST"}, pieces, stream=True)).answer
    assert answer[0] == ("begin", "text/plain", OK)
    assert [data for _, data in answer[1:]] == [*pieces, b""]


@pytest.mark.parametrize("more", [False, True])
def test_head_has_no_body(more: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["method"] == "HEAD"
        await send(START)
        if more:
            await send(body(b"unwanted", True))
        await send(body(b"unwanted"))
        with pytest.raises(RuntimeError, match="after its response was complete"):
            await send(body(b"unwanted"))

    assert run(app, lambda: Exchange({"method": "head"})).answer == [("respond", b"", "text/plain", OK)]


def test_a_stream_without_end_ends_for_head() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await receive()
        listening = asyncio.ensure_future(receive())
        while not listening.done():
            await send(body(b"tick", True))
            await asyncio.sleep(0)
        assert listening.result() == DISCONNECT

    assert run(app, lambda: Exchange({"method": "HEAD"})).answer == [("respond", b"", "text/plain", OK)]


@pytest.mark.parametrize(
    "messages, expected",
    [
        ([body()], "sent 'http.response.body' where 'http.response.start' was expected"),
        ([START, START], "sent 'http.response.start' where 'http.response.body' was expected"),
        ([START, body(b"", True), START], "sent 'http.response.start' where 'http.response.body' was expected"),
        ([{"type": "websocket.accept"}], "sent 'websocket.accept' where 'http.response.start' was expected"),
        ([{}], "sent None where 'http.response.start' was expected"),
        ([START, {"type": "http.response.trailers"}], "sent 'http.response.trailers' where 'http.response.body'"),
    ],
)
def test_messages_out_of_order(messages: list[Message], expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(RuntimeError, match=expected):
            await send(messages[-1])
        raise LookupError  # what the application does about it is its own

    with pytest.raises(LookupError):
        run(app)


@pytest.mark.parametrize("kind", ["http.response.start", "http.response.body", "http.response.trailers"])
def test_nothing_may_follow_a_complete_answer(kind: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        with pytest.raises(RuntimeError, match=f"sent '{kind}' after its response was complete"):
            await send({"type": kind, "status": 200})

    assert len(run(app).answer) == 1


@pytest.mark.parametrize(
    "fields, error, expected",
    [
        ({}, TypeError, "status must be an int, not NoneType"),
        ({"status": "200"}, TypeError, "status must be an int, not str"),
        ({"status": True}, TypeError, "status must be an int, not bool"),
        ({"status": 99}, ValueError, "status must be 100 to 999, not 99"),
        ({"status": 1000}, ValueError, "status must be 100 to 999, not 1000"),
        ({"status": 200, "headers": None}, TypeError, "headers must be pairs"),
        ({"status": 200, "headers": {b"a": b"b"}}, TypeError, "headers must be pairs"),
        ({"status": 200, "headers": [(b"a",)]}, TypeError, "headers must be pairs"),
        ({"status": 200, "headers": [("a", b"b")]}, TypeError, "not of str and bytes"),
        ({"status": 200, "headers": [(b"a", 1)]}, TypeError, "not of bytes and int"),
        ({"status": 200, "headers": [(b"", b"b")]}, ValueError, "cannot be a header's name"),
        ({"status": 200, "headers": [(b"a b", b"b")]}, ValueError, "cannot be a header's name"),
        ({"status": 200, "headers": [(b"a\r\nx", b"b")]}, ValueError, "cannot be a header's name"),
        ({"status": 200, "headers": [(b"a", b"b\r\nx: y")]}, ValueError, "line break"),
        ({"status": 200, "headers": [(b"a", b"b\0")]}, ValueError, "null byte"),
    ],
)
def test_a_wrong_start_is_named_and_can_be_made_good(fields: Message, error: type[Exception], expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(error, match="^http.response.start: .*" + expected):
            await send({"type": "http.response.start", **fields})
        await hello(scope, receive, send)

    assert run(app).answer == [("respond", b"hello", "text/plain", OK)]


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"]])
def test_a_wrong_body_is_named_and_can_be_made_good(wrong: object) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with pytest.raises(TypeError, match=f"http.response.body: body must be bytes, not {type(wrong).__name__}"):
            await send(body(wrong))
        await send(body(b"hello"))

    assert run(app).answer == [("respond", b"hello", "text/plain", OK)]


def test_an_answer_that_cannot_be_given_is_not_complete() -> None:
    class TooLarge(Exchange):
        def respond(self, body: bytes, content_type: str, http: Message | None) -> None:
            raise OverflowError("too large")

    exchanges: list[Exchange] = []

    def make() -> Exchange:
        exchanges.append(TooLarge({}))
        return exchanges[0]

    with pytest.raises(OverflowError, match="too large"):
        run(hello, make)
    assert exchanges[0].logged == []


# How an application ends


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("mine")


def after(*messages: Message, error: BaseException) -> App:
    """An application that sends, then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise error

    return app


@pytest.mark.parametrize("messages", [(), (START,), (START, body(b"1", True))])
@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_errors_before_the_end_of_the_answer_are_the_requests(
    messages: tuple[Message, ...], error: BaseException
) -> None:
    caught: list[BaseException] = []

    async def main() -> Exchange:
        exchange = Exchange({})
        try:
            await serve(after(*messages, error=error), exchange, {})
        except BaseException as raised:  # what ends an event loop must not get as far as that
            caught.append(raised)
        return exchange

    answer = asyncio.run(main()).answer
    assert caught == [error]
    assert [step[0] for step in answer] == (["begin", "write"] if len(messages) == 2 else [])


@pytest.mark.parametrize(
    "error, text", [(KeyError("mine"), "KeyError: 'mine'"), (SystemExit(3), "SystemExit: 3"), (KeyboardInterrupt(), "")]
)
def test_errors_after_the_answer_are_one_record_in_the_log(error: BaseException, text: str) -> None:
    exchange = run_noisily(after(START, body(b"hello"), error=error))
    assert exchange.answer == [("respond", b"hello", "text/plain", OK)]
    [record] = exchange.logged
    assert record.startswith(f"the ASGI application raised after its response was complete: {text}")
    assert f'File "{__file__}", line ' in record
    assert "raise error" in record


def test_an_error_after_the_answer_is_logged_with_its_cause() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        try:
            await fail(scope, receive, send)
        except KeyError as error:
            raise ValueError("theirs") from error

    [record] = run_noisily(app).logged
    assert "complete: ValueError: theirs\n" in record
    assert "\ncaused by KeyError: 'mine'\n" in record


def test_an_exception_without_a_text_does_no_harm_after_the_answer() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

    [record] = run_noisily(after(START, body(), error=Hostile())).logged
    assert "complete: Hostile: its text could not be read" in record


def test_a_context_without_its_log_does_no_harm_after_the_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["pipe_init.context"].log = None
        await hello(scope, receive, send)
        raise KeyError

    assert len(run_noisily(app).logged) == 1


@pytest.mark.parametrize(
    "messages, expected",
    [((), "starting its response"), ((START,), "completing its"), ((START, body(b"1", True)), "completing its")],
)
def test_an_application_that_returns_too_early(messages: tuple[Message, ...], expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    with pytest.raises(RuntimeError, match=f"ASGI application returned without {expected}"):
        run(app)


def test_tasks_that_an_application_leaves_behind_find_the_client_gone() -> None:
    async def main() -> None:
        exchange = Exchange({})
        left: list[asyncio.Task[None]] = []

        async def later(receive: Receive, send: Send) -> None:
            await settle()
            await send(body(b"too late"))
            assert await receive() == DISCONNECT

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            left.append(asyncio.ensure_future(later(receive, send)))

        with pytest.raises(RuntimeError, match="returned without completing"):
            await serve_quietly(app, exchange)
        await left[0]
        assert exchange.answer == []

    asyncio.run(main())


@pytest.mark.parametrize("answered", [False, True])
def test_cancelling_the_task_reaches_the_application_and_the_caller(answered: bool) -> None:
    async def main() -> None:
        ended: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if answered:
                await hello(scope, receive, send)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        exchange = Exchange({})
        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        await settle()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert ended == ["cancelled"]
        assert exchange.logged == []

    asyncio.run(main())


# Disconnect


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_request_is_a_disconnect(stream: bool) -> None:
    async def main() -> None:
        exchange = Exchange({}, None if stream else [b"1"], stream=stream)
        got: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if not stream:
                await receive()
            got.append(await receive())
            got.append(await receive())
            for message in (body(), START, START, body(b"1", True)):
                await send(message)  # whatever it is, nobody minds any more

        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        await settle()
        assert got == []
        exchange.cancel()
        await serving
        assert got == [DISCONNECT, DISCONNECT]
        assert exchange.answer == []

    asyncio.run(main())


def test_a_request_that_was_cancelled_before_is_a_disconnect_at_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == DISCONNECT

    def make() -> Exchange:
        exchange = Exchange({}, [b"1"])
        exchange.cancel()
        return exchange

    assert run(app, make).answer == []


def test_a_body_that_ends_by_cancellation_does_not_look_complete() -> None:
    class Cut(Exchange):
        async def read(self) -> bytes:
            await self.until_cancelled()
            return b""

    async def main() -> None:
        exchange = Cut({}, stream=True)
        got: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            got.append(await receive())

        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        await settle()
        exchange.cancel()
        await serving
        assert got == [DISCONNECT]

    asyncio.run(main())


def test_streaming_stops_where_the_application_listens() -> None:
    async def main() -> None:
        exchange = Exchange({})
        exchange.room = asyncio.Semaphore(0)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def stream() -> None:
                await send(START)
                while True:
                    await send(body(b"tick", True))

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    continue

            streaming = asyncio.ensure_future(stream())
            await listen()
            streaming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await streaming

        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        exchange.room.release()
        await settle()
        assert ("write", b"tick") in exchange.answer
        exchange.cancel()
        await serving

    asyncio.run(main())


# Lifespan


def unexpected(text: str) -> None:
    """Take the log of a lifespan that has nothing to say there."""
    raise AssertionError(text)


def test_lifespan_from_startup_to_shutdown() -> None:
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        assert await receive() == {"type": "lifespan.startup"}
        await settle()
        scope["state"]["pool"] = "open"
        steps.append("started")
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == {"type": "lifespan.shutdown"}
        await settle()
        steps.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        assert await lifespan.startup() == {"pool": "open"}
        assert steps == ["started"]
        await lifespan.shutdown()
        assert steps == ["started", "stopped"]
        await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("text, expected", [("no database", "failed: no database"), ("", "failed"), (5, "failed")])
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
def test_lifespan_failed(phase: str, text: object, expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            if step == phase:
                await send({"type": f"lifespan.{step}.failed", "message": text})
                raise ConnectionError("the cause")
            await send({"type": f"lifespan.{step}.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        with pytest.raises(LifespanFailed) as caught:
            await lifespan.startup()
            await lifespan.shutdown()
        assert str(caught.value) == f"ASGI lifespan {phase} {expected}"
        assert isinstance(caught.value.__cause__, ConnectionError)
        await lifespan.shutdown()
        await settle()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_application_that_stays_after_it_failed_is_cancelled() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await receive()

    async def main() -> None:
        with pytest.raises(LifespanFailed):
            await Lifespan(app, unexpected).startup()
        await settle()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"


async def does_not_look(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await hello(scope, receive, send)


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["left"] = True


@pytest.mark.parametrize("app", [http_only, does_not_look, fail, returns])
def test_lifespan_that_is_not_supported(app: App) -> None:
    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        assert await lifespan.startup() == {}
        await lifespan.shutdown()

    asyncio.run(main())


def test_an_application_that_is_not_async_supports_no_lifespan() -> None:
    def wsgi(environ: object, start_response: object, more: object) -> list[bytes]:
        return []

    async def main() -> None:
        lifespan = Lifespan(wsgi, unexpected)  # type: ignore[arg-type]
        assert await lifespan.startup() == {}

    asyncio.run(main())


def test_an_application_that_wants_to_end_the_process_has_failed() -> None:
    async def main() -> None:
        with pytest.raises(LifespanFailed, match="raised SystemExit during lifespan startup") as caught:
            await Lifespan(after(error=SystemExit(3)), unexpected).startup()
        assert isinstance(caught.value.__cause__, SystemExit)

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3)])
@pytest.mark.parametrize("wait", [False, True])
def test_lifespan_that_raises_after_its_startup(error: BaseException, wait: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if wait:
            await receive()
        raise error

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        name = type(error).__name__
        when = "during" if wait else "before"
        with pytest.raises(LifespanFailed, match=f"raised {name} {when} lifespan shutdown") as caught:
            await lifespan.shutdown()
        assert caught.value.__cause__ is error

    asyncio.run(main())


def test_lifespan_that_raises_after_its_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        raise KeyError("mine")

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        with pytest.raises(LifespanFailed, match="raised KeyError after lifespan shutdown"):
            await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("mine"), None])
def test_a_lifespan_that_breaks_off_its_startup_is_told_once(error: Exception | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "lifespan.startup"}
        if error is not None:
            raise error

    async def main() -> None:
        said: list[str] = []
        lifespan = Lifespan(app, said.append)
        assert await lifespan.startup() == {}
        await lifespan.shutdown()
        [text] = said
        assert "is served without a lifespan" in text
        assert error is None or ("KeyError: 'mine'\n" in text and f'File "{__file__}", line ' in text)

    asyncio.run(main())


def test_lifespan_that_ends_without_a_word_at_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    "messages, expected",
    [
        (["lifespan.shutdown.complete"], "where an answer to 'lifespan.startup' was expected"),
        (["lifespan.startup.complete", "lifespan.startup.complete"], "after its answer to 'lifespan.startup'"),
        (["lifespan.startup.complete", "lifespan.shutdown.complete"], "after its answer to 'lifespan.startup'"),
    ],
)
def test_lifespan_messages_out_of_order(messages: list[str], expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for kind in messages[:-1]:
            await send({"type": kind})
        with pytest.raises(RuntimeError, match=f"sent '{messages[-1]}' {expected}"):
            await send({"type": messages[-1]})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())


def test_shutdown_without_startup_does_nothing() -> None:
    asyncio.run(Lifespan(fail, unexpected).shutdown())
