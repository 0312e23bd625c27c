"""Tests of --isolation request: a request finds nothing of an earlier request's process, however that one ended.

A function leaves behind all that it can, and the next request looks for it. What it finds is compared with what a
request finds in a process of its own. It is also compared with a process that serves both, to show that each look can
find something.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipe_init.kernel import exit_codes
from pipe_init.model import REQUEST, TEMPLATE
from pipe_init.workers import launch
from pipe_testing.command import PipeInit, popen
from pipe_testing.fifo import Fifo
from pipe_testing.patience import HANGS
from pipe_testing.supervision import supervised

pytestmark = pytest.mark.unmeasured

FUNCTION = Path(__file__).parents[1] / "functions" / "isolation"
ISOLATED = ("--events", "-", "--isolation", "request", "-q", "--grace", "0.1")

ENDS = {
    "answer": "",
    "raise": "error",
    "hang": "Sandbox.Timedout",
    "exit": "Runtime.ExitError",
    "segfault": "Runtime.ExitError",
    "kill": "Runtime.ExitError",
}
"""The error type of each way in which the first request ends."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a request finds in a process of its own that was not forked."""
    fifo = Fifo(tmp_path_factory.mktemp("fresh") / "fifo")
    try:
        done = PipeInit()("run", "index.handler", "-q", "-e", event("look", fifo), cwd=FUNCTION)
    finally:
        fifo.close()
    assert (done.returncode, done.stderr) == (0, b"")
    return of(json.loads(done.stdout))


def event(do: str, fifo: Fifo, **more: object) -> str:
    return json.dumps({"do": do, "fifo": fifo.path, **more})


def of(found: dict[str, Any]) -> dict[str, Any]:
    """Return a look without the runtime's own modules, which depend on how the process was started."""
    names = [name for name in found["modules"][0] if not name.startswith("pipe_runtime")]
    return {**found, "modules": [names, *found["modules"][1:]]}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs from the expected values."""
    assert found.keys() == expected.keys()
    return {name: (found[name], expected[name]) for name in found if found[name] != expected[name]}


class Conversation:
    """A run whose events are sent one by one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, *events: str) -> list[Any]:
        """Send these events at once and return their results."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("".join(f"{event}\n" for event in events).encode())
        return [json.loads(self._process.stdout.readline()) for _ in events]

    def end(self) -> tuple[int, bytes]:
        """End the run and return its exit code and stderr."""
        _, stderr = self._process.communicate(timeout=HANGS)
        return self._process.returncode, stderr


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("then", ENDS)
def test_nothing_is_left_for_the_next_request(
    pipe_init: PipeInit, fifo: Fifo, fresh: dict[str, Any], then: str, workers: str
) -> None:
    arguments = (*ISOLATED, "-t", "2" if then == "hang" else "30", "-w", workers)
    with popen(pipe_init, "run", "index.handler", *arguments, cwd=FUNCTION, stdin=subprocess.PIPE) as process:
        run = Conversation(process)
        (left,) = run.ask(event("leave", fifo, then=then))
        assert left == "left" if then == "answer" else left["errorType"] == ENDS[then], left
        assert then != "hang" or "in hang" in "".join(left["stackTrace"])  # it hung only after it had left everything
        # Ten are more requests than processes that were forked ahead. With one worker, all is gone by the next request.
        # With several workers, the next request can run while the last process is being ended.
        patience = 0.0 if workers == "1" else 10.0
        for found in [run.ask(event("look", fifo, patience=patience))[0] for _ in range(10)]:
            assert differences(of(found), fresh) == {}
        code, _ = run.end()
    assert code == {"answer": 0, "raise": 1, "hang": 124, "exit": 1, "segfault": 139, "kill": 137}[then]


def test_nothing_is_left_without_a_template(pipe_init: PipeInit, fifo: Fifo, fresh: dict[str, Any]) -> None:
    events = [event("leave", fifo), *[event("look", fifo)] * 3]
    stdin = "".join(f"{each}\n" for each in events).encode()
    done = pipe_init("run", "index.handler", *ISOLATED, "--start-method", "exec", cwd=FUNCTION, stdin=stdin)
    left, *found = map(json.loads, done.stdout.splitlines())
    assert (left, done.returncode, done.stderr) == ("left", 0, b"")
    assert [differences(of(each), fresh) for each in found] == [{}] * 3


def test_nothing_is_left_where_requests_are_sent_without_waiting(
    pipe_init: PipeInit, fifo: Fifo, fresh: dict[str, Any]
) -> None:
    events = [event("leave", fifo), event("look", fifo)] * 20
    done = pipe_init(
        "run", "index.handler", *ISOLATED, cwd=FUNCTION, stdin="".join(f"{each}\n" for each in events).encode()
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert results[::2] == ["left"] * 20
    assert [differences(of(found), fresh) for found in results[1::2]] == [{}] * 20
    fifo.wait_until_closed()


def test_nothing_is_left_by_one_that_breaks_the_protocol(tmp_path: Path, fifo: Fifo, fresh: dict[str, Any]) -> None:
    # The violation ends a run of the command. Below it the supervisor goes on, so this test drives the supervisor.
    hello = {"handler": "index.handler", "code_dir": str(FUNCTION)}
    options: dict[str, Any] = {"isolation": REQUEST, "start_method": TEMPLATE, "max_requests": 1, "prestart": True}
    with supervised(tmp_path / "log", launch.runtime_command(sys.executable), hello=hello, **options) as driver:
        expected = json.loads(driver.ask(event("look", fifo).encode()).payload)
        assert differences(of(expected), fresh).keys() <= {"environment"}  # this process has another environment
        broken = driver.ask(event("leave", fifo, then="nonsense").encode())
        assert broken.problem is not None and broken.problem["error_type"] == "Runtime.ProtocolError"
        assert broken.exit_code == exit_codes.PROTOCOL
        for _ in range(10):
            found = driver.ask(event("look", fifo).encode())
            assert found.problem is None
            assert differences(json.loads(found.payload), expected) == {}


NAMES = [
    line.partition("(")[0].removeprefix("def leave_")
    for line in (FUNCTION / "index.py").read_text().splitlines()
    if line.startswith("def leave_")
]


@pytest.mark.parametrize("name", NAMES)
def test_each_look_sees_what_is_left_in_a_process_that_serves_both(
    pipe_init: PipeInit, fifo: Fifo, fresh: dict[str, Any], name: str
) -> None:
    """Check that each look can find something. Otherwise the tests above would prove nothing."""
    lines = f"{event('leave', fifo, only=[name])}\n{event('look', fifo, only=[name])}\n"
    done = pipe_init("run", "index.handler", "--events", "-", "-q", cwd=FUNCTION, stdin=lines.encode())
    left, found = map(json.loads, done.stdout.splitlines())
    assert (left, done.stderr) == ("left", b"")
    assert found.get("errorType") or found[name] != fresh[name]
