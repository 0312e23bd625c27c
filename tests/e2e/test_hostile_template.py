"""Tests of a template that its function attacks. This does no more damage than an attack on a worker.

Each request still gets exactly one outcome. The template is real. The function's code attacks it while it is loaded, or
in each fork.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pipe_init.kernel import exit_codes, reaper
from pipe_init.limits import rlimits
from pipe_init.model import REQUEST, TEMPLATE, Outcome
from pipe_init.workers import launch
from pipe_testing.command import PipeInit
from pipe_testing.supervision import Driver, supervised

Serving = Callable[..., AbstractContextManager[Driver]]

INDEX = """
import errno, os, resource, signal, socket, stat

def once():
    try:
        os.close(os.open("done", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def private(kind):
    for descriptor in range(3, 64):
        try:
            if kind(os.fstat(descriptor).st_mode) and descriptor != 3:
                yield descriptor
        except OSError:
            pass

def tell(*words):
    for descriptor in private(stat.S_ISSOCK):
        for word in words:
            os.write(descriptor, word)

def handler(event, context):
    return {"pid": os.getpid()}

"""


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """Return `serving(harm, **options)`, which yields a Driver. Its template loads a function with the code `harm`."""

    def begin(harm: str, **options: object) -> AbstractContextManager[Driver]:
        (tmp_path / "index.py").write_text(INDEX + textwrap.dedent(harm))
        hello = {"handler": "index.handler", "code_dir": str(tmp_path), "environment": {}, "function": {}}
        command = launch.runtime_command(launch.this_python())
        return supervised(tmp_path / "log", command, hello=hello, start_method=TEMPLATE, **options)  # type: ignore[arg-type]

    return begin


def message_of(outcome: Outcome) -> str:
    """Return the text of a request's error, or "" if it has none."""
    return "" if outcome.problem is None else str(outcome.problem["error_message"])


def test_unharmed(serving: Serving) -> None:
    """Check a function without an attack. When a worker begins, its parent may still be the process that forked it."""
    with serving("") as driver:
        pid = json.loads(driver.ask().payload)["pid"]
        driver.until(lambda: [lane.pid for lane in driver.supervisor._lanes if lane.pid] == [pid])  # it may come late
        driver.until(lambda: reaper.is_own_child(pid))


@pytest.mark.parametrize(
    "word",
    [b"", b"x", b"-1 5", b"1 2 3 4", b"1", b"999 5", b"1 0 99999", b"1 0", b"1 5 5", b"1 1", b"9" * 80],
    ids=lambda word: word.decode()[:12] or "nothing",
)
def test_reports_that_make_no_sense(serving: Serving, word: bytes) -> None:
    """Check reports about the first ticket, which was asked for and has the number 1."""
    with serving(f"if once():\n    tell({word!r})") as driver:
        assert driver.ask().problem is None
        log = driver.log.read_text()
    assert ("broke the protocol and is replaced" in log) == bool(word)  # an empty packet is the end of the socket


@pytest.mark.parametrize("whose", [str(os.getppid()), "os.getppid()", "os.getpid()"], ids=["other", "init", "template"])
def test_a_pid_that_is_not_the_workers(serving: Serving, whose: str) -> None:
    """Check that the request fails or a later worker answers. The init signals only processes that are its children."""
    harm = f"if once():\n    tell(b'1 %d' % {whose})"
    with serving(harm, stop_timeout=0.3) as driver:
        outcome = driver.ask()
        assert outcome.problem is None or outcome.exit_code == exit_codes.NOT_LOADED
    os.kill(os.getppid(), 0)


CLAIM = """
import gc, mmap, os, struct, sys
claimed = mmap.mmap(-1, 8)  # shared by all forks

class Claiming:
    def __init__(self, control):
        self.control = control

    def __getattr__(self, name):
        return getattr(self.control, name)

    def send(self, data):
        ticket, *numbers = data.split()
        if len(numbers) == 1:
            WAIT
            if claimed[:] == bytes(8):
                claimed[:] = struct.pack("q", WHOSE)
            numbers = [b"%d" % struct.unpack("q", claimed)]
        return self.control.send(b" ".join([ticket, *numbers]))

if WHEN:
    (server,) = [each for each in gc.get_objects() if type(each).__name__ == "ForkServer"]
    server._control = Claiming(server._control)
"""

OF_THE_FIRST, ITS_OWN = "int(numbers[0])", "os.getppid()"


def claim(whose: str, when: str = "True", wait: str = "pass") -> str:
    """Return code with which a template waits, and then reports the same pid for each of its workers."""
    return CLAIM.replace("WHOSE", whose).replace("WHEN", when).replace("WAIT", wait)


@pytest.mark.parametrize("whose", [OF_THE_FIRST, ITS_OWN], ids=["of-the-first", "its-own"])
def test_one_pid_that_it_reports_for_every_worker(serving: Serving, whose: str) -> None:
    """Check that the init takes no other process for a worker, and so signals none in the place of a worker."""
    with serving(claim(whose, "once()"), workers=2, grace=0.3, stop_timeout=0.3) as driver:
        driver.submit()
        driver.submit()
        assert [outcome.problem for outcome in driver.outcomes(2)] == [None, None]
    log = driver.log.read_text()
    assert "broke the protocol and is replaced: a report of a worker whose pid" in log
    assert "does not end" not in log


def test_a_worker_that_it_reports_falsely_has_begun_no_request(serving: Serving) -> None:
    """Check that other workers get the requests. Each template reports one worker's pid truly, all others falsely."""
    with serving(claim(OF_THE_FIRST), workers=3, start_attempts=5) as driver:
        for _ in range(3):
            driver.submit()
        assert [outcome.problem for outcome in driver.outcomes(3)] == [None] * 3


def test_it_always_reports_its_own_pid(serving: Serving, tmp_path: Path) -> None:
    """Check that the run ends after some failed starts, even if each false report comes long after the fork."""
    harm = """
    import select
    started, begins = os.pipe()

    def handler(event):
        open("begun", "w").close()
        os.write(begins, b"!")
        return event
    """
    late = claim(ITS_OWN, wait="select.select([started], [], [], 0.2)")
    options = {"isolation": REQUEST, "prestart": True, "max_requests": 1}
    with serving(textwrap.dedent(harm) + late, workers=2, **options) as driver:
        for _ in range(4):
            driver.submit()
        assert [outcome.exit_code for outcome in driver.outcomes(4)] == [exit_codes.PROTOCOL] * 4
    assert not (tmp_path / "begun").exists()


def test_garbage_in_its_conversation(serving: Serving) -> None:
    harm = """
    if once():
        for descriptor in private(stat.S_ISFIFO):
            try:
                os.write(descriptor, b"\\xff" * 64)
            except OSError:
                pass
    """
    with serving(harm) as driver:
        assert driver.ask().problem is None
        assert "broke the protocol and is replaced" in driver.log.read_text()


def test_a_function_that_collects_every_child(serving: Serving) -> None:
    with serving("signal.signal(signal.SIGCHLD, signal.SIG_IGN)") as driver:
        assert driver.ask().problem is None


def test_no_descriptor_is_left_for_a_worker(serving: Serving) -> None:
    harm = """
    free = sorted(set(range(64)) - {0, 1, 2, 3, *private(lambda mode: True)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[4], free[4]))  # four, and a worker has five
    """
    with serving(harm) as driver:
        outcome = driver.ask()
        assert outcome.problem is not None
        assert outcome.exit_code == exit_codes.NOT_LOADED
        assert outcome.problem["error_message"].endswith(
            "could not be started: the template cannot fork it: Too many open files"
        )


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os._exit(7)", "ended with exit status 7; a fork hook"),
        ("os._exit(0)", "ended with exit status 0; a fork hook"),
        ("os.kill(os.getpid(), 9)", "died: signal 9"),
    ],
)
def test_the_process_that_forks_the_workers_dies(serving: Serving, end: str, how: str) -> None:
    harm = f"""
    mine = os.getpid()
    os.register_at_fork(after_in_child=lambda: {end} if os.getppid() == mine else None)
    """
    with serving(harm) as driver:
        outcome = driver.ask()
        assert outcome.problem is not None
        assert outcome.exit_code == exit_codes.NOT_LOADED
        assert f"the process that forks the workers has {how}" in driver.log.read_text()
        assert f"before it had forked the worker: the process that forks the workers has {how}" in message_of(outcome)


