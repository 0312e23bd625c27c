"""Tests of `pipe-init run --events`: JSON Lines in, JSON Lines out, over real pipes and terminals.

Each event has one result line, in order, whatever happens to the event.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from pipe_init.model import MAX_PAYLOAD
from pipe_testing import command, modes, processes
from pipe_testing.command import Finished, PipeInit
from pipe_testing.patience import HANGS
from pipe_testing.tools import require

MODES = modes.ALL

popen = partial(command.popen, stdin=subprocess.PIPE)

FUNCTION = """
import os, signal

def handler(event, context):
    if isinstance(event, dict) and "do" in event:
        exec(event["do"], globals())
    return event

def raw(event, context):
    return event.replace(b"|", b"\\n")

def peak(event, context):
    if event:
        return None
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder whose index.handler returns its event, after doing what the event says."""
    (tmp_path / "index.py").write_text(FUNCTION)
    return tmp_path


def do(code: str) -> str:
    """Return a line with an event that makes index.handler run this code."""
    return json.dumps({"do": code}) + "\n"


def results(finished: Finished) -> list[object]:
    """Return the result lines, with an error's type in place of the error."""
    return [shorten(json.loads(line)) for line in finished.stdout.splitlines()]


def shorten(result: object) -> object:
    """Return an error object as its type, and anything else unchanged."""
    return result["errorType"] if isinstance(result, dict) and "errorType" in result else result


# Lines in, lines out


def test_results_are_in_order(pipe_init: PipeInit, folder: Path) -> None:
    events = [{"number": number, "text": "ä" * (number % 700)} for number in range(1000)]
    data = "".join(json.dumps(event) + "\n" for event in events).encode()
    finished = pipe_init("run", "index.handler", "-q", "--events", "-", cwd=folder, stdin=data)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert results(finished) == events


def test_events_from_a_file(pipe_init: PipeInit, folder: Path) -> None:
    (folder / "events.jsonl").write_text("1\n2\n")
    finished = pipe_init("run", "index.handler", "-q", "--events", "events.jsonl", cwd=folder, stdin=b"3\n")
    assert (finished.returncode, finished.stdout) == (0, b"1\n2\n")


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\t\n"])
def test_no_events_are_no_failure(pipe_init: PipeInit, folder: Path, data: bytes) -> None:
    finished = pipe_init("run", "index.handler", "--events", "-", cwd=folder, stdin=data)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")


def test_blank_lines_are_left_out_and_the_last_line_needs_no_end(pipe_init: PipeInit, folder: Path) -> None:
    data = b'\n1\r\n   \n\n "two" \n\t\nnull'
    finished = pipe_init("run", "index.handler", "-q", "--events", "-", cwd=folder, stdin=data)
    assert (finished.returncode, finished.stdout) == (0, b'1\n"two"\nnull\n')


def test_bad_json_is_an_error_in_its_line(pipe_init: PipeInit, folder: Path) -> None:
    data = b'1\n{bad\n"\xff"\n[1] [2]\n5\n'
    finished = pipe_init("run", "index.handler", "-q", "--events", "-", cwd=folder, stdin=data)
    assert finished.returncode == 1
    bad = "Runtime.UnmarshalError"
    assert results(finished) == [1, bad, bad, bad, 5]
    error = json.loads(finished.stdout.splitlines()[1])
    assert error["errorMessage"].startswith("Unable to unmarshal input: Expecting property name")
    assert re.fullmatch(r"[0-9a-f-]{36}", error["requestId"])


def test_line_that_is_too_long_is_an_error_in_its_line(pipe_init: PipeInit, folder: Path) -> None:
    data = b"1\n" + b"[" * (MAX_PAYLOAD + 1) + b"\n3\n"
    finished = pipe_init("run", "index.handler", "-q", "--events", "-", cwd=folder, stdin=data)
    assert finished.returncode == 1
    assert results(finished) == [1, "RequestTooLargeException", 3]
    assert str(MAX_PAYLOAD) in json.loads(finished.stdout.splitlines()[1])["errorMessage"]


