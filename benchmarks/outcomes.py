"""Events for tests/functions/chaos, and whether each one's outcome is one that it can have, once, and its own.

Knows nothing of processes and pipes: it is told which lines came, what began, and what was struck.
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
"""What an event asks of the function, and how often."""

WAITS_MS = (0, 0, 0, 1, 2, 5, 20)
"""Milliseconds that it takes at least, one of these."""

ANSWERED = ("echo", "print", "child", "daemon", "stop")
"""Acts that may end with a result; that of a stop comes if it is woken in time."""

ENDS_IT = {"segfault": "signal: segmentation fault", "exit": "exit status 3"}
"""Acts that end the process, and how the error describes it."""

TOO_LATE = ("hang", "stop")
"""Acts that end with the time limit."""

STAGES = (
    " while it was loading the handler",
    " before it had forked the worker",
    " after it was forked and before it was ready",
)
"""How an error describes a failed start; it follows the words about the end of the process."""


class Failure(Exception):
    """A promise was broken."""


@dataclass
class Planned:
    """One event, and what is known of it. begun: how often it began; id: under which one, in process `pid`."""

    number: int
    act: str
    ms: int
    begun: int = 0
    pid: int = 0
    id: str = ""

    @property
    def line(self) -> bytes:
        """The event, for pipe-init."""
        return b'{"n": %d, "do": "%s", "ms": %d}\n' % (self.number, self.act.encode(), self.ms)


@dataclass
class Tally:
    """The figures of one run. kib, descriptors: pipe-init's, soon after the beginning and at the end."""

    struck: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unplanned: Counter[str] = field(default_factory=Counter)
    events: int = 0
    seconds: float = 0.0
    kib: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)


class Outcomes:
    """The events of one run. waiting: those without a line, by number. served: the pids in which any began."""

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
        self._late: dict[int, Planned] = {}  # timed out before they began: that they may do once, when nobody waits
        self._may_crash = self._may_expire = 0  # requests that somebody else's end or stop may have hit, at most

    def next_frame(self) -> Planned:
        """Another one, as the seed says."""
        return self.add(
            self._plan.choices(self._acts, [ACTS[act] for act in self._acts])[0], self._plan.choice(WAITS_MS)
        )

    def add(self, act: str, ms: int) -> Planned:
        """This one."""
        planned = self.waiting[self._next_number] = Planned(self._next_number, act, ms)
        self._next_number += 1
        return planned

    def begun(self, number: int, pid: int, id: str) -> None:
        """The function was called. Failure: it was before, or is called behind its event's outcome."""
        planned = self.waiting.get(number) or self._late.pop(number, None)
        if planned is None:
            raise Failure(f"event {number} began behind its outcome, in process {pid}")
        planned.begun += 1
        if planned.begun > 1:
            raise Failure(f"{planned} began again, in process {pid}: it has run twice")
        planned.pid, planned.id = pid, id
        self.served.add(pid)

    def take(self, line: dict[str, Any]) -> None:
        """One line of the output. Failure: it is not the outcome of the event whose turn it is, or cannot be."""
        number = self.tally.events
        if self._unordered:
            number = line["index"]
            line = line.get("result") or line["error"]
        planned = self.waiting.pop(number, None)
        if planned is None:
            raise Failure(f"a second line for event {number}, or one for none: {line}")
        self.tally.events += 1
        why = self._judge(planned, line)
        if why:
            raise Failure(f"{why}: {planned} got {line}")

    def struck(self, requests: int, stopped: bool) -> None:
        """A process was hit on which at most so many requests depend; stopped: and it may live on."""
        self._may_crash += requests
        self._may_expire += requests * stopped

    def check_sums(self, exit_code: int) -> None:
        """At the end. Failure: more requests were hit than strikes explain, or a wrong exit code."""
        tally = self.tally
        expired = tally.unplanned["timed out"]
        crashed = sum(tally.unplanned.values()) - expired
        if crashed > self._may_crash or expired > self._may_expire:
            raise Failure(
                f"{crashed} requests ended with their workers where {self._may_crash} are explained, "
                f"{expired} timed out where {self._may_expire} are: {tally}"
            )
        if exit_code != worst(self._codes):
            raise Failure(f"exit code {exit_code} where {worst(self._codes)} was due")

    def _judge(self, planned: Planned, line: dict[str, Any]) -> str:
        """What is wrong with an outcome; "" if nothing is."""
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
        """A request that ended or stopped its worker may have taken its neighbours with it, or the one behind it."""
        if expected:
            self._may_crash += 1 if self._concurrency == 1 else 2 * self._concurrency
            self._may_expire += self._concurrency - 1
        else:
            self.tally.unplanned[how] += 1


def exit_code(how: str) -> int:
    """What docs/run.md says for a worker that ended like this."""
    if how.startswith("exit status "):
        return 1
    names = {(signal.strsignal(number) or "").lower(): int(number) for number in signal.valid_signals()}
    return 128 + names[how.removeprefix("signal: ")]


def worst(codes: set[int]) -> int:
    """The exit code of a run with events that ended with these, 0 left out."""
    if 137 in codes:
        return 137
    by_signal = sorted(code for code in codes if code > 128)
    return by_signal[0] if by_signal else max(codes, default=0)
