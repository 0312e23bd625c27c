"""Tests of the engine as a guest in a program that has children, signal handlers and an asyncio loop of its own.

Each test runs in a forked process, the host. It drives the engine from its own loop and compares its state before and
after. The engine may change nothing of the host's, and each call of it must return without waiting.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pipe_init.engine.supervisor import Supervisor
from pipe_init.kernel import exit_codes
from pipe_init.kernel.host import SharedHost
from pipe_init.log.journal import Journal
from pipe_init.model import TEMPLATE, Function, Outcome, Request, Settings
from pipe_init.workers import launch
from pipe_testing.fifo import Fifo
from pipe_testing.patience import HANGS
from pipe_testing.processes import wait_for_children
from pipe_testing.supervision import unlimited

HANDLER = """
import os, signal, subprocess, time

def handler(event, context):
    exec(event.get("do", "pass"))
    return os.getpid()

def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)
"""

SHORT = 0.3
"""The seconds that a request gets that hangs on purpose."""

PR_GET_CHILD_SUBREAPER = 37


class Guest:
    """The engine in the running asyncio loop.

    Attributes:
        steps: How often the loop has called it.
    """

    def __init__(self, folder: Path, log: int, **options: Any) -> None:
        (folder / "index.py").write_text(HANDLER)
        hello = {"handler": "index.handler", "code_dir": str(folder)}
        settings = Settings(grace=0.2, backoff=0.01)
        command = launch.runtime_command(sys.executable)
        self.steps = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._came = asyncio.Event()
        self.host = SharedHost()
        self._journal = Journal(log, cap=20_000, drops=True)
        self.supervisor = Supervisor(
            Function(command, unlimited(), hello, settings, **options), self.host, self._journal
        )
        self._loop.add_reader(self.host.poller.fileno(), self._step)

    async def ask(self, do: str = "pass", timeout: float = 20.0) -> Outcome:
        """Submit a request and wait for its outcome."""
        self.submit(do, timeout)
        await self.until(lambda: len(self.supervisor.outcomes) > 0)
        return self.supervisor.outcomes.popleft()

    def submit(self, do: str = "pass", timeout: float = 20.0) -> None:
        """Submit a request."""
        payload = b'{"do": "%s"}' % do.encode()
        self.supervisor.submit(Request("r", payload, "application/json", "application/json", timeout))
        self._arm()

    async def until(self, done: Callable[[], bool]) -> None:
        """Let the loop run until `done`."""
        while not done():
            self._came.clear()
            await self._came.wait()

    async def close(self) -> None:
        """End the workers from the loop, then close the engine, which then has nothing left to wait for."""
        self.supervisor.finish()
        self._arm()
        await self.until(lambda: self.supervisor.ended)
        self._loop.remove_reader(self.host.poller.fileno())
        if self._timer is not None:
            self._timer.cancel()
        steps = self.steps
        self.supervisor.close()
        self.host.close()
        self._journal.close()
        assert self.steps == steps

    def _step(self) -> None:
        self.steps += 1
        self.supervisor.step(wait=False)
        self._came.set()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.supervisor.deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._step)


def in_a_host(body: Callable[[], None]) -> None:
    """Run `body` in a forked process, and fail if it fails there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(int(HANGS))  # with its default action: a loop would only log an exception out of a callback
        try:
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "the host failed: see its traceback"


def state() -> dict[str, object]:
    """Return everything of the process that the engine could change."""
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    subreaper = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        children = file.read().split()
    return {
        "kernel": {name: lines[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "Threads", "NoNewPrivs")},
        "subreaper": subreaper.value,
        "wakeup descriptor": wakeup,
        "handlers": {number: signal.getsignal(number) for number in numbers},
        "timer": signal.getitimer(signal.ITIMER_VIRTUAL),
        "folder": os.getcwd(),
        "session and group": (os.getsid(0), os.getpgrp()),
        "children": children,
        "descriptors": {name: target(name) for name in os.listdir("/proc/self/fd") if target(name)},
        "stdio flags": [fcntl.fcntl(descriptor, fcntl.F_GETFL) for descriptor in (0, 1, 2)],
        "threads": threading.enumerate(),
        "environment": dict(os.environ),
        "modules' path": list(sys.path),
    }


