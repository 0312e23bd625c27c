"""Tests of the memory that is reported for a worker that has timed out, died or been ended. The workers are real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import procfs
from pipe_init.limits.rlimits import Limits
from pipe_init.model import EXEC, REQUEST, TEMPLATE
from pipe_init.workers import launch
from pipe_testing.supervision import Driver, supervised

MB = 2**20
MORE = 40 * MB
"""The most that an interpreter with the runtime has in addition to what the handler holds."""

CODE = """
import os, signal, time

def handler(event, context):
    held = bytearray(event["hold"])
    if event["then"] == "answer":
        return len(held)
    if event["then"] == "exit":
        os._exit(3)
    if event["then"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if event["then"] == "stream":
        return ("x" * 100_000 for _ in range(1000))
    time.sleep(1000)
"""

WAYS: list[dict[str, Any]] = [
    {"start_method": EXEC},
    {"start_method": TEMPLATE},
    {"start_method": TEMPLATE, "isolation": REQUEST, "max_requests": 1},
    {"start_method": EXEC, "concurrency": 2},
]


@pytest.fixture(params=WAYS, ids=["exec", "template", "request", "concurrent"])
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    (tmp_path / "index.py").write_text(CODE)
    hello: dict[str, Any] = {"handler": "index.handler", "code_dir": str(tmp_path)}
    if "concurrency" in request.param:
        hello["concurrency"] = request.param["concurrency"]
    command = launch.runtime_command(sys.executable)
    limits = Limits(output_bytes=5 * MB)
    with supervised(tmp_path / "log", command, hello=hello, limits=limits, dump_wait=0.2, **request.param) as driver:
        yield driver


def event(then: str, hold: int) -> bytes:
    return json.dumps({"then": then, "hold": hold}).encode()


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("hang", "Sandbox.Timedout"),
        ("exit", "Runtime.ExitError"),
        ("kill", "Runtime.ExitError"),
        ("stream", "Function.ResponseSizeTooLarge"),
    ],
)
def test_a_request_without_an_answer_has_its_peak_memory(driver: Driver, then: str, error: str) -> None:
    held = procfs.resident() + 20 * MB
    outcome = driver.ask(event(then, held), timeout=1.0 if then == "hang" else 20.0)
    assert outcome.problem is not None and outcome.problem["error_type"] == error
    assert held < outcome.measured["peak_memory_bytes"] < held + MORE


@pytest.mark.unmeasured
def test_one_that_is_stopped_has_it_too(driver: Driver) -> None:
    driver.ask(event("answer", MB))
    driver.submit(event("hang", 0))
    lanes = driver.supervisor._lanes

    def can_be_measured() -> bool:
        """Return whether the worker that has the request is ready, and a child of the init: it may be so only later."""
        busy = [lane for lane in lanes if lane.requests and lane.policy.phase.name == "SERVING"]
        return any(lane.link is not None and lane.link.child.is_own() for lane in busy)

    driver.until(can_be_measured)
    driver.supervisor.abandon()
    (outcome,) = driver.outcomes()
    assert outcome.problem is not None and outcome.problem["error_type"] == "Runtime.Stopped"
    assert outcome.measured["peak_memory_bytes"] > MB


@pytest.mark.unmeasured
def test_memory_of_the_init_is_not_the_dead_workers(driver: Driver) -> None:
    held = b"x" * (2 * MORE)  # a forked worker begins with a copy of it
    assert procfs.resident() > 2 * MORE
    for _ in range(2):
        outcome = driver.ask(event("exit", 0))
        assert MB < outcome.measured["peak_memory_bytes"] < MORE
    assert held


class TestHighWaterMark:
    def test_of_a_child(self) -> None:
        code = "import sys; held = b'x' * (60 * 2**20); del held; print(flush=True); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline()
            mark = procfs.high_water_mark(process.pid)
            status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found and 60 * MB < mark == int(found[1]) * 1024

    def test_of_one_that_has_ended(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert procfs.high_water_mark(process.pid) == 0
        process.wait()

    def test_of_one_that_is_not_there(self) -> None:
        assert procfs.high_water_mark(2**22 + 1) == 0
