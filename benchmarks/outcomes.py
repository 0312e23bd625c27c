"""Make events for tests/functions/chaos, and check that each event gets exactly one outcome that it can have.

This module knows nothing of processes and pipes. Its caller reports the output lines, the events that have begun, and
the processes that were struck.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ACTS = {
    "echo": 100.0,
    "print": 6.0,
    "raise": 3.0,
    "child": 2.0,
    "daemon": 1.0,
    "segfault": 0.15,
    "exit": 0.15,
    "stop": 0.05,
    "hang": 0.05,
}
"""The acts that an event may ask of the function, and how often it asks for each."""

WAITS_MS = (0, 0, 0, 1, 2, 5, 20)
"""The least milliseconds that an event takes. The seed chooses one of these."""

ANSWERED = ("echo", "print", "child", "daemon", "stop")
"""Acts that may end with a result. With "stop", a result comes only if the process is continued in time."""

ENDS_IT = {"segfault": "signal: segmentation fault", "exit": "exit status 3"}
"""Acts that end the process, and the description of that end in the error."""

TOO_LATE = ("hang", "stop")
"""Acts that can reach the time limit."""

STAGES = (
    " while it was loading the handler",
    " before it had forked the worker",
    " after it was forked and before it was ready",
)
"""The endings of an error's message after a failed start. They follow the description of the process's end."""


class Failure(Exception):
    """pipe-init has broken a promise."""


@dataclass
class Planned:
    """One event, and the calls of the function with it.

    Attributes:
        number: The event's place among the events of the run.
        act: What the function does.
        ms: The least milliseconds that the function takes.
        begun: How often the function was called with the event.
        pid: The process in which the call began.
        id: The request id of the call.
    """

    number: int
    act: str
    ms: int
    begun: int = 0
    pid: int = 0
    id: str = ""

    @property
    def line(self) -> bytes:
        """Return the input line for pipe-init."""
        return b'{"n": %d, "do": "%s", "ms": %d}\n' % (self.number, self.act.encode(), self.ms)


@dataclass
class Tally:
    """The figures of one run.

    Attributes:
        kib: The resident KiB of pipe-init, soon after the beginning and at the end.
        descriptors: The open descriptors of pipe-init at the same two moments.
    """

    struck: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unplanned: Counter[str] = field(default_factory=Counter)
    events: int = 0
    seconds: float = 0.0
    kib: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)


class Outcomes:
    """The events of one run and their outcomes.

    Attributes:
        waiting: The events without an output line, by number.
        served: The pids of all processes in which an event began.
    """

    def __init__(self, seed: str, concurrency: int, unordered: bool, daemons: bool) -> None:
        self.tally = Tally()
        self.waiting: dict[int, Planned] = {}
        self.served: set[int] = set()
        self._plan = random.Random(seed)
        self._acts = [act for act in ACTS if daemons or act != "daemon"]
        self._concurrency = concurrency
        self._unordered = unordered
        self._next_number = 0
        self._ids: set[str] = set()
        self._codes: set[int] = set()
        self._late: dict[int, Planned] = {}  # events that timed out before they began: each may still begin once
        self._may_crash = self._may_expire = 0  # how many requests the end or stop of other requests may have hit

    def next_event(self) -> Planned:
        """Add the next event that the seed gives, and return it."""
        return self.add(
            self._plan.choices(self._acts, [ACTS[act] for act in self._acts])[0], self._plan.choice(WAITS_MS)
        )

    def add(self, act: str, ms: int) -> Planned:
        """Add this event and return it."""
        planned = self.waiting[self._next_number] = Planned(self._next_number, act, ms)
        self._next_number += 1
        return planned

    def begun(self, number: int, pid: int, id: str) -> None:
        """Record that the function was called with an event. Raise Failure if it must not be called now."""
        planned = self.waiting.get(number) or self._late.pop(number, None)
        if planned is None:
            raise Failure(f"event {number} began after its outcome, in process {pid}")
        planned.begun += 1
        if planned.begun > 1:
            raise Failure(f"{planned} began again, in process {pid}: it has run twice")
        planned.pid, planned.id = pid, id
        self.served.add(pid)

    def take(self, line: dict[str, Any]) -> None:
        """Judge one output line.

        Raises:
            Failure: The line does not belong to the event that comes next, or that event cannot have this outcome.
        """
        number = self.tally.events
        if self._unordered:
            number = line["index"]
            line = line.get("result") or line["error"]
        planned = self.waiting.pop(number, None)
        if planned is None:
            raise Failure(f"a second line for event {number}, or a line for no event: {line}")
        self.tally.events += 1
        why = self._judge(planned, line)
        if why:
            raise Failure(f"{why}: {planned} got {line}")

    def struck(self, requests: int, stopped: bool) -> None:
        """Record a strike on a process.

        Args:
            requests: The most requests that the strike can make fail.
            stopped: Whether the process was stopped and not killed, so that it may still live.
        """
        self._may_crash += requests
        self._may_expire += requests * stopped

    def check_sums(self, exit_code: int) -> None:
        """Check the whole run at its end.

        Raises:
            Failure: More requests failed than the strikes explain, or the exit code is wrong.
        """
        tally = self.tally
        expired = tally.unplanned["timed out"]
        crashed = sum(tally.unplanned.values()) - expired
        if crashed > self._may_crash or expired > self._may_expire:
            raise Failure(
                "more failed requests than the strikes explain: "
                f"{crashed} ended with their workers (explained: {self._may_crash}), "
                f"{expired} timed out (explained: {self._may_expire}): {tally}"
            )
        if exit_code != worst(self._codes):
            raise Failure(f"the exit code is {exit_code} and should be {worst(self._codes)}")

    def _judge(self, planned: Planned, line: dict[str, Any]) -> str:
        """Return what is wrong with an outcome, or "" if nothing is."""
        id = line.get("id") or line.get("requestId") or ""
        if not id or id in self._ids or (planned.begun and id != planned.id):
            return "not its own request id"
        self._ids.add(id)
        kind, message = line.get("errorType"), line.get("errorMessage", "")
        self.tally.outcomes[kind or "result"] += 1
        if kind is None:
            if set(line) != {"n", "id"} or line["n"] != planned.number or not planned.begun:
                return "not its own result"
            return "" if planned.act in ANSWERED else "a result where none can be"
        if kind == "ValueError":
            self._codes.add(1)
            return "" if planned.act == "raise" and message == f"event {planned.number}" else "not its own error"
        if not message.startswith(f"RequestId: {id} Error: "):
            return "not its own end"
        if kind == "Sandbox.Timedout":
            self._codes.add(124)
            self._count(planned, "timed out", planned.act in TOO_LATE)
            if not planned.begun:
                self._late[planned.number] = planned
            return ""
        how = message.partition("Runtime exited with error: ")[2]
        if kind != "Runtime.ExitError" or not how:
            return "an error that nothing explains"
        if any(stage in how for stage in STAGES):
            return "a start that has failed too often"
        self._codes.add(exit_code(how))
        self._count(planned, how, how == ENDS_IT.get(planned.act))
        return ""

    def _count(self, planned: Planned, how: str, expected: bool) -> None:
        """Count a request that has ended or stopped its worker, because other requests of the worker may fail, too."""
        if expected:
            self._may_crash += 1 if self._concurrency == 1 else 2 * self._concurrency
            self._may_expire += self._concurrency - 1
        else:
            self.tally.unplanned[how] += 1


def exit_code(how: str) -> int:
    """Return the exit code that docs/run.md states for a worker that ended like this."""
    if how.startswith("exit status "):
        return 1
    names = {(signal.strsignal(number) or "").lower(): int(number) for number in signal.valid_signals()}
    return 128 + names[how.removeprefix("signal: ")]


def worst(codes: set[int]) -> int:
    """Return the exit code of a run. `codes` are the codes of its events except 0."""
    if 137 in codes:
        return 137
    by_signal = sorted(code for code in codes if code > 128)
    return by_signal[0] if by_signal else max(codes, default=0)
