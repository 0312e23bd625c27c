"""Tests that `pipe-init exec` loses no signal: each queued real-time signal arrives once, others at least once.

The signals are real, and so are the programs that count them. Which signal goes to which process is not tested here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipe_testing import processes, tools
from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.plain import Running, python, running

COUNTER = """
import os, signal, sys
every = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, every)
os.write(1, b"ready\\n")
if len(sys.argv) > 1:
    os.read(int(sys.argv[1]), 1)
counts = {}
while not counts.get(signal.SIGRTMAX):
    number = int(signal.sigwaitinfo(every).si_signo)
    counts[number] = counts.get(number, 0) + 1
os.write(1, b"%s\\n" % str(counts).encode())
"""
"""Counts the signals until RTMAX, which the kernel delivers last. If argv[1] is a descriptor, it waits for a byte."""

REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX)
STANDARD = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGTERM, signal.SIGWINCH)

pytestmark = pytest.mark.unmeasured


@contextmanager
def counter(*options: str, prepare: Callable[[], object] | None = None) -> Iterator[tuple[Running, int]]:
    """Yield a running COUNTER that blocks all signals, and the descriptor on which a byte lets it begin."""
    gate, key = os.pipe()
    try:
        with running(*options, "--", *python(COUNTER, str(gate)), before=prepare, pass_fds=[gate]) as init:
            assert init.line() == "ready"
            yield init, key
    finally:
        os.close(gate)
        os.close(key)


def counted(init: Running, key: int) -> Counter[int]:
    """Let the program count, and return the signals that it received, without RTMAX."""
    os.write(key, b"!")
    init.send(signal.SIGRTMAX)
    found: Counter[int] = Counter(eval(init.line()))
    del found[int(signal.SIGRTMAX)]
    assert init.exit_code() == 0
    return found


def real_time(counts: Counter[int]) -> Counter[int]:
    """Return only the real-time signals."""
    return Counter({number: count for number, count in counts.items() if number in REAL_TIME})


def status(pid: int, field: str) -> str:
    """Return a field of the status file of proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition("\t")[2] for line in lines if line.startswith(f"{field}:"))


def wait_until_taken(init: Running) -> None:
    """Wait until the init has taken all pending signals."""
    while int(status(init.pid, "ShdPnd"), 16):
        os.sched_yield()


@pytest.mark.parametrize("first", [1, 60, 61, 62, 63, 255, 256, 257, 1000])
def test_what_was_queued_while_it_was_stopped(first: int) -> None:
    """Check numbers of signals near those that the init takes in one round, with a last signal of another number."""
    with counter() as (init, key):
        init.send(signal.SIGSTOP)
        assert init.stopped_by() == signal.SIGSTOP
        for _ in range(first):
            init.send(signal.SIGRTMIN)
        init.send(signal.SIGRTMIN + 1)
        init.send(signal.SIGCONT)
        wait_until_taken(init)
        assert counted(init, key) == {signal.SIGRTMIN: first, signal.SIGRTMIN + 1: 1, signal.SIGCONT: 1}


def test_the_order_is_the_kernels() -> None:
    with running("-v", "--", *python(COUNTER)) as init:
        assert init.line() == "ready"
        init.send(signal.SIGSTOP)
        init.stopped_by()
        sent = [40, 35, 40, 36, 35, signal.SIGTERM, signal.SIGUSR1]
        for number in sent:
            init.send(number)
        init.send(signal.SIGCONT)
        wait_until_taken(init)
        init.send(signal.SIGRTMAX)
        init.line()
        told = [line.split()[1].rstrip(":") for line in init.stderr().splitlines() if ": sends " in line]
        names = ["SIGUSR1", "SIGTERM", "SIGCONT", "SIGRTMIN+1", "SIGRTMIN+1", "SIGRTMIN+2", "SIGRTMIN+6", "SIGRTMIN+6"]
        assert told == [*names, "SIGRTMAX"]


def send_many(pid: int, numbers: Sequence[int], processes: int) -> None:
    """Send all signals from several processes at once, and return when all processes are done."""
    children = []
    for share in range(processes):
        child = os.fork()
        if child == 0:
            try:
                for number in numbers[share::processes]:
                    os.kill(pid, number)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


