"""Tests of the collection of dead children: all of them, how each died, and what is killed with them.

The children are real processes.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipe_init.kernel import killing, reaper
from pipe_init.kernel.reaper import Death
from pipe_testing import processes, tools
from pipe_testing.supervision import installed_signals, within


def child(body: Callable[[], object]) -> int:
    """Fork a child that runs `body` and exits with 0, in a process group of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            body()
        finally:
            os._exit(0)
    return pid


def wait_dead(pid: int) -> None:
    """Wait until the child is dead, without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def sleep() -> None:
    signal.pause()


def collect(*leaders: int) -> list[Death]:
    """Collect until no child is left. Each round first waits for a death."""
    deaths: list[Death] = []
    with within():
        while True:
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                return deaths
            deaths += reaper.reap(leaders).deaths


def test_without_children_nothing_is_left() -> None:
    assert reaper.reap() == reaper.Reaped([], False)


def test_a_living_child_is_left() -> None:
    pid = child(sleep)
    assert reaper.reap() == reaper.Reaped([], True)
    os.kill(pid, signal.SIGKILL)
    assert [death.pid for death in collect()] == [pid]


TRACED = """
import ctypes, os, signal
assert ctypes.CDLL(None).ptrace(0, 0, None, None) == 0  # PTRACE_TRACEME
{}
"""


@pytest.mark.parametrize(
    ("body", "description"),
    [
        ("os.kill(os.getpid(), signal.SIGWINCH)\nos._exit(7)", "exit status 7"),
        ("os.kill(os.getpid(), signal.SIGUSR1)\nos._exit(7)", "signal: user defined signal 1"),
        ("os.execvp('false', ['false'])", "exit status 1"),
        ("os._exit(7)", "exit status 7"),
    ],
)
def test_a_stop_of_a_child_that_asks_to_be_traced_is_no_death(body: str, description: str) -> None:
    """Check that the child goes on with the signal. Its parent is its tracer, so waitid(2) reports each stop."""
    traced = subprocess.Popen([sys.executable, "-c", TRACED.format(body)])
    (death,) = collect()
    assert (death.pid, death.description) == (traced.pid, description)
    traced.returncode = death.status


@pytest.mark.parametrize("code", [0, 1, 2, 127, 128, 255])
def test_an_exit_code_is_described(code: int) -> None:
    wait_dead(child(lambda: os._exit(code)))
    (death,) = reaper.reap().deaths
    assert (death.signal, death.description) == (0, f"exit status {code}")


def test_every_signal_is_described() -> None:
    for number in range(1, signal.NSIG):
        description = Death(1, number, 0).description
        assert description.startswith("signal: ")
        assert description == description.lower()
        assert Death(1, number, 0).signal == number
        assert Death(1, number | 0x80, 0).description == description  # with the bit for a core dump
    assert Death(1, signal.SIGKILL, 0).description == "signal: killed"
    assert Death(1, signal.SIGSEGV, 0).description == "signal: segmentation fault"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_the_signal_that_killed_is_told(number: int) -> None:
    def die() -> None:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    wait_dead(child(die))
    (death,) = reaper.reap().deaths
    assert death.signal == number


def test_peak_memory_is_in_bytes() -> None:
    size = 96 * 2**20
    wait_dead(child(lambda: bytearray(size).find(b"1")))
    (death,) = reaper.reap().deaths
    assert size <= death.peak_memory < 64 * size


def test_coalesced_signals_hide_no_death() -> None:
    reader, writer = os.pipe()

    def many_deaths() -> None:
        """Write how many signals came, whether all deaths were seen, and whether any child is left."""
        with installed_signals() as signals, within():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            pids = [child(lambda: None) for _ in range(50)]
            for pid in pids:
                wait_dead(pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            waiting = select.poll()
            waiting.register(signals.descriptor, select.POLLIN)
            waiting.poll()
            came = len(os.read(signals.descriptor, 100))
            reaped = reaper.reap()
        seen = sorted(death.pid for death in reaped.deaths) == sorted(pids)
        os.write(writer, f"{came} {seen} {reaped.left}".encode())

    # In a child with a single thread. Otherwise another thread, such as one of pytest-xdist, could take the signals.
    pid = child(many_deaths)
    os.close(writer)
    with open(reader) as told:
        came, seen, left = told.read().split()
    os.waitpid(pid, 0)
    assert 0 < int(came) < 50  # many deaths share one signal
    assert (seen, left) == ("True", "False")


def test_a_round_has_an_end() -> None:
    pids = [child(lambda: None) for _ in range(5)]
    for pid in pids:
        wait_dead(pid)
    first = reaper.reap(limit=3)
    assert (len(first.deaths), first.left, first.more) == (3, True, True)
    second = reaper.reap(limit=3)
    assert (len(second.deaths), second.left, second.more) == (2, False, False)


def test_a_dead_leaders_group_goes_with_it() -> None:
    reader, writer = os.pipe()

    def lead() -> None:
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.write(writer, b"%d\n" % os.getpid())
            sleep()

    leader = child(lead)
    os.close(writer)
    member = int(os.read(reader, 100))
    os.close(reader)
    wait_dead(leader)
    deaths = collect(leader)
    assert {death.pid: death.signal for death in deaths} == {leader: 0, member: signal.SIGKILL}


def test_the_group_of_another_child_is_left_alone() -> None:
    bystander = child(sleep)
    leader = child(lambda: None)
    wait_dead(leader)
    assert [death.pid for death in reaper.reap([leader]).deaths] == [leader]
    assert reaper.reap() == reaper.Reaped([], True)
    os.kill(bystander, signal.SIGTERM)
    (death,) = collect()
    assert (death.pid, death.signal) == (bystander, signal.SIGTERM)


def test_a_group_that_is_not_made_yet_is_signalled_through_its_leader() -> None:
    pid = os.fork()
    if pid == 0:  # the child is still in this process's group, like a worker between fork and setsid
        sleep()
        os._exit(0)
    killing.signal_group(pid, signal.SIGKILL)
    (death,) = collect()
    assert (death.pid, death.signal) == (pid, signal.SIGKILL)


def test_signalling_the_dead_and_the_gone_is_harmless() -> None:
    pid = child(lambda: None)
    wait_dead(pid)
    killing.signal_group(pid, signal.SIGTERM)
    killing.signal_child(pid, signal.SIGTERM)
    (death,) = reaper.reap().deaths
    assert death.description == "exit status 0"
    killing.signal_child(pid, 0)
    killing.signal_group(pid, 0)


def test_another_users_processes_are_left_alone() -> None:
    """Check that root's child survives when a process of user 65534 kills all that it can."""
    tools.require(os.geteuid() == 0, "needs root, to be another user")
    victim = child(sleep)

    def attack() -> None:
        os.setresuid(65534, 65534, 65534)
        killing.signal_group(victim, signal.SIGKILL)
        killing.signal_child(victim, signal.SIGKILL)
        os._exit(7)

    attacker = child(attack)
    os.waitid(os.P_PID, attacker, os.WEXITED | os.WNOWAIT)
    (death,) = reaper.reap().deaths
    assert (death.pid, death.description) == (attacker, "exit status 7")
    os.kill(victim, signal.SIGKILL)
    assert [death.pid for death in collect()] == [victim]


