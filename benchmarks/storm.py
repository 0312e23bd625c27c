"""Run one `pipe-init run --events -` under load, strike its processes again and again, and watch it from outside.

A strike is a signal that kills, crashes or stops a process. This module writes events, reads output lines, and ends the
run. outcomes.py knows which outcomes are right, and striker.py chooses the process to strike.
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
    if method != "request" or concurrency == 1  # with request isolation, more than one is a usage error
}

SLOW = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
"""An estimate of how many times longer a request takes here than on an idle machine, because it waits for a CPU."""

TIMEOUT, START_TIMEOUT, GRACE = 1.0 * SLOW, 3.0 * SLOW, 0.2
"""The limits of a run in seconds. They are short because each stop or hang lasts that long."""

FORK_MS = "3"
"""The milliseconds by which each fork is delayed, in the template too, so that strikes can hit a fork in progress."""

WINDOW = 200
"""The most events without an output line: more than pipe-init sends to its workers at once."""

HANG = 30.0 * SLOW
"""The seconds without a line after which the run counts as hanging. All limits and back-offs of a run are shorter."""

SPARES = 7
"""With request isolation: the number of processes that stand by while there are no requests."""

BATCH = 4
"""Fewer spare processes than this may be missing, since pipe-init forks them in batches. There may also be more."""

ENDS = 6
"""The descriptors that pipe-init holds for each forked worker."""

FEW = 20
"""The program does not check growth in runs with fewer strikes than this."""

CALM = 2.0
"""The seconds without strikes before the program measures memory and descriptors."""

GROWTH_KIB = 1536
"""The KiB by which pipe-init's resident memory may differ between two moments without requests."""

LAST_SECOND = 1.0
"""The seconds within which every process must be gone after pipe-init was killed."""


class Plan(NamedTuple):
    """The plan of one run.

    Attributes:
        mode: One of MODES.
        kills: The number of strikes.
        gap: The average seconds between two strikes.
        daemons: Whether functions may leave processes running.
    """

    command: list[str]
    mode: str
    seed: str
    kills: int = 0
    gap: float = 0.0
    unordered: bool = False
    daemons: bool = False


class Storm:
    """A started run. The owner must call `close`."""

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
        """Return the figures so far."""
        return self.outcomes.tally

    def go(self, progress: Callable[[str], None]) -> Tally:
        """Run to the end and return the figures. Raise Failure if pipe-init has broken a promise."""
        began, kills = time.monotonic(), self.plan.kills
        self._until(lambda: self.tally.events >= 20 * self.workers)
        first = self._strike_on(min(kills, max(1, kills // 5)), progress)
        last = self._strike_on(kills, progress)
        self._finish()
        tally = self.tally
        tally.seconds = time.monotonic() - began
        tally.kib, tally.descriptors = (first[0], last[0]), (first[1], last[1])
        if last[0] - first[0] > GROWTH_KIB or last[1] > first[1]:
            raise Failure(f"pipe-init has grown: KiB {tally.kib}, descriptors {tally.descriptors}")
        self.outcomes.check_sums(self.init.returncode)
        return tally

    def strike(self) -> bool:
        """Strike one process. Return False if there is no process to strike now."""
        self._read_log()
        hit = self.striker.strike()
        if hit is not None:
            self._count(*hit)
        return hit is not None

    def step(self, until: float) -> None:
        """Write events and read output lines, until some data has come or the time `until` is reached."""
        while self.feeding and len(self.outcomes.waiting) < WINDOW:
            if not self.outcomes.waiting:
                self.last_line = time.monotonic()
            self.out += self.outcomes.next_event().line
        poll = select.poll()
        poll.register(self.from_init, select.POLLIN)
        if self.out:
            poll.register(self.to_init, select.POLLOUT)
        ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
        if self.to_init in ready:
            try:
                del self.out[: os.write(self.to_init, self.out)]
            except BrokenPipeError:
                raise Failure("pipe-init has stopped reading events") from None
        if self.from_init in ready:
            self._read_lines()
        if self.outcomes.waiting and time.monotonic() - self.last_line > HANG:
            oldest = next(iter(self.outcomes.waiting.values()))
            raise Failure(f"no line for {HANG:.0f} s; waiting: {oldest}\n{self._stack()}")

    def kill_init(self) -> float:
        """Kill pipe-init itself, and return the seconds until all its processes are gone.

        Raises:
            Failure: A process is still there after LAST_SECOND.
        """
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
        """End every process that is left, and remove the run's files."""
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
        """Return the last strikes, the processes that are there now, and the last lines of pipe-init."""
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
        """Read which events have begun, and in which process."""
        *lines, self.log_rest = (self.log_rest + self.log.read()).split(b"\n")
        for line in lines:
            number, pid, id = line.split()
            self.outcomes.begun(int(number), int(pid), id.decode())

    # Strikes

    def _strike_on(self, kills: int, progress: Callable[[str], None]) -> tuple[int, int]:
        """Strike until `kills` processes were struck. Return what `_calm` returns, or zeros after few strikes."""
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
            lanes = 1 if victim.kind == WORKER else self.workers
            if victim.kind != WORKER and self.method == "request":
                lanes = max(lanes, BATCH)  # one fork makes a whole batch of processes, and each may have a request
            self.outcomes.struck(self.concurrency * lanes, number == signal.SIGSTOP)

    # Ends

    def _calm(self) -> tuple[int, int]:
        """Wait until no event runs and all struck processes are replaced. Return resident KiB and descriptors."""
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
        """Send some plain events, so that each worker is busy once and none is missing. Then rest for a moment."""
        self.last_line = time.monotonic()
        for _ in range(8 * self.workers):
            self.out += self.outcomes.add("echo", 20).line
        self._until(lambda: not self.outcomes.waiting)
        until = time.monotonic() + 0.3
        self._until(lambda: time.monotonic() > until)

    def _missing(self) -> int | None:
        """Return how many of the expected processes are missing.

        A number below 0 means that there are more processes than expected, which stood by under load. None means that
        too many processes are missing, that there are unexpected processes, or that a process is being forked.
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
        """Kill a worker if there is no template, so that pipe-init starts one to fork the next worker."""
        there = list(victims.below(self.init.pid))
        if self.method != "exec" and all(process.kind != TEMPLATE for process in there):
            workers = [process for process in there if process.kind == WORKER]
            if len(workers) >= self.workers and victims.strike(workers[0], signal.SIGKILL):
                self.outcomes.struck(self.concurrency, stopped=False)

    def _finish(self) -> None:
        """End the input, read the remaining lines, wait for pipe-init's end, and check that no process is left."""
        self.feeding = False
        self._until(lambda: not self.out)
        assert self.init.stdin is not None
        self.init.stdin.close()
        limit = time.monotonic() + HANG
        while not self.ended:
            self.step(time.monotonic() + 0.05)
            if time.monotonic() > limit:
                raise Failure(f"pipe-init does not end\n{self._stack()}")
        self.init.wait(HANG)
        left = victims.own()
        if left:
            raise Failure(f"left behind at the end:\n{victims.describe_all(left)}")

    def _stack(self) -> str:
        """Return a description of the processes. End pipe-init with SIGABRT, so that faulthandler shows its stack."""
        tree = victims.describe_all([self.init.pid])
        self.init.send_signal(signal.SIGABRT)
        self.init.wait()
        return tree