def test_every_event_is_bytes_with_raw(pipe_init: PipeInit, folder: Path) -> None:
    finished = pipe_init("run", "index.raw", "-q", "--raw", "--events", "-", cwd=folder, stdin=b"no json\n\xff\x00\n")
    assert (finished.returncode, finished.stdout) == (0, b"no json\n\xff\x00\n")


@pytest.mark.parametrize("event", [b"a|b", b"|", b"forged|" + b'{"result": 1}'])
def test_result_with_a_line_break_is_an_error_line(pipe_init: PipeInit, folder: Path, event: bytes) -> None:
    data = b"1\n" + event + b"\n3\n"
    finished = pipe_init("run", "index.raw", "-q", "--raw", "--events", "-", cwd=folder, stdin=data)
    assert finished.returncode == 1
    assert results(finished) == [1, "Runtime.MarshalError", 3]


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE, modes.REQUEST)  # with several workers, the lines of the events mix
def test_log_lines_surround_each_event(pipe_init: PipeInit, folder: Path) -> None:
    data = (do("print('one')") + do("print('two')")).encode()
    finished = pipe_init("run", "index.handler", "--log-style", "fc", "--events", "-", cwd=folder, stdin=data)
    kinds = [re.sub(r"( RequestId:).*", "", line) for line in finished.stderr.decode().splitlines()]
    surround = ["FC Invoke Start", "FC Invoke End", "REPORT"]
    assert kinds == [surround[0], "one", *surround[1:], surround[0], "two", *surround[1:]]


def test_by_default_no_event_has_a_line_of_the_inits(pipe_init: PipeInit, folder: Path) -> None:
    data = (do("print('one')") + do("1 / 0") + do("print('two')")).encode()
    finished = pipe_init("run", "index.handler", "--events", "-", cwd=folder, stdin=data)
    assert (finished.returncode, finished.stderr) == (1, b"one\ntwo\n")


def test_error_style_fc_is_for_error_lines_too(pipe_init: PipeInit, folder: Path) -> None:
    arguments = ("run", "index.handler", "-q", "--error-style", "fc", "--events", "-")
    finished = pipe_init(*arguments, cwd=folder, stdin=do("1 / 0").encode())
    assert json.loads(finished.stdout)["stackTrace"][0][1:3] == [6, "handler"]
    assert finished.stderr == b""


# Failures


PAUSE, RAISE, EXIT = do("while True: signal.pause()"), do("1 / 0"), do("os._exit(3)")
KILL, SEGV = do("os.kill(os.getpid(), 9)"), do("os.kill(os.getpid(), 11)")


@pytest.mark.parametrize(
    ("events", "codes", "code"),
    [
        ([RAISE], ["ZeroDivisionError"], 1),
        ([EXIT], ["Runtime.ExitError"], 1),
        ([PAUSE, RAISE], ["Sandbox.Timedout", "ZeroDivisionError"], 124),
        ([SEGV, RAISE, PAUSE], ["Runtime.ExitError", "ZeroDivisionError", "Sandbox.Timedout"], 139),
        ([SEGV, KILL], ["Runtime.ExitError", "Runtime.ExitError"], 137),
    ],
)
def test_exit_code_is_the_worst_and_every_other_event_is_answered(
    pipe_init: PipeInit, folder: Path, events: list[str], codes: list[str], code: int
) -> None:
    data = "".join(f"{number}\n{event}" for number, event in enumerate(events)) + '"end"\n'
    finished = pipe_init("run", "index.handler", "-q", "-t", "1.5", "--events", "-", cwd=folder, stdin=data.encode())
    expected: list[object] = []
    for number, name in enumerate(codes):
        expected += [number, name]
    assert results(finished) == [*expected, "end"], finished.stderr
    assert finished.returncode == code


def test_handler_that_cannot_be_loaded_ends_the_run(pipe_init: PipeInit, folder: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"1\n")  # the input does not end, and the run must end all the same
        arguments = ("run", "nowhere.handler", "-q", "--events", "-")
        with popen(pipe_init, *arguments, cwd=folder, stdin=reader) as process:
            assert process.stdout is not None
            written = read_rest(process.stdout)
            assert process.wait(HANGS) == 3
    finally:
        os.close(reader)
        os.close(writer)
    assert [json.loads(line)["errorType"] for line in written.splitlines()] == ["Runtime.ImportModuleError"]


