"""Tests of streams of a function that serves one request at a time: a thread that waits also reads, and none hangs."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from pipe_runtime.call.exchange import LOOK_SECONDS
from pipe_runtime.io.outbox import Outbox
from pipe_runtime.io.pipes import Pipes
from pipe_runtime.serve.inline import InlineRequests
from pipe_runtime.wire.connection import INIT, RUNTIME, Connection
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CANCEL, CHUNK, CREDIT, END, HELLO, INVOKE, VERSION
from pipe_testing.engines import STREAM, outcomes, values
from pipe_testing.runtime import RuntimeProcess

READERS = """\
import os, signal, threading
from collections.abc import Iterator
left = []

def read(body):
    try:
        list(body)
    except BaseException as error:
        left.append(type(error).__name__)

def handler(event: Iterator[bytes], context):
    first = next(event)
    if first == b"leave":
        threading.Thread(target=read, args=(event,), name="left", daemon=True).start()
        return "left"
    if first == b"count":
        for thread in [t for t in threading.enumerate() if t.name == "left"]:
            thread.join(300)
        return left
    if first == b"alarm":
        def ring(number, frame):
            raise TimeoutError("the alarm")
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return b"".join(event).decode()
    if first == b"fork":
        child = os.fork()
        if not child:
            return b"".join(event).decode()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (first + b"".join(event)).decode()
"""


def begin(runtime: RuntimeProcess, id: int, *pieces: bytes, end: bool = True) -> None:
    fields: dict[str, Any] = {"request_id": "r", "content_type": "text/plain", "accept": "application/json"}
    runtime.send(INVOKE, id, {**fields, "stream": True})
    for piece in pieces:
        runtime.send(CHUNK, id, payload=piece)
    if end:
        runtime.send(END, id)


def test_bodies_of_requests_that_wait_are_kept_apart(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, READERS) as runtime:
        runtime.start()
        begin(runtime, 1, b"a", end=False)
        begin(runtime, 2, b"b", b"bb")
        begin(runtime, 3, b"c", end=False)
        runtime.send(CHUNK, 1, payload=b"aa")
        runtime.send(CHUNK, 3, payload=b"cc")
        runtime.send(END, 1)
        runtime.send(END, 3)
        assert values(runtime, 1, 2, 3) == ["aaa", "bbb", "ccc"]
        assert runtime.stop() == 0


def test_a_long_body_gets_credit(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, READERS) as runtime:
        runtime.start()
        begin(runtime, 1, *[b"x" * 50_000] * 5, end=False)
        assert (frame := runtime.next()).kind == CREDIT and frame.metadata["bytes"] >= 128 * 1024
        runtime.send(END, 1)
        assert values(runtime, 1) == ["x" * 250_000]
        assert runtime.stop() == 0


@pytest.mark.parametrize("what", ["cancel", "end of input", "alarm", "fork"])
def test_a_reader_does_not_wait_for_ever(tmp_path: Path, what: str) -> None:
    with RuntimeProcess(tmp_path, READERS) as runtime:
        runtime.start()
        begin(runtime, 1, what.encode() if what in ("alarm", "fork") else b"x", end=False)
        if what == "cancel":
            runtime.send(CANCEL, 1)
        elif what == "end of input":
            runtime.close_input()
        outcome = outcomes(runtime, 1)[1]
        if what == "fork":  # the read has failed in the child, and the parent has seen it
            assert outcome.payload == b"1"
        else:
            assert outcome.metadata["error_type"] == ("TimeoutError" if what == "alarm" else "CallerGone")
        assert (runtime.exit_code() if what == "end of input" else runtime.stop()) == 0


def test_a_thread_that_reads_after_the_outcome_is_told_and_steals_nothing(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, READERS) as runtime:
        runtime.start()
        begin(runtime, 1, b"leave", end=False)
        assert values(runtime, 1) == ["left"]
        for id in range(2, 30):
            begin(runtime, id, b"x", b"y", b"z")
        assert values(runtime, *range(2, 30)) == ["xyz"] * 28
        begin(runtime, 30, b"count")
        assert values(runtime, 30) == [["CallerGone"]]
        assert runtime.stop() == 0


ANSWERS = """\
import asyncio, os, signal

