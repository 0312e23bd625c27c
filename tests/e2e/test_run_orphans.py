"""Tests of pipe-init's own death and of its orderly end: whatever the worker is doing, no process is left over.

A function holds a FIFO open for as long as it lives. It writes to the FIFO at the point that a test waits for. So the
reading end tells the test the moment, and the end of the file tells that the function is dead. Nothing sleeps.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import modes, processes
from pipe_testing.command import PipeInit
from pipe_testing.fifo import Fifo
from pipe_testing.patience import HANGS

MODES = modes.ALL

pytestmark = pytest.mark.unmeasured

FUNCTIONS = Path(__file__).parents[1] / "functions" / "faults"
PATIENT = ("-t", "600", "--grace", "600")

MOMENTS = [
    "loop",
    "loop_in_c_with_signals_blocked",
    "program",
    "without_our_descriptors",
    "another_program",
    "stopped",
]


@contextmanager
def running(
    pipe_init: PipeInit, *arguments: str, env: dict[str, str] | None = None, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running `pipe-init run stays.handler ARGUMENTS`, with pipes for stdin, stdout and stderr."""
    with subprocess.Popen(
        [*pipe_init.command, "run", "stays.handler", "-q", *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=FUNCTIONS,
        env=pipe_init.environment(env or {}),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def event(fifo: Fifo, where: str, **more: object) -> str:
    return json.dumps({"fifo": fifo.path, "where": where, **more})


def kill_init(process: subprocess.Popen[bytes], fifo: Fifo, keep: set[int]) -> None:
    """Kill only pipe-init. Check that the processes that held the FIFO end, and that no other process is left."""
    process.kill()
    assert process.wait(HANGS) == -signal.SIGKILL
    fifo.wait_until_closed()
    processes.wait_for_children(keep=keep, limit=HANGS)


@pytest.mark.parametrize("where", MOMENTS)
def test_kill_of_pipe_init_while_the_handler_runs(pipe_init: PipeInit, fifo: Fifo, where: str) -> None:
    keep = processes.children()
    with running(pipe_init, *PATIENT, "-e", event(fifo, where)) as process:
        fifo.wait_for(b"here\n")
        kill_init(process, fifo, keep)


def test_kill_of_pipe_init_while_the_module_loads(pipe_init: PipeInit, fifo: Fifo) -> None:
    keep = processes.children()
    with running(pipe_init, "--start-timeout", "600", env={"AT_IMPORT": fifo.path}) as process:
        fifo.wait_for(b"here\n")
        kill_init(process, fifo, keep)


def test_kill_of_pipe_init_before_the_runtime_has_said_anything(
    pipe_init: PipeInit, fifo: Fifo, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec 6>{fifo.path}\necho here >&6\nwhile :; do sleep 1000; done\n")
    python.chmod(0o755)
    keep = processes.children()
    with running(pipe_init, "--start-timeout", "600", "--python", str(python)) as process:
        fifo.wait_for(b"here\n")
        kill_init(process, fifo, keep)


def test_kill_of_pipe_init_between_two_events(pipe_init: PipeInit, fifo: Fifo) -> None:
    keep = processes.children()
    with running(pipe_init, *PATIENT, "--events", "-") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(event(fifo, "idle").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'"idle"\n'
        kill_init(process, fifo, keep)


def test_kill_of_pipe_init_while_it_waits_for_a_worker_to_terminate(pipe_init: PipeInit, fifo: Fifo) -> None:
    keep = processes.children()
    with running(pipe_init, "-t", "0.3", "--grace", "600", "-e", event(fifo, "ladder")) as process:
        fifo.wait_for(b"here\n")  # the function has received SIGTERM
        kill_init(process, fifo, keep)


def test_kill_of_pipe_init_with_a_worker_that_lost_its_predecessor(pipe_init: PipeInit, fifo: Fifo) -> None:
    keep = processes.children()
    with running(pipe_init, "-t", "0.3", "--grace", "0.1", "--events", "-") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b'{"where": "no such"}\n' + event(fifo, "stubborn").encode() + b"\n")
        process.stdin.flush()
        assert b"KeyError" in process.stdout.readline()
        fifo.wait_for(b"here\n")
        assert b"Sandbox.Timedout" in process.stdout.readline()
        fifo.wait_until_closed()
        process.stdin.write(event(fifo, "idle").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'"idle"\n'
        fifo.wait_for(b"here\n")
        kill_init(process, fifo, keep)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_lets_the_request_in_flight_finish(
    pipe_init: PipeInit, fifo: Fifo, tmp_path: Path, number: signal.Signals
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    with running(pipe_init, *PATIENT, "-e", event(fifo, "until_told", go=str(go))) as process:
        fifo.wait_for(b"here\n")
        process.send_signal(number)
        go.write_bytes(b"finished")
        stdout, stderr = process.communicate(timeout=HANGS)
    assert (process.returncode, stdout, stderr) == (128 + number, b'"finished"\n', b"")
    fifo.wait_until_closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_gives_the_request_in_flight_no_more_than_the_grace(
    pipe_init: PipeInit, fifo: Fifo, number: signal.Signals
) -> None:
    with running(pipe_init, "-t", "600", "--grace", "0.1", "-e", event(fifo, "stubborn")) as process:
        fifo.wait_for(b"here\n")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=HANGS)
    assert (process.returncode, stdout) == (128 + number, b"")
    assert error_of(stderr)["errorType"] == "Runtime.Stopped"
    fifo.wait_until_closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_skips_the_grace(pipe_init: PipeInit, fifo: Fifo, number: signal.Signals) -> None:
    with running(pipe_init, *PATIENT, "-e", event(fifo, "stubborn")) as process:
        fifo.wait_for(b"here\n")
        process.send_signal(number)
        # Signals merge: the second counts only after pipe-init has seen the first. So it is sent until it counts.
        pidfd = os.pidfd_open(process.pid)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        for _ in range(int(HANGS / 0.05)):
            if ended.poll(50):
                break
            process.send_signal(number)
        os.close(pidfd)
        stdout, stderr = process.communicate(timeout=HANGS)
    # A signal during the interpreter's shutdown has its default action, which a shell treats as the same.
    assert (process.returncode, stdout) in [(128 + number, b""), (-number, b"")]
    assert error_of(stderr)["errorType"] == "Runtime.Stopped"
    fifo.wait_until_closed()
    processes.wait_for_children()  # a third signal has ended pipe-init, wherever it was


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_a_run_of_events_that_waits_for_the_next(
    pipe_init: PipeInit, fifo: Fifo, number: signal.Signals
) -> None:
    with running(pipe_init, *PATIENT, "--events", "-") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(event(fifo, "idle").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'"idle"\n'
        process.send_signal(number)
        assert process.wait(HANGS) == 128 + number
        assert process.stdout.read() == b""
    fifo.wait_until_closed()


def test_a_signal_while_the_module_loads(pipe_init: PipeInit, fifo: Fifo) -> None:
    with running(pipe_init, "--start-timeout", "600", "--grace", "0.1", env={"AT_IMPORT": fifo.path}) as process:
        fifo.wait_for(b"here\n")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=HANGS)
    assert (process.returncode, stdout) == (143, b"")
    assert error_of(stderr)["errorType"] == "Runtime.Stopped"
    fifo.wait_until_closed()


def test_an_ignored_sigint_stays_ignored(pipe_init: PipeInit, fifo: Fifo, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a command that it starts with &
    try:
        with running(pipe_init, *PATIENT, "-e", event(fifo, "until_told", go=str(go))) as process:
            fifo.wait_for(b"here\n")
            process.send_signal(signal.SIGINT)
            go.write_bytes(b"finished")
            stdout, _ = process.communicate(timeout=HANGS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (process.returncode, stdout) == (0, b'"finished"\n')
    fifo.wait_until_closed()


@pytest.mark.parametrize("events", [False, True], ids=["one event", "events"])
def test_a_closed_stdout(pipe_init: PipeInit, fifo: Fifo, events: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ("--events", "-") if events else ("-e", event(fifo, "idle"))
    with running(pipe_init, *PATIENT, "--grace", "0.5", *arguments, stdout=writer) as process:
        os.close(writer)
        lines = f"{event(fifo, 'idle')}\n{event(fifo, 'stubborn')}\n".encode() if events else b""
        _, stderr = process.communicate(lines, timeout=HANGS)
    assert (process.returncode, stderr) == (141, b"")
    fifo.wait_until_closed()


def error_of(stderr: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(stderr.splitlines()[-1])
    return error