def test_missing_interpreter_ends_the_run(pipe_init: PipeInit, folder: Path) -> None:
    finished = pipe_init("run", "index.handler", "-q", "--python", "nowhere", "--events", "-", cwd=folder, stdin=b"1\n")
    assert finished.returncode == 127
    assert results(finished) == ["Runtime.InvalidEntrypoint"]


def test_broken_protocol_ends_the_run(pipe_init: PipeInit, folder: Path) -> None:
    garbage = "for number in range(5, 64):\n try: os.write(number, b'\\xff' * 64)\n except OSError: pass"
    reader, writer = os.pipe()
    try:
        os.write(writer, b"1\n" + do(garbage).encode())
        with popen(pipe_init, "run", "index.handler", "-q", "--events", "-", cwd=folder, stdin=reader) as process:
            assert process.stdout is not None
            written = read_rest(process.stdout)
            assert process.wait(HANGS) == 4
    finally:
        os.close(reader)
        os.close(writer)
    assert [shorten(json.loads(line)) for line in written.splitlines()] == [1, "Runtime.ProtocolError"]


# While it runs


def read_line(descriptor: int) -> bytes:
    """Read one line and nothing after it. Fail instead of waiting for ever."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([descriptor], [], [], HANGS)[0], f"nothing after {line!r}"
        byte = os.read(descriptor, 1)
        assert byte, f"the end came after {line!r}"
        line += byte
    return line


def read_rest(stream: IO[bytes]) -> bytes:
    """Read to the end. Fail instead of waiting for ever."""
    data = b""
    while True:
        assert select.select([stream], [], [], HANGS)[0], f"no end after {data!r}"
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            return data
        data += piece


def test_results_appear_as_they_are_ready(pipe_init: PipeInit, folder: Path) -> None:
    with popen(pipe_init, "run", "index.handler", "-q", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None
        for data, expected in ((b"1\n", b"1\n"), (b"[2,\n"[:3], b""), (b" 3]\n4\n", b"[2, 3]\n4\n"), (b"5", b"")):
            os.write(process.stdin.fileno(), data)
            for line in expected.splitlines(keepends=True):
                assert read_line(process.stdout.fileno()) == line
        process.stdin.close()
        assert read_line(process.stdout.fileno()) == b"5\n"
        assert read_rest(process.stdout) == b""
        assert process.wait(HANGS) == 0


@pytest.mark.modes(modes.EXEC, modes.TEMPLATE)  # in the other modes a worker gets the second event only after the first
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_answers_what_it_has_taken(
    pipe_init: PipeInit, folder: Path, number: signal.Signals, code: int
) -> None:
    arguments = ("run", "index.handler", "-q", "--grace", "0.2", "--events", "-")
    with popen(pipe_init, *arguments, cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        os.write(process.stdin.fileno(), ("1\n" + do("print('begun')\nwhile True: signal.pause()") + "3\n").encode())
        assert read_line(process.stdout.fileno()) == b"1\n"
        assert read_line(process.stderr.fileno()) == b"begun\n"
        process.send_signal(number)
        rest = read_rest(process.stdout)
        assert process.wait(HANGS) == code
    found = [shorten(json.loads(line)) for line in rest.splitlines()]
    assert found == ["Runtime.Stopped", "Runtime.Stopped"]


def test_interrupted_run_lets_the_event_at_hand_finish(pipe_init: PipeInit, folder: Path) -> None:
    fifo = folder / "go"
    os.mkfifo(fifo)
    code = f"print('begun')\nopen({str(fifo)!r}).read()"
    with popen(pipe_init, "run", "index.handler", "-q", "--grace", "50", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        os.write(process.stdin.fileno(), do(code).encode())
        assert read_line(process.stderr.fileno()) == b"begun\n"
        process.send_signal(signal.SIGTERM)
        fifo.write_text("go on")
        assert json.loads(read_line(process.stdout.fileno())) == {"do": code}
        assert read_rest(process.stdout) == b""
        assert process.wait(HANGS) == 143


def test_idle_run_ends_when_it_is_told(pipe_init: PipeInit, folder: Path) -> None:
    with popen(pipe_init, "run", "index.handler", "-q", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None
        os.write(process.stdin.fileno(), b"1\n")
        assert read_line(process.stdout.fileno()) == b"1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 143


def test_stdout_closed_early_ends_it_quietly(pipe_init: PipeInit, folder: Path) -> None:
    with popen(pipe_init, "run", "index.handler", "-q", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        os.write(process.stdin.fileno(), b"1\n")
        assert read_line(process.stdout.fileno()) == b"1\n"
        process.stdout.close()
        os.write(process.stdin.fileno(), b"2\n" * 100)
        assert read_rest(process.stderr) == b""
        assert process.wait(HANGS) == 141


def test_killed_run_takes_its_worker_along(pipe_init: PipeInit, folder: Path) -> None:
    before = processes.children()
    with popen(pipe_init, "run", "index.handler", "-q", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None
        os.write(process.stdin.fileno(), b"1\n")
        assert read_line(process.stdout.fileno()) == b"1\n"
        process.kill()
        process.wait(HANGS)
    ended = set(processes.wait_for_children(keep=before).values())
    assert -signal.SIGKILL in ended  # a process that stood by, or was being forked, may have ended by itself
    assert modes.chosen == modes.REQUEST or ended == {-signal.SIGKILL}


def peak_of(pid: int) -> int:
    """Return the highest resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@pytest.mark.modes(modes.EXEC)  # the test looks at one worker, and takes long