def test_the_worker_dies_before_it_is_one(serving: Serving) -> None:
    harm = """
    mine = os.getpid()
    os.register_at_fork(after_in_child=lambda: os._exit(7) if os.getppid() != mine else None)
    """
    with serving(harm) as driver:
        outcome = driver.ask()
        assert outcome.problem is not None
        assert outcome.problem["error_message"].endswith("exit status 7 after it was forked and before it was ready")


def test_the_cpu_time_is_each_workers_own(serving: Serving) -> None:
    harm = """
    import time
    while time.process_time() < 0.4:
        pass
    """
    with serving(harm, limits=rlimits.Limits(cpu_seconds=1)) as driver:
        pid = json.loads(driver.ask().payload)["pid"]
        driver.until(lambda: resource.prlimit(pid, resource.RLIMIT_CPU)[0] == 1)  # set when the worker is our child


def test_a_flood_of_stacks_while_it_loads(serving: Serving) -> None:
    """Check that the init keeps only a limited part of the stacks, and does not become slower."""
    harm = """
    import time
    while True:
        os.write(4, b"x" * 65536)
    """
    with serving(harm, start_timeout=0.5, start_attempts=1) as driver:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert driver.ask().exit_code == exit_codes.TIMED_OUT
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


def test_what_it_was_killed_in_the_middle_of_is_no_violation(serving: Serving) -> None:
    harm = """
    if once():
        for descriptor in private(stat.S_ISFIFO):
            try:
                os.write(descriptor, b"\\0\\0\\0\\x08\\0\\0")
            except OSError:
                pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with serving(harm) as driver:
        assert driver.ask().problem is None
        assert "protocol" not in driver.log.read_text()


HANGS_AT_ITS_END = "import atexit, time\natexit.register(lambda: time.sleep(1000))"


def test_it_is_killed_after_the_grace_time_if_it_does_not_end(serving: Serving) -> None:
    with serving(HANGS_AT_ITS_END, grace=0.3, stop_timeout=0.3) as driver:
        assert driver.ask().problem is None
        start = time.monotonic()
    assert time.monotonic() - start >= 0.3


def test_it_is_killed_at_once_after_a_second_signal(serving: Serving) -> None:
    """Check that the run ends in the time of the test. Without the second signal, it would take longer."""
    with serving(HANGS_AT_ITS_END, grace=1000.0) as driver:
        assert driver.ask().problem is None
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)


TRACER = """
import ctypes, os, signal, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
sys.exit(99) if ptrace(0x4206, int(sys.argv[1]), None, None) else os.write(1, b"!")  # PTRACE_SEIZE
signal.pause()
"""


def test_a_tracer_does_not_keep_it_at_the_end(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "tracer.py").write_text(TRACER)
    harm = """
    import subprocess, sys
    tracer = subprocess.Popen([sys.executable, "tracer.py", str(os.getpid())], stdout=subprocess.PIPE)
    if not tracer.stdout.read(1):
        raise SystemExit("it cannot be traced here")
    """
    with serving(harm) as driver:
        assert driver.ask().problem is None


def test_no_collected_process_is_signalled(
    pipe_init: PipeInit, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """Check that the init sends no signal to a pid that it has collected. Another process may have the pid by then."""
    (tmp_path / "index.py").write_text("def handler(event):\n    return event\n")
    trace = tmp_path / "trace"
    strace = [require_tool("strace"), "-qq", "-o", str(trace), "-e", "trace=kill,wait4"]
    command = [*strace, *pipe_init.command, "run", "index.handler", "--events", "-", "-w", "2", "-q"]
    done = subprocess.run(
        command, cwd=tmp_path, env=pipe_init.environment(), input=b"1\n2\n3\n", capture_output=True, check=False
    )
    assert done.stdout == b"1\n2\n3\n", done.stderr
    collected: set[str] = set()
    for line in trace.read_text().splitlines():
        if found := re.match(r"wait4\((\d+), .* = \d+$", line):
            collected.add(found[1])
        elif found := re.match(r"kill\(-?(\d+),", line):
            assert found[1] not in collected, line
    assert len(collected) == 3
