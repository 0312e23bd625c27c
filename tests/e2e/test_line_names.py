"""Tests of which request a log line belongs to, on the command line with real workers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from pipe_init.log import journal as init_journal
from pipe_testing.command import PipeInit
from pipe_testing.runtime import RuntimeProcess
from pipe_testing.supervision import supervised


def test_a_hostile_runtime_cannot_do_harm_with_names(tmp_path: Path) -> None:
    code = """
    import os
    from pipe_runtime.wire.frames import FrameWriter
    writer = FrameWriter()
    def say(kind, id=0, metadata={}, payload=b""):
        data = writer.encode(kind, id, metadata, payload)
        while data:
            data = data[os.write(1, data) :]
    say(1, 0, {"versions": [1]})
    say(2, 0, {"concurrency": 4})
    data = b""
    while b"r1" not in data:
        data += os.read(0, 65536)
    name = "\\x1b[2J\\n" + "x" * 1000
    say(6, 0, {"stream": "stdout", "request_id": name}, b"late")
    say(6, 1, {"stream": "stdout", "request_id": "r9"}, b"its own")
    say(6, 0, {"stream": "stdout", "request_id": "r" * 128}, b"\\n" * 100_000)
    say(4, 1, {"content_type": "application/json"}, b"1")
    while os.read(0, 65536):
        pass
    """
    command = [sys.executable, "-c", dedent(code)]
    with supervised(tmp_path / "log", command, hello={"concurrency": 4}, concurrency=4) as driver:
        outcome = driver.ask()
    assert (outcome.problem, outcome.payload) == (None, b"1")
    first, second, third, *rest = (tmp_path / "log").read_text().splitlines()
    assert first == "\\x1b[2J\\n" + "x" * (init_journal.NAME - 9) + "\tlate"
    assert second == "r1\tits own"
    assert "100001 log lines" in third and not rest


LATE = """
import asyncio, time
left = []
async def work(name):
    await asyncio.sleep(0)
    while name not in done:
        await asyncio.sleep(0.005)
    print("late of", name)
done = set()
async def handler(event, context):
    left.append(asyncio.get_running_loop().create_task(work(context.aws_request_id)))
    for other in left[:-1]:
        await other
    print("of", context.aws_request_id)
    done.add(context.aws_request_id)
    return context.aws_request_id
"""


@pytest.mark.unmeasured
def test_what_a_request_has_left_behind_names_it(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(LATE)
    options = ["--events", "-", "--concurrency", "2", "-q"]
    ended = pipe_init("run", "index.handler", *options, cwd=tmp_path, stdin=b"1\n2\n3\n")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.decode().splitlines()
    assert len(lines) >= 5
    for line in lines:
        name, said = line.split("\t")
        assert said in (f"of {name}", f"late of {name}")


TIMED_OUT = """
import time
def handler(event, context):
    if event:
        time.sleep(event)
        print("late")
    print("whole\\nhalf", end="")
"""


@pytest.mark.unmeasured
def test_a_request_that_was_given_up_is_named_as_long_as_it_logs(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(TIMED_OUT)
    options = ["--events", "-", "--concurrency", "2", "-q", "-t", "0.3", "--grace", "5"]
    ended = pipe_init("run", "index.handler", *options, cwd=tmp_path, stdin=b"0.6\n0\n")
    assert ended.returncode == 124, ended.stderr
    said: dict[str, list[str]] = {}
    for line in ended.stderr.decode().splitlines():
        name, text = line.split("\t")
        said.setdefault(name, []).append(text)
    given_up = json.loads(ended.stdout.splitlines()[0])["requestId"]
    assert said.pop(given_up) == ["late", "whole", "half"]
    assert list(said.values()) == [["whole", "half"]]


FORKING = """
import os, sys
def handler(event, context):
    if not os.fork():
        print("one\\ntwo")
        print("half", end=" ", flush=True)
        print("and half")
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("concurrency", [1, 2])
def test_lines_of_a_forked_child_have_the_name_of_its_request(tmp_path: Path, concurrency: int) -> None:
    with RuntimeProcess(tmp_path, FORKING) as runtime:
        runtime.start(concurrency=concurrency)
        runtime.call()
        assert runtime.lines == []
        assert runtime.stop() == 0
    name = "r-1\t" if concurrency > 1 else ""
    assert runtime.log.decode() == "".join(f"{name}{line}\n" for line in ("one", "two", "half and half"))


def test_one_request_at_a_time_has_no_names(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    print('one\\ntwo', end='')\n")
    ended = pipe_init("run", "index.handler", "-q", cwd=tmp_path)
    assert ended.stderr == b"one\ntwo\n"