async def items():
    for n in range(3):
        await asyncio.sleep(0)
        yield n

async def left():
    try:
        await asyncio.sleep(60)
    finally:
        print("ended")

async def value():
    asyncio.ensure_future(left())
    await asyncio.sleep(0)
    return "value"

def endless():
    while True:
        yield "x" * 10_000

def child():
    pid = os.fork()
    while not pid:
        yield "x"
    yield os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def handler(event, context):
    return {"items": items, "value": value, "endless": endless, "child": child, "none": lambda: iter(()),
            "large": lambda: "x" * 17_000_000}[event]()
"""


def test_what_a_plain_function_may_return(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ANSWERS) as runtime:
        runtime.start(stream_bytes=STREAM)
        for event, expected in (("items", [b"0", b"1", b"2"]), ("none", []), ("child", [b"1"])):
            runtime.invoke(event)
            assert runtime._after_logs().metadata["stream"]
            pieces = []
            while (frame := runtime._after_logs()).kind == CHUNK:
                pieces.append(frame.payload.strip())
            assert (frame.kind, pieces, "error_type" in frame.metadata) == (END, expected, False)
        assert runtime.call("value") == "value"
        assert runtime.logged() == ["ended"]  # the tasks that were left on its loop were cancelled
        assert runtime.stop() == 0


def test_an_unread_stream_waits_and_is_cancelled(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ANSWERS) as runtime:
        runtime.start(stream_bytes=STREAM)
        id = runtime.invoke("endless")
        size = 0
        while size < STREAM:
            size += len(runtime.next().payload)
        runtime.send(CANCEL, id)
        frame = runtime.next()
        assert (frame.kind, frame.metadata["error_type"]) == (END, "CallerGone")
        assert runtime.stop() == 0


def test_a_large_answer_goes_in_pieces_as_credit_comes(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ANSWERS) as runtime:
        runtime.start(stream_bytes=STREAM)
        id = runtime.invoke("large")
        assert runtime.next().metadata["stream"]
        size = 0
        while (frame := runtime.next()).kind == CHUNK:
            size += len(frame.payload)
            runtime.send(CREDIT, id, {"bytes": len(frame.payload)})
        assert (frame.kind, size) == (END, 17_000_002)
        assert runtime.stop() == 0


class CountedPipes(Pipes):
    """Pipes that count how often they are asked whether something has come."""

    asked = 0

    def ready(self) -> bool:
        self.asked += 1
        return super().ready()


def test_a_look_costs_a_system_call_once_in_a_while() -> None:
    requests, ours = os.pipe()
    try:
        pipes, connection = CountedPipes(requests, ours, 0), Connection(RUNTIME)
        process: Any = SimpleNamespace(
            connection=connection,
            next_frame=connection.next_frame,
            pipes=pipes,
            outbox=Outbox(connection.send, pipes.write),
            guard=SimpleNamespace(during=lambda step: step()),  # there is no function here that could get a signal
            on_fork=[],
        )
        invoker: Any = None  # no request is served
        heard: list[Frame | None] = []
        requests_inline = InlineRequests(process, invoker, heard)
        begun = monotonic()
        for _ in range(20_000):
            requests_inline.look()
        asked = pipes.asked
        assert 1 <= asked <= 1 + (monotonic() - begun) / LOOK_SECONDS
        os.write(ours, Connection(INIT).send(HELLO, metadata={"versions": [VERSION]}))
        while pipes.asked == asked:
            requests_inline.look()
        assert [frame.kind for frame in heard if frame is not None] == [HELLO]
    finally:
        os.close(requests)
        os.close(ours)
