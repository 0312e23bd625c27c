"""Tests of a worker's start between fork and exec: open descriptors, signals, and death with the init."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipe_init.workers import launch
from pipe_runtime.wire.alive_pipe import arm
from pipe_testing import processes
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.supervision import few_descriptors, within

LIST_DESCRIPTORS = """
import os
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        print(name, os.readlink("/proc/self/fd/" + name).partition(":")[0], flush=True)
    except FileNotFoundError:
        pass
"""
BLOCK_ALL = "import os, signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals());"
IDENTITY = "import os; print(os.getpid(), os.getpgrp(), os.getsid(0))"


@contextmanager
def started(*command: str, environment: dict[str, str] | None = None) -> Iterator[launch.ProcessPipes]:
    """Yield the command as a worker. At the end its descriptors are closed and it is reaped."""
    process = launch.start(command, unmeasured() if environment is None else environment)
    try:
        with within():
            yield process
    finally:
        process.close()
        processes.wait_for_children()


def python(code: str) -> list[str]:
    """Return a command that runs `code` with only the standard library."""
    return [sys.executable, "-I", "-S", "-c", code]


def read_line(descriptor: int) -> bytes:
    """Return the next line, whatever pieces it arrives in, or the rest at the end of the stream."""
    line = b""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while not line.endswith(b"\n"):
        waiting.poll()
        piece = os.read(descriptor, 1)
        if not piece:
            break
        line += piece
    return line


def read_all(descriptor: int) -> str:
    """Return all text up to the end of the stream."""
    lines = []
    while line := read_line(descriptor):
        lines.append(line)
    return b"".join(lines).decode()


def status_of_child() -> dict[str, int]:
    """Return the signal sets SigBlk, SigIgn and SigCgt of proc(5) for a worker that is not Python."""
    with started("cat", "/proc/self/status") as process:
        text = read_all(process.answers)
    fields = dict(line.split(":\t", 1) for line in text.splitlines())
    return {name: int(fields[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")}


def bit(number: int) -> int:
    """Return the bit of a signal in the sets of proc(5)."""
    return 1 << (number - 1)


@contextmanager
def action(number: int, wanted: signal.Handlers) -> Iterator[None]:
    """Set this process's action for a signal while the block runs."""
    before = signal.signal(number, wanted)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_the_child_has_exactly_five_descriptors() -> None:
    with started(*python(LIST_DESCRIPTORS)) as process:
        found = [line.split() for line in read_all(process.answers).splitlines()]
    assert found == [[str(number), "pipe"] for number in range(5)]


