"""One `pipe-init run --events -` under load, struck again and again; what it does is looked at from outside.

It knows how to feed, to read, to wait and to end, not what an outcome must be (outcomes.py) nor who is struck
(striker.py).
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import victims
from outcomes import Failure, Outcomes, Tally
from striker import Striker
from victims import FORKING, NEIGHBOUR, TEMPLATE, WORKER, Process

FUNCTION_DIR = str(Path(__file__).parents[1] / "tests" / "functions" / "chaos")

MODES = {
    f"{method}, {workers} worker{'s' * (workers > 1)}, concurrency {concurrency}": (method, workers, concurrency)
    for method in ("exec", "template", "request")
    for workers in (1, 4)
    for concurrency in (1, 4)
    if method != "request" or concurrency == 1  # there each process has one request: more is wrong usage
}

TIMEOUT, START_TIMEOUT, GRACE = 1.0, 3.0, 0.2
"""Seconds: what a stop or a hang costs."""

FORK_MS = "3"
"""Milliseconds that a fork may linger, in the template too: its moments get long enough to be hit."""

WINDOW = 200
"""Events without a line yet, at most: more than what is on its way to the workers."""

HANG = 30.0
"""Seconds without a line after which it hangs: far beyond every limit above, and the longest back-off here."""

SPARES = 7
"""Of request isolation: processes that stand by while nothing is under way."""

BATCH = 4
"""Of these, fewer than so many may be missing: they are forked together. What stood by under load may be more."""

ENDS = 6
"""Descriptors that pipe-init has for each worker that was forked."""

FEW = 20
"""Strikes below which growth is not looked at."""

CALM = 2.0
"""Seconds without strikes before memory and descriptors are looked at."""

GROWTH_KIB = 1536
"""What pipe-init's resident memory may differ by between two moments without requests: a heap breathes."""

LAST_SECOND = 1.0
"""Seconds in which everything is gone once pipe-init was killed."""


class Plan(NamedTuple):
    """Of one run. mode: of MODES. kills: how many strikes. gap: seconds between two, on average.

    daemons: functions may leave some.
    """

    command: list[str]
    mode: str
    seed: str
    kills: int = 0
    gap: float = 0.0
    unordered: bool = False
    daemons: bool = False


