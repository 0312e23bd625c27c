"""Tests of `pipe-init exec` with real programs: exit codes, signals, orphans, leftovers and inheritance."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest

from pipe_init.exec.forwarding import FORWARDABLE, JOB_CONTROL
from pipe_testing import processes
from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.plain import Running, python, running

LEAN = """
import ctypes, os, resource, signal, sys  # ctypes: or each of them would load it
from pipe_init.exec.plain_init import Options, run
from pipe_init.kernel.signals import Inherited, block_all

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def code_of(*command, before=lambda: None):
    pid = os.fork()
    if pid == 0:
        held = block_all()
        before()
        os._exit(run(Options(command), held))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
"""Code with which one interpreter plays a plain init many times, without a start of the interpreter for each."""


def lean(code: str) -> str:
    """Run this code after LEAN and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", LEAN + code], capture_output=True, env=unmeasured(), timeout=HANGS, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


class TestExitCodes:
    @pytest.mark.heavy
    def test_all_256(self) -> None:
        printed = lean("print([code_of('/bin/sh', '-c', f'exit {code}') for code in range(256)])")
        assert printed == f"{list(range(256))}\n"

    def test_every_signal_that_ends(self) -> None:
        harmless = {*JOB_CONTROL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
        deadly = sorted(signal.valid_signals() - harmless)
        printed = lean(f"print([code_of('/bin/sh', '-c', f'kill -{{n}} $$') for n in {list(map(int, deadly))}])")
        assert printed == f"{[128 + number for number in deadly]}\n"

    @pytest.mark.parametrize("code", [0, 1, 255])
    def test_of_the_command(self, pipe_init: PipeInit, code: int) -> None:
        done = pipe_init("exec", "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
        assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")

    def test_of_the_long_way(self, pipe_init: PipeInit) -> None:
        done = pipe_init("exec", "--grace=1", "--", "sh", "-c", "cat; kill -9 $$", stdin=b"in")
        assert (done.returncode, done.stdout, done.stderr) == (137, b"in", b"")

    @pytest.mark.parametrize(
        ("command", "code", "why"),
        [
            ("no-such-program", 127, "No such file or directory"),
            ("/no/such/program", 127, "No such file or directory"),
            ("", 127, "No such file or directory"),
            ("/", 126, "Permission denied"),
            ("./plain", 126, "Permission denied"),
            ("plain", 126, "Permission denied"),
            ("./plain/below", 126, "Not a directory"),
        ],
    )
    def test_what_cannot_be_executed(
        self, pipe_init: PipeInit, tmp_path: Path, command: str, code: int, why: str
    ) -> None:
        (tmp_path / "plain").touch()
        done = pipe_init("exec", "--", command, cwd=tmp_path, env={"PATH": f"/nowhere:{tmp_path}"})
        assert done.returncode == code
        assert done.stderr.decode() == f"pipe-init: cannot execute '{command}': {why}\n"

    def test_a_script_without_a_first_line_is_the_shells(self, pipe_init: PipeInit, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text('echo "$@"; exit 3')
        script.chmod(0o755)
        for name in ("script", str(script)):
            done = pipe_init("exec", name, "-a", "b c", env={"PATH": f"{tmp_path}:/bin"})
            assert (done.returncode, done.stdout) == (3, b"-a b c\n")

    def test_no_more_processes(self, pipe_init: PipeInit) -> None:
        printed = lean(
            "def no_more():\n"
            "    os.setresuid(64124, 64124, 64124) if os.getuid() == 0 else None\n"
            "    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
            "    os.dup2(1, 2)\n"
            "print(code_of('/bin/true', before=no_more))"
        )
        assert printed == "pipe-init: cannot start a process: Resource temporarily unavailable\n126\n"


LISTENER = """
import os, signal, sys

signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
name = "child"
reader, writer = os.pipe()
if os.fork() == 0:
    name = "member"
    os.write(writer, b"!")
else:
    os.read(reader, 1)
    os.write(1, b"ready %d\\n" % os.getpid())
while True:
    number = signal.sigwait(signal.valid_signals() - {signal.SIGCHLD})
    os.write(1, f"{name} {int(number)}\\n".encode())
    if number == (signal.SIGRTMAX if name == "child" else signal.SIGTERM):
        os._exit(5)
