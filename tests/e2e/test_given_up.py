"""Tests that a function is told when its result is not wanted any more, and can clean up.

The reader of the results is gone, or pipe-init is to end. Each function writes to a named pipe how far it has come, and
holds that pipe open as long as it lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipe_testing import modes
from pipe_testing.command import PipeInit, popen
from pipe_testing.fifo import Fifo
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured

MODES = modes.EXEC, modes.TEMPLATE, modes.WORKERS

FUNCTIONS = """\
import asyncio, atexit, itertools, os, time

fifo = os.open(os.environ["FIFO"], os.O_WRONLY)

def say(word):
    os.write(fifo, word.encode() + b"\\n")

def hook(context):
    say("pre-stop")

class Saying:
    def __enter__(self):
        atexit.register(say, "atexit")
        say("begun")
    def __exit__(self, *_):
        say("finally")

def sleeps(event, context):
    with Saying():
        time.sleep(1000)

def busy(event, context):
    with Saying():
        while True:
            pass

async def waits(event, context):
    with Saying():
        await asyncio.sleep(1000)

def items(event, context):
    with Saying():
        while True:
            yield "item"

def slow_items(event, context):
    with Saying():
        yield "item"
        while True:
            time.sleep(0.01)
            yield "item"

async def async_items(event, context):
    with Saying():
        while True:
            yield "item"

class Blocks:
    def __iter__(self):
        return itertools.repeat(b"block")
    def close(self):
        say("finally")

def wsgi(environ, start_response):
    start_response("200 OK", [])
    atexit.register(say, "atexit")
    say("begun")
    return Blocks()

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        return await send({"type": "lifespan.shutdown.complete"})
    atexit.register(say, "atexit")
    say("begun")
    await send({"type": "http.response.start", "status": 200})
    gone = asyncio.ensure_future(receive_all(receive))
    while not gone.done():
        await send({"type": "http.response.body", "body": b"block", "more_body": True})
    say("finally")

async def receive_all(receive):
    while (await receive())["type"] != "http.disconnect":
        pass

def threads(event, context):
    if event.get("quick"):
        return "quick"
    with Saying():
        while not context.cancelled:
            time.sleep(0.01)

async def some_wait(event, context):
    if event.get("quick"):
        return "quick"
    with Saying():
        await asyncio.sleep(1000)
"""

END = ["begun", "finally", "pre-stop", "atexit"]

KINDS = [
    ("sleeps", (), END),
    ("busy", (), END),
    ("waits", (), END),
    ("slow_items", (), END),
    ("wsgi", ("--type", "wsgi"), END),
    ("asgi", ("--type", "asgi"), ["begun", "finally", "pre-stop", "shutdown", "atexit"]),
    ("threads", ("--concurrency", "2"), END),
    ("waits", ("--concurrency", "2"), END),
]
STREAMS = [
    ("items", (), END),
    ("items", ("--concurrency", "2"), END),
    ("async_items", (), END),
    ("wsgi", ("--type", "wsgi"), END),
    ("asgi", ("--type", "asgi"), ["begun", "finally", "pre-stop", "shutdown", "atexit"]),
]


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    (tmp_path / "index.py").write_text(FUNCTIONS)
    made = Fifo(tmp_path / "fifo")
    yield made
    made.close()


@contextmanager
def running(
    pipe_init: PipeInit,
    fifo: Fifo,
    handler: str,
    *options: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a run of a function, which writes to `fifo`."""
    command = ("run", f"index.{handler}", "-q", "--grace", "1", "--pre-stop", "index.hook", *options)
    folder = Path(fifo.path).parent
    with popen(pipe_init, *command, cwd=folder, stdin=stdin, stdout=stdout, env={"FIFO": fifo.path}) as process:
        yield process


def said(fifo: Fifo) -> list[str]:
    """Return what a worker writes from now on until no process holds the pipe."""
    text = b""
    while data := fifo._read():
        text += data
    return text.decode().splitlines()


@pytest.mark.parametrize(("handler", "options", "expected"), KINDS)
def test_an_end_while_it_is_busy(
    pipe_init: PipeInit, fifo: Fifo, handler: str, options: tuple[str, ...], expected: list[str]
) -> None:
    number = signal.SIGINT if handler == "busy" else signal.SIGTERM
    with running(pipe_init, fifo, handler, *options, stdout=subprocess.DEVNULL) as process:
        fifo.wait_for(b"begun\n")
        process.send_signal(number)
        assert ["begun", *said(fifo)] == expected
        assert process.wait(HANGS) == 128 + number


@pytest.mark.parametrize(("handler", "options", "expected"), STREAMS)
def test_the_reader_of_the_result_is_gone(
    pipe_init: PipeInit, fifo: Fifo, handler: str, options: tuple[str, ...], expected: list[str]
) -> None:
    with running(pipe_init, fifo, handler, *options) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert said(fifo) == expected
        assert process.wait(HANGS) == 141


@pytest.mark.parametrize(("handler", "options", "expected"), STREAMS[:1])
def test_a_device_that_takes_nothing(
    pipe_init: PipeInit, fifo: Fifo, handler: str, options: tuple[str, ...], expected: list[str]
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with running(pipe_init, fifo, handler, *options, stdout=full) as process:
            assert said(fifo) == expected
            assert process.wait(HANGS) == 1
    finally:
        os.close(full)


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        ("threads", ("--concurrency", "2")),
        ("some_wait", ("--concurrency", "2")),
        ("some_wait", ("-w", "2")),
        ("threads", ("-w", "2")),
        ("threads", ("-w", "2", "--isolation", "request")),
    ],
)
def test_the_reader_of_many_results_is_gone(
    pipe_init: PipeInit, fifo: Fifo, handler: str, options: tuple[str, ...]
) -> None:
    """Check that a waiting event is given up when the lines of the other events find no reader."""
    events = ("--unordered", "--events", "-")
    with running(pipe_init, fifo, handler, *events, *options, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"{}\n")
        fifo.wait_for(b"begun\n")
        process.stdin.write(b'{"quick": true}\n')
        assert b"quick" in process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b'{"quick": true}\n')
        words = said(fifo)
        assert sorted(set(words) - {"begun"}) == ["atexit", "finally", "pre-stop"]
        assert words.count("finally") == 1
        assert process.wait(HANGS) == 141


def test_a_second_signal_does_not_wait(pipe_init: PipeInit, fifo: Fifo) -> None:
    options = ("--grace", "60")
    with running(pipe_init, fifo, "waits", *options, stdout=subprocess.DEVNULL) as process:
        fifo.wait_for(b"begun\n")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert said(fifo) == []
        assert process.wait(HANGS) in (130, 143)


def test_a_function_that_does_not_end_is_killed(pipe_init: PipeInit, fifo: Fifo) -> None:
    folder = Path(fifo.path).parent
    (folder / "index.py").write_text(FUNCTIONS.replace('say("finally")', 'say("finally"); time.sleep(1000)'))
    with running(pipe_init, fifo, "items") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert said(fifo)[:2] == ["begun", "finally"]
        assert process.wait(HANGS) == 141
