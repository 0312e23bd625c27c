"""Tests of ASGI's http protocol with an exchange in memory: the scope, the request's body, and disconnects."""

from __future__ import annotations

import asyncio

import pytest

from pipe_testing.asgi import (
    DISCONNECT,
    OK,
    START,
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    body,
    hello,
    run,
    scope_of,
    serve_quietly,
    settle,
    whole_body,
)

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


# Requests that are not HTTP


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
        assert count == messages + (stream and method == "POST")  # the end of a stream has a message of its own
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

    exchange = run(app, lambda: Exchange({}, [b"1", b"2"], stream=True))
    assert (exchange.take(), exchange.take()) == (b"2", b"")


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
        def take(self, size: int = -1) -> bytes:
            raise OSError("the pipe is gone")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(OSError, match="gone"):
        run(app, lambda: Broken({}, stream=True))


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
                await send(message)  # any message is accepted and dropped

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


@pytest.mark.parametrize("how", ["cancel", "hang_up"])
def test_a_body_that_ends_by_cancellation_does_not_look_complete(how: str) -> None:
    async def main() -> None:
        exchange = Exchange({}, None, stream=True)
        got: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            got.append(await receive())

        serving = asyncio.ensure_future(serve_quietly(app, exchange))
        await settle()
        getattr(exchange, how)()
        await serving
        assert got == [DISCONNECT]

    asyncio.run(main())


def test_the_end_of_the_stream_is_no_disconnect_for_a_request_whose_body_is_whole() -> None:
    async def main() -> None:
        exchange = Exchange({}, [b"1"])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            waiting = asyncio.ensure_future(receive())
            exchange.hang_up()
            await settle()
            assert not waiting.done()
            await hello(scope, receive, send)
            assert await waiting == DISCONNECT

        await serve_quietly(app, exchange)
        assert exchange.answer == [("respond", b"hello", "text/plain", OK)]

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
