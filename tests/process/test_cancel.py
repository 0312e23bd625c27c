"""Tests of CANCEL, DUMP and STOP for a busy function that always has credit: it is reached between two steps.

Each function here would go on for ever. It reports when it has begun, and when it is told to end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.wire.messages import CANCEL, CHUNK, CREDIT, DUMP, END, ERROR, INVOKE, LOG, RESULT, STOP
from pipe_testing.runtime import RuntimeProcess

pytestmark = pytest.mark.unmeasured

ENDLESS = 2**31 - 1
"""The bytes of credit: more than any function here sends before its test would have failed."""

FUNCTIONS = """\
import asyncio, itertools
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

def on():
    print("begun", flush=True)

def items(event, context, item="item"):
    try:
        on()
        while True:
            yield item
    finally:
        print("told", flush=True)

def empty_items(event, context):
    yield from items(event, context, b"")

async def async_items(event, context, item="item"):
    try:
        on()
        while True:
            yield item
    except BaseException:
        print("told", flush=True)
        raise

async def empty_async_items(event, context):
    try:
        async for item in async_items(event, context, b""):
            yield item
    finally:
        print("told", flush=True)

async def returned_items(event, context):
    return items(event, context)

class Closed:
    def __init__(self, block):
        self.block = block
    def __iter__(self):
        on()
        return itertools.repeat(self.block)
    def close(self):
        print("told", flush=True)

def wsgi(environ, start_response, block=b"block"):
    start_response("200 OK", [])
    return Closed(block)

def empty_wsgi(environ, start_response):
    return wsgi(environ, start_response, b"")

def writing_wsgi(environ, start_response):
    write = start_response("200 OK", [])
    try:
        on()
        while True:
            write(b"block")
    finally:
        print("told", flush=True)

def bodiless_wsgi(environ, start_response):
    write = start_response("204 No Content", [])
    try:
        on()
        while True:
            write(b"block")
    finally:
        print("told", flush=True)

async def asgi(scope, receive, send, start=True, body=b"block"):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200})
    gone = asyncio.ensure_future(receive_all(receive))
    on()
    while not gone.done():
        await send({"type": "http.response.body", "body": body, "more_body": True})
    print("told", flush=True)

async def receive_all(receive):
    while (await receive())["type"] != "http.disconnect":
        pass

async def silent_asgi(scope, receive, send):
    if scope["type"] == "http":
        assert (await receive())["type"] == "http.request"
        on()
        await receive_all(receive)

async def empty_asgi(scope, receive, send):
    await asgi(scope, receive, send, body=b"")

def reader(event: BinaryIO, context):
    try:
        event.raw.read(1)
        on()
        while event.raw.read(1):
            event.raw._exchange._pieces.append(b"x")
    except BrokenPipeError:
        print("told", flush=True)
        raise

async def async_reader(event: AsyncIterator[bytes], context):
    try:
        await event.read(1)
        on()
        while await event.read(1):
            event._exchange._pieces.append(b"x")
    except asyncio.CancelledError:
        print("told", flush=True)
        raise

def plain(event, context):
    return event
"""

EVENT: dict[str, Any] = {"request_id": "r", "content_type": "application/json", "accept": "*/*"}


def begin(runtime: RuntimeProcess, handler: str, **fields: Any) -> None:
    """Start a request that goes on for ever, and wait until it has begun."""
    runtime.start(f"index.{handler}", stream_bytes=ENDLESS, **fields)
    streamed = {"stream": True} if "reader" in handler else {}
    runtime.send(INVOKE, 1, {**EVENT, **streamed}, b"" if streamed else b"{}")
    if streamed:
        runtime.send(CHUNK, 1, payload=b"body")
    read_until_line(runtime, "begun")


def read_until_line(runtime: RuntimeProcess, text: str) -> None:
    while (frame := runtime.next()).kind != LOG or text not in frame.payload.decode():
        assert frame.kind in (LOG, RESULT, CHUNK, CREDIT), frame


def read_outcome(runtime: RuntimeProcess, id: int) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata of the outcome of a request, and the lines that came before it."""
    lines: list[str] = []
    while (frame := runtime.next()).kind not in (END, ERROR):
        if frame.kind == LOG:
            lines += frame.payload.decode().split("\n")
        assert frame.kind in (LOG, RESULT, CHUNK, CREDIT), frame
    assert frame.id == id
    return dict(frame.metadata), lines