SWEEPER = """
import os, signal, sys
from pipe_init.kernel import killing, reaper

assert reaper.become_subreaper()
assert reaper.become_subreaper()
reader, writer = os.pipe()
if os.fork() == 0:  # a worker that leaves daemons: each escapes by setsid and by losing its parent
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            if os.fork() == 0:
                os.write(writer, b"%d " % os.getpid())
                signal.pause()
            os._exit(0)
    os._exit(0)
os.close(writer)
daemons = set()
text = b""
while text.count(b" ") < 3:
    text += os.read(reader, 100)
dead = {}
while True:
    reaped = reaper.reap()
    dead.update((death.pid, death.signal) for death in reaped.deaths)
    if not reaped.left:
        break
    killing.kill(reaper.children(alone=True))
assert {pid for pid, number in dead.items() if number == signal.SIGKILL} >= {int(pid) for pid in text.split()}, dead
assert os.read(reader, 1) == b""
print("swept")
"""


def test_escaped_daemons_are_swept() -> None:
    with within():
        done = subprocess.run([sys.executable, "-c", SWEEPER], capture_output=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"swept\n", b"", 0)
    assert processes.children() == set()


WITHOUT_PROC = """
import ctypes, os, select, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None)  # MS_PRIVATE | MS_REC: what follows stays in here
if libc.mount(b"none", b"/proc", b"tmpfs", 0, None):
    sys.exit(99)
from pipe_init.kernel import killing, reaper
from pipe_init.workers import launch
assert not os.path.exists("/proc/self")
process = launch.start(["/bin/cat"], {})
os.write(process.requests, b"up")
waiting = select.poll()
waiting.register(process.answers, select.POLLIN)
waiting.poll()  # it is executed, so the pipe that kills it is armed
killing.kill(reaper.children(alone=True))  # PID 1: all in this namespace; anybody else: who is a child by waitid(2)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
deaths = reaper.reap().deaths
assert [(death.pid, death.signal) for death in deaths] == [(process.pid, signal.SIGKILL)], deaths
print("swept")
"""


