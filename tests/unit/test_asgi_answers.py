"""Tests of ASGI's http protocol with an exchange in memory: the application's answer, its errors and its end."""

from __future__ import annotations

import asyncio
import http

import pytest

from pipe_runtime.adapters.asgi import serve
from pipe_testing.asgi import (
    DISCONNECT,
    OK,
    START,
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    after,
    body,
    fail,
    hello,
    run,
    run_noisily,
    serve_quietly,
    settle,
)


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
        await send(body(b"unwanted"))  # ignored

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
        raise LookupError  # the application may do with the error what it likes

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
        except BaseException as raised:  # an exception that ends an event loop must not reach the loop
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
    assert f'File "{after.__code__.co_filename}", line ' in record
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
