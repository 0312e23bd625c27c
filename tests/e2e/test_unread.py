"""Tests of a stderr or stdout that is not read for a while: events go on, nothing is lost, and memory is bounded."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from pipe_init.kernel.outlet import Outlet
from pipe_testing.command import PipeInit, popen
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured

NOISY = """
def handler(event, context):
    for number in range(400):
        print(f"{event} {number} ".ljust(1023, "x"))
    return event

def large(event, context):
    print("y" * 200_000)
    return "z" * 100_000
"""

LINES = 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text(NOISY)
    return tmp_path


@pytest.fixture
def events(folder: Path) -> Iterator[str]:
    (folder / "events").write_text("".join(f"{number}\n" for number in range(12)))
    yield "events"


def available(stream: IO[bytes] | None, seconds: float, lines: int = 1) -> bytes:
    """Wait until this many lines have come. Return them, with what arrives within these seconds after them."""
    assert stream is not None
    found, ends = b"", time.monotonic() + HANGS
    while (left := ends - time.monotonic()) > 0:
        if select.select([stream], [], [], left)[0]:
            data = os.read(stream.fileno(), 65536)
            assert data, f"the end came after {found!r}"
            if found.count(b"\n") < lines <= (found + data).count(b"\n"):
                ends = time.monotonic() + seconds
            found += data
    return found
    return found


def peak_memory(pid: int) -> int:
    """Return the highest resident memory of a process in bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize(
    ("options", "begun"),
    [((), 4), (("-w", "3"), 7), (("--isolation", "request", "-w", "2"), 6), (("--concurrency", "3"), 7)],
)
def test_an_unread_stderr_times_out_no_request(
    pipe_init: PipeInit, folder: Path, events: str, options: tuple[str, ...], begun: int
) -> None:
    arguments = ("run", "index.handler", "-t", "1", "--events", events, *options)
    with popen(pipe_init, *arguments, cwd=folder) as process:
        early = available(process.stdout, 1.6)
        assert 1 <= len(early.splitlines()) <= begun, "an event was begun while the buffer was full"
        assert peak_memory(process.pid) < 100 * 2**20
        late, said = process.communicate(timeout=HANGS)
    assert (process.returncode, (early + late).split()) == (0, [b"%d" % number for number in range(12)])
    lines = said.decode().splitlines()
    for number in range(12):
        own = [line for line in lines if re.match(rf"(\S+\t)?{number} ", line)]
        assert [int(line.split()[-2]) for line in own] == list(range(LINES)), number


def test_of_a_single_event(pipe_init: PipeInit, folder: Path) -> None:
    with popen(pipe_init, "run", "index.handler", "-t", "0.7", "-e", "7", cwd=folder) as process:
        assert available(process.stdout, 1.0) == b"7\n"
        assert process.poll() is None, "the rest of the log is lost"
        _, said = process.communicate(timeout=HANGS)
    lines = said.decode().splitlines()
    assert (process.returncode, len(lines)) == (0, LINES + 1)
    assert " done in " in lines[-1]


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT)])
def test_a_signal_ends_the_wait_for_its_reader(pipe_init: PipeInit, folder: Path, numbers: tuple[int, ...]) -> None:
    grace = "0.3" if len(numbers) == 1 else "3600"
    with popen(pipe_init, "run", "index.handler", "--grace", grace, "-e", "7", cwd=folder) as process:
        assert available(process.stdout, 0.5) == b"7\n"
        for number in numbers:
            process.send_signal(number)
        assert process.wait(HANGS) in [128 + number for number in numbers]
        assert process.stderr is not None and process.stderr.read().startswith(b"7 0 x")


