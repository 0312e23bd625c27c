"""Tests of SIGTERM for a worker: SystemExit in the function's code, then the exit hooks, then death by SIGTERM."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.wire.messages import END, ERROR, INVOKE, LOG, RESULT
from pipe_testing.runtime import RuntimeProcess

pytestmark = pytest.mark.unmeasured

FUNCTIONS = """\
import asyncio, atexit, itertools, multiprocessing, os, signal, sys, threading, time

atexit.register(print, "atexit")

def on():
    print("begun", flush=True)

def hook(context):
    print("hook")

def sleeps(event, context):
    try:
        on()
        time.sleep(1000)
    finally:
        print("finally")

def busy(event, context):
    try:
        on()
        while True:
            pass
    finally:
        print("finally")

def swallows(event, context):
    try:
        on()
        time.sleep(1000)
    except BaseException:
        print("finally")
    return "a result that nobody waits for"

def items(event, context):
    try:
        yield "item"
        on()
        time.sleep(1000)
    finally:
        print("finally")

def wsgi(environ, start_response):
    try:
        start_response("200 OK", [])
        on()
        time.sleep(1000)
    finally:
        print("finally")

async def blocks(event, context):
    try:
        on()
        time.sleep(1000)
    finally:
        print("finally")

async def waits(event, context):
    try:
        on()
        await asyncio.sleep(1000)
    finally:
        print("finally")

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("finally")
        await send({"type": "lifespan.shutdown.complete"})
    else:
        on()
        await asyncio.sleep(1000)

def itself(event, context):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("finally")

def handled(event, context):
    def handle(number, frame):
        raise TimeoutError("mine")
    signal.signal(signal.SIGTERM, handle)
    on()
    time.sleep(1000)

def children(event, context):
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1000)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def plain(event, context):
    return event
"""

EVENT: dict[str, Any] = {"request_id": "r", "content_type": "application/json", "accept": "application/json"}


def begin(runtime: RuntimeProcess, handler: str, **fields: Any) -> None:
    """Start two requests, and wait until the function has begun the first."""
    runtime.start(f"index.{handler}", pre_stop="index.hook", stream_bytes=1000, **fields)
    runtime.send(INVOKE, 1, EVENT, b"{}")
    runtime.send(INVOKE, 2, EVENT, b"{}")
    while (frame := runtime.next()).kind != LOG:
        assert frame.kind != ERROR
    assert frame.payload == b"begun"


def rest(runtime: RuntimeProcess) -> list[str]:
    """Return the lines until the end of the runtime's stream. No request may get an outcome."""
    lines: list[str] = []
    while (frame := runtime.next_or_end()) is not None:
        assert frame.kind not in (RESULT, END, ERROR) or frame.metadata.get("stream"), frame
        if frame.kind == LOG:
            lines += frame.payload.decode().split("\n")
    return lines


@pytest.mark.parametrize(
    ("handler", "fields"),
    [
        ("sleeps", {}),
        ("busy", {}),
        ("swallows", {}),
        ("items", {}),
        ("wsgi", {"type": "wsgi"}),
        ("blocks", {}),
        ("waits", {}),
        ("waits", {"concurrency": 2}),
        ("asgi", {"type": "asgi"}),
    ],
)
def test_the_function_tidies_up_and_the_worker_dies_of_the_signal(
    tmp_path: Path, handler: str, fields: dict[str, Any]
) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, handler, **fields)
        os.kill(runtime.process.pid, signal.SIGTERM)
        lines = [line for line in rest(runtime) if line in ("begun", "finally", "hook", "atexit")]
        while "begun" in lines:  # the other request had begun, too
            lines.remove("begun")
            lines.remove("finally")
        if fields.get("concurrency") == 2 and lines.count("finally") == 2:
            lines.remove("finally")  # the signal came while the other request was about to write its line
        assert sorted(lines) == ["atexit", "finally", "hook"]
        assert lines[-1] == "atexit"
        assert runtime.ended() == -signal.SIGTERM


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("handler", ["plain", "waits"])
def test_a_worker_that_waits_for_a_request(tmp_path: Path, handler: str, concurrency: int) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start(f"index.{handler}", concurrency=concurrency, pre_stop="index.hook")
        os.kill(runtime.process.pid, signal.SIGTERM)
        runtime.close_input()  # Python misses a signal that comes just before it begins to wait
        assert rest(runtime) == ["hook", "atexit"]
        assert runtime.ended() == -signal.SIGTERM


def test_threads_are_not_waited_for(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        begin(runtime, "sleeps", concurrency=2)
        os.kill(runtime.process.pid, signal.SIGTERM)
        runtime.close_input()  # Python misses a signal that comes just before it begins to wait
        assert [line for line in rest(runtime) if line != "begun"] == ["hook", "atexit"]
        assert runtime.ended() == -signal.SIGTERM


def test_a_function_that_is_being_loaded(tmp_path: Path) -> None:
    source = FUNCTIONS + "\ntry:\n    on()\n    time.sleep(1000)\nfinally:\n    print('finally')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.hello("index.plain")
        runtime.next()
        assert runtime.next().payload == b"begun"
        os.kill(runtime.process.pid, signal.SIGTERM)
        assert rest(runtime) == ["finally", "atexit"]
        assert runtime.ended() == -signal.SIGTERM


def test_a_function_that_sends_it_to_itself(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.itself")
        runtime.send(INVOKE, 1, EVENT, b"{}")
        assert rest(runtime) == ["finally", "atexit"]
        assert runtime.ended() == -signal.SIGTERM


def test_a_function_that_handles_it_goes_on(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.handled")
        for _ in range(2):
            id = runtime.invoke()
            assert runtime.next().payload == b"begun"
            os.kill(runtime.process.pid, signal.SIGTERM)
            assert runtime.outcome(id).metadata["error_type"] == "TimeoutError"
        assert runtime.stop() == 0


def test_a_forked_child_has_the_default(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FUNCTIONS) as runtime:
        runtime.start("index.children")
        assert runtime.call() == -signal.SIGTERM
        assert runtime.stop() == 0


def test_a_second_one_does_not_wait(tmp_path: Path) -> None:
    source = FUNCTIONS.replace('print("finally")', 'print("finally", flush=True); time.sleep(1000)', 1)
    with RuntimeProcess(tmp_path, source) as runtime:
        begin(runtime, "sleeps")
        os.kill(runtime.process.pid, signal.SIGTERM)
        assert runtime.next().payload == b"finally"
        os.kill(runtime.process.pid, signal.SIGTERM)
        assert rest(runtime) == []
        assert runtime.ended() == -signal.SIGTERM
