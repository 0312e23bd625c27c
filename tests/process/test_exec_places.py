"""Tests of `pipe-init exec` as PID 1 and not, with /proc and without. It keeps the same promises everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from pipe_init.exec.forwarding import FORWARDABLE, JOB_CONTROL
from pipe_testing import processes, tools
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.plain import python, running

PLACES = ["as PID 1", "as PID 1, no /proc", "as anybody", "as anybody, no /proc"]


@cache
def refusal(*command: str) -> str:
    """Return why `true` cannot be run with this prefix, or "" if it can."""
    done = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=HANGS)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace") or "no reason given"


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, require_tool: Callable[[str], str]) -> list[str]:
    """Return a command prefix that runs a command in each of these places."""
    name: str = request.param
    command = [require_tool("unshare"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if name.startswith("as PID 1"):
        command += ["--pid", "--fork", "--kill-child"]
    if name.endswith("no /proc"):
        command += ["/bin/sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    elif "--pid" in command:
        command += ["--mount-proc"]
    why = refusal(*command)
    tools.require(not why, f"needs namespaces: {why}")
    return command


UNMEASURED: dict[str, str | None] = {name: None for name in os.environ if name.startswith("COVERAGE_")}
"""Coverage slows each start, so it is measured in one place only. That place is unlike those of the other tests."""


def run(place: Sequence[str], *arguments: str) -> tuple[int, list[str]]:
    """Run `exec ARGUMENTS` in a place. Return the exit code and the program's lines."""
    with running(*arguments, prefix=place, env=None if "--mount-proc" in place else UNMEASURED) as init:
        lines = init.rest()
        code = init.exit_code()
        assert init.stderr() == ""
    processes.wait_for_children()  # unshare may end before its namespace is taken down
    return code, lines


def test_the_places_are_what_they_are_called(place: list[str], request: pytest.FixtureRequest) -> None:
    code = "import os; print(os.getppid() == 1, os.path.exists('/proc/self'))"
    name = request.node.callspec.params["place"]
    assert run(place, "--", *python(code)) == (0, [f"{name.startswith('as PID 1')} {not name.endswith('no /proc')}"])


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)])
def test_exit_codes(place: list[str], script: str, code: int) -> None:
    assert run(place, "--", "sh", "-c", script) == (code, [])


ALL_CODES = """
import ctypes, os, sys
from pipe_init.exec.plain_init import Options, run
from pipe_init.kernel.signals import block_all

CLONE_NEWPID = 0x20000000
codes = []
for code in range(256):
    pid = os.fork()
    if pid == 0:  # a process can only once make a namespace for its children
        if ctypes.CDLL(None).unshare(CLONE_NEWPID):
            os._exit(99)
        init = os.fork()
        if init == 0:
            assert os.getpid() == 1
            os._exit(run(Options(("/bin/sh", "-c", f"exit {code}")), block_all()))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(codes)
"""


@pytest.mark.heavy
def test_all_256_exit_codes_as_pid_1(require_tool: Callable[[str], str]) -> None:
    prefix = [] if os.geteuid() == 0 else [require_tool("unshare"), "--map-root-user"]
    why = refusal(*prefix, require_tool("unshare"), "--pid", "--fork")
    tools.require(not why, f"needs PID namespaces: {why}")
    command = [*prefix, sys.executable, "-c", ALL_CODES]
    done = subprocess.run(command, capture_output=True, env=unmeasured(), timeout=HANGS, check=False)
    assert (done.stdout.decode(), done.stderr) == (f"{list(range(256))}\n", b"")


SIGNALS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in map(int, sys.argv[1:]):
    os.kill(os.getppid(), number)
    got = signal.sigtimedwait(signal.valid_signals() - {signal.SIGCHLD}, 30)
    assert got is not None and got.si_signo == number, (number, got)
print("all")
"""


@pytest.mark.parametrize("options", [(), ("-g",), ("--setsid",), ("-g", "--setsid")], ids=" ".join)
def test_every_signal(place: list[str], options: Sequence[str]) -> None:
    numbers = [str(int(number)) for number in sorted(FORWARDABLE - JOB_CONTROL)]
    assert run(place, *options, "--", *python(SIGNALS, *numbers)) == (0, ["all"])


STOPPED = """
import os, signal
init, program = os.getppid(), os.getpid()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
if os.fork() == 0:
    os.setsid()  # so that it is not stopped with the group
    os.kill(init, signal.SIGTSTP)
    while open(f"/proc/{program}/stat").read().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()
    os.write(1, b"stopped\\n")
    os.kill(init, signal.SIGCONT)
    os._exit(0)