class Storm:
    """A started run. To be closed."""

    def __init__(self, plan: Plan) -> None:
        self.method, self.workers, self.concurrency = MODES[plan.mode]
        self.plan = plan
        self.outcomes = Outcomes(f"{plan.seed}, {plan.mode}, events", self.concurrency, plan.unordered, plan.daemons)
        self.folder = tempfile.TemporaryDirectory()
        log = Path(self.folder.name, "begun")
        log.touch()
        self.log, self.log_rest = open(log, "rb"), b""
        self.stderr = open(Path(self.folder.name, "stderr"), "w+b")
        self.init = subprocess.Popen(
            [*plan.command, *self._arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, "CHAOS_LOG": str(log), "CHAOS_FORK_MS": FORK_MS},
            cwd=self.folder.name,
            start_new_session=True,
        )
        assert self.init.stdin is not None and self.init.stdout is not None
        self.to_init, self.from_init = self.init.stdin.fileno(), self.init.stdout.fileno()
        os.set_blocking(self.to_init, False)
        seed = f"{plan.seed}, {plan.mode}, strikes"
        self.striker = Striker(seed, self.method, self.workers, self.init.pid, self.outcomes.served)
        self.gaps = random.Random(f"{plan.seed}, {plan.mode}, gaps")
        self.out, self.line_rest = bytearray(), b""
        self.feeding, self.ended = True, False
        self.last_line = time.monotonic()

    def _arguments(self) -> list[str]:
        isolation = "request" if self.method == "request" else "process"
        start_method = "exec" if self.method == "exec" else "template"
        given: list[object] = ["--workers", self.workers, "--concurrency", self.concurrency, "--isolation", isolation]
        given += ["--start-method", start_method, "-t", TIMEOUT, "--grace", GRACE, "--start-timeout", START_TIMEOUT]
        given += ["--unordered"] * self.plan.unordered
        return ["run", "index.handler", "-C", FUNCTION_DIR, "-q", "--events", "-", *map(str, given)]

    @property
    def tally(self) -> Tally:
        """The figures so far."""
        return self.outcomes.tally

    def go(self, progress: Callable[[str], None]) -> Tally:
        """Run to the end. Failure: a promise was broken."""
        began, kills = time.monotonic(), self.plan.kills
        self._until(lambda: self.tally.events >= 20 * self.workers)
        first = self._strike_on(min(kills, max(1, kills // 5)), progress)
        last = self._strike_on(kills, progress)
        self._finish()
        tally = self.tally
        tally.seconds = time.monotonic() - began
        tally.kib, tally.descriptors = (first[0], last[0]), (first[1], last[1])
        if last[0] - first[0] > GROWTH_KIB or last[1] > first[1]:
            raise Failure(f"it has grown: KiB {tally.kib}, descriptors {tally.descriptors}")
        self.outcomes.check_sums(self.init.returncode)
        return tally

    def strike(self) -> bool:
        """Hit one process. False: there is none to hit now."""
        self._read_log()
        hit = self.striker.strike()
        if hit is not None:
            self._count(*hit)
        return hit is not None

    def step(self, until: float) -> None:
        """Feed and read until something came or the time is over."""
        while self.feeding and len(self.outcomes.waiting) < WINDOW:
            if not self.outcomes.waiting:
                self.last_line = time.monotonic()
            self.out += self.outcomes.next_frame().line
        poll = select.poll()
        poll.register(self.from_init, select.POLLIN)
        if self.out:
            poll.register(self.to_init, select.POLLOUT)
        ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
        if self.to_init in ready:
            try:
                del self.out[: os.write(self.to_init, self.out)]
            except BrokenPipeError:
                raise Failure("pipe-init takes no events any more") from None
        if self.from_init in ready:
            self._read_lines()
        if self.outcomes.waiting and time.monotonic() - self.last_line > HANG:
            oldest = next(iter(self.outcomes.waiting.values()))
            raise Failure(f"no line for {HANG:.0f} s; waiting: {oldest}\n{self._stack()}")

    def kill_init(self) -> float:
        """SIGKILL for pipe-init itself; returns the seconds until nothing of it was left. Failure: that takes more."""
        self.init.kill()
        began = time.monotonic()
        self.init.wait()
        while left := victims.own():
            if time.monotonic() - began > LAST_SECOND:
                raise Failure(f"left behind by a killed pipe-init:\n{victims.describe_all(left)}")
            victims.collect()
            select.select([], [], [], 0.001)
        return time.monotonic() - began

    def close(self) -> None:
        """Whatever is left: its end."""
        for pipe in (self.init.stdin, self.init.stdout, self.log, self.stderr):
            assert pipe is not None
            pipe.close()
        if self.init.poll() is None:
            self.init.kill()
            self.init.wait()
        while left := victims.own():
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            victims.collect()
            select.select([], [], [], 0.001)
        self.folder.cleanup()

    def history(self) -> str:
        """The last strikes, what is there now, and pipe-init's last words."""
        self.stderr.seek(0)
        lines = [line for line in self.stderr.read().decode(errors="replace").splitlines() if "event " not in line]
        tree = victims.describe(self.init.pid)
        return "\n".join([*self.striker.history, *tree, f"exit code {self.init.poll()}", *lines[-20:]])

    # Load

    def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.step(time.monotonic() + 0.05)

    def _read_lines(self) -> None:
        data = os.read(self.from_init, 2**16)
        self.ended = not data
        self._read_log()
        *lines, self.line_rest = (self.line_rest + data).split(b"\n")
        for line in lines:
            self.last_line = time.monotonic()
            self.outcomes.take(json.loads(line))
        if self.ended and (self.outcomes.waiting or self.line_rest or self.feeding):
            raise Failure(f"pipe-init has ended, and {len(self.outcomes.waiting)} events have no line")

    def _read_log(self) -> None:
        """Learn which events have begun, and where."""
        *lines, self.log_rest = (self.log_rest + self.log.read()).split(b"\n")
        for line in lines:
            number, pid, id = line.split()
            self.outcomes.begun(int(number), int(pid), id.decode())

    # Strikes

    def _strike_on(self, kills: int, progress: Callable[[str], None]) -> tuple[int, int]:
        """Strike until there were so many; returns what pipe-init has then, as _calm, or nothing for a few."""
        struck, next_strike = sum(self.tally.struck.values()), time.monotonic()
        while struck < kills:
            self.step(min(next_strike, time.monotonic() + 0.05))
            if time.monotonic() >= next_strike:
                if self.strike():
                    struck += 1
                    next_strike = time.monotonic() + self.gaps.expovariate(1 / self.plan.gap)
                    progress(f"{struck} of {self.plan.kills} struck, {self.tally.events} events")
                else:
                    next_strike = time.monotonic() + 0.005
        return self._calm() if self.plan.kills >= FEW else (0, 0)

    def _count(self, victim: Process, number: int) -> None:
        self.tally.struck[victim.kind] += 1
        self.tally.signals[signal.Signals(number).name] += 1
        if victim.kind != NEIGHBOUR:
            requests = self.concurrency * (1 if victim.kind == WORKER else self.workers)
            self.outcomes.struck(requests, number == signal.SIGSTOP)

    # Ends

    def _calm(self) -> tuple[int, int]:
        """Without requests, and when all that was struck has been replaced: resident KiB and descriptors."""
        self.feeding = False
        self._until(lambda: not self.outcomes.waiting and not self.out)
        quiet = time.monotonic() + CALM
        seen: list[tuple[int, int]] = []
        while time.monotonic() < quiet or len(seen) < 5:
            self._settle()
            missing = self._missing()
            if missing is not None:
                open_now = victims.descriptors(self.init.pid) + ENDS * missing
                seen.append((victims.resident_kib(self.init.pid), open_now))
            elif not seen:
                self._ask_for_template()
            if not seen and time.monotonic() > quiet + HANG:
                raise Failure(f"what was struck is not replaced\n{self._stack()}")
        self.feeding = True
        return min(kib for kib, _ in seen), max(descriptors for _, descriptors in seen)

    def _settle(self) -> None:
        """A few plain events, so that every worker has something to do and none is missing; then a moment of rest."""
        self.last_line = time.monotonic()
        for _ in range(8 * self.workers):
            self.out += self.outcomes.add("echo", 20).line
        self._until(lambda: not self.outcomes.waiting)
        until = time.monotonic() + 0.3
        self._until(lambda: time.monotonic() > until)

    def _missing(self) -> int | None:
        """How many of the processes that are to be there are not; below 0: so many more, from busier times.

        None: too many are missing, there are others, or one is being forked.
        """
        kinds = Counter(process.kind for process in victims.below(self.init.pid))
        if self.method == "request":
            missing = SPARES - kinds[WORKER]
            allowed = missing < BATCH and kinds[WORKER] <= self.workers + max(SPARES, self.workers)
        else:
            missing = self.workers - kinds[WORKER]
            allowed = not missing
        return missing if allowed and kinds[TEMPLATE] == (self.method != "exec") and not kinds[FORKING] else None

    def _ask_for_template(self) -> None:
        """Where there is none because no worker was to be forked since: end one."""
        there = list(victims.below(self.init.pid))
        if self.method != "exec" and all(process.kind != TEMPLATE for process in there):
            workers = [process for process in there if process.kind == WORKER]
            if len(workers) >= self.workers and victims.strike(workers[0], signal.SIGKILL):
                self.outcomes.struck(self.concurrency, stopped=False)

    def _finish(self) -> None:
        """The end of the events: the rest of the lines, the end of pipe-init, and nothing else there."""
        self.feeding = False
        self._until(lambda: not self.out)
        assert self.init.stdin is not None
        self.init.stdin.close()
        limit = time.monotonic() + HANG
        while not self.ended:
            self.step(time.monotonic() + 0.05)
            if time.monotonic() > limit:
                raise Failure(f"it does not end\n{self._stack()}")
        self.init.wait(HANG)
        left = victims.own()
        if left:
            raise Failure(f"left behind at the end:\n{victims.describe_all(left)}")

    def _stack(self) -> str:
        """The processes; and pipe-init itself is ended, whose faulthandler writes to stderr where it was."""
        tree = victims.describe_all([self.init.pid])
        self.init.send_signal(signal.SIGABRT)
        self.init.wait()
        return tree
