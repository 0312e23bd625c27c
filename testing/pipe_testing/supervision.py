"""Drive a Supervisor in the test's own process, with real workers.

Signal handlers are restored at the end, and each test has a time limit. This module knows the public side of the
Supervisor only.
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
from pipe_init.kernel.host import SoleHost
from pipe_init.kernel.signals import ENDING, Signals
from pipe_init.limits.confinement import Confinement
from pipe_init.limits.rlimits import NONE, Limits
from pipe_init.log.journal import Journal
from pipe_init.model import EXEC, PROCESS, Function, Outcome, Request, Settings
from pipe_init.workers import launch
from pipe_testing.patience import HANGS


@contextmanager
def installed_signals() -> Iterator[Signals]:
    """Yield installed Signals, and restore the handlers at the end of the block."""
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGCHLD)}
    signals = Signals()
    signals.install()
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(-1)
        for number, action in before.items():
            signal.signal(number, action)
        signals.close()


@contextmanager
def within(seconds: int = int(HANGS)) -> Iterator[None]:
    """Raise TimeoutError inside the block, wherever it is, if it takes longer than `seconds`."""

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
    """A supervisor, and what a test asks of it.

    Attributes:
        log: The file that the supervisor's journal goes to.
        steps: How often `until` has called the supervisor's `step`.
    """

    def __init__(self, supervisor: Supervisor, signals: Signals, journal: Journal, log: Path) -> None:
        self.supervisor = supervisor
        self.signals = signals
        self.journal = journal
        self.log = log
        self.steps = 0
        self._number = 0

    def submit(self, payload: bytes = b"{}", timeout: float = 60.0) -> str:
        """Submit a JSON event and return its request id: r1, r2 and so on."""
        self._number += 1
        request_id = f"r{self._number}"
        self.supervisor.submit(Request(request_id, payload, "application/json", "application/json", timeout))
        return request_id

    def outcomes(self, count: int = 1) -> list[Outcome]:
        """Step until there are `count` outcomes, and return them."""
        self.until(lambda: len(self.supervisor.outcomes) >= count)
        return [self.supervisor.outcomes.popleft() for _ in range(count)]

    def ask(self, payload: bytes = b"{}", timeout: float = 60.0) -> Outcome:
        """Submit one event and return its outcome."""
        request_id = self.submit(payload, timeout)
        outcome = self.outcomes()[0]
        assert outcome.request_id == request_id
        return outcome

    def until(self, done: Callable[[], bool]) -> None:
        """Step until `done` returns true. Pieces of streams are taken as they come."""
        supervisor = self.supervisor
        while not done():
            self.steps += 1
            supervisor.step()
            while supervisor.pieces:
                supervisor.taken(supervisor.pieces.popleft())


def unlimited() -> dict[str, str]:
    """Return the environment that `run` gives to a worker."""
    return launch.function_environment(os.environ)


@contextmanager
def supervised(
    log: Path,
    command: list[str],
    *,
    hello: Mapping[str, Any] | None = None,
    early: launch.ProcessPipes | None = None,
    limits: Limits = NONE,
    log_style: str = "none",
    workers: int = 1,
    isolation: str = PROCESS,
    start_method: str = EXEC,
    concurrency: int = 1,
    **settings: Any,
) -> Iterator[Driver]:
    """Yield a Driver with a Supervisor of `command`, which is closed at the end of the block.

    Args:
        log: The file for the supervisor's journal.
        command: The command that starts a worker.
        hello: The fields of HELLO.
        early: A worker that was started before the supervisor.
        limits: The limits of each worker.
        log_style: The form of the worker's log lines.
        workers: The number of workers.
        isolation: Whether a process serves many requests or one.
        start_method: How a worker is started.
        concurrency: How many requests a worker handles at once.
        settings: Fields of model.Settings. The times are short by default.
    """
    times = {"start_timeout": 60.0, "grace": 0.5, "backoff": 0.01, "stop_timeout": 5.0, "start_attempts": 2, **settings}
    function = Function(
        command,
        unlimited(),
        dict(hello or {}),
        Settings(**times),
        confinement=Confinement(limits),
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
            supervisor = Supervisor(function, SoleHost(signals), journal, early)
            try:
                yield Driver(supervisor, signals, journal, log)
            finally:
                supervisor.close()
    finally:
        os.close(descriptor)


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """Let this process open at most `spare` more descriptors while the block runs (RLIMIT_NOFILE)."""
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