signal.sigwait({signal.SIGCONT})
os.wait()
os.write(1, b"woken\\n")
"""


@pytest.mark.parametrize("option", ["--setsid", "--no-setsid"])
@pytest.mark.parametrize("place", ["as PID 1"], indirect=True)
def test_pid_1_stops_and_continues_the_program(place: list[str], option: str) -> None:
    assert run(place, option, "--", *python(STOPPED)) == (0, ["stopped", "woken"])


ORPHANS = """
import os, sys
def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
reader, writer = os.pipe()
middle = os.fork()
if middle == 0:
    for _ in range(1000):
        if os.fork() == 0:
            os.write(writer, b"%9d" % os.getpid())
            os._exit(0)
    os._exit(0)
os.waitpid(middle, 0)
pids = [int(os.read(reader, 9)) for _ in range(1000)]
while any(map(exists, pids)):
    os.sched_yield()
print(len(set(pids)))
"""


def test_a_thousand_orphans(place: list[str]) -> None:
    assert run(place, "--", *python(ORPHANS)) == (0, ["1000"])


LEAVING = """
import os, signal, sys
escapes, reader_writer = sys.argv[1] == "escapes", os.pipe()
if os.fork() == 0:
    if escapes:
        os.setsid()
        if os.fork():
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.write(reader_writer[1], b"!")
    signal.sigwait({signal.SIGTERM})
    os.write(1, b"asked\\n")
    while signal.sigwait({signal.SIGTERM}):
        os.write(1, b"asked again\\n")
os.read(reader_writer[0], 1)
"""


@pytest.mark.parametrize("how", ["stays", "escapes"])
def test_what_is_left_is_asked_once_then_killed(place: list[str], how: str) -> None:
    assert run(place, "-s", "--grace", "0.2", "--", *python(LEAVING, how)) == (0, ["asked"])


@pytest.mark.parametrize("place", ["as PID 1", "as anybody"], indirect=True)
def test_it_lets_go_of_its_folder_before_the_program_starts(place: list[str]) -> None:
    program = ["/bin/sh", "-c", "readlink /proc/$PPID/cwd && pwd"]
    assert run(place, "--", *program) == (0, ["/", os.getcwd()])


@pytest.mark.parametrize("place", ["as PID 1", "as anybody"], indirect=True)
def test_a_program_is_looked_for_from_the_folder_of_the_start(
    place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "here").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert run(place, "./here") == (0, [str(tmp_path)])


LEFT = """
import os, signal, sys
reader, writer = os.pipe()
if os.fork() == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    init = os.open(f"/proc/{sys.argv[1]}", os.O_PATH)  # it is gone with the init
    os.write(writer, b"!")
    while True:
        try:
            os.stat("stat", dir_fd=init)
        except OSError:
            break
        os.sched_yield()
    os.write(1, b"left, asked: %r\\n" % (signal.SIGTERM in signal.sigpending()))
    os._exit(0)
os.read(reader, 1)
os._exit(4)
"""


@pytest.mark.parametrize("place", ["as anybody"], indirect=True)
@pytest.mark.parametrize("way", [("--leave-rest",), ("--leave-rest", "--grace=60")], ids=["short way", "long way"])
def test_what_is_left_may_be_left_alone(place: list[str], way: tuple[str, ...]) -> None:
    code = LEFT.replace("sys.argv[1]", "os.getppid()")
    assert run(place, *way, "--", *python(code)) == (4, ["left, asked: False"])
    assert processes.end_children() == []


@pytest.mark.parametrize("place", ["as PID 1", "as PID 1, no /proc"], indirect=True)
def test_pid_1_that_leaves_the_rest_alone_ends_at_once(place: list[str]) -> None:
    code = "import os, signal\nif os.fork() == 0:\n    signal.pause()\nos._exit(4)\n"
    assert run(place, "--leave-rest", "--grace", "3600", "--", *python(code)) == (4, [])


@pytest.mark.parametrize("place", ["as PID 1", "as anybody"], indirect=True)
def test_mask_and_dispositions(place: list[str]) -> None:
    lines = run(place, "--", "cat", "/proc/self/status")[1]
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert [int(masks[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]