def test_all_below_a_child_is_killed_and_not_the_child() -> None:
    """Check with two generations, each in a process group of its own."""
    source, sink = os.pipe()

    def family() -> None:
        def below() -> None:
            child(sleep)
            os.write(sink, b"x")
            sleep()

        child(below)
        os.close(sink)
        sleep()

    pid = child(family)
    os.close(sink)
    assert os.read(source, 1) == b"x"
    killing.sweep_below(pid)
    assert os.read(source, 1) == b""  # no process is left that could write to it
    os.close(source)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGKILL)
    assert pid in {death.pid for death in collect()}  # with its descendants, which have become our children


def test_those_to_keep_are_kept_with_all_below_them() -> None:
    source, sink = os.pipe()

    def family() -> None:
        def keeps() -> None:
            os.write(sink, b"%8d%8d" % (os.getpid(), child(sleep)))
            sleep()

        child(keeps)
        sleep()

    pid = child(family)
    said = os.read(source, 16)
    kept, below = int(said[:8]), int(said[8:])
    assert killing.kill([pid], keep={kept})
    deaths = [Death(*os.wait4(pid, 0)[:2], 0)]
    assert [death.signal for death in deaths] == [signal.SIGKILL]
    assert os.waitpid(kept, os.WNOHANG) == (0, 0), "it has fallen to us, and lives"
    state = Path(f"/proc/{below}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    assert state in "SR", "so does the one below"
    os.kill(kept, signal.SIGKILL)
    os.close(source)
    os.close(sink)
    processes.end_children()


def test_the_cpu_time_of_a_child_is_not_its_parents() -> None:
    def works() -> None:
        while time.process_time() < 0.3:
            pass

    def family() -> None:
        os.waitpid(child(works), 0)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = child(family)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    (death,) = reaper.reap([pid]).deaths
    assert death.signal == signal.SIGKILL and death.cpu_seconds < 0.2


@pytest.mark.parametrize("work", [0.3, 1.2], ids=["before", "after"])
def test_a_kill_before_or_after_the_soft_limit_on_cpu_time(work: float) -> None:
    def works() -> None:
        signal.signal(signal.SIGXCPU, lambda *_: reached.append(True))
        resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
        while time.process_time() < work or (work > 1 and not reached):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    reached: list[bool] = []
    pid = child(works)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    (death,) = reaper.reap([pid]).deaths
    assert death.signal == signal.SIGKILL
    assert death.cpu_limit == ((2, 2) if work > 1 else (1, 2))


def test_a_sweep_below_an_unused_pid_does_nothing() -> None:
    killing.sweep_below(reaper.PID_LIMIT)


@pytest.mark.parametrize("first", [False, True], ids=["as anybody", "as PID 1"])
def test_without_proc(first: bool, require_tool: Callable[[str], str]) -> None:
    command = [require_tool("unshare"), "--mount", "--map-root-user", *(["--pid", "--fork"] if first else [])]
    with within():
        probe = subprocess.run([*command, "true"], capture_output=True, check=False)
        if probe.returncode:
            tools.require(False, f"no namespaces here: {probe.stderr.decode().strip()}")
        done = subprocess.run([*command, sys.executable, "-c", WITHOUT_PROC], capture_output=True, check=False)
    if done.returncode == 99:
        tools.require(False, "nothing can be mounted over /proc here")
    assert (done.stdout, done.stderr, done.returncode) == (b"swept\n", b"", 0)