@pytest.mark.parametrize("options", [(), ("-g",), ("--setsid",)], ids=" ".join)
def test_thousands_in_mixed_order(options: Sequence[str], seed: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]
    count = 5000 if limit == resource.RLIM_INFINITY else min(5000, limit // 3)
    randomly = random.Random(seed)
    numbers = [randomly.choice([*REAL_TIME, randomly.choice(STANDARD)]) for _ in range(count)]
    with counter(*options) as (init, key):
        send_many(init.pid, numbers, 4)
        wait_until_taken(init)
        for number in STANDARD:
            init.send(number)  # earlier signals of this number were delivered before, or merge with this one
        wait_until_taken(init)
        found = counted(init, key)
    assert real_time(found) == real_time(Counter(numbers))
    assert set(found) - set(REAL_TIME) == set(STANDARD)


def test_standard_signals_that_the_program_takes_at_once() -> None:
    code = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "os.write(1, b'ready\\n')\n"
        "while True: os.write(1, b'%d\\n' % signal.sigwait(signal.valid_signals()))\n"
    )
    with running("--", *python(code)) as init:
        assert init.line() == "ready"
        for _ in range(50):
            for number in STANDARD:
                init.send(number)
                assert init.line() == str(int(number))
        for name in Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split():
            os.kill(int(name), signal.SIGKILL)


def test_from_the_first_moment_on(seed: int) -> None:
    """Check that the program gets the signals that the parent had blocked while the interpreter started."""
    randomly = random.Random(seed)
    numbers = [randomly.choice(REAL_TIME) for _ in range(2000)]
    gate, key = os.pipe()

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    with running("--", *python(COUNTER, str(gate)), before=block, pass_fds=[gate]) as init:
        send_many(init.pid, [*numbers, signal.SIGTERM], 2)
        assert init.line() == "ready"
        wait_until_taken(init)
        assert counted(init, key) == Counter([*numbers, signal.SIGTERM])
    os.close(gate)
    os.close(key)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN])
