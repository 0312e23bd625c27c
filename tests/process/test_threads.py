"""Tests of requests in threads: bounded, in any order, each with one outcome, whatever the function does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipe_runtime.wire.messages import CANCEL, CHUNK, END, ERROR, RESULT, STOP
from pipe_testing.engines import STREAM, error_of, outcomes, stacks, values, wait_for_line
from pipe_testing.runtime import RuntimeProcess

MEETING = """\
import os, sys, threading, time, warnings, logging
meeting = threading.Barrier(3)
gate = threading.Event()

def handler(event, context):
    what = (event or {}).get("do")
    if what == "meet":
        meeting.wait(300)
    elif what == "wait":
        print("waiting", flush=True)
        gate.wait(300)
    elif what == "open":
        gate.set()
    elif what == "close":
        gate.clear()
    elif what == "exit":
        raise SystemExit(3)
    elif what == "raise":
        raise ValueError("no")
    elif what == "cancelled":
        print("waiting", flush=True)
        while not context.cancelled:
            time.sleep(0.001)
    elif what == "name all":
        return sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    elif what == "fork":
        child = os.fork()
        if not child:
            return "the child's"
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return [threading.current_thread().name, event]
"""


def threads(folder: Path, source: str = MEETING, concurrency: int = 3) -> RuntimeProcess:
    """Return a runtime with this function, which has received HELLO and is ready."""
    runtime = RuntimeProcess(folder, source)
    ready = runtime.start(concurrency=concurrency, stream_bytes=STREAM)
    assert (ready.metadata["concurrency"], ready.metadata["answers_dump"]) == (concurrency, True)
    return runtime


def test_as_many_run_at_once_as_there_are_threads_and_threads_are_used_again(tmp_path: Path) -> None:
    with threads(tmp_path) as runtime:
        names = set()
        for _ in range(5):
            ids = [runtime.invoke({"do": "meet"}) for _ in range(3)]
            names |= {name for name, _ in values(runtime, *ids)}
        assert names == {"request-1", "request-2", "request-3"}
        assert runtime.stop() == 0


def test_one_after_the_other_takes_one_thread(tmp_path: Path) -> None:
    with threads(tmp_path) as runtime:
        assert {runtime.call({})[0] for _ in range(20)} == {"request-1"}


def test_more_than_there_are_threads_wait_for_their_turn(tmp_path: Path) -> None:
    with threads(tmp_path, concurrency=2) as runtime:
        waiting = [runtime.invoke({"do": "wait"})]
        wait_for_line(runtime, "waiting")
        ids = [runtime.invoke({"n": n}) for n in range(40)]
        assert [event["n"] for _, event in values(runtime, *ids)] == list(range(40))
        ids = [runtime.invoke({"do": "open"})]
        values(runtime, *waiting, *ids)
        assert runtime.stop() == 0


def test_no_more_threads_are_started_than_the_concurrency(tmp_path: Path) -> None:
    """Check that a request which finds every thread busy waits for one of them, and starts no other thread."""
    with threads(tmp_path, concurrency=2) as runtime:
        running = [runtime.invoke({"do": "cancelled"}) for _ in range(2)]
        for _ in running:
            wait_for_line(runtime, "waiting")
        queued = runtime.invoke({"do": "name all"})
        for id in running:
            runtime.send(CANCEL, id)
        frames = outcomes(runtime, *running, queued)
        assert json.loads(frames[queued].payload) == ["request-1", "request-2"]
        assert runtime.stop() == 0


@pytest.mark.parametrize(("what", "name"), [("exit", "SystemExit"), ("raise", "ValueError")])
def test_one_that_fails_leaves_its_neighbours_alone(tmp_path: Path, what: str, name: str) -> None:
    with threads(tmp_path) as runtime:
        waiting = runtime.invoke({"do": "wait"})
        wait_for_line(runtime, "waiting")
        for _ in range(5):  # more requests than there are threads
            assert error_of(runtime, runtime.invoke({"do": what})) == name
        opening = runtime.invoke({"do": "open"})
        values(runtime, waiting, opening)
        assert runtime.stop() == 0


def test_a_child_that_comes_back_from_the_handler_says_nothing(tmp_path: Path) -> None:
    with threads(tmp_path) as runtime:
        ids = [runtime.invoke({"do": "fork"}) for _ in range(6)]
        assert values(runtime, *ids) == [0] * 6
        assert runtime.stop() == 0


def test_a_child_that_goes_on_with_the_stream_ends(tmp_path: Path) -> None:
    """Check a forked child that could wait for ever, for credit or for a lock of its parent's thread."""
    source = """\
import os, threading, time
def noise():
    while True:
        print("noise")
threading.Thread(target=noise, daemon=True).start()
def handler(event, context):
    child = os.fork()
    if not child:
        while True:
            yield "x" * 1000
    yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    with threads(tmp_path, source) as runtime:
        for _ in range(5):
            id = runtime.invoke()
            pieces = []
            while (frame := runtime.next()).kind != END:
                if frame.kind == CHUNK:
                    pieces.append(json.loads(frame.payload))
            assert (frame.id, pieces) == (id, [1])
            assert "error_type" not in frame.metadata


def test_stop_waits_for_what_runs_and_its_body(tmp_path: Path) -> None:
    source = """\
from collections.abc import Iterator
def handler(event: Iterator[bytes], context):
    print("reading", flush=True)
    return b"".join(event).decode()