KINDS = [
    ("items", {}),
    ("empty_items", {}),
    ("items", {"concurrency": 2}),
    ("empty_items", {"concurrency": 2}),
    ("async_items", {}),
    ("empty_async_items", {}),
    ("returned_items", {}),
    ("wsgi", {"type": "wsgi"}),
    ("empty_wsgi", {"type": "wsgi"}),
    ("writing_wsgi", {"type": "wsgi"}),
    ("bodiless_wsgi", {"type": "wsgi"}),
    ("wsgi", {"type": "wsgi", "concurrency": 2}),
    ("empty_wsgi", {"type": "wsgi", "concurrency": 2}),
    ("asgi", {"type": "asgi"}),
    ("empty_asgi", {"type": "asgi"}),
    ("reader", {}),
    ("reader", {"concurrency": 2}),
    ("async_reader", {}),
]


@pytest.mark.parametrize(("handler", "fields"), KINDS)
@pytest.mark.parametrize("stopped", [False, True], ids=["alone", "after STOP"])
def test_a_busy_function_hears_of_cancel(tmp_path: Path, handler: str, fields: dict[str, Any], stopped: bool) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, handler, **fields)
        if stopped:
            runtime.send(STOP)
        runtime.send(CANCEL, 1)
        outcome, lines = read_outcome(runtime, 1)
        assert "told" in " ".join(lines)
        assert ("error_type" in outcome) == ("asgi" not in handler)  # an ASGI application has answered and returned
        if not stopped:
            runtime.send(STOP)
        assert runtime.exit_code() == 0


def test_an_answer_to_head_that_never_ends_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.asgi", type="asgi", concurrency=2)
        head = {**EVENT, "http": {"method": "HEAD", "path": "/"}}
        runtime.send(INVOKE, 1, head)
        read_until_line(runtime, "begun")
        runtime.send(DUMP)
        answered = False  # the first piece of the body begins the answer, and may come before or after DUMP
        while (frame := runtime.next()).kind != DUMP:
            assert frame.kind in (LOG, RESULT)
            answered = answered or frame.kind == RESULT
        assert [each["id"] for each in frame.metadata["stacks"]] == ([] if answered else [1])


def test_an_application_that_ends_at_a_disconnect_without_an_answer_is_not_reported(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, "silent_asgi", type="asgi")
        runtime.send(CANCEL, 1)
        outcome, lines = read_outcome(runtime, 1)
        assert (outcome["error_type"], lines) == ("CallerGone", [])
        assert runtime.stop() == 0


def test_an_application_that_does_not_listen_for_a_disconnect_does_not_stop_its_neighbours(tmp_path: Path) -> None:
    deaf = FUNCTIONS + "\nasync def receive_all(receive):\n    await asyncio.sleep(1000)\n"
    with RuntimeProcess(tmp_path, deaf) as runtime:
        begin(runtime, "asgi", type="asgi", concurrency=2)
        runtime.send(CANCEL, 1)
        runtime.send(INVOKE, 2, EVENT, b"{}")
        read_until_line(runtime, "begun")


@pytest.mark.parametrize("handler", ["items", "wsgi", "reader"])
def test_a_busy_function_in_the_only_thread_says_where_it_is(tmp_path: Path, handler: str) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, handler, type="wsgi" if handler == "wsgi" else "event")
        runtime.send(DUMP)
        while (frame := runtime.next()).kind != DUMP:
            assert frame.kind in (LOG, RESULT, CHUNK, CREDIT), frame
        (stack,) = frame.metadata["stacks"]
        assert stack["id"] == 1
        runtime.send(CANCEL, 1)
        read_outcome(runtime, 1)
        assert runtime.stop() == 0


def test_requests_that_were_cancelled_before_their_turn_do_not_begin(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, "items")
        for id in (2, 3):
            runtime.send(INVOKE, id, EVENT, b"{}")
        for id in (1, 2, 3):
            runtime.send(CANCEL, id)
        runtime.send(STOP)
        _, lines = read_outcome(runtime, 1)
        assert "told" in lines
        for id in (2, 3):
            outcome, lines = read_outcome(runtime, id)
            assert (outcome["error_type"], lines) == ("CallerGone", [])
        assert runtime.exit_code() == 0


def test_the_end_of_the_stream_leaves_a_result_that_has_credit(tmp_path: Path) -> None:
    counting = "def handler(event, context):\n    yield from map(str, range(20_000))\n"
    with RuntimeProcess(tmp_path, counting) as runtime:
        runtime.start(stream_bytes=ENDLESS)
        runtime.send(INVOKE, 1, EVENT, b"{}")
        runtime.close_input()
        data = b""
        while (frame := runtime.next()).kind != END:
            data += frame.payload
        assert data == "".join(map(str, range(20_000))).encode()
        assert frame.metadata.get("error_type") is None
        assert runtime.exit_code() == 0