def test_from_the_first_line_on(number: int) -> None:
    """Check that the program gets the signals that come while the init's own modules are loaded."""
    code = (
        "import os, sys\n"
        "from pipe_init import __main__ as command, module_path\n"
        "clean = module_path.clean\n"
        "module_path.clean = lambda: (clean(), os.kill(os.getpid(), %d))\n"
        "sys.argv[1:] = ['exec', '--', 'sleep', '60']\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code % number], env=unmeasured(), timeout=HANGS, capture_output=True)
    assert (done.returncode, done.stderr) == (128 + number, b"")


def queue(pid: int, number: int) -> bool:
    """Send a signal by sigqueue(3). Return False if the queue is full, which kill(2) does not report."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigqueue(pid, number, None) == 0:
        return True
    assert ctypes.get_errno() == errno.EAGAIN
    return False


def test_what_a_full_queue_has_taken_arrives() -> None:
    """Check a full queue. The limit counts the pending signals of all the user's processes, the program's too."""
    limit = int(status(os.getpid(), "SigQ").partition("/")[0]) + 200

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (limit, limit))

    accepted: Counter[int] = Counter()
    with counter(prepare=lower) as (init, key):
        refused = 0
        while refused < 1000:
            number = REAL_TIME[accepted.total() % len(REAL_TIME)]
            if queue(init.pid, number):
                accepted[number] += 1
            else:
                refused += 1
        wait_until_taken(init)
        found = counted(init, key)
    assert found == accepted
    assert 100 < accepted.total() < 200


IN_PROCESS = """
import os, resource, signal, sys, time
from pipe_init.exec import tty
from pipe_init.exec.plain_init import Options, PlainInit, next_signal
from pipe_init.kernel.signals import block_all

def forked(act):
    "How a process that is a plain init ends after `act`; whether it was stopped."
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(99)
    status = os.waitpid(pid, os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "stopped"
    return os.waitstatus_to_exitcode(status)
"""


def in_process(code: str) -> str:
    """Run this code after IN_PROCESS and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS + code],
        capture_output=True,
        env=unmeasured(),
        timeout=HANGS,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.mark.parametrize("number", ["SIGTSTP", "SIGTTIN", "SIGTTOU"])
@pytest.mark.parametrize("rewrites", ["{}", "{20: 23, 21: 0, 22: 19}"])
def test_a_wake_up_that_comes_right_after_a_stop_is_not_dropped(number: str, rewrites: str) -> None:
    """Check that the init does not stop while SIGCONT is pending, because a process that stops loses it."""
    printed = in_process(
        "def act():\n"
        "    held = block_all()\n"
        "    init = PlainInit(Options(('/bin/sleep', '60'), rewrites=" + rewrites + "), held)\n"
        "    os.kill(os.getpid(), signal.SIGCONT)\n"
        f"    init._forward(signal.{number}, by_kernel=False)\n"
        "    assert signal.SIGCONT in signal.sigpending()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    while init.status is None: init.wait()\n"
        "    os._exit(init.status)\n"
        "print(forked(act))\n"
    )
    assert printed == f"{int(signal.SIGTERM)}\n"


def test_a_wait_that_a_stop_interrupts_takes_only_what_came() -> None:
    """Check that a stop during a wait does no harm. CPython's sigtimedwait may return garbage after it."""
    printed = in_process(
        "def act():\n"
        "    block_all()\n"
        "    own = os.getpid()\n"
        "    os.kill(own, signal.SIGUSR1)\n"
        "    assert next_signal(1).si_signo == signal.SIGUSR1\n"
        "    helper = os.fork()\n"
        "    if helper == 0:\n"
        "        while open(f'/proc/{own}/stat').read().rpartition(')')[2].split()[0] != 'S': os.sched_yield()\n"
        "        os.kill(own, signal.SIGSTOP)\n"
        "        time.sleep(0.6)\n"
        "        os.kill(own, signal.SIGCONT)\n"
        "        os._exit(0)\n"
        "    came = next_signal(0.3).si_signo\n"
        "    os.waitpid(helper, 0)\n"
        "    os._exit(came)\n"
        "pid = os.fork() or act()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert int(printed) in (signal.SIGALRM, signal.SIGCONT)


def test_giving_up_the_terminal_neither_sends_nor_takes_a_signal() -> None:
    printed = in_process(
        "import fcntl, pty\n"
        "def act(sent, moment):\n"
        "    block_all()\n"
        "    def ioctl(*arguments):\n"
        "        if moment == 'just before': os.kill(os.getpid(), sent)\n"
        "        done = real(*arguments)\n"
        "        if moment == 'just after': os.kill(os.getpid(), sent)\n"
        "        return done\n"
        "    real, tty.fcntl.ioctl = fcntl.ioctl, ioctl\n"
        "    assert tty.Terminal.find().let_go()\n"
        "    return sorted(signal.sigpending() - {signal.SIGCHLD})\n"
        "for sent in (0, signal.SIGHUP, signal.SIGCONT):\n"
        "    for moment in ('just before', 'just after'):\n"
        "        pid, keyboard = pty.fork()\n"
        "        if pid == 0:\n"
        "            os._exit(act(sent, moment) != ([sent] if sent else []))\n"
        "        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), end='')\n"
        "        os.close(keyboard)\n"
    )
    assert printed == "000000"


def test_a_flood_of_signals_does_not_hide_a_death() -> None:
    """Check that the init sees a death among many SIGHUPs. The kernel delivers the lowest number first."""
    printed = in_process(
        "def act():\n"
        "    held = block_all()\n"
        "    init = PlainInit(Options(('/bin/sh', '-c', 'exit 7'), rewrites={signal.SIGHUP: 0}), held)\n"
        "    while signal.SIGCHLD not in signal.sigpending(): os.sched_yield()\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    init.wait()\n"
        "    os._exit(os.waitstatus_to_exitcode(init.status))\n"
        "print(forked(act))\n"
    )
    assert printed == "7\n"


def test_a_signal_that_may_not_be_sent_is_told_once() -> None:
    tools.require(os.geteuid() == 0, "needs root, to become another user")
    printed = in_process(
        "reader, writer = os.pipe()\n"
        "def act():\n"
        "    os.dup2(reader, 0)\n"
        "    os.close(writer)\n"
        "    held = block_all()\n"
        "    init = PlainInit(Options(('/bin/cat',)), held)\n"
        "    os.dup2(os.open(f'/proc/{os.getppid()}/fd/1', os.O_WRONLY), 2)\n"
        "    os.setresuid(64124, 64124, 64124)\n"
        "    for number in (15, 1): os.kill(os.getpid(), number)\n"
        "    init.wait()\n"
        "    os._exit(0)\n"
        "code = forked(act)\n"
    )
    processes.wait_for_children()  # the program has become a child of this process
    assert printed.count("\n") == 1
    assert "cannot send SIGHUP to pid " in printed and printed.endswith("it is another user's\n")


def blocking_everything() -> None:
    """Block all signals, as a supervisor may do before it starts pipe-init."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class TestRun:
    """Check the same for `pipe-init run`, which uses signal handlers."""

    def test_deaths_endings_and_stacks_are_seen_though_all_was_blocked(self, tmp_path: Path) -> None:
        (tmp_path / "index.py").write_text(
            "import os, time\n"
            "def handler(event):\n"
            "    print('in', flush=True)\n"
            "    os._exit(3) if event else time.sleep(60)\n"
        )
        command = [*PipeInit().command, "run", "index.handler", "-q", "-C", str(tmp_path)]

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, *arguments],
                preexec_fn=blocking_everything,
                env=unmeasured(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

        with start("-e", "1", "-t", "30") as died:
            errors = died.communicate(timeout=HANGS)[1]
        assert (died.returncode, b"exit status 3" in errors) == (1, True), errors
        with start("-t", "0.5", "--grace", "20") as hung:
            errors = hung.communicate(timeout=HANGS)[1]
        assert (hung.returncode, b"index.py" in errors) == (124, True), errors
        with start("--grace", "0.1") as ended:
            assert ended.stderr is not None and ended.stderr.readline() == b"in\n"
            ended.terminate()
            ended.communicate(timeout=HANGS)
        assert ended.returncode == 143