"""
    with threads(tmp_path, source) as runtime:
        runtime.send(
            *(3, 1, {"request_id": "r", "content_type": "text/plain", "accept": "application/json", "stream": True})
        )
        wait_for_line(runtime, "reading")
        runtime.send(STOP)
        runtime.send(CHUNK, 1, payload=b"after ")
        runtime.send(CHUNK, 1, payload=b"stop")
        runtime.send(END, 1)
        assert values(runtime, 1) == ["after stop"]
        assert runtime.exit_code() == 0


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("garbage", [b"", b"\xff" * 12])
def test_a_reader_does_not_wait_for_ever(tmp_path: Path, stop: bool, garbage: bytes) -> None:
    """Check a reader at the end of the input and after garbage, before and after STOP."""
    source = """\
from collections.abc import Iterator
def handler(event: Iterator[bytes], context):
    print("reading", flush=True)
    return b"".join(event).decode()
"""
    with threads(tmp_path, source) as runtime:
        runtime.send(
            *(3, 1, {"request_id": "r", "content_type": "text/plain", "accept": "application/json", "stream": True})
        )
        wait_for_line(runtime, "reading")
        if stop:
            runtime.send(STOP)
        runtime.write(garbage)
        runtime.close_input()
        if not garbage:
            assert error_of(runtime, 1) == "CallerGone"
        while runtime.next_or_end() is not None:
            continue
        assert runtime.ended() == (4 if garbage else 0)


def test_cancel_is_seen_by_the_context(tmp_path: Path) -> None:
    with threads(tmp_path) as runtime:
        id = runtime.invoke({"do": "cancelled"})
        wait_for_line(runtime, "waiting")
        runtime.send(CANCEL, id)
        values(runtime, id)
        runtime.send(CANCEL, id)  # after its outcome
        assert runtime.call({"after": 1})[1] == {"after": 1}
        assert runtime.stop() == 0


def test_cancelled_in_the_queue_it_never_runs(tmp_path: Path) -> None:
    with threads(tmp_path, concurrency=2) as runtime:
        waiting = [runtime.invoke({"do": "cancelled"}) for _ in range(2)]
        wait_for_line(runtime, "waiting")
        wait_for_line(runtime, "waiting")
        queued = runtime.invoke({"do": "raise"})
        after = runtime.invoke({"do": "raise"})
        runtime.send(CANCEL, queued)
        runtime.send(CANCEL, after)
        assert stacks(runtime)
        for id in waiting:
            runtime.send(CANCEL, id)
        runtime.send(STOP)
        runtime.close_input()
        frames = outcomes(runtime, queued, after, *waiting)
        assert {frames[id].metadata["error_type"] for id in (queued, after)} == {"CallerGone"}
        assert frames[waiting[0]].kind == RESULT


def test_stacks_name_each_request_and_an_idle_runtime_has_none(tmp_path: Path) -> None:
    with threads(tmp_path) as runtime:
        assert stacks(runtime) == []
        ids = [runtime.invoke({"do": "wait"}) for _ in range(2)]
        wait_for_line(runtime, "waiting")
        wait_for_line(runtime, "waiting")
        found = stacks(runtime)
        assert {each["id"] for each in found} == set(ids)
        assert all(any(entry[2] == "handler" for entry in each["stack"]) for each in found)
        opening = runtime.invoke({"do": "open"})
        values(runtime, *ids, opening)
        assert stacks(runtime) == []
        assert runtime.stop() == 0


def test_a_thread_that_reads_the_body_after_the_outcome_is_told(tmp_path: Path) -> None:
    source = """\
import threading
from collections.abc import Iterator
left = []
def read(body):
    try:
        list(body)
    except BaseException as error:
        left.append(type(error).__name__)
def handler(event: Iterator[bytes], context):
    for thread in [t for t in threading.enumerate() if t.name == "left"]:
        thread.join(300)
    threading.Thread(target=read, args=(event,), name="left", daemon=True).start()
    return list(left)
"""
    stream = {"request_id": "r", "content_type": "text/plain", "accept": "application/json", "stream": True}
    with threads(tmp_path, source) as runtime:
        for id in (1, 2, 3):
            runtime.send(3, id, stream)
            assert values(runtime, id) == [["CallerGone"] * (id - 1)]
        assert runtime.stop() == 0


def test_where_no_thread_can_be_started_each_request_has_an_outcome(tmp_path: Path) -> None:
    source = """\
import threading
class Refusing(threading.Thread):
    allowed = 1
    def start(self):
        if not Refusing.allowed:
            raise RuntimeError("can't start new thread")
        Refusing.allowed -= 1
        super().start()
threading.Thread = Refusing
def handler(event, context):
    Refusing.allowed = event.get("allowed", Refusing.allowed)
    return event
"""
    with threads(tmp_path, source) as runtime:
        ids = [runtime.invoke({"n": n}) for n in range(8)]
        assert [event["n"] for event in values(runtime, *ids)] == list(range(8))
        assert runtime.stop() == 0


def test_the_first_thread_cannot_be_started(tmp_path: Path) -> None:
    source = """\
import threading
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
def handler(event, context):
    return 1
"""
    with threads(tmp_path, source) as runtime:
        for _ in range(3):
            frame = outcomes(runtime, id := runtime.invoke())[id]
            assert (frame.kind, frame.metadata["error_type"]) == (ERROR, "MemoryError")
        assert runtime.stop() == 0


def test_ten_thousand_requests_leave_nothing(tmp_path: Path) -> None:
    source = """\
import gc, threading
def handler(event, context):
    if event == "count":
        gc.collect()
        return [type(o).__name__ for o in gc.get_objects()].count("Exchange"), threading.active_count()
    print("a line", end="")
    return event
"""
    with threads(tmp_path, source) as runtime:
        for start in range(0, 2500, 50):
            values(runtime, *[runtime.invoke(start) for _ in range(50)])
        exchanges, count = runtime.call("count")
        assert exchanges <= 4 and count <= 4
