"""Tests of the exit codes of `pipe-init run`: wrong usage, failures of the function, interrupts, and broken streams."""

from __future__ import annotations

import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pipe_init.cli.run import run
from pipe_init.cli.runs.event_input import MAX_EVENT
from pipe_testing import modes
from pipe_testing.command import PipeInit, popen
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.shown import error, lines, only_unmeasured
from pipe_testing.tools import require

MODES = modes.ON_REQUEST

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'HANDLER'."),
        (("index.quick", "-e", "{bad"), "The event in --event is not JSON: Expecting property name"),
        (("index.quick", "-e", "{bad"), "(--raw takes any text.)"),
        (("index.quick", "-e", ""), "The event in --event is not JSON: Expecting value"),
        (("index.quick", "-e", "[" * 100_000), "The event in --event is not JSON"),
        (("index.quick", "-e", '"\udcff"'), "The event in --event is not JSON: 'utf-8' codec can't decode"),
        (("index.quick", "-f", "index.py"), "The event in 'index.py' is not JSON"),
        (("index.quick", "-f", "utf16"), "The event in 'utf16' is not JSON: 'utf-8' codec can't decode"),
        (("index.quick", "-f", "-"), "The event in stdin is not JSON: Expecting value"),
        (("index.quick", "-f", "nowhere"), "Cannot read 'nowhere': No such file or directory."),
        (("index.quick", "-f", "."), "Cannot read '.': Is a directory."),
        (("index.quick", "-f", "huge"), f"The event in 'huge' has more than {MAX_EVENT} bytes."),
        (("index.quick", "--events", "nowhere"), "Cannot read 'nowhere': No such file or directory."),
    ],
)
def test_wrong_usage(pipe_init: PipeInit, show: Path, arguments: tuple[str, ...], says: str) -> None:
    """Check wrong events. Wrong options are in test_wrong_usage.py."""
    (show / "utf16").write_bytes("1".encode("utf-16"))
    with open(show / "huge", "wb") as file:
        file.truncate(MAX_EVENT + 1)
    finished = pipe_init("run", *arguments, cwd=show)
    assert (finished.returncode, finished.stdout) == (2, b"")
    usage, hint, empty, message = lines(finished)
    assert usage == "Usage: pipe-init run [OPTIONS] HANDLER"
    assert hint == "Try 'pipe-init run -h' for help."
    assert message.startswith("Error: ")
    assert says in message


def test_unknown_command_and_none(pipe_init: PipeInit) -> None:
    finished = pipe_init("walk")
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert lines(finished)[-1] == "Error: No such command 'walk'."
    finished = pipe_init()
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert lines(finished)[0] == "Usage: pipe-init [OPTIONS] COMMAND [ARGS]..."
    assert finished.stderr.count(b"Usage:") == 1


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(pipe_init: PipeInit, option: str) -> None:
    finished = pipe_init("run", option)
    assert (finished.returncode, finished.stderr) == (0, b"")
    text = finished.stdout.decode()
    for parameter in run.params:
        assert all(name in text for name in parameter.opts if name.startswith("-"))
    headings = re.findall(r"^([A-Z]\w+):$", text, re.MULTILINE)
    assert headings == ["Function", "Event", "HTTP", "Limits", "Speed", "Output", "Help", "Examples"]
    assert "<=x" not in text
    assert "PIPE_INIT_LOG_STYLE" in text
    assert pipe_init(option).stdout.startswith(b"Usage: pipe-init [OPTIONS] COMMAND [ARGS]...\n")


def test_version(pipe_init: PipeInit) -> None:
    finished = pipe_init("--version")
    assert (finished.returncode, finished.stderr) == (0, b"")
    pattern = r"pipe-init \d+\.\d+\.\d+\S*, protocol 1, Python {} \(.+\), msgpack [\d.]+ \((C|pure Python)\)\n"
    assert re.fullmatch(pattern.format(re.escape(platform.python_version())), finished.stdout.decode())