def test_a_signal_answers_what_was_not_begun(pipe_init: PipeInit, folder: Path, events: str) -> None:
    with popen(pipe_init, "run", "index.handler", "--grace", "0.3", "--events", events, cwd=folder) as process:
        early = available(process.stdout, 1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 128 + signal.SIGTERM
        assert process.stdout is not None
        results = [json.loads(line) for line in (early + process.stdout.read()).splitlines()]
    done = [result for result in results if isinstance(result, int)]
    assert done == list(range(len(done))) and 1 <= len(done) < 12
    assert {result["errorType"] for result in results[len(done) :]} <= {"Runtime.Stopped"}


@pytest.mark.parametrize("options", [(), ("--concurrency", "4")])
def test_an_unread_stdout_times_out_no_request(
    pipe_init: PipeInit, folder: Path, events: str, options: tuple[str, ...]
) -> None:
    arguments = ("run", "index.large", "-t", "1", "--events", events, *options)
    with popen(pipe_init, *arguments, cwd=folder, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1) == b'"'
        assert process.stdin is None and select.select([], [], [], 1.6) == ([], [], [])
        late, _ = process.communicate(timeout=HANGS)
    assert (process.returncode, (b'"' + late).splitlines()) == (0, [b'"' + b"z" * 100_000 + b'"'] * 12)


def test_results_in_the_pipe_of_the_log_are_whole_lines(pipe_init: PipeInit, folder: Path, seed: int) -> None:
    code = 'def handler(event, context):\n    for _ in range(20):\n        print("x" * 9999)\n    return "y" * 9998\n'
    (folder / "index.py").write_text(code)
    (folder / "events").write_text("1\n" * 60)
    source, found = random.Random(seed), b""
    reader, writer = os.pipe()
    try:
        arguments = ("run", "index.handler", "--log-style", "none", "--events", "events")
        with popen(pipe_init, *arguments, cwd=folder, stdout=writer, stderr=writer) as process:
            os.close(writer)
            while data := os.read(reader, source.choice((100, 1000, 5000, 30000))):
                found += data
            assert process.wait(HANGS) == 0
    finally:
        os.close(reader)
    lines = found.splitlines()
    results = [line for line in lines if line.startswith(b'"')]
    assert results == [b'"' + b"y" * 9998 + b'"'] * 60
    logged = [line for line in lines if not line.startswith(b'"')]
    assert {bytes(set(line)) for line in logged} == {b"x"}, "a line that a result has cut in two"
    assert sum(map(len, logged)) == 60 * 20 * 9999


def test_a_result_without_a_line_break_does_not_share_a_line_of_the_terminal(pipe_init: PipeInit, folder: Path) -> None:
    code = "def handler(event, context):\n    yield event\n\ndef stop(context):\n    print('stopped')\n"
    (folder / "index.py").write_text(code)
    person, program = os.openpty()
    try:
        arguments = ("run", "index.handler", "--raw", "-e", "result", "--pre-stop", "index.stop")
        with popen(pipe_init, *arguments, cwd=folder, stdout=program, stderr=program) as run:
            seen = b""
            while not seen.endswith(b"stopped\r\n"):
                seen += os.read(person, 65536)
            assert run.wait(HANGS) == 0
    finally:
        os.close(program)
        os.close(person)
    done, result, stopped = sorted(seen.splitlines())  # the result may come before or after the line about it
    assert (result, stopped) == (b"result", b"stopped") and done.startswith(b"pipe-init: ")


def test_progress_on_a_terminal_that_was_stopped(pipe_init: PipeInit, folder: Path) -> None:
    code = (
        'import time\ndef handler(event, context):\n    time.sleep(0.11)\n    print("event", event)\n    return event\n'
    )
    (folder / "index.py").write_text(code)
    (folder / "events").write_text("".join(f"{number}\n" for number in range(10)))
    person, program = os.openpty()
    try:
        outlet = Outlet(program)
        os.write(person, b"\x13")  # Ctrl-S
        while outlet.write(b"."):
            continue
        outlet.close()
        with popen(
            pipe_init, "run", "index.handler", "-t", "0.6", "--events", "events", cwd=folder, stderr=program
        ) as run:
            assert available(run.stdout, 0.3, lines=10).split() == [b"%d" % number for number in range(10)]
            assert run.poll() is None
            os.write(person, b"\x11")  # Ctrl-Q
            seen = b""
            while b"longest" not in seen:
                seen += os.read(person, 65536)
            assert run.wait(HANGS) == 0
    finally:
        os.close(program)
        os.close(person)
    assert [int(number) for number in re.findall(rb"event (\d+)\r\n", seen)] == list(range(10))
    assert b"10 events done, 0 failed" in seen
