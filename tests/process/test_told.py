"""Tests of exceptions that cannot be part of an outcome: the log has each once, with class, text, place and request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CANCEL, CHUNK, END, ERROR, INVOKE, LOG, RESULT, STOP
from pipe_testing.runtime import RuntimeProcess

pytestmark = pytest.mark.unmeasured

FUNCTIONS = """\
import asyncio, atexit, itertools

left = []

def fail():
    raise ValueError("mine")

def items(event, context):
    try:
        yield from itertools.repeat("item")
    finally:
        fail()

async def async_items(event, context):
    try:
        while True:
            yield "item"
    finally:
        fail()

async def waits(event, context):
    try:
        print("begun", flush=True)
        await asyncio.sleep(1000)
    finally:
        fail()

class Closed:
    def __init__(self, blocks):
        self.blocks = blocks
    def __iter__(self):
        return iter(self.blocks)
    def close(self):
        fail()

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return Closed(itertools.repeat(b"block"))

def short_wsgi(environ, start_response):
    start_response("200 OK", [])
    return Closed([b"block", b"block"])

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    print("begun", flush=True)
    while (await receive())["type"] != "http.disconnect":
        pass
    fail()

async def lifespan_startup(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        fail()

async def lifespan_shutdown(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        fail()

async def leaves_a_task(event, context):
    async def task():
        try:
            await asyncio.sleep(1000)
        finally:
            fail()
    left.append(asyncio.ensure_future(task()))
    await asyncio.sleep(0)

def at_exit(event, context):
    atexit.register(fail)

def hook(context):
    fail()

async def async_hook(context):
    fail()
"""

EVENT: dict[str, Any] = {"request_id": "r-1", "content_type": "application/json", "accept": "application/json"}


def frames_until(runtime: RuntimeProcess, *kinds: int) -> list[Frame]:
    """Return the LOG frames until a frame of one of these kinds, and that frame."""
    kept = []
    while (frame := runtime.next()).kind not in kinds:
        if frame.kind == LOG:
            kept.append(frame)
        assert frame.kind in (LOG, RESULT, CHUNK), frame
    return [*kept, frame]


def text_of(frames: list[Frame]) -> str:
    return "\n".join(frame.payload.decode() for frame in frames if frame.kind == LOG)


def check(text: str) -> None:
    """Check that the log has the exception once, with class, text and place."""
    assert len(re.findall(r"^.*ValueError\b[^\n]*: mine$", text, re.MULTILINE)) == 1
    assert 'index.py", line 6, in fail' in text


@pytest.mark.parametrize(
    ("handler", "fields"),
    [
        ("items", {}),
        ("items", {"concurrency": 2}),
        ("async_items", {}),
        ("waits", {}),
        ("waits", {"concurrency": 2}),
        ("wsgi", {"type": "wsgi"}),
        ("wsgi", {"type": "wsgi", "concurrency": 2}),
        ("asgi", {"type": "asgi"}),
    ],
)
def test_a_function_that_fails_while_it_tidies_up(tmp_path: Path, handler: str, fields: dict[str, Any]) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start(f"index.{handler}", stream_bytes=2**31 - 1, **fields)
        runtime.send(INVOKE, 1, EVENT, b"{}")
        begun = frames_until(runtime, CHUNK if "items" in handler or handler == "wsgi" else LOG)
        assert "ValueError" not in text_of(begun)
        runtime.send(CANCEL, 1)
        frames = frames_until(runtime, END, ERROR)
        check(text_of(frames))
        assert {frame.id for frame in frames if b"ValueError" in frame.payload} == {1}
        runtime.stop()
        assert "ValueError" not in text_of(runtime.lines)


def test_a_close_that_fails_after_the_answer_is_the_requests_error(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.short_wsgi", type="wsgi", stream_bytes=1000)
        runtime.send(INVOKE, 1, EVENT, b"{}")
        (outcome,) = frames_until(runtime, END)
        assert (outcome.metadata["error_type"], outcome.metadata["error_message"]) == ("ValueError", "mine")
        assert outcome.metadata["stack"][-1][2] == "fail"
        assert runtime.stop() == 0


def test_a_lifespan_that_fails_while_it_starts(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.lifespan_startup", type="asgi")
        check(text_of(runtime.lines))
        assert "during lifespan startup" in text_of(runtime.lines)
        assert runtime.stop() == 0
        assert runtime.lines == []


def test_a_lifespan_that_fails_while_it_ends(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.lifespan_shutdown", type="asgi")
        assert runtime.stop() == 1
        check(text_of(runtime.lines))
        assert "during lifespan shutdown" in text_of(runtime.lines)


@pytest.mark.parametrize("handler", ["at_exit", "leaves_a_task"])
def test_what_is_left_to_the_end_and_fails(tmp_path: Path, handler: str) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start(f"index.{handler}")
        assert runtime.call() is None
        assert runtime.stop() == 0
        check(text_of(runtime.lines))


@pytest.mark.parametrize("hook", ["hook", "async_hook"])
@pytest.mark.parametrize("handler", ["at_exit", "lifespan_shutdown"])
def test_a_pre_stop_hook_that_fails(tmp_path: Path, handler: str, hook: str) -> None:
    """Check a hook, and a lifespan whose shutdown fails too."""
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start(f"index.{handler}", type="asgi" if handler != "at_exit" else "event", pre_stop=f"index.{hook}")
        assert runtime.stop() == 1
        text = text_of(runtime.lines)
        assert text.count("ValueError: mine") == (1 if handler == "at_exit" else 2)


@pytest.mark.parametrize("hook", ["hook", "async_hook"])
def test_an_initializer_that_fails(tmp_path: Path, hook: str) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.hello("index.at_exit", initializer=f"index.{hook}")
        runtime.next()
        (word,) = frames_until(runtime, ERROR)
        assert (word.id, word.metadata["error_type"], word.metadata["stack"][-1][2]) == (0, "ValueError", "fail")
        assert runtime.exit_code() == 1
        assert runtime.lines == []


def test_a_request_that_is_stopped_with_its_worker(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.waits", pre_stop="index.hook")
        runtime.send(INVOKE, 1, EVENT, b"{}")
        frames_until(runtime, LOG)
        runtime.send(CANCEL, 1)
        runtime.send(STOP)
        frames = frames_until(runtime, ERROR)
        check(text_of(frames))
        assert runtime.exit_code() == 1
        check(text_of(runtime.lines))