@pytest.mark.unmeasured  # coverage's own memory grows
def test_memory_does_not_follow_the_number_of_events(pipe_init: PipeInit, folder: Path) -> None:
    """Run 100,000 events, in blocks so that no pipe fills up. benchmarks/events.py runs a million.

    An object has at least 28 bytes. If one stayed for each of the last 90,000 events, memory would grow by 2.4 MiB,
    which is more than the test allows.
    """
    blocks, block = 100, 1000
    early = late = (0, 0)
    with popen(pipe_init, "run", "index.peak", "-q", "--events", "-", cwd=folder) as process:
        assert process.stdin is not None and process.stdout is not None
        source, sink = process.stdin.fileno(), process.stdout.fileno()
        for number in range(blocks):
            os.write(source, b"1\n" * (block - 1) + b"0\n")
            data = b""
            while data.count(b"\n") < block:
                assert select.select([sink], [], [], HANGS)[0]
                data += os.read(sink, 65536)
            late = int(data.splitlines()[-1]), peak_of(process.pid)
            if number == blocks // 10:
                early = late
        process.stdin.close()
        assert process.wait(HANGS) == 0
    allowed = 1024  # KiB by which an allocator may round up
    assert late[0] <= early[0] + allowed, f"the worker grew from {early[0]} to {late[0]} KiB"
    assert late[1] <= early[1] + allowed, f"pipe-init grew from {early[1]} to {late[1]} KiB"