def test_as_a_module(pipe_init: PipeInit) -> None:
    command = [sys.executable, "-m", "pipe_init", "run", "index.handler", "-q"]
    finished = subprocess.run(
        command, cwd=EXAMPLES / "hello", env=pipe_init.environment(), capture_output=True, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b'"hello world"\n', b"")


PROGRAMS: dict[str, tuple[str, int, str, str]] = {
    # name: (what the handler does, exit code, error type, part of the message)
    "raises": ("raise KeyError('k')", 1, "KeyError", "'k'"),
    "sys.exit": ("sys.exit(7)", 1, "SystemExit", "7"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", 1, "KeyboardInterrupt", ""),
    "MemoryError": ("raise MemoryError('no')", 1, "MemoryError", "no"),
    "os._exit": ("os._exit(7)", 1, "Runtime.ExitError", "Runtime exited with error: exit status 7"),
    "os._exit(0)": ("os._exit(0)", 1, "Runtime.ExitError", "Runtime exited with error: exit status 0"),
    "SIGKILL": ("os.kill(os.getpid(), 9)", 137, "Runtime.ExitError", "Runtime exited with error: signal: killed"),
    "SIGTERM": ("os.kill(os.getpid(), 15)", 143, "Runtime.ExitError", "signal: terminated"),
    "SIGABRT": ("os.abort()", 134, "Runtime.ExitError", "signal: aborted"),
    "SIGSEGV": ("os.kill(os.getpid(), 11)", 139, "Runtime.ExitError", "signal: segmentation fault"),
    "garbage": (
        "for descriptor in range(5, 64):\n try: os.write(descriptor, b'\\xff' * 64)\n except OSError: pass",
        4,
        "Runtime.ProtocolError",
        "The runtime broke the protocol: a frame of 4294967295 bytes",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exit_codes_of_functions_that_fail(pipe_init: PipeInit, show: Path, name: str) -> None:
    do, code, error_type, message = PROGRAMS[name]
    finished = pipe_init("run", "wrong.handler", "-q", "-e", json.dumps({"do": do}), cwd=show)
    assert (finished.returncode, finished.stdout) == (code, b""), finished.stderr
    assert error(finished)["errorType"] == error_type
    assert message in str(error(finished)["errorMessage"])


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("nowhere.handler", "Runtime.ImportModuleError"),
        ("index.nothing", "Runtime.HandlerNotFound"),
        ("index", "Runtime.MalformedHandlerName"),
        ("", "Runtime.MalformedHandlerName"),
        ("os.getcwd", "Runtime.BuiltInModuleConflict"),
        ("syntax.handler", "Runtime.UserCodeSyntaxError"),
        ("raising.handler", "ZeroDivisionError"),
        ("exiting.handler", "SystemExit"),
        ("dying.handler", "Runtime.ExitError"),
    ],
)
def test_exit_code_3_of_handlers_that_cannot_be_loaded(
    pipe_init: PipeInit, show: Path, handler: str, error_type: str
) -> None:
    (show / "syntax.py").write_text("def handler(event, context):\n    return (\n")
    (show / "raising.py").write_text("1 / 0\n")
    (show / "exiting.py").write_text("raise SystemExit(0)\n")
    (show / "dying.py").write_text("import os\nos._exit(5)\n")
    finished = pipe_init("run", handler, "-q", cwd=show)
    assert (finished.returncode, finished.stdout) == (3, b"")
    assert error(finished)["errorType"] == error_type


def test_exit_code_124_names_where_it_hangs(pipe_init: PipeInit, show: Path) -> None:
    event = json.dumps({"do": "while True: signal.pause()"})
    finished = pipe_init("run", "wrong.handler", "-q", "-t", "0.3", "-e", event, cwd=show)
    assert (finished.returncode, finished.stdout) == (124, b"")
    assert error(finished)["errorType"] == "Sandbox.Timedout"
    assert str(error(finished)["errorMessage"]).endswith("Error: Task timed out after 0.30 seconds")
    assert f'  File "{show}/wrong.py", line 5, in handler' in str(error(finished)["stackTrace"])


@pytest.mark.parametrize("do", ["signal.signal(15, signal.SIG_IGN)", "signal.signal(15, lambda *_: os._exit(0))"])
def test_exit_code_124_whatever_ends_it(pipe_init: PipeInit, show: Path, do: str) -> None:
    event = json.dumps({"do": f"{do}\nwhile True: signal.pause()"})
    arguments = ("run", "wrong.handler", "-q", "-t", "0.3", "--grace", "0.1", "-e", event)
    assert pipe_init(*arguments, cwd=show).returncode == 124


@pytest.mark.parametrize("by", ["option", "variable"])
def test_exit_code_124_of_a_module_that_does_not_finish_loading(pipe_init: PipeInit, tmp_path: Path, by: str) -> None:
    (tmp_path / "index.py").write_text("import signal\nsignal.pause()\n")
    arguments = ("--start-timeout", "0.4") if by == "option" else ()
    env = {} if arguments else {"PIPE_INIT_START_TIMEOUT": "0.4"}
    finished = pipe_init("run", "index.handler", "-q", *arguments, cwd=tmp_path, env=env)
    assert (finished.returncode, finished.stdout) == (124, b"")
    assert "The function was not ready after 0.40 seconds" in str(error(finished)["errorMessage"])


def test_exit_code_137_of_memory_says_so(pipe_init: PipeInit, show: Path) -> None:
    do = "data = bytearray(b'x') * (116 * 2**20)\nos.kill(os.getpid(), 9)"
    finished = pipe_init(
        "run", "wrong.handler", "-q", "-m", "128", "-e", json.dumps({"do": do}), cwd=show, env=only_unmeasured()
    )
    assert (finished.returncode, finished.stdout) == (137, b"")
    assert error(finished)["errorType"] == "Runtime.OutOfMemory"
    assert re.search(
        r"out of memory: it may allocate 128 MB, and had \d+ MB resident", str(error(finished)["errorMessage"])
    )


def test_memory_error_that_is_raised_is_an_answer(pipe_init: PipeInit, show: Path) -> None:
    event = json.dumps({"do": "bytearray(2**30)"})
    finished = pipe_init("run", "wrong.handler", "-q", "-m", "256", "-e", event, cwd=show)
    assert (finished.returncode, error(finished)["errorType"]) == (1, "MemoryError")


def read_rest(stream: IO[bytes], limit: float = HANGS) -> bytes:
    """Read to the end. Fail instead of waiting for ever."""
    data = b""
    while True:
        assert select.select([stream], [], [], limit)[0], f"no end after {data!r}"
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            return data
        data += piece


def wait_for_line(stream: int, line: bytes, limit: float = HANGS) -> None:
    """Read until this line has come."""
    data = b""
    while line + b"\n" not in data:
        assert select.select([stream], [], [], limit)[0], f"{line!r} did not come after {data!r}"
        piece = os.read(stream, 4096)
        assert piece, f"{line!r} did not come before the end of {data!r}"
        data += piece


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_exit_code_of_an_interrupted_run(pipe_init: PipeInit, show: Path, number: int, code: int) -> None:
    event = json.dumps({"do": "print('ready')\nsignal.pause()"})
    arguments = ("run", "wrong.handler", "-q", "--grace", "0.1", "-e", event)
    with popen(pipe_init, *arguments, cwd=show) as process:
        assert process.stderr is not None and process.stdout is not None
        wait_for_line(process.stderr.fileno(), b"ready")
        process.send_signal(number)
        rest = read_rest(process.stderr)
        assert read_rest(process.stdout) == b""
        assert process.wait(HANGS) == code
    assert json.loads(rest)["errorType"] == "Runtime.Stopped"


def test_exit_code_141_when_stdout_is_closed(pipe_init: PipeInit) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with popen(pipe_init, "run", "index.handler", "-q", cwd=EXAMPLES / "hello", stdout=writer) as process:
            assert process.stderr is not None
            assert read_rest(process.stderr) == b""
            assert process.wait(HANGS) == 141
    finally:
        os.close(writer)


def test_result_that_cannot_be_written(pipe_init: PipeInit) -> None:
    require(os.path.exists("/dev/full"), "needs /dev/full")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with popen(pipe_init, "run", "index.handler", "-q", cwd=EXAMPLES / "hello", stdout=full) as process:
            assert process.stderr is not None
            assert (
                read_rest(process.stderr)
                == b"Error: The result cannot be written to stdout: No space left on device.\n"
            )
            assert process.wait(HANGS) == 1
    finally:
        os.close(full)


@pytest.mark.parametrize(
    "arguments", [["-h"], ["--version"], ["run", "-h"], ["exec", "-h"]], ids=lambda arguments: " ".join(arguments)
)
def test_help_that_cannot_be_written(pipe_init: PipeInit, arguments: list[str]) -> None:
    require(os.path.exists("/dev/full"), "needs /dev/full")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with popen(pipe_init, *arguments, cwd=EXAMPLES, stdout=full) as process:
            assert process.stderr is not None
            said = b"Error: The output cannot be written to stdout: No space left on device.\n"
            assert read_rest(process.stderr) == said
            assert process.wait(HANGS) == 1
        with popen(pipe_init, *arguments, cwd=EXAMPLES, stdout=full, stderr=full) as process:
            assert process.wait(HANGS) == 1
    finally:
        os.close(full)


def test_a_current_directory_that_was_deleted(pipe_init: PipeInit, tmp_path: Path) -> None:
    """Check that a run fails with the reason, and works with an absolute path."""
    gone = tmp_path / "gone"
    for more, code in ((), 2), (("--layer", "."), 2), (("-C", str(EXAMPLES / "hello")), 0):
        gone.mkdir()
        pipe_init.command = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *PipeInit().command]
        done = pipe_init("run", "index.handler", "-q", *more, cwd=gone)
        assert done.returncode == code, done.stderr
        last = done.stderr.decode().splitlines()[-1:]
        if code:
            said = "The current directory was deleted: go to another one, or give an absolute path."
            assert last == [f"Error: {said}"]
        else:
            assert last == []


