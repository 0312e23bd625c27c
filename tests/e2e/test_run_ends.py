"""Tests of runs that end early: each event that was read has a line, the reason is reported, and no function goes on.

Runs of many events end early because workers cannot start, or because of a signal. Any run ends early if stdout takes
no more.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from pipe_init.kernel import exit_codes
from pipe_testing import command, modes
from pipe_testing.command import PipeInit
from pipe_testing.patience import HANGS
from pipe_testing.tools import require

popen = partial(command.popen, stdin=subprocess.PIPE)

FUNCTION = """
import os, signal, time
if os.environ.get("LOADING"):
    exec(os.environ["LOADING"])

def handler(event, context):
    if event == "hang":
        print("begun", flush=True)
        while True:
            signal.pause()
    return event

def stream(event, context):
    for number in range(300):
        with open("sent", "a") as file:
            file.write("x")
        yield "x" * 100_000
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text(FUNCTION)
    return tmp_path


SLOW, EXITS, RAISES = "import time; time.sleep(60)", "os._exit(3)", "raise ValueError('broken\\n\\x1b')"


@pytest.mark.unmeasured
@pytest.mark.modes(modes.EXEC)  # the test chooses the mode itself
@pytest.mark.parametrize(
    ("loading", "options", "code", "kind"),
    [
        (SLOW, ["--isolation", "request"], exit_codes.TIMED_OUT, "Sandbox.Timedout"),
        (EXITS, [], exit_codes.NOT_LOADED, "Runtime.ExitError"),
        (EXITS, ["-w", "3", "--start-method", "exec"], exit_codes.NOT_LOADED, "Runtime.ExitError"),
        (RAISES, ["-w", "2"], exit_codes.NOT_LOADED, "ValueError"),
        (RAISES, ["--concurrency", "4", "--unordered"], exit_codes.NOT_LOADED, "ValueError"),
        ("", ["--python", "/nowhere"], exit_codes.NOT_FOUND, "Runtime.InvalidEntrypoint"),
    ],
)
def test_each_event_has_a_line_where_no_worker_can_be_had(
    pipe_init: PipeInit, folder: Path, loading: str, options: list[str], code: int, kind: str
) -> None:
    (folder / "events").write_text("1\n" * 100)
    arguments = ["run", "index.handler", "--start-timeout", "0.4" if loading == SLOW else "20", *options]
    finished = pipe_init(*arguments, "--events", "events", cwd=folder, env={"LOADING": loading})
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    if "--unordered" in options:
        assert sorted(each["index"] for each in found) == list(range(100))
        found = [each["error"] for each in found]
    assert finished.returncode == code
    assert len(found) == 100 and {each["errorType"] for each in found} <= {kind, "Runtime.Stopped"}
    assert found[0]["errorType"] == kind and len({each["requestId"] for each in found}) == 100
    *_, last = finished.stderr.decode().splitlines()
    assert last.startswith(f"pipe-init: the run ended early: {kind}: ")
    assert ". It read 100 events. Each has a line" in last


@pytest.mark.modes(modes.EXEC)
def test_quiet_tells_the_reason_if_there_may_be_more_events(pipe_init: PipeInit, folder: Path) -> None:
    (folder / "events").write_text("1\n" * 100_000)
    arguments = ("run", "nowhere.handler", "-q", "-w", "2", "--events", "events")
    finished = pipe_init(*arguments, cwd=folder)
    lines = finished.stdout.splitlines()
    assert 0 < len(lines) < 100_000 and finished.returncode == exit_codes.NOT_LOADED
    reason = f"It read {len(lines)} events. Each has a line; later events, if any, were not read\n"
    assert finished.stderr.decode().startswith("pipe-init: the run ended early: Runtime.ImportModuleError: ")
    assert finished.stderr.decode().endswith(reason)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_signal_leaves_no_event_without_a_line(pipe_init: PipeInit, folder: Path, quiet: bool) -> None:
    """Check with more events than are on their way to the worker: those that wait in pipe-init have lines, too."""
    (folder / "events").write_text("1\n" + '"hang"\n' + "3\n" * 500)
    arguments = ["run", "index.handler", "--grace", "0.1", "--log-style", "none", *(["-q"] if quiet else [])]
    with popen(pipe_init, *arguments, "--events", "events", cwd=folder) as process:
        assert process.stdout is not None and process.stderr is not None
        assert select.select([process.stderr], [], [], HANGS)[0]
        assert os.read(process.stderr.fileno(), 6) == b"begun\n"
        process.send_signal(signal.SIGTERM)
        written, said = process.communicate(timeout=HANGS)
    found = [json.loads(line) for line in written.splitlines()]
    assert found[0] == 1 and len(found) == 502 and process.returncode == 143
    assert {each["errorType"] for each in found[1:]} == {"Runtime.Stopped"}
    told = b"pipe-init: the run ended early: SIGTERM. It read 502 events. Each has a line; later events, if any, were"
    assert said.startswith(told)


def full_disk() -> int:
    require(os.path.exists("/dev/full"), "needs /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("why", ["No space left on device", "File too large", "Bad file descriptor"])
def test_the_function_stops_where_stdout_takes_no_more(
    pipe_init: PipeInit, folder: Path, events: bool, why: str
) -> None:
    (folder / "events").write_text("1\n" * 3)
    (folder / "out").touch()
    flags = os.O_RDONLY if why.startswith("Bad") else os.O_WRONLY
    out = full_disk() if why.startswith("No space") else os.open(folder / "out", flags)
    more = ["--events", "events"] if events else []
    size = (50_000, 50_000) if why == "File too large" else resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        process = subprocess.Popen(
            [*pipe_init.command, "run", "index.stream", "-q", "-t", "600", *more],
            cwd=folder,
            env=pipe_init.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, size),
        )
        _, said = process.communicate(timeout=HANGS)
    finally:
        os.close(out)
    assert process.returncode == 1
    assert said.decode().splitlines()[-1] == f"Error: The result cannot be written to stdout: {why}."
    sent = (folder / "sent").stat().st_size
    # With many events, pipe-init sees the error at the first line. The second event has begun by then.
    assert sent < 800 if events else sent < 100