# On a terminal


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Yield the two sides of a new terminal: what the user sees, and what a program writes to."""
    user, program = pty.openpty()
    try:
        yield user, program
    finally:
        os.close(user)
        os.close(program)


def see(user: int, until: bytes) -> bytes:
    """Return what the terminal shows until this text ends it."""
    data = b""
    while not data.endswith(until):
        assert select.select([user], [], [], HANGS)[0], f"only {data!r} was shown"
        data += os.read(user, 4096)
    return data


def test_control_characters_are_escaped_on_a_terminal(pipe_init: PipeInit, folder: Path) -> None:
    event = b"\x1b[2J\xc2\x9b31m\x08\x07 tab\t\xff \xc3\xa4"
    arguments = ("run", "index.raw", "-q", "--raw", "--events", "-")
    with terminal() as (user, program), popen(pipe_init, *arguments, cwd=folder, stdout=program) as process:
        assert process.stdin is not None
        os.write(process.stdin.fileno(), b"x" + event + b"y\n")
        shown = see(user, b"y\r\n")
        process.stdin.close()
        assert process.wait(HANGS) == 0
    assert shown == b"x\\x1b[2J\\x9b31m\\x08\\x07 tab\t\\xff \xc3\xa4y\r\n".replace(b"\t", b"\t")


def test_what_a_function_writes_cannot_steer_a_terminal(pipe_init: PipeInit, folder: Path) -> None:
    code = (
        "print('printed \\x1b[2J\\x9b')\nos.write(1, b'written \\x1b[2J\\n')\nraise ValueError('raised \\x1b[2J\\x9b')"
    )
    for style in ("text", "lambda"):
        arguments = ("run", "index.handler", "-q", "--error-style", style, "-e", do(code))
        with (
            terminal() as (user, program),
            popen(pipe_init, *arguments, cwd=folder, stderr=program, env={"NO_COLOR": "1"}) as process,
        ):
            assert process.wait(HANGS) == 1
            os.write(program, b"the end")
            shown = see(user, b"the end")
        for part in (b"printed \\x1b[2J\\x9b\r\n", b"written \\x1b[2J\r\n", b"raised "):
            assert part in shown
        assert b"\x1b" not in shown and b"\xc2\x9b" not in shown


def test_nothing_is_escaped_in_a_pipe(pipe_init: PipeInit, folder: Path) -> None:
    data = b"\x1b[2J\x07\n"
    finished = pipe_init("run", "index.raw", "-q", "--raw", "--events", "-", cwd=folder, stdin=data)
    assert finished.stdout == data


PROGRESS = rb"(\r\x1b\[K[\d,]+ events? done, [\d,]+ failed, [\d,]+/s)+\r\x1b\[K"
SUMMARY = (
    rb"pipe-init: 3 events done, 1 failed, p50 [\d,.]+ ms, p99 [\d,.]+ ms, longest [\d,.]+ ms\r\n"
    rb"pipe-init: failed: 1 ZeroDivisionError\r\n"
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), PROGRESS + SUMMARY), (("--log-style", "none"), PROGRESS), (("-q",), b""), (("-q", "--log-style", "fc"), b"")],
)
def test_progress_and_summary_are_shown_on_a_terminal(
    pipe_init: PipeInit, folder: Path, options: tuple[str, ...], expected: bytes
) -> None:
    arguments = ["run", "index.handler", "--events", "-", *options]
    slow = do("import select\nselect.select([], [], [], 0.11)")  # longer than the time between two lines of progress
    with terminal() as (user, program), popen(pipe_init, *arguments, cwd=folder, stderr=program) as process:
        assert process.stdin is not None and process.stdout is not None
        os.write(process.stdin.fileno(), (slow + do("1 / 0") + slow).encode())
        process.stdin.close()
        assert len(read_rest(process.stdout).splitlines()) == 3
        assert process.wait(HANGS) == 0 + 1
        os.write(program, b"the end")
        shown = see(user, b"the end")
    assert re.fullmatch(expected + b"the end", shown), shown


def test_a_result_that_cannot_be_written_ends_the_run(pipe_init: PipeInit, folder: Path) -> None:
    require(os.path.exists("/dev/full"), "needs /dev/full")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        arguments = ("run", "index.handler", "-q", "-t", "600", "--events", "-")
        with popen(pipe_init, *arguments, cwd=folder, stdin=subprocess.PIPE, stdout=full) as process:
            assert process.stdin is not None and process.stderr is not None
            os.write(process.stdin.fileno(), ("1\n" + do("import time\ntime.sleep(1000)")).encode())
            said = read_rest(process.stderr)  # pipe-init ends although stdin is still open
            assert process.wait(HANGS) == 1
    finally:
        os.close(full)
    assert said == b"Error: The result cannot be written to stdout: No space left on device.\n"


@pytest.mark.parametrize("options", [(), ("--log-style", "none")])
def test_no_progress_without_a_terminal(pipe_init: PipeInit, folder: Path, options: tuple[str, ...]) -> None:
    slow = do("import select\nselect.select([], [], [], 0.11)")
    arguments = ("run", "index.handler", *options, "--events", "-")
    assert pipe_init(*arguments, cwd=folder, stdin=(slow * 3).encode()).stderr == b""