@pytest.mark.parametrize("option", ["-f", "--events"])
def test_an_input_that_cannot_be_read(pipe_init: PipeInit, show: Path, option: str) -> None:
    unreadable = os.open(os.devnull, os.O_WRONLY)
    try:
        with popen(pipe_init, "run", "index.quick", "-q", option, "-", cwd=show, stdin=unreadable) as process:
            assert process.stdout is not None and process.stderr is not None
            said = read_rest(process.stderr).decode()
            assert read_rest(process.stdout) == b""
            assert process.wait(HANGS) == 2
    finally:
        os.close(unreadable)
    source = "stdin" if option == "-f" else "'-' any further"
    assert said.splitlines()[-1] == f"Error: Cannot read {source}: Bad file descriptor."


def test_from_a_folder_that_is_gone(pipe_init: PipeInit, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    finished = subprocess.run(
        ["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" -m pipe_init --version', "sh", str(folder), sys.executable],
        env=pipe_init.environment(unmeasured()),
        capture_output=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_a_closed_stderr(pipe_init: PipeInit, show: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with popen(pipe_init, "run", "index.quick", cwd=show, stderr=writer) as process:
            assert process.stdout is not None
            assert read_rest(process.stdout) == b'"done"\n'
            assert process.wait(HANGS) == 0
    finally:
        os.close(writer)


def test_closed_standard_descriptors(pipe_init: PipeInit, show: Path) -> None:
    command = 'exec "$@" <&- 2>&-'
    finished = subprocess.run(
        ["sh", "-c", command, "sh", *pipe_init.command, "run", "index.quick"],
        cwd=show,
        env=pipe_init.environment(),
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, b'"done"\n')


@pytest.mark.parametrize("arguments", [("-e", "1"), ("--events", "-")], ids=["one", "events"])
def test_a_log_that_cannot_be_written_costs_no_result(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...]
) -> None:
    command = [*pipe_init.command, "run", "index.quick", *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command,
            cwd=show,
            env=pipe_init.environment(),
            input=b"1\n",
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b'"done"\n')
