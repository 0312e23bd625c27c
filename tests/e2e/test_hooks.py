"""Tests of the hooks around a function's life, in a runtime and on the command line: each runs once, in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipe_runtime.wire.messages import ERROR, RESULT
from pipe_testing import modes, tools
from pipe_testing.command import PipeInit
from pipe_testing.engines import outcomes
from pipe_testing.runtime import RuntimeProcess

MODES = modes.ON_REQUEST

HOOKS = """\
import asyncio, logging, os
state = []

def initialize(context):
    state.append("initialized")
    print("initializing")

async def initialize_async(context):
    await asyncio.sleep(0)
    state.append("initialized")
    print("initializing")

def freeze():
    state.append("frozen")

async def freeze_async(event, context):
    await asyncio.sleep(0)
    state.append("frozen" if event is None else repr(event))

def stop(context):
    print("stopping after", state)

async def stop_async(context):
    await asyncio.sleep(0)
    print("stopping after", state)

def fail(context):
    raise ValueError("no")

def hang(context):
    import time
    print("hanging", flush=True)
    time.sleep(60)

def handler(event, context):
    return state

async def handler_async(event, context):
    return state
"""


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("handler", ["handler", "handler_async"])
@pytest.mark.parametrize("kind", ["", "_async"])
def test_each_hook_of_each_kind_in_each_engine(tmp_path: Path, handler: str, kind: str, concurrency: int) -> None:
    """Check all hooks. An asynchronous pre-freeze hook runs on the loop that serves requests."""
    names = {"initializer": f"initialize{kind}", "pre_freeze": f"freeze{kind}", "pre_stop": f"stop{kind}"}
    fields = {hook: f"index.{name}" for hook, name in names.items()}
    with RuntimeProcess(tmp_path, HOOKS) as runtime:
        runtime.start(f"index.{handler}", concurrency=concurrency, init_request_id="init-1", **fields)
        names = ["init-1" if concurrency > 1 else None]
        assert runtime.logged() == ["initializing"]
        assert [line.metadata.get("request_id") for line in runtime.lines] == names
        assert runtime.call() == ["initialized"]
        frozen = runtime.outcome(runtime.invoke(phase="pre-freeze"))
        assert (frozen.kind, frozen.payload) == (RESULT, b"null")
        assert runtime.call() == ["initialized", "frozen"]
        assert runtime.stop() == 0
        assert runtime.logged() == ["stopping after ['initialized', 'frozen']"]
        assert [line.metadata.get("request_id") for line in runtime.lines] == names


@pytest.mark.parametrize("handler", ["handler", "handler_async"])
def test_a_phase_without_a_hook_is_nothing_and_an_unknown_one_an_error(tmp_path: Path, handler: str) -> None:
    with RuntimeProcess(tmp_path, HOOKS) as runtime:
        runtime.start(f"index.{handler}")
        assert runtime.outcome(runtime.invoke(phase="pre-freeze")).payload == b"null"
        assert runtime.fail(phase="thaw")["error_type"] == "Runtime.UnmarshalError"
        assert runtime.call() == []


@pytest.mark.parametrize("handler", ["handler", "handler_async"])
def test_hooks_that_fail(tmp_path: Path, handler: str) -> None:
    with RuntimeProcess(tmp_path, HOOKS) as runtime:
        runtime.start(f"index.{handler}", concurrency=2, pre_freeze="index.fail", pre_stop="index.fail")
        frame = outcomes(runtime, id := runtime.invoke(phase="pre-freeze"))[id]
        assert (frame.kind, frame.metadata["error_type"]) == (ERROR, "ValueError")
        assert runtime.call() == []
        assert runtime.stop() == 1
        (record,) = runtime.logged()
        first, place, source = record.split("\n")
        assert first == "pipe_runtime: the function failed at its end: ValueError: no"
        assert place.startswith('  File "') and place.endswith(", in fail")
        assert source.strip() == 'raise ValueError("no")'


SNAPSHOT = """\
import snapshot_restore_py as snapshots
order = []

@snapshots.register_before_snapshot
def first():
    order.append("first")