"""
"""Reports the signals that it and another member of its group receive. RTMAX ends the member, TERM the program."""


@contextmanager
def listener(*options: str) -> Iterator[Running]:
    """Yield a running LISTENER that is listening."""
    with running(*options, "--", *python(LISTENER)) as init:
        assert init.line().startswith("ready")
        yield init


PLAIN = sorted(FORWARDABLE - JOB_CONTROL - {signal.SIGCONT, signal.SIGRTMAX})


class TestForwarding:
    @pytest.mark.parametrize("session", ["--setsid", "--no-setsid"])
    def test_every_signal_to_the_child(self, session: str) -> None:
        with listener(session) as init:
            for number in PLAIN:
                init.send(number)
                assert init.line() == f"child {int(number)}"
            init.send(signal.SIGRTMAX)
            # The other member has received nothing before its end.
            assert init.line() == f"child {int(signal.SIGRTMAX)}"
            assert init.line() == f"member {int(signal.SIGTERM)}"
            assert init.exit_code() == 5

    @pytest.mark.parametrize("session", ["--setsid", "--no-setsid"])
    def test_every_signal_to_the_group(self, session: str) -> None:
        with listener("-g", session) as init:
            for number in sorted({*PLAIN, signal.SIGCONT} - {signal.SIGTERM}):
                init.send(number)
                assert {init.line(), init.line()} == {f"child {int(number)}", f"member {int(number)}"}
            init.send(signal.SIGTERM)
            assert {init.line(), init.line()} == {f"child {int(signal.SIGTERM)}", f"member {int(signal.SIGTERM)}"}
            init.send(signal.SIGRTMAX)
            assert init.line() == f"child {int(signal.SIGRTMAX)}"
            assert init.exit_code() == 5

    def test_real_time_signals_keep_their_order_and_number(self) -> None:
        with listener() as init:
            for number in (40, 41, 40, 40):
                init.send(number)
            # The child takes the signal with the lowest number first, in any order of arrival.
            assert sorted(init.line() for _ in range(4)) == ["child 40"] * 3 + ["child 41"]
            init.send(signal.SIGRTMAX)
            assert init.exit_code() == 5

    @pytest.mark.parametrize(
        "options", [("--rewrite", "15:3", "--rewrite", "USR1:0"), ("--rewrite=TERM:QUIT", "--rewrite=10:0")]
    )
    def test_rewriting(self, options: tuple[str, ...]) -> None:
        with listener(*options) as init:
            init.send(signal.SIGUSR1)
            init.send(signal.SIGTERM)
            assert init.line() == f"child {int(signal.SIGQUIT)}"
            init.send(signal.SIGRTMAX)
            assert init.line() == f"child {int(signal.SIGRTMAX)}"
            assert init.exit_code() == 5

    def test_a_signal_before_the_program_is_started_is_for_the_program(self) -> None:
        assert lean("print(code_of('/bin/sleep', '60', before=lambda: os.kill(os.getpid(), 15)))") == "143\n"

    def test_a_signal_that_was_ignored_is_passed_on(self) -> None:
        def ignore() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        code = (
            "import signal\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\n"
            "print('ready', flush=True)\n"
            "print(int(signal.sigwait({signal.SIGHUP})))\n"
        )
        with running("--", *python(code), before=ignore) as init:
            init.line()
            init.send(signal.SIGHUP)
            assert init.rest() == ["1"]

    def test_what_is_done_is_told(self) -> None:
        with listener("-v", "-g", "--rewrite", "USR1:0") as init:
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMAX):
                init.send(number)
                if number != signal.SIGUSR1:
                    init.line(), init.line()
            told = init.stderr()
        assert "in a process group of its own" in told
        assert "SIGUSR1 is not passed on" in told
        assert "SIGUSR2: sends SIGUSR2 to the group of " in told
        assert "ended: exit status 5" in told
        assert "an orphan, ended" in told


class TestJobControl:
    @pytest.mark.parametrize("session", ["--setsid", "--no-setsid"])
    @pytest.mark.parametrize("number", sorted(JOB_CONTROL))
    def test_stopped_and_continued(self, session: str, number: int) -> None:
        with listener(session) as init:
            init.send(number)
            assert init.stopped_by() == signal.SIGSTOP
            if session == "--no-setsid":  # the whole group gets the signal: both have blocked it and report it
                assert {init.line(), init.line()} == {f"child {int(number)}", f"member {int(number)}"}
            init.send(signal.SIGCONT)
            woken = {f"child {int(signal.SIGCONT)}", f"member {int(signal.SIGCONT)}"}
            assert {init.line(), init.line()} == woken
            init.send(signal.SIGRTMAX)
            assert init.exit_code() == 5

    @pytest.mark.parametrize("session", ["--setsid", "--no-setsid"])
    def test_the_program_is_really_stopped(self, session: str) -> None:
        code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
        with running(session, "--", *python(code)) as init:
            child = int(init.line())
            init.send(signal.SIGTSTP)
            init.stopped_by()
            wait_for_state(child, "T")
            init.send(signal.SIGCONT)
            wait_for_state(child, "S")
            init.send(signal.SIGTERM)
            assert init.exit_code() == 143

    def test_a_program_that_stops_without_a_terminal_does_not_stop_us(self) -> None:
        code = "import os, signal; print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGSTOP); os._exit(4)"
        with running("--", *python(code)) as init:
            child = int(init.line())
            wait_for_state(child, "T")
            init.send(signal.SIGCONT)
            assert init.exit_code() == 4


def wait_for_state(pid: int, state: str) -> None:
    """Wait until proc(5) shows this state for the process."""
    while processes.describe(pid).split(",")[1].split(":")[0] != f" state {state}":
        os.sched_yield()


ORPHANS = """
import os, sys