def test_inherited_descriptors_are_closed_wherever_they_are() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader, writer = os.pipe()
    high = 500
    os.dup2(reader, high)  # inheritable, like a descriptor that a shell leaves open
    os.set_inheritable(writer, True)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))  # the limit is now below the descriptor `high`
        with started(*python(LIST_DESCRIPTORS)) as process:
            found = read_all(process.answers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in (reader, writer, high):
            os.close(descriptor)
    assert [int(line.split()[0]) for line in found.splitlines()] == [0, 1, 2, 3, 4]


def test_each_descriptor_is_what_its_name_says() -> None:
    code = """
import os
event = os.read(0, 100)
os.write(1, b"answer to " + event)
os.write(2, b"log")
os.write(4, b"dump")
"""
    with started(*python(code)) as process:
        os.write(process.requests, b"event\n")
        assert read_line(process.answers) == b"answer to event\n"
        assert read_line(process.log) == b"log"
        assert read_line(process.dump) == b"dump"


def test_our_ends_never_block_and_are_not_inherited() -> None:
    with started(*python("input()")) as process:
        for descriptor in (process.requests, process.answers, process.log, process.dump):
            assert not os.get_blocking(descriptor)
            assert not os.get_inheritable(descriptor)
        assert not os.get_inheritable(process.alive)


def test_the_childs_descriptors_block() -> None:
    with started(*python("import os; print([os.get_blocking(fd) for fd in range(5)])")) as process:
        assert read_all(process.answers) == f"{[True] * 5}\n"


def test_only_the_answers_of_our_runtime_do_not_block() -> None:
    # In the runtime's place runs a program that leaves its descriptors as they are, and stays.
    with started(*launch.runtime_command("tail"), "-f") as process:
        assert select.select([process._failure], [], [], HANGS)[0]  # the exec closes it
        flags = [Path(f"/proc/{process.pid}/fdinfo/{fd}").read_text().split()[3] for fd in range(5)]
        assert [bool(int(each, 8) & os.O_NONBLOCK) for each in flags] == [False, True, False, False, False]


def test_the_child_leads_a_session_of_its_own() -> None:
    with started(*python(IDENTITY)) as process:
        pids = read_line(process.answers).split()
    assert [int(pid) for pid in pids] == [process.pid] * 3
    assert process.pid != os.getpgrp()


def test_dispositions_are_the_defaults_again() -> None:
    with action(signal.SIGCHLD, signal.SIG_IGN):  # as a careless parent may leave it
        process = launch.start(["cat", "/proc/self/status"], unmeasured())
    text = read_all(process.answers)
    process.close()
    processes.wait_for_children()
    ignored = int(dict(line.split(":\t", 1) for line in text.splitlines())["SigIgn"], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        assert not ignored & bit(number), signal.Signals(number).name
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # this process ignores it: otherwise nothing was tested


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_the_parent_has_ignored_stays_ignored(number: int) -> None:
    with action(number, signal.SIG_IGN):
        assert status_of_child()["SigIgn"] & bit(number)
    with action(number, signal.SIG_DFL):
        assert not status_of_child()["SigIgn"] & bit(number)


def test_handlers_of_ours_do_not_leak() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        status = status_of_child()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not status["SigIgn"] & bit(signal.SIGTERM)
    assert not status["SigCgt"] & bit(signal.SIGTERM)


@pytest.mark.parametrize("mask", [set(), {signal.SIGUSR1, signal.SIGWINCH}])
def test_the_signal_mask_is_the_one_at_the_start(mask: set[signal.Signals]) -> None:
    before = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        blocked = status_of_child()["SigBlk"]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert blocked == sum(bit(number) for number in mask)


def test_a_program_that_is_missing() -> None:
    with started("/nonexistent/program") as process:
        _, status = os.waitpid(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 127
        error = process.exec_error()
    assert isinstance(error, FileNotFoundError)


def test_a_program_that_is_nowhere_on_the_path(tmp_path: Path) -> None:
    with started("no-such-program", environment={"PATH": str(tmp_path)}) as process:
        os.waitpid(process.pid, 0)
        assert isinstance(process.exec_error(), FileNotFoundError)


@pytest.mark.parametrize("by_path", [True, False])
def test_a_program_that_is_not_executable(tmp_path: Path, by_path: bool) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    with started(str(program) if by_path else "program", environment={"PATH": str(tmp_path)}) as process:
        os.waitpid(process.pid, 0)
        error = process.exec_error()
    assert isinstance(error, PermissionError)
    assert error.errno == errno.EACCES


def test_the_path_is_the_childs_own(tmp_path: Path) -> None:
    denied, right = tmp_path / "denied", tmp_path / "right"
    for folder, mode in ((denied, 0o644), (right, 0o755)):
        folder.mkdir()
        (folder / "program").write_text("#!/bin/sh\necho from the second folder\n")
        (folder / "program").chmod(mode)
    with started("program", environment={"PATH": f"{denied}:{right}"}) as process:
        assert read_line(process.answers) == b"from the second folder\n"
        assert process.exec_error() is None


def test_a_program_that_runs_has_no_exec_error() -> None:
    with started(*python("raise SystemExit(127)")) as process:
        os.waitpid(process.pid, 0)
        assert process.exec_error() is None


@pytest.mark.parametrize("spare", range(12))
def test_without_descriptors_nothing_is_started_and_nothing_leaks(spare: int) -> None:
    with few_descriptors(spare), pytest.raises(OSError) as raised:
        launch.start(python(""), {})
    assert raised.value.errno == errno.EMFILE


@pytest.mark.parametrize(
    "hang",
    ["time.sleep(1000)", "sum(__import__('itertools').repeat(1))", "os.close(3); time.sleep(1000)"],
    ids=["in the kernel", "in C code with the GIL", "without its end of the pipe"],
)
def test_closing_kills_the_whole_group_whatever_it_blocks(hang: str) -> None:
    code = BLOCK_ALL + f"pid = os.fork(); os.write(1, b'%d\\n' % (pid or os.getpid())); {hang}"
    with started(*python(code)) as process:
        said = {int(read_line(process.answers)) for _ in range(2)}  # each of both writes the child's pid
        process.close()
        ended = processes.wait_for_children()
    assert ended == dict.fromkeys({process.pid, *said}, -signal.SIGKILL)


@pytest.mark.parametrize("closes", ["", "os.close(3);"], ids=["untouched", "closed its end"])
def test_a_worker_does_not_outlive_a_killed_init(closes: str) -> None:
    worker = BLOCK_ALL + closes + "os.write(1, b'up\\n'); time.sleep(1000)"
    init = f"""
import os, select, sys, time
from pipe_init.workers import launch
from pipe_runtime.wire.alive_pipe import arm
process = launch.start({python(worker)!r}, {{}})
waiting = select.poll()
waiting.register(process.answers, select.POLLIN)
waiting.poll()
os.write(1, b"%d\\n" % process.pid)
time.sleep(1000)
"""
    with within(), subprocess.Popen([sys.executable, "-c", init], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.kill()
        run.wait()
    assert processes.wait_for_children() == {pid: -signal.SIGKILL}


def test_a_pipe_that_closed_before_it_was_armed_ends_the_child() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        arm(reader)
        os._exit(0)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 127


def test_who_leads_no_group_yet_is_killed_alone_even_if_it_is_stopped() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        arm(reader, alone=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.close(reader)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_a_child_that_is_dismissed_at_once_ends_wherever_it_was() -> None:
    for _ in range(20):
        with within():
            launch.start(python("import time; time.sleep(1000)"), {}).dismiss()
    assert processes.children() == set()


def test_closing_twice_is_harmless() -> None:
    with started(*python("input()")) as process:
        process.close_requests()
        process.close()
        process.close()
        process.dismiss()  # it is closed: its pid may have been reaped elsewhere


def test_function_environment() -> None:
    given = {
        "PATH": "/bin",
        "FC_REGION": "here",
        "FC_FUNC_CODE_PATH": "/code",
        "FC_SECRET": "1",
        "_FC_SECRET": "2",
        "FCX": "3",
        "PIPE": "FC_",
    }
    assert launch.function_environment(given) == {
        "PATH": "/bin",
        "FC_REGION": "here",
        "FC_FUNC_CODE_PATH": "/code",
        "FCX": "3",
        "PIPE": "FC_",
    }


def test_the_childs_environment_is_the_one_given() -> None:
    code = "import os; print(sorted(name for name in os.environ if name != 'LC_CTYPE'))"
    with started(*python(code), environment={"ONE": "1", "TWO": "2"}) as process:
        assert read_line(process.answers) == b"['ONE', 'TWO']\n"


def test_the_runtime_command_needs_nothing_installed(tmp_path: Path) -> None:
    command = launch.runtime_command(sys.executable)
    with started(command[0], *command[1:], environment={"PYTHONPATH": str(tmp_path)}) as process:
        process.close_requests()
        assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 0
        assert read_all(process.log) == ""