async def second(name, *, mark):
    order.append(name + mark)

snapshots.register_before_snapshot(second, "second", mark="!")
snapshots.register_after_restore(order.append, "restored")

def handler(event, context):
    return order
"""


@pytest.mark.parametrize(("type", "expected"), [("snap-start", ["second!", "first", "restored"]), ("on-demand", [])])
def test_snapshot_hooks_run_where_the_environment_says_so(tmp_path: Path, type: str, expected: list[str]) -> None:
    (tmp_path / "snapshot_restore_py.py").write_text(
        "before, after = [], []\n"
        "def register_before_snapshot(f, *a, **k):\n    before.append((f, a, k)); return f\n"
        "def register_after_restore(f, *a, **k):\n    after.append((f, a, k)); return f\n"
        "def get_before_snapshot():\n    return before\n"
        "def get_after_restore():\n    return after\n"
    )
    with RuntimeProcess(tmp_path, SNAPSHOT) as runtime:
        runtime.start(environment={"AWS_LAMBDA_INITIALIZATION_TYPE": type})
        assert runtime.call() == expected
        assert runtime.stop() == 0


def test_snapshot_hooks_of_the_package_itself(tmp_path: Path) -> None:
    tools.require_module("snapshot_restore_py")
    with RuntimeProcess(tmp_path, SNAPSHOT) as runtime:
        runtime.start(environment={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
        assert runtime.call() == ["second!", "first", "restored"]
        assert runtime.stop() == 0


# On the command line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text(HOOKS)
    return tmp_path


START = {
    "fc": "FC {} Start RequestId: ",
    "lambda": "{}START RequestId: ",
    "json": '"{}"',
}


@pytest.mark.parametrize("style", ["auto", "fc", "lambda", "json", "none"])
def test_lines_around_hooks(pipe_init: PipeInit, folder: Path, style: str) -> None:
    hooks = ("--initializer", "index.initialize", "--pre-stop", "index.stop")
    ended = pipe_init("run", "index.handler", *hooks, "--log-style", style, cwd=folder)
    lines = ended.stderr.decode().splitlines()
    assert (ended.returncode, json.loads(ended.stdout)) == (0, ["initialized"])
    start, printed = (next(i for i, line in enumerate(lines) if text in line) for text in ("initializing", "stopping"))
    if style == "none":
        assert len(lines) == 2
    elif style == "auto":  # one line for the event
        assert (len(lines), start, printed) == (3, 0, 2) and " done in " in lines[1] and ", init " in lines[1]
    else:  # each line of a hook stands between two other lines
        assert start >= 1 and printed > start + 1 and len(lines) > printed + 1
    if style == "fc":
        names = [line.split(" RequestId")[0] for line in lines if line.startswith("FC ")]
        phases = ("Initialize", "Invoke", "PreStop")
        assert names == [f"FC {phase} {what}" for phase in phases for what in ("Start", "End")]


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE)  # in the other modes several processes may try
@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_an_initializer_that_fails_is_one_error(pipe_init: PipeInit, folder: Path, concurrency: str) -> None:
    (folder / "events").write_text("{}\n" * 20)
    (folder / "index.py").write_text(HOOKS.replace('raise ValueError("no")', 'print("tried"); raise ValueError("no")'))
    options = ("--events", "events", "--concurrency", concurrency, "--initializer", "index.fail", "--log-style", "fc")
    ended = pipe_init("run", "index.handler", *options, cwd=folder)
    assert ended.returncode == 3
    assert ended.stderr.decode().count("tried") == 1
    assert b"FC Initialize End" in ended.stderr and b"Error" in ended.stderr


def test_a_pre_stop_hook_that_fails_shows(pipe_init: PipeInit, folder: Path) -> None:
    for style in ("auto", "fc"):
        ended = pipe_init("run", "index.handler", "--pre-stop", "index.fail", "--log-style", style, cwd=folder)
        lines = ended.stderr.decode().splitlines()
        assert ended.returncode == 0
        assert any("failed at its end: ValueError: no" in line for line in lines)
        assert any(line.startswith("FC PreStop End") and "Error" in line for line in lines) is (style == "fc")
