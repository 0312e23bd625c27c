"""Tests of requests as tasks of one event loop: each has one outcome, whatever the function does to task or loop."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.wire.messages import CANCEL, CHUNK, CREDIT, END, ERROR, RESULT, STOP
from pipe_testing.engines import STREAM, error_of, outcomes, stacks, values, wait_for_line
from pipe_testing.runtime import RuntimeProcess

TASKS = """\
import asyncio, os, signal, sys
gate = asyncio.Event()
left = []

async def child():
    raise SystemExit(4)

async def handler(event, context):
    what = (event or {}).get("do")
    loop = asyncio.get_running_loop()
    if what == "wait":
        print("waiting", flush=True)
        await gate.wait()
    elif what == "open":
        gate.set()
    elif what == "stop the loop":
        loop.stop()
        await asyncio.sleep(0)
    elif what == "close the loop":
        loop.close()
    elif what == "run":
        asyncio.run(child())
    elif what == "exit":
        raise SystemExit(3)
    elif what == "child exits":
        await asyncio.create_task(child())
    elif what == "leave a child that exits":
        left.append(asyncio.create_task(child()))
    elif what == "cancel itself":
        asyncio.current_task().cancel()
        await asyncio.sleep(30)
    elif what == "ignore cancel":
        print("waiting", flush=True)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            pass
    elif what == "fork":
        pid = os.fork()
        if pid == 0:
            return "the child's"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    elif what == "fork and give way":
        pid = os.fork()
        if pid == 0:
            while True:
                await asyncio.sleep(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    elif what == "alarm":
        def ring(number, frame):
            raise TimeoutError("the alarm")
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        await gate.wait()
    elif what == "factory":
        def factory(loop, work, **rest):
            loop.set_task_factory(None)
            raise RuntimeError("no task")
        loop.set_task_factory(factory)
    elif what == "large":
        return "x" * event["size"]
    return event
"""


def tasks(folder: Path, source: str = TASKS, concurrency: int = 3, **fields: Any) -> RuntimeProcess:
    """Return a runtime with this function, which has received HELLO and is ready."""
    runtime = RuntimeProcess(folder, source)
    ready = runtime.start(concurrency=concurrency, stream_bytes=STREAM, **fields)
    assert (ready.metadata["concurrency"], ready.metadata["answers_dump"]) == (concurrency, True)
    return runtime


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_a_function_does_to_its_loop_costs_one_request_at_most(tmp_path: Path, concurrency: int) -> None:
    with tasks(tmp_path, concurrency=concurrency) as runtime:
        for what, expected in (
            ("stop the loop", None),
            ("close the loop", "RuntimeError"),
            ("run", "RuntimeError"),
            ("exit", "SystemExit"),
            ("child exits", "SystemExit"),
            ("leave a child that exits", None),
            ("cancel itself", "CancelledError"),
        ):
            frame = outcomes(runtime, id := runtime.invoke({"do": what}))[id]
            assert frame.metadata.get("error_type") == expected, what
            assert values(runtime, runtime.invoke({"after": what})) == [{"after": what}]
        assert runtime.stop() == 0


FACTORY = """
import asyncio

def cancelled_at_once(loop, coroutine, **options):
    task = asyncio.Task(coroutine, loop=loop, **options)
    task.cancel()
    return task

async def handler(event, context):
    asyncio.get_running_loop().set_task_factory(cancelled_at_once)
    return event
"""


def test_a_task_that_the_function_cancels_does_not_blame_the_caller(tmp_path: Path) -> None:
    with tasks(tmp_path, FACTORY) as runtime:
        assert runtime.call({}) == {}
        frame = outcomes(runtime, id := runtime.invoke({}))[id]
        assert frame.metadata["error_type"] == "CancelledError"
        assert frame.metadata["error_message"] == "the function has cancelled the task of this request"


def test_a_task_factory_that_raises_costs_one_request(tmp_path: Path) -> None:
    with tasks(tmp_path) as runtime:
        runtime.call({"do": "factory"})
        assert error_of(runtime, runtime.invoke({})) == "RuntimeError"
        assert runtime.call({"n": 1}) == {"n": 1}
        assert runtime.stop() == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brought eager tasks")
def test_eager_tasks(tmp_path: Path) -> None:
    source = "import asyncio\nasync def initialize(context):\n    loop = asyncio.get_running_loop()\n"
    source += "    loop.set_task_factory(asyncio.eager_task_factory)\n" + TASKS
    with tasks(tmp_path, source, initializer="index.initialize") as runtime:
        assert values(runtime, *[runtime.invoke({"n": n}) for n in range(9)]) == [{"n": n} for n in range(9)]


def test_a_loop_that_was_closed_before_it_served_is_one_clear_error(tmp_path: Path) -> None:
    source = TASKS + "def initialize(context):\n    asyncio.get_event_loop_policy().get_event_loop().close()\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.hello(initializer="index.initialize")
        runtime.next()
        frame = runtime._after_logs()
        assert (frame.kind, frame.id, frame.metadata["error_type"]) == (ERROR, 0, "RuntimeError")
        assert "closed" in frame.metadata["error_message"]
        assert runtime.exit_code() == 1


def test_children_say_nothing_even_where_they_give_way_to_the_loop(tmp_path: Path) -> None:
    with tasks(tmp_path) as runtime:
        waiting = runtime.invoke({"do": "wait"})
        wait_for_line(runtime, "waiting")
        for what in ("fork", "fork and give way", "fork"):
            assert values(runtime, runtime.invoke({"do": what})) == [0]
        opening = runtime.invoke({"do": "open"})
        values(runtime, waiting, opening)
        assert runtime.stop() == 0


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_alarm_that_raises_while_the_loop_waits_ends_nothing(tmp_path: Path, concurrency: int) -> None:
    """Check also an alarm that raises an OSError, which must not be taken for an error of the pipe."""
    with tasks(tmp_path, concurrency=concurrency) as runtime:
        waiting = runtime.invoke({"do": "alarm"})
        wait_for_line(runtime, "a task raised TimeoutError: the alarm")
        if concurrency > 1:
            values(runtime, runtime.invoke({"n": 1}))
        runtime.send(CANCEL, waiting)
        assert error_of(runtime, waiting) == "CancelledError"
        assert runtime.call({"n": 2}) == {"n": 2}
        assert runtime.stop() == 0


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_run_at_once_than_the_concurrency(tmp_path: Path, concurrency: int) -> None:
    with tasks(tmp_path, concurrency=concurrency) as runtime:
        ids = [runtime.invoke({"do": "wait"}) for _ in range(concurrency + 2)]
        for _ in range(concurrency):
            wait_for_line(runtime, "waiting")
        assert [stack["id"] for stack in stacks(runtime)] == ids[:concurrency]
        for id in ids:
            runtime.send(CANCEL, id)
        assert {frame.metadata["error_type"] for frame in outcomes(runtime, *ids).values()} == {"CancelledError"}
        assert runtime.stop() == 0


@pytest.mark.parametrize("concurrency", [1, 3])
def test_cancel_before_while_and_after(tmp_path: Path, concurrency: int) -> None:
    with tasks(tmp_path, concurrency=concurrency) as runtime:
        ids = [runtime.invoke({"do": "wait"}) for _ in range(concurrency)]
        for _ in ids:
            wait_for_line(runtime, "waiting")
        queued = runtime.invoke({"do": "open"})
        runtime.send(CANCEL, queued)
        for id in ids:
            runtime.send(CANCEL, id)
        frames = outcomes(runtime, *ids, queued)
        assert {frame.metadata["error_type"] for frame in frames.values()} == {"CancelledError"}
        runtime.send(CANCEL, ids[0])
        ignoring = runtime.invoke({"do": "ignore cancel"})
        wait_for_line(runtime, "waiting")
        runtime.send(CANCEL, ignoring)
        assert outcomes(runtime, ignoring)[ignoring].kind == RESULT
        assert runtime.stop() == 0


def test_what_came_while_an_answer_could_not_be_written_is_taken_in(tmp_path: Path) -> None:
    """Check input that was read by a writer: the descriptor is not readable afterwards, so the loop must be told."""
    with tasks(tmp_path) as runtime:
        for _ in range(3):
            large = runtime.invoke({"do": "large", "size": 900_000})
            wait_until_full(runtime)
            more = [runtime.invoke({"n": n, "fill": "x" * 20_000}) for n in range(8)]  # the waiting writer reads these
            frames = outcomes(runtime, large, *more)
            assert {frame.kind for frame in frames.values()} == {RESULT}
        assert runtime.stop() == 0


def wait_until_full(runtime: RuntimeProcess) -> None:
    """Wait until the runtime has written as much as a pipe holds, so that it must wait for room next."""
    import array
    import fcntl
    import termios

    size = array.array("i", [0])
    while size[0] < 65536:
        fcntl.ioctl(runtime.answers, termios.FIONREAD, size)


def test_stop_and_end_of_input_wait_for_what_runs(tmp_path: Path) -> None:
    for finish in ("stop", "end"):
        with tasks(tmp_path) as runtime:
            ids = [runtime.invoke({"do": "wait"}), runtime.invoke({"do": "wait"})]
            wait_for_line(runtime, "waiting")
            wait_for_line(runtime, "waiting")
            ids.append(runtime.invoke({"do": "open"}))
            ids += [runtime.invoke({"n": n}) for n in range(5)]
            runtime.send(STOP) if finish == "stop" else runtime.close_input()
            values(runtime, *ids)
            assert runtime.exit_code() == 0


def test_garbage_ends_it_with_a_word(tmp_path: Path) -> None:
    with tasks(tmp_path) as runtime:
        runtime.write(b"\xff" * 12)
        frame = runtime.next()
        assert (frame.kind, frame.id, frame.metadata["error_type"]) == (ERROR, 0, "Runtime.ProtocolError")
        assert runtime.exit_code() == 4


def test_stacks_show_where_a_task_waits(tmp_path: Path) -> None:
    with tasks(tmp_path) as runtime:
        assert stacks(runtime) == []
        id = runtime.invoke({"do": "wait"})
        wait_for_line(runtime, "waiting")
        (found,) = stacks(runtime)
        assert found["id"] == id
        assert found["stack"][0][2] == "handler"
        opening = runtime.invoke({"do": "open"})
        values(runtime, id, opening)
        assert runtime.stop() == 0


STREAMS = """\
import asyncio
from collections.abc import AsyncIterator
left = []

async def read(body):
    try:
        while await body.read():
            pass
    except BaseException as error:
        left.append(type(error).__name__)

async def handler(event: AsyncIterator[bytes], context):
    first = await event.read(3)
    if first == b"lef":
        asyncio.create_task(read(event))
        yield left
    elif first == b"all":
        yield (await event.read(-1)).decode()
    else:
        yield first.decode()
        async for piece in event:
            yield piece.decode()
"""


def streamed(runtime: RuntimeProcess, id: int) -> None:
    fields = {"request_id": "r", "content_type": "text/plain", "accept": "application/json", "stream": True}
    runtime.send(3, id, fields)


def items(runtime: RuntimeProcess) -> tuple[list[Any], dict[str, Any]]:
    """Return the items of the next streamed answer, and the metadata of its END."""
    data = b""
    while (frame := runtime.next()).kind != END:
        data += frame.payload if frame.kind == CHUNK else b""
    return [json.loads(line) for line in data.splitlines()], frame.metadata


def test_bodies_are_read_as_they_come(tmp_path: Path) -> None:
    with tasks(tmp_path, STREAMS, concurrency=1) as runtime:
        for id, pieces, expected in (
            (1, [b"abcdef", b"gh"], ["abc", "def", "gh"]),
            (2, [b"all", b" of ", b"it"], [" of it"]),
        ):
            streamed(runtime, id)
            for piece in pieces:
                runtime.send(CHUNK, id, payload=piece)
            runtime.send(END, id)
            found, end = items(runtime)
            assert found == expected and "error_type" not in end
        streamed(runtime, 3)
        for _ in range(5):
            runtime.send(CHUNK, 3, payload=b"x" * 50_000)
        while runtime.next().kind != CREDIT:
            continue
        runtime.send(END, 3)
        assert "error_type" not in items(runtime)[1]
        assert runtime.stop() == 0


def test_a_task_that_reads_the_body_after_the_outcome_is_told(tmp_path: Path) -> None:
    with tasks(tmp_path, STREAMS) as runtime:
        for id in (1, 2, 3):
            streamed(runtime, id)
            runtime.send(CHUNK, id, payload=b"left")
            found, _ = items(runtime)
            assert found == [["CallerGone"] * (id - 1)]
        assert runtime.stop() == 0


def test_a_reader_does_not_wait_for_ever(tmp_path: Path) -> None:
    with tasks(tmp_path, STREAMS) as runtime:
        streamed(runtime, 1)
        streamed(runtime, 2)
        runtime.send(CHUNK, 2, payload=b"abcdef")
        runtime.close_input()
        frames = outcomes(runtime, 1, 2)
        assert {frame.metadata["error_type"] for frame in frames.values()} == {"CallerGone"}
        assert runtime.exit_code() == 0


def test_nobody_reads_a_stream_and_it_is_cancelled(tmp_path: Path) -> None:
    source = """\
async def handler(event, context):
    while True:
        yield "x" * 10_000
"""
    with tasks(tmp_path, source) as runtime:
        id = runtime.invoke()
        assert runtime.next().metadata["stream"]
        size = 0
        while size < STREAM:
            size += len(runtime.next().payload)
        other = runtime.invoke()  # the first request waits for credit; this one has credit of its own
        while runtime.next().id != other:
            continue
        runtime.send(CANCEL, id)
        runtime.send(CANCEL, other)
        frames = outcomes(runtime, id, other)
        assert {frame.metadata["error_type"] for frame in frames.values()} == {"CancelledError"}
        assert runtime.stop() == 0


def test_many_requests_leave_nothing(tmp_path: Path) -> None:
    source = """\
import asyncio, gc
async def handler(event, context):
    if event == "count":
        gc.collect()
        return [type(o).__name__ for o in gc.get_objects()].count("Exchange"), len(asyncio.all_tasks())
    print("a line", end="")
    return event
"""
    with tasks(tmp_path, source) as runtime:
        for start in range(0, 2500, 50):
            values(runtime, *[runtime.invoke(start) for _ in range(50)])
        exchanges, count = runtime.call("count")
        assert exchanges <= 2 and count <= 2
