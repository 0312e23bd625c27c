"""Tests of several requests at once in one worker, on the command line: they overlap, and each line has its own id."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from pipe_testing import modes
from pipe_testing.command import PipeInit

MODES = tuple(mode for mode in modes.ON_REQUEST if mode != modes.REQUEST)

pytestmark = pytest.mark.unmeasured

SLEEPERS = """\
import asyncio, time

def handler(event, context):
    if event:
        time.sleep(1)
    return event

async def handler_async(event, context):
    if event:
        await asyncio.sleep(1)
    return event
"""

NOISY = """\
import asyncio, logging, sys, time, warnings
logging.captureWarnings(True)
warnings.simplefilter("always")
log = logging.getLogger("mine")

def steps(event, context):
    mark = f"<{event}|{context.aws_request_id}>"
    print("printed", mark)
    yield
    print("begun", mark, end="")
    yield
    print(" and ended", mark)
    logging.info("root %s", mark)
    yield
    log.warning("logger %s", mark)
    warnings.warn(f"warned {mark}")
    yield
    context.log(f"context {mark}")
    print("error", mark, file=sys.stderr)

def handler(event, context):
    for _ in steps(event, context):
        time.sleep(0)
    return context.aws_request_id

async def handler_async(event, context):
    for _ in steps(event, context):
        await asyncio.sleep(0)
    return context.aws_request_id
"""

WHAT = ("printed", "begun", "root", "logger", "warned", "context", "error")
MARK = re.compile(r"<(\d+)\|([^>]+)>")


@pytest.mark.parametrize("handler", ["handler", "handler_async"])
def test_ten_requests_of_one_second_take_less_than_two(pipe_init: PipeInit, tmp_path: Path, handler: str) -> None:
    (tmp_path / "index.py").write_text(SLEEPERS)
    (tmp_path / "none").write_text("0\n" * 10)
    (tmp_path / "ten").write_text("1\n" * 10)
    took = {}
    for events in ("none", "ten"):
        start = time.monotonic()
        ended = pipe_init("run", f"index.{handler}", "--events", events, "--concurrency", "10", cwd=tmp_path)
        took[events] = time.monotonic() - start
        assert (ended.returncode, len(ended.stdout.splitlines())) == (0, 10)
    assert 1.0 <= took["ten"] < 2.0 + took["none"]


@pytest.mark.parametrize("handler", ["handler", "handler_async"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_every_line_has_the_id_of_its_own_request(
    pipe_init: PipeInit, tmp_path: Path, handler: str, style: str
) -> None:
    count = 1000
    (tmp_path / "index.py").write_text(NOISY)
    (tmp_path / "events").write_text("".join(f"{n}\n" for n in range(count)))
    options = ["--events", "events", "--concurrency", "10", "--log-style", "json" if style == "json" else "fc"]
    ended = pipe_init("run", f"index.{handler}", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    ids = [json.loads(line)["result"] if b"result" in line else json.loads(line) for line in ended.stdout.splitlines()]
    assert len(set(ids)) == count
    seen: dict[str, int] = dict.fromkeys(WHAT, 0)
    for line in ended.stderr.decode().splitlines():
        marks = set(MARK.findall(line))
        if not marks:
            continue
        ((number, id),) = marks  # no line holds parts of two requests
        assert id == ids[int(number)]
        said = json.loads(line).get("requestId") if style == "json" else line.replace(f"|{id}>", "")
        assert said is not None and id in said, line
        for what in WHAT:
            seen[what] += f"{what} <{number}|" in line
        assert "begun" not in line or "and ended" in line
    assert {what: seen[what] for what in WHAT if what != "warned"} == {what: count for what in WHAT if what != "warned"}
    assert seen["warned"] >= count


@pytest.mark.parametrize("handler", ["handler", "handler_async"])
def test_neighbours_of_one_that_times_out_have_their_answers(pipe_init: PipeInit, tmp_path: Path, handler: str) -> None:
    (tmp_path / "index.py").write_text(
        "import asyncio, time\n"
        "def handler(event, context):\n    time.sleep(event); return event\n"
        "async def handler_async(event, context):\n    await asyncio.sleep(event); return event\n"
    )
    (tmp_path / "events").write_text("30\n" + "0.01\n" * 20)
    options = ("--events", "events", "--concurrency", "4", "-t", "0.8")
    ended = pipe_init("run", f"index.{handler}", *options, cwd=tmp_path)
    lines = ended.stdout.splitlines()
    assert (ended.returncode, len(lines)) == (124, 21)
    assert b"Sandbox.Timedout" in lines[0]
    assert all(b"Timedout" not in line and b"0.01" in line for line in lines[1:])


NO_OUTCOME = """
import asyncio, os, sys

def harm():
    Process = sys.modules["pipe_runtime.serve.process"].Process
    def no_memory(*arguments):
        raise MemoryError
    Process.problem = Process.conclude = no_memory

def handler(event, context):
    if event:
        harm()
    return event

async def closes_the_selector(event, context):
    if event:
        os.close(asyncio.get_running_loop()._selector.fileno())
        await asyncio.sleep(1000)
    return event

async def no_memory_in_the_loop(event, context):
    def raises(*arguments):
        raise MemoryError
    if event:
        asyncio.get_running_loop()._run_once = raises
        await asyncio.sleep(1000)
    return event
"""


@pytest.mark.parametrize("handler", ["handler", "closes_the_selector", "no_memory_in_the_loop"])
def test_a_worker_that_can_send_no_more_outcomes_ends(pipe_init: PipeInit, tmp_path: Path, handler: str) -> None:
    """Check that the request fails long before its time limit, and that a new worker serves the others."""
    (tmp_path / "index.py").write_text(NO_OUTCOME)
    (tmp_path / "events").write_text("1\n" + "0\n" * 4)
    options = ("--events", "events", "--concurrency", "2", "-t", "300")
    ended = pipe_init("run", f"index.{handler}", *options, cwd=tmp_path)
    lines = ended.stdout.splitlines()
    assert b"Runtime.ExitError" in lines[0], ended.stderr
    assert b"exit status 1" in lines[0]
    assert len(lines) == 5 and b"0" in lines
    assert len(ended.stderr) < 20_000
    assert b"the pipe to pipe-init is lost" not in ended.stderr