def target(descriptor: str) -> str:
    """Return what a descriptor refers to, or "" if it was open only for the listing."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


class Children:
    """Three children of the host: a zombie, one that exits when it is told to, and one that runs until it is killed."""

    def __init__(self) -> None:
        self._ends = [os.pipe() for _ in range(3)]
        self.zombie, self.exiting, self.lasting = map(self._fork, (5, 7, 9), self._ends)
        self.tell(0)
        os.waitid(os.P_PID, self.zombie, os.WEXITED | os.WNOWAIT)

    @staticmethod
    def _fork(code: int, end: tuple[int, int]) -> int:
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGCONT})
            os.read(end[0], 1)
            os._exit(code)
        return pid

    def tell(self, number: int) -> None:
        """Let one child exit."""
        os.write(self._ends[number][1], b"x")

    def check(self) -> None:
        """Collect all three. Check that their exit codes are there and that no signal reached the one that runs."""
        with open(f"/proc/{self.lasting}/status", encoding="ascii") as file:
            pending = [line for line in file if line.startswith("ShdPnd")]
        assert int(pending[0].split()[1], 16) == 0
        assert os.waitpid(self.lasting, os.WNOHANG) == (0, 0)
        self.tell(2)
        ended = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (self.zombie, self.exiting)}
        assert ended == {self.zombie: 5, self.exiting: 7}
        assert os.waitstatus_to_exitcode(os.waitpid(self.lasting, 0)[1]) == 9
        for end in self._ends:
            os.close(end[0])
            os.close(end[1])


@contextmanager
def untouched() -> Iterator[Children]:
    """Check that the block changes nothing of the process and leaves its children as they are."""
    children, before = Children(), state()
    assert before["subreaper"] == 0
    yield children
    limit = time.monotonic() + HANGS
    while (after := state())["kernel"] != before["kernel"] and time.monotonic() < limit:
        os.sched_yield()  # a thread that was joined may still be on its way out of the kernel
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}
    children.check()


@pytest.fixture
def page() -> Iterator[tuple[int, int]]:
    """Yield a pipe that holds one page, for a log that is not read."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_program_with_all_of_its_own_stays_as_it_was(tmp_path: Path, page: tuple[int, int], fifo: Fifo) -> None:
    """Check several requests, one that needs the host, a timeout, a crash, a log that is not read, and the end."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None = None) -> None:
        came.append(number)

    async def requests(children: Children) -> None:
        loop, beats = asyncio.get_running_loop(), 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        heart = loop.create_task(beat())
        guest = Guest(tmp_path, page[1])
        first = await guest.ask()
        assert first.problem is None
        worker = int(first.payload)
        assert (await guest.ask()).payload == first.payload

        before = beats
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        guest.submit(f"open('{gate}').read()")  # it ends only when the host's loop has run and opened the gate
        while beats <= before + 3:
            await asyncio.sleep(0)
        assert not guest.supervisor.outcomes
        opened = os.open(gate, os.O_WRONLY)
        os.close(opened)
        await guest.until(lambda: len(guest.supervisor.outcomes) > 0)
        assert guest.supervisor.outcomes.popleft().problem is None

        children.tell(1)
        before = beats
        late = await guest.ask("hang()", SHORT)
        assert late.exit_code == exit_codes.TIMED_OUT and "hang" in str(late.problem)
        assert beats > before + 1
        second = int((await guest.ask()).payload)
        assert second != worker

        crashed = await guest.ask(f"subprocess.Popen(['sleep', '1000'], stdout=open('{fifo.path}', 'w'))\\nos.abort()")
        assert crashed.exit_code == 128 + signal.SIGABRT
        assert int((await guest.ask()).payload) != second

        for _ in range(4):  # more than pipe and buffer hold: the run would stop if the log held requests back
            assert (await guest.ask("print('x' * 9999)")).problem is None
        os.kill(os.getpid(), signal.SIGTERM)
        await guest.close()
        heart.cancel()
        assert loop.is_running() and guest.steps > 10

    def host() -> None:
        signal.signal(signal.SIGINT, note)
        signal.signal(signal.SIGCHLD, note)
        loop = asyncio.new_event_loop()
        loop.add_signal_handler(signal.SIGTERM, note, signal.SIGTERM)  # this sets the wakeup descriptor
        with untouched() as children:
            assert state()["wakeup descriptor"] != -1
            loop.run_until_complete(requests(children))
        assert signal.SIGTERM in came and signal.SIGCHLD in came
        loop.close()

    fifo_writer = os.open(fifo.path, os.O_WRONLY)
    try:
        in_a_host(host)
    finally:
        os.close(fifo_writer)
    fifo.wait_until_closed()  # the process group of the worker that crashed is gone
    wait_for_children()


def in_a_loop(body: Callable[[], Any]) -> Callable[[], None]:
    """Return a host that runs a coroutine function in asyncio and checks that nothing of it was touched."""

    def host() -> None:
        loop = asyncio.new_event_loop()
        with untouched() as children:
            loop.run_until_complete(body())
            children.tell(1)
        loop.close()

    return host


def test_a_host_that_collects_every_child_costs_a_request_and_no_more(tmp_path: Path, page: tuple[int, int]) -> None:
    async def body() -> None:
        guest = Guest(tmp_path, page[1])
        worker = int((await guest.ask()).payload)
        guest.submit("hang()")
        os.kill(worker, signal.SIGKILL)
        assert os.waitpid(worker, 0)[1] == signal.SIGKILL
        await guest.until(lambda: len(guest.supervisor.outcomes) > 0)
        problem = guest.supervisor.outcomes.popleft().problem
        assert problem is not None and problem["error_type"] == "Runtime.ExitError"
        assert "other code of this program has collected it" in str(problem["error_message"])
        assert (await guest.ask()).problem is None
        await guest.close()

    in_a_host(in_a_loop(body))


@pytest.mark.parametrize("times", [1, 2])
def test_another_thread_may_ask_it_to_end(tmp_path: Path, page: tuple[int, int], times: int) -> None:
    async def body() -> None:
        guest = Guest(tmp_path, page[1])
        assert (await guest.ask()).problem is None
        guest.submit("hang()")
        for _ in range(times):
            thread = threading.Thread(target=guest.host.wakeup.ask_to_end)
            thread.start()
            thread.join()
        await guest.until(lambda: len(guest.supervisor.outcomes) > 0)
        assert guest.supervisor.outcomes.popleft().exit_code == exit_codes.STOPPED
        assert guest.supervisor.finishing and guest.supervisor.in_a_hurry == (times > 1)
        await guest.close()

    in_a_host(in_a_loop(body))


def test_several_workers(tmp_path: Path, page: tuple[int, int]) -> None:
    async def body() -> None:
        guest = Guest(tmp_path, page[1], workers=2)
        for _ in range(4):
            guest.submit("time.sleep(0.01); os._exit(event.get('code', 3))")
        await guest.until(lambda: len(guest.supervisor.outcomes) == 4)
        while guest.supervisor.outcomes:
            assert "exit status 3" in str(guest.supervisor.outcomes.popleft().problem)
        await guest.close()

    in_a_host(in_a_loop(body))


def test_closing_it_waits_for_what_runs(tmp_path: Path, page: tuple[int, int]) -> None:
    """Check a host without a loop, where `step` and `close` may wait, as on the command line."""

    def host() -> None:
        with untouched() as children:
            guest_host, journal = SharedHost(), Journal(page[1], drops=True)
            hello = {"handler": "index.handler", "code_dir": str(tmp_path)}
            (tmp_path / "index.py").write_text(HANDLER)
            function = Function(launch.runtime_command(sys.executable), unlimited(), hello, Settings(grace=0.2))
            supervisor = Supervisor(function, guest_host, journal)
            supervisor.submit(Request("r", b"{}", "application/json", "application/json", 20.0))
            while not supervisor.outcomes:
                supervisor.step()
            supervisor.submit(Request("r", b'{"do": "hang()"}', "application/json", "application/json", 20.0))
            supervisor.abandon()
            supervisor.close()
            assert [outcome.exit_code for outcome in supervisor.outcomes] == [0, exit_codes.STOPPED]
            guest_host.close()
            journal.close()
            children.tell(1)

    in_a_host(host)


def test_a_template_is_refused(tmp_path: Path) -> None:
    host = SharedHost()
    try:
        with pytest.raises(ValueError, match="use start_method 'exec'"):
            Supervisor(Function([], {}, {}, Settings(), start_method=TEMPLATE), host, Journal(2))
    finally:
        host.close()
