"""Tests of `pipe-init exec` on a terminal: the foreground group, keys that interrupt and stop, and kinds of shells.

Terminal, processes and keys are real. The shells, with job control and without, are a few lines of Python.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from pipe_testing import processes, tools
from pipe_testing.command import PipeInit
from pipe_testing.patience import HANGS
from pipe_testing.plain import python

SHELL = """
import os, signal, sys
REPORT = int(sys.argv[1])
INIT = sys.argv[2:]
signal.signal(signal.SIGTTOU, signal.SIG_IGN)

def say(*words):
    os.write(REPORT, (" ".join(map(str, words)) + "\\n").encode())

def start(own_group=False, in_front=True):
    pid = os.fork()
    if pid == 0:
        if own_group:
            os.setpgid(0, 0)
            if in_front:
                os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(INIT[0], INIT)
    return pid

def wait(pid, options=0):
    status = os.waitpid(pid, options)[1]
    if os.WIFSTOPPED(status):
        return "stopped by " + signal.Signals(os.WSTOPSIG(status)).name
    return os.waitstatus_to_exitcode(status)

def bring_to_front(pid):
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)

def is_in_front():
    return os.tcgetpgrp(0) == os.getpgrp()

def restore():
    os.tcsetpgrp(0, os.getpgrp())
"""

PROGRAM = """
import os, signal, sys
REPORT = int(sys.argv[1])

def say(*words):
    os.write(REPORT, (" ".join(map(str, words)) + "\\n").encode())

def is_in_front():
    terminal = os.open("/dev/tty", os.O_RDWR)
    return os.tcgetpgrp(terminal) == os.getpgrp()

signal.signal(signal.SIGINT, signal.SIG_DFL)  # the kernel's: Python could be just about to sleep
"""

WAITING = (
    PROGRAM
    + """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT, signal.SIGHUP})
say("program in front:", is_in_front())
while signal.sigwait({signal.SIGCONT, signal.SIGHUP}) == signal.SIGCONT:
    say("woken, in front:", is_in_front())
