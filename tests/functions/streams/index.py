"""Functions that stream their event, their result or both. Some of them end in the middle of a stream."""

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO


def echo(pieces: Iterator[bytes]):
    yield from pieces


async def echo_async(pieces: AsyncIterator[bytes]):
    async for piece in pieces:
        yield piece


def echo_wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return iter(lambda: environ["wsgi.input"].read(1), b"")


async def echo_asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-echo", b"1")]})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


def steps(event):
    """Yield an item, and another one each time that the test has written to the named pipe."""
    yield event["first"]
    while open(event["fifo"]).read():
        yield event["next"]


async def steps_async(event):
    for item in steps(event):
        yield item


def fails(event):
    yield 1
    raise ValueError("midway")


def dies(event):
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(event):
    yield 1
    time.sleep(3600)


def endless(event):
    while True:
        yield b"x" * 10_000


def large(event):
    return "x" * event


def many(event):
    for _ in range(event):
        yield "x" * 1_000_000


def length(event):
    return len(event)


def ignores(body: BinaryIO):
    return "ignored"


def half(body: BinaryIO):
    return len(body.read(1_000_000))


def in_a_thread(body: BinaryIO):
    found = []
    thread = threading.Thread(target=lambda: found.append(len(body.read())))
    thread.start()
    thread.join()
    return found[0]


def writes_while_a_thread_reads(body: BinaryIO):
    threading.Thread(target=body.read, daemon=True).start()
    for _ in range(500):
        yield b"y" * 10_000