def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

count = int(sys.argv[1])
reader, writer = os.pipe()
middle = os.fork()
if middle == 0:
    for _ in range(count):
        if os.fork() == 0:
            os.write(writer, b"%9d" % os.getpid())
            os._exit(0)
    os._exit(0)
os.waitpid(middle, 0)
pids = [int(os.read(reader, 9)) for _ in range(count)]
while any(map(exists, pids)):
    os.sched_yield()
os.write(1, b"%d\\n" % len(set(pids)))
"""


class TestRest:
    def test_a_thousand_orphans(self, pipe_init: PipeInit) -> None:
        done = pipe_init("exec", "--", *python(ORPHANS, "1000"))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"1000\n", b"")

    def test_what_is_left_of_the_group_is_asked_to_end(self) -> None:
        with listener("--grace", "3600") as init:
            init.send(signal.SIGRTMAX)
            assert init.rest() == [f"child {int(signal.SIGRTMAX)}", f"member {int(signal.SIGTERM)}"]
            assert init.exit_code() == 5

    def test_a_stopped_member_hears_it(self) -> None:
        code = (
            "import os, signal\n"
            "pid = os.fork()\n"
            "if pid == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    signal.pause()\n"
            "os.waitpid(pid, os.WUNTRACED)\n"
        )
        with running("--grace", "3600", "--", *python(code)) as init:
            assert init.exit_code() == 0

    STUBBORN = (
        "import os, signal\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid() if ESCAPES else None\n"
        "    if ESCAPES and os.fork(): os._exit(0)\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGSEGV})\n"
        "    os.write(writer, b'!')\n"
        "    asked = signal.sigwait({signal.SIGTERM}) if LISTENS else 0\n"
        "    os.write(1, b'asked\\n') if asked else None\n"
        "    signal.pause()\n"
        "os.read(reader, 1)\n"
        "os.write(1, b'left\\n')\n"
    )

    def stubborn(self, escapes: bool = False, listens: bool = False) -> list[str]:
        return python(self.STUBBORN.replace("ESCAPES", str(escapes)).replace("LISTENS", str(listens)))

    def test_what_does_not_end_is_killed(self) -> None:
        with running("--grace", "0.1", "-v", "--", *self.stubborn()) as init:
            assert init.exit_code() == 0
            assert "kills what is left" in init.stderr()
        assert processes.children() == set()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
    def test_a_signal_skips_the_grace(self, number: int) -> None:
        with running("--grace", "3600", "--", *self.stubborn(listens=True)) as init:
            assert (init.line(), init.line()) == ("left", "asked")
            init.send(signal.SIGUSR1)
            init.send(number)
            assert init.exit_code() == 0

    def test_a_member_whose_parent_left_the_group_is_killed_too(self) -> None:
        code = (
            "import os, signal\n"
            "reader, writer = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    if os.fork() == 0:\n"
            "        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
            "        print(os.getpid(), flush=True)\n"
            "        os.write(writer, b'!')\n"
            "        signal.pause()\n"
            "    os.setsid()\n"
            "    os.write(writer, b'!')\n"
            "    signal.pause()\n"
            "while len(os.read(reader, 1) + os.read(reader, 1)) < 2: pass\n"
        )
        with running("--grace", "0.1", "--", *python(code)) as init:
            member = int(init.line())
            assert init.exit_code() == 0
        left = processes.end_children()
        assert len([line for line in left if "zombie" not in line]) == 1, (
            "a process that has left the group is left alone"
        )
        assert not any(f"pid {member}, state" in line for line in left)

    def test_a_zombie_of_another_process_is_not_waited_for(self) -> None:
        """Check that a zombie is not waited for if its parent has left the group and does not reap it."""
        code = (
            "import os, signal\n"
            "reader, writer = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    if os.fork() == 0:\n"
            "        os._exit(0)\n"
            "    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
            "    os.setsid()\n"
            "    os.write(writer, b'!')\n"
            "    signal.pause()\n"
            "os.read(reader, 1)\n"
        )
        with running("--grace", "3600", "--", *python(code)) as init:
            assert init.exit_code() == 0
        assert len(processes.end_children()) == 2

    def test_a_long_chain_is_killed_to_its_end(self) -> None:
        """Check that a whole chain is killed. Each process becomes the init's child only after its parent's end."""
        code = (
            "import os, signal\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
            "reader, writer = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    for _ in range(120):\n"
            "        os.setsid()\n"
            "        if os.fork():\n"
            "            signal.pause()\n"
            "    os.write(writer, b'!')\n"
            "    signal.pause()\n"
            "os.read(reader, 1)\n"
        )
        with running("-s", "--grace", "0.1", "--", *python(code)) as init:
            assert init.exit_code() == 0
        assert processes.children() == set()

    def test_what_left_the_group_is_left_alone(self) -> None:
        with running("--grace", "3600", "--", *self.stubborn(escapes=True)) as init:
            assert init.exit_code() == 0
        assert len(processes.end_children()) == 1

    def test_a_subreaper_ends_it_too(self) -> None:
        with running("-s", "--grace", "0.1", "--", *self.stubborn(escapes=True, listens=True)) as init:
            assert sorted(init.rest()) == ["asked", "left"]
            assert init.exit_code() == 0
        assert processes.children() == set()

    def test_children_that_were_there_before_are_not_ended(self) -> None:
        code = "import os, signal, sys; os.fork() or (os.close(2), signal.pause()); os.execv(sys.argv[1], sys.argv[1:])"
        with running("-s", "--", "sh", "-c", "exit 6", prefix=python(code)) as init:
            assert init.exit_code() == 6
            assert "there were children before" in init.stderr()
        assert len(processes.end_children()) == 1


def numbers(mask: str) -> set[int]:
    """Return the signals in a mask of proc(5)."""
    return {bit + 1 for bit in range(64) if int(mask, 16) >> bit & 1}


def inherited(init: Running) -> tuple[set[int], set[int]]:
    """Return the blocked and the ignored signals of a program that prints its status."""
    masks = dict(line.split(":\t") for line in init.rest() if line.startswith("Sig"))
    return numbers(masks["SigBlk"]), numbers(masks["SigIgn"])


class TestInheritance:
    def test_nothing_blocked_and_nothing_ignored(self) -> None:
        with running("--", "cat", "/proc/self/status") as init:
            assert inherited(init) == (set(), set())

    @pytest.mark.parametrize("way", [(), ("--grace=2",)], ids=["short way", "long way"])
    def test_mask_and_dispositions_are_those_of_the_start(self, way: tuple[str, ...]) -> None:
        blocked = {signal.SIGTERM, signal.SIGUSR1, signal.SIGSEGV, signal.SIGCHLD, signal.SIGRTMIN}
        ignored = {signal.SIGHUP, signal.SIGINT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGRTMAX}

        def prepare() -> None:
            for number in {*ignored, signal.SIGCHLD, signal.SIGPIPE}:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

        with running(*way, "--", "cat", "/proc/self/status", before=prepare) as init:
            assert inherited(init) == (blocked, ignored)
            assert init.exit_code() == 0

    def test_every_disposition_but_three(self) -> None:
        def prepare() -> None:
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)

        with running("--", "cat", "/proc/self/status", before=prepare) as init:
            gone = {signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}
            assert inherited(init)[1] == signal.valid_signals() - gone

    @pytest.mark.parametrize("closed", ["".join(some) for count in range(4) for some in combinations("012", count)])
    def test_descriptors_are_those_of_the_start(self, closed: str) -> None:
        reader, writer = os.pipe()
        code = (
            "import os, sys\n"
            "def link(n):\n"
            "    try: return os.readlink(f'/proc/self/fd/{n}')\n"
            "    except OSError: return ''\n"
            "found = ' '.join(f'{n}={link(n)}' for n in sorted(map(int, os.listdir('/proc/self/fd'))) if link(n))\n"
            f"os.write({writer}, found.encode())\n"
        )
        before = python(
            "import os, sys; [os.close(int(n)) for n in sys.argv[1]]; os.execv(sys.argv[2], sys.argv[2:])", closed
        )
        with running("--", *python(code), prefix=before, pass_fds=[writer]) as init:
            os.close(writer)
            with open(reader) as told:
                found = dict(pair.split("=") for pair in told.read().split())
            assert init.exit_code() == 0
        assert set(found) == {*"012", str(writer)} - set(closed)
        assert found.get("0", "/dev/null") == "/dev/null"
        assert found.get("1", "pipe:").startswith("pipe:")

    def test_who_reads_from_the_program_sees_it_close(self) -> None:
        code = "import os, signal; os.close(1); os.close(0); signal.pause()"
        with running("--", *python(code)) as init:
            assert init.rest() == []
            init.send(signal.SIGTERM)
            assert init.exit_code() == 143

    @pytest.mark.parametrize("locale", [{}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "POSIX"}, {"LANG": "C"}, {"LC_ALL": "C"}])
    def test_the_environment_is_that_of_the_start(self, locale: dict[str, str]) -> None:
        start = {"PATH": os.environ["PATH"], "A": "\udcff", "EMPTY": "", **locale}
        changes = {**dict.fromkeys([*os.environ, "PIPE_INIT_START_TIMEOUT", "PIPE_INIT_SPIN"]), **start}
        code = "import sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read().replace(b'\\0', b'\\n'))"
        with running("--", *python(code), env=changes) as init:
            assert init.process.stdout is not None
            lines = init.process.stdout.read().splitlines()
        assert sorted(lines) == sorted(os.fsencode(f"{name}={value}") for name, value in start.items())

    def test_umask_folder_and_arguments(self, tmp_path: Path, pipe_init: PipeInit) -> None:
        code = "import os, sys; print(os.umask(0), os.getcwd(), [os.fsencode(text) for text in sys.argv[1:]])"
        done = pipe_init("exec", "--", *python(code, "", "--", "-v", "a b", "\udcff"), cwd=tmp_path)
        mask = os.umask(0)
        os.umask(mask)
        assert done.stdout.decode() == f"{mask} {tmp_path} {[b'', b'--', b'-v', b'a b', bytes([255])]}\n"

    @pytest.mark.parametrize(("option", "own"), [("--no-setsid", False), ("--setsid", True)])
    def test_session_and_group(self, option: str, own: bool) -> None:
        code = "import os; print(os.getpid(), os.getpgid(0), os.getsid(0), flush=True)"
        with running(option, "--", *python(code)) as init:
            pid, group, session = map(int, init.line().split())
            assert group == pid
            assert session == (pid if own else init.pid)


class TestParentsDeath:
    def test_the_signal_is_forwarded(self) -> None:
        own = PipeInit()
        reader, writer = os.pipe()
        gate, key = os.pipe()
        parent = os.fork()
        if parent == 0:
            try:
                pid = os.fork()
                if pid == 0:
                    os.dup2(writer, 1)
                    os.execve(
                        own.command[0],
                        [*own.command, "exec", "--pdeathsig", "USR2", "--", *python(LISTENER)],
                        own.environment(),
                    )
                os.close(key)
                os.read(gate, 1)
            finally:
                os._exit(0)
        os.close(writer)
        os.close(gate)
        with open(reader) as lines:
            assert lines.readline().startswith("ready")
            os.close(key)
            os.waitpid(parent, 0)
            assert lines.readline() == f"child {int(signal.SIGUSR2)}\n"
            (init,) = processes.children()  # its parent has ended, so it is now a child of this process
            os.kill(init, signal.SIGRTMAX)
            assert processes.wait_for_children() == {init: 5}

    def test_a_parent_that_was_dead_before(self) -> None:
        printed = lean(
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    held = Inherited(block_all().mask, parent=2**22)\n"
            "    os._exit(run(Options(('/bin/sleep', '60'), parent_death=15), held))\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        )
        assert printed == "143\n"


SYSCALL = {"x86_64": "128", "aarch64": "137"}


@pytest.mark.skipif(platform.machine() not in SYSCALL, reason="knows sigtimedwait(2)'s number on x86-64 and arm64")
def test_idle_means_asleep() -> None:
    with listener() as init:
        init.send(signal.SIGUSR1)
        init.line()
        wait_for_state(init.pid, "S")
        number, *arguments = Path(f"/proc/{init.pid}/syscall").read_text().split()
        assert number == SYSCALL[platform.machine()]
        assert arguments[2] == "0x0"  # no time limit
        init.send(signal.SIGRTMAX)
        assert init.exit_code() == 5