say("hung up")
os._exit(8)
"""
)
ENDING = PROGRAM + "say('program in front:', is_in_front())\nsys.exit(3)\n"
READING = PROGRAM + "say('program read:', input())\n"


class Screen:
    """The user's side of a terminal, and the reports of the processes on it."""

    def __init__(self, pid: int, keyboard: int, report: int) -> None:
        self.pid = pid
        self._keyboard = keyboard
        self._report = report
        self._text = b""

    def type(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._keyboard, keys)

    def line(self) -> str:
        """Return the next report. What the screen shows meanwhile is thrown away."""
        while b"\n" not in self._text:
            ready = select.select([self._report, self._keyboard], [], [], HANGS)[0]
            assert ready, f"nothing is reported; so far {self._text!r}"
            if self._keyboard in ready:
                self._look()
            if self._report in ready:
                data = os.read(self._report, 4096)
                assert data, f"no process is left to report; so far {self._text!r}"
                self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def exit_code(self) -> int:
        """Wait for the end of the terminal's first process, and return its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        os.close(self._keyboard)
        self._keyboard = os.open(os.devnull, os.O_WRONLY)

    def _look(self) -> None:
        try:
            os.read(self._keyboard, 65536)
        except OSError:
            return  # no process has the other side open just now


@contextmanager
def screen(
    command: Callable[[int], Sequence[str]], changes: Mapping[str, str | None] | None = None
) -> Iterator[Screen]:
    """Yield a terminal with a command as its first process and session leader.

    Args:
        command: A function that takes the descriptor for reports and returns the command.
        changes: Changes to the environment.
    """
    environment = PipeInit().environment(changes)
    report, writer = os.pipe()
    os.set_inheritable(writer, True)
    keyboard, terminal = pty.openpty()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(terminal, number)
            arguments = list(command(writer))
            os.execve(arguments[0], arguments, environment)
        finally:
            os._exit(99)
    os.close(terminal)
    os.close(writer)
    try:
        person = Screen(pid, keyboard, report)
        yield person
    finally:
        os.close(person._keyboard)
        os.close(report)
        processes.wait_for_children()


def init(report: int, program: str, *options: str) -> list[str]:
    """Return the command `pipe-init exec OPTIONS` for this program."""
    return [*PipeInit().command, "exec", *options, "--", *python(program, str(report))]


def under_shell(script: str, program: str, *options: str) -> Callable[[int], list[str]]:
    """Return a function that makes the command of a shell. Its script starts pipe-init for the program."""
    return lambda report: python(SHELL + script, str(report), *init(report, program, *options))


SCRIPT = "pid = start()\nsay(wait(pid), is_in_front())\n"


class TestScript:
    """Check a shell without job control: pipe-init is in the shell's group."""

    @pytest.mark.parametrize("dev", [True, False], ids=["", "no /dev/tty"])
    def test_the_terminal_is_handed_over_and_taken_back(self, dev: bool, require_tool: Callable[[str], str]) -> None:
        prefix = []
        if not dev:
            prefix = [require_tool("unshare"), "--mount", "--map-root-user", "/bin/sh", "-c"]
            prefix += ['mount -t tmpfs none /dev && exec "$@"', "sh"]
            tools.require(subprocess.run([*prefix, "true"], check=False).returncode == 0, "needs mount namespaces")
        program = ENDING if dev else ENDING.replace('os.open("/dev/tty", os.O_RDWR)', "0")
        unmeasured = {name: None for name in os.environ if name.startswith("COVERAGE_")}  # coverage needs a /dev
        with screen(lambda report: [*prefix, *under_shell(SCRIPT, program)(report)], unmeasured) as terminal:
            assert terminal.line() == "program in front: True"
            assert terminal.line() == "3 True"
            assert terminal.exit_code() == 0

    def test_a_key_interrupts_the_program(self) -> None:
        with screen(under_shell(SCRIPT, WAITING)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.type(b"\x03")
            assert terminal.line() == "130 True"

    def test_a_session_of_its_own_gets_the_terminals_signals_from_us(self) -> None:
        program = WAITING.replace("is_in_front())", "None)")
        script = "signal.signal(signal.SIGINT, lambda *_: None)\n" + SCRIPT
        with screen(under_shell(script, program, "--setsid")) as terminal:
            assert terminal.line() == "program in front: None"
            terminal.type(b"\x03")
            assert terminal.line() == "130 True"


JOB = """
pid = start(own_group=True)
say(wait(pid, os.WUNTRACED))
restore()
bring_to_front(pid)
say(wait(pid, os.WUNTRACED))
restore()
"""


class TestShell:
    """Check a shell with job control: pipe-init is in a group of its own."""

    def test_stopped_by_a_key_and_continued(self) -> None:
        with screen(under_shell(JOB, WAITING)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.type(b"\x1a")
            assert terminal.line() == "stopped by SIGTSTP"
            assert terminal.line() == "woken, in front: True"
            terminal.type(b"\x03")
            assert terminal.line() == "130"
            assert terminal.exit_code() == 0

    def test_a_session_of_its_own_is_stopped_and_continued_with_us(self) -> None:
        program = WAITING.replace("is_in_front())", "None)")
        with screen(under_shell(JOB, program, "--setsid")) as terminal:
            assert terminal.line() == "program in front: None"
            terminal.type(b"\x1a")
            assert terminal.line() == "stopped by SIGTSTP"
            assert terminal.line() == "woken, in front: None"
            terminal.type(b"\x03")
            assert terminal.line() == "130"

    def test_reading_in_the_background_stops_both(self) -> None:
        with screen(under_shell(JOB.replace("own_group=True", "True, False"), READING)) as terminal:
            assert terminal.line() == "stopped by SIGTTIN"
            terminal.type(b"hello\n")
            assert terminal.line() == "program read: hello"
            assert terminal.line() == "0"

    def test_continued_in_the_background_leaves_the_foreground_alone(self) -> None:
        script = JOB.replace("bring_to_front(pid)", "os.killpg(pid, signal.SIGCONT)")
        with screen(under_shell(script, WAITING)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.type(b"\x1a")
            assert terminal.line() == "stopped by SIGTSTP"
            assert terminal.line() == "woken, in front: False"
            os.kill(pid_of_init(terminal.pid), signal.SIGTERM)
            assert terminal.line() == "143"


def pid_of_init(shell: int) -> int:
    """Return the only child of the shell."""
    with open(f"/proc/{shell}/task/{shell}/children") as file:
        (pid,) = file.read().split()
    return int(pid)


class TestLeader:
    """Check without any shell, as in a container with a terminal: pipe-init is the first process of its session."""

    @pytest.mark.parametrize("option", ["--setsid", "--no-setsid"])
    def test_the_program_is_in_front_and_interrupted(self, option: str) -> None:
        with screen(lambda report: init(report, WAITING, option)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.type(b"\x03")
            assert terminal.exit_code() == 130

    def test_in_a_session_of_its_own_the_terminal_is_its(self) -> None:
        program = PROGRAM + (
            "say(os.getsid(0) == os.getpid(), is_in_front())\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})\n"
            "os.kill(os.getppid(), signal.SIGUSR1)\n"
            "signal.sigwait({signal.SIGUSR1})\n"
            "say(signal.sigpending())\n"
        )
        with screen(lambda report: init(report, program, "--setsid")) as terminal:
            assert terminal.line() == "True True"
            assert terminal.line() == "set()"  # the signals of giving up the terminal were not forwarded
            assert terminal.exit_code() == 0

    def test_a_stop_has_no_effect_if_no_process_could_continue_it(self) -> None:
        with screen(lambda report: init(report, WAITING)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.type(b"\x1a")
            assert terminal.line() == "woken, in front: True"
            terminal.type(b"\x03")
            assert terminal.exit_code() == 130

    def test_a_terminal_that_is_lost_ends_the_program(self) -> None:
        with screen(lambda descriptor: init(descriptor, WAITING)) as terminal:
            assert terminal.line() == "program in front: True"
            terminal.hang_up()
            assert terminal.line() == "hung up"
            assert terminal.exit_code() == 8
