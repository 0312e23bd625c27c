"""Driving a Supervisor in the test's own process, with signals that are put back and a limit on everything.

Knows the supervisor's public side only. The workers are real processes.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pipe_init.engine.supervisor import Supervisor
from pipe_init.kernel.signals import ENDING, Signals
from pipe_init.limits.rlimits import NONE, Limits
from pipe_init.log.journal import Journal
from pipe_init.model import EXEC, PROCESS, Function, Outcome, Request, Settings
from pipe_init.workers import launch

HARD_LIMIT = 40
"""Seconds for one test's supervision; what takes longer hangs."""


@contextmanager
def installed_signals() -> Iterator[Signals]:
    """Signals that collect while the block runs; afterwards the handlers are as they were."""
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGCHLD)}
    signals = Signals()
    signals.install()
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(-1)
        for number, action in before.items():
            signal.signal(number, action)
        os.close(signals.descriptor)
        os.close(signals._writer)


@contextmanager
def within(seconds: int = HARD_LIMIT) -> Iterator[None]:
    """TimeoutError, wherever the block is, when it takes longer than `seconds`."""

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Driver:
    """A supervisor and what a test asks of it. log: the file that its journal goes to. steps: taken so far."""

    def __init__(self, supervisor: Supervisor, signals: Signals, journal: Journal, log: Path) -> None:
        self.supervisor = supervisor
        self.signals = signals
        self.journal = journal
        self.log = log
        self.steps = 0
        self._number = 0

    def submit(self, payload: bytes = b"{}", timeout: float = 20.0) -> str:
        """Submit a JSON event; return its request id: r1, r2 …"""
        self._number += 1
        request_id = f"r{self._number}"
        self.supervisor.submit(Request(request_id, payload, "application/json", "application/json", timeout))
        return request_id

    def outcomes(self, count: int = 1) -> list[Outcome]:
        """Step until there are `count` outcomes, and take them."""
        self.until(lambda: len(self.supervisor.outcomes) >= count)
        return [self.supervisor.outcomes.popleft() for _ in range(count)]

    def ask(self, payload: bytes = b"{}", timeout: float = 20.0) -> Outcome:
        """Submit one event and take its outcome."""
        request_id = self.submit(payload, timeout)
        outcome = self.outcomes()[0]
        assert outcome.request_id == request_id
        return outcome

    def until(self, done: Callable[[], bool]) -> None:
        """Step until `done`; what streams bring is taken as it comes."""
        supervisor = self.supervisor
        while not done():
            self.steps += 1
            supervisor.step()
            while supervisor.pieces:
                supervisor.taken(supervisor.pieces.popleft())


def unlimited() -> dict[str, str]:
    """The environment of a worker as `run` gives it."""
    return launch.function_environment(os.environ)


@contextmanager
def supervised(
    log: Path,
    command: list[str],
    *,
    hello: Mapping[str, Any] | None = None,
    early: launch.Process | None = None,
    limits: Limits = NONE,
    log_style: str = "none",
    workers: int = 1,
    isolation: str = PROCESS,
    start_method: str = EXEC,
    concurrency: int = 1,
    **settings: Any,
) -> Iterator[Driver]:
    """A Supervisor of `command`, closed at the end of the block. settings: of policy.Settings; short by default."""
    times = {"grace": 0.5, "backoff": 0.01, "stop_timeout": 5.0, "start_attempts": 2, **settings}
    function = Function(
        command,
        unlimited(),
        dict(hello or {}),
        Settings(**times),
        limits=limits,
        log_style=log_style,
        workers=workers,
        isolation=isolation,
        start_method=start_method,
        concurrency=concurrency,
    )
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with installed_signals() as signals, within():
            journal = Journal(descriptor)
            supervisor = Supervisor(function, signals, journal, early)
            try:
                yield Driver(supervisor, signals, journal, log)
            finally:
                supervisor.close()
    finally:
        os.close(descriptor)


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """While the block runs this process can open `spare` descriptors at most (RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        highest = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        while True:
            try:
                taken.append(os.open("/", os.O_RDONLY))
            except OSError:
                break
        for _ in range(min(spare, len(taken))):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
