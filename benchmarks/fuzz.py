"""Send events whose handlers misbehave at random to every mode of `pipe-init run`, and check README's promises.

    python benchmarks/fuzz.py [--events N] [--mode NAME] [--seed S]

The promises are: each event has one outcome, in order, under its own id. Nothing else is on stdout. No process is left
over. Memory and descriptors do not grow. The program checks stdout, stderr, processes, descriptors and memory from
outside. misdeeds.py makes the events and judges their outcomes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import machine
import victims
from misdeeds import TIMEOUT, Judge, Mode, Plan, Planned, single_codes
from outcomes import Failure

FUNCTION_DIR = str(Path(__file__).parents[1] / "tests" / "functions" / "fuzz")

COMMAND = [sys.executable, "-X", "faulthandler", "-m", "pipe_init", "run"]
"""The same as the console script, except that a hang of the init shows its stack."""

TEMPLATE, REQUEST = ("--start-method=template",), ("--isolation=request",)

MODES = [
    Mode("exec", "index.plain", ("--start-method=exec",)),
    Mode("exec, streams", "index.stream", ("--start-method=exec",)),
    Mode("exec, 2 workers, 4 threads", "index.plain", ("--start-method=exec", "-w2", "--concurrency=4"), 4),
    Mode("exec, 4 tasks", "index.task", ("--start-method=exec", "--concurrency=4"), 4),
    Mode("template, 4 workers", "index.plain", (*TEMPLATE, "-w4")),
    Mode("template, 2 workers, streams", "index.stream", (*TEMPLATE, "-w2")),
    Mode("template, 2 workers, 4 tasks, streams", "index.task_stream", (*TEMPLATE, "-w2", "--concurrency=4"), 4),
    Mode("exec, WSGI", "index.wsgi", ("--start-method=exec", "--type=wsgi"), is_http=True),
    Mode("template, 2 workers, ASGI", "index.asgi", (*TEMPLATE, "-w2", "--type=asgi"), is_http=True),
    Mode("request", "index.plain", REQUEST, isolated=True),
    Mode("request, 4 workers", "index.plain", (*REQUEST, "-w4"), isolated=True),
    Mode("request, 4 workers, streams", "index.stream", (*REQUEST, "-w4"), isolated=True),
]

SINGLE = "single runs"
"""The mode that starts pipe-init anew for each event."""

START_TIMEOUT, GRACE = 10.0, 0.2
"""The seconds that the function may take to load, and to end after SIGTERM."""

WINDOW = 100
"""The most events to send without having read their output lines."""

HANG = 30.0
"""The seconds without an output line after which the run counts as hanging. All limits of a run together are less."""

CHECKPOINTS = 3
"""The number of pauses in each run. In each pause the program measures memory and descriptors, to compare them."""

GROWTH_KIB = 4096
"""The KiB by which the init's memory may grow from the first to the last pause, because large results use its heap."""

DESCRIPTORS = 64
"""The descriptors by which the init may grow between the first and the last pause, for processes that stand by."""

ENOUGH_TO_GROW = 300
"""The program does not check growth in runs with fewer events than this."""

LAST_SECONDS = 5.0
"""The seconds within which every process must be gone after pipe-init has ended."""

UNTRUE = (b"does not end", b"Traceback (most recent call last)", b"left behind, with processes")
"""Messages of the init that would be faults here: it can kill each of its workers, and its own code must not fail."""

SAID = re.compile(r"fuzz (-?\d+) (\S+) (says|complains|logs)")


class Fuzz:
    """A started `pipe-init run --events -`, which gets events of a plan. The caller must call `close` at the end."""

    def __init__(self, mode: Mode, plan: Plan, seed: str, unordered: bool) -> None:
        self.mode, self.plan = mode, plan
        self.judge = Judge(mode, unordered)
        self.folder = tempfile.TemporaryDirectory()
        self.stderr = open(Path(self.folder.name, "stderr"), "w+b")
        self.loading = " ".join(plan.acts_of_loading())
        options = [*mode.options, "--events=-", f"-t{TIMEOUT}", f"--grace={GRACE}", f"--start-timeout={START_TIMEOUT}"]
        options += ["--log-style=json", *["--unordered"] * unordered]
        self.init = subprocess.Popen(
            [*COMMAND, mode.handler, "-C", FUNCTION_DIR, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, "FUZZ_ACTS": self.loading, "FUZZ_SEED": seed},
            start_new_session=True,
        )
        assert self.init.stdin is not None and self.init.stdout is not None
        self.to_init, self.from_init = self.init.stdin.fileno(), self.init.stdout.fileno()
        os.set_blocking(self.to_init, False)
        self.out, self.rest = bytearray(), b""
        self.ended = False
        self.last_line = time.monotonic()

    def go(self, events: int, progress: Callable[[int], None]) -> None:
        """Send events until `events` of them have an outcome, or the run has ended.

        Raises:
            Failure: pipe-init has broken a promise.
        """
        sent = 0
        pauses: list[tuple[int, int]] = []
        for checkpoint in range(1, CHECKPOINTS + 1):
            goal = events * checkpoint // CHECKPOINTS
            while sent < goal and not self.ended:
                while sent < goal and len(self.judge.waiting) < WINDOW:
                    planned = self.plan.next()
                    self.judge.announce(planned)
                    self.out += planned.event + b"\n"
                    sent += 1
                self._step()
                progress(self.judge.lines)
            while (self.judge.waiting or self.out) and not self.ended:
                self._step()
            if not self.ended:
                pauses.append((victims.resident_kib(self.init.pid), victims.descriptors(self.init.pid)))
        self._finish()
        if events >= ENOUGH_TO_GROW and len(pauses) == CHECKPOINTS:
            (first_kib, first_open), (last_kib, last_open) = pauses[0], pauses[-1]
            if last_kib - first_kib > GROWTH_KIB or last_open - first_open > DESCRIPTORS:
                raise Failure(f"pipe-init has grown: KiB and descriptors in its pauses: {pauses}")

    def _step(self) -> None:
        poll = select.poll()
        poll.register(self.from_init, select.POLLIN)
        if self.out:
            poll.register(self.to_init, select.POLLOUT)
        ready = dict(poll.poll(1000))
        if self.to_init in ready:
            try:
                del self.out[: os.write(self.to_init, self.out)]
            except BrokenPipeError:
                self.out.clear()  # pipe-init has ended, and its output says why
        if self.from_init in ready:
            data = os.read(self.from_init, 2**16)
            self.ended = not data
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                self.last_line = time.monotonic()
                self.judge.take(line)
        if time.monotonic() - self.last_line > HANG:
            waiting = list(self.judge.waiting.values())[:3]
            raise Failure(f"no line for {HANG:.0f} s; waiting: {waiting}\n{self._stack()}")

    def _finish(self) -> None:
        """Close the input, wait for pipe-init's end, and check lines, exit code, processes and log."""
        assert self.init.stdin is not None
        self.init.stdin.close()
        self.out.clear()
        self.last_line = time.monotonic()
        while not self.ended:
            self._step()
        code = self.init.wait(HANG)
        judge = self.judge
        if self.rest:
            raise Failure(f"stdout ends with half a line: {self.rest[:300]!r}")
        if judge.waiting and not judge.ended_early:
            raise Failure(f"{len(judge.waiting)} events have no line; the exit code is {code}")
        if judge.waiting and not judge.unordered and min(judge.waiting) < judge.lines:
            raise Failure("an event without a line stands before one that has a line")
        if code != judge.due_code:
            raise Failure(f"the exit code is {code} and should be {judge.due_code}: {judge.codes}")
        check_nothing_left()
        self._check_log()

    def _check_log(self) -> None:
        """Check that each line of a request has the request's id, and that the init wrote none of UNTRUE."""
        self.stderr.seek(0)
        for number, line in enumerate(self.stderr, 1):
            if line.startswith(b"pipe-init:") and any(text in line for text in UNTRUE):
                raise Failure(f"line {number} of stderr cannot be true: {line[:300]!r}")
            found = SAID.search(line.decode(errors="replace"))
            if found is None or found[2] == "loading":
                continue
            try:
                record = json.loads(line)
            except ValueError:
                raise Failure(f"line {number} of stderr is not JSON: {line[:300]!r}") from None
            if record.get("requestId") != found[2]:
                raise Failure(f"line {number} of stderr does not carry its request's id: {line[:300]!r}")

    def _stack(self) -> str:
        tree = victims.describe_all([self.init.pid])
        self.init.send_signal(signal.SIGABRT)
        self.init.wait()
        return tree

    def last_words(self) -> str:
        """Return the last lines that pipe-init itself wrote to stderr."""
        self.stderr.seek(0)
        lines = [line for line in self.stderr.read().decode(errors="replace").splitlines() if '"platform.' not in line]
        return "\n".join(line[:300] for line in lines[-15:])

    def close(self) -> None:
        """End every process that is left."""
        for pipe in (self.init.stdin, self.init.stdout, self.stderr):
            assert pipe is not None
            pipe.close()
        if self.init.poll() is None:
            self.init.kill()
            self.init.wait()
        end_all()
        self.folder.cleanup()


def check_nothing_left() -> None:
    """Raise Failure if pipe-init has left a process behind."""
    until = time.monotonic() + LAST_SECONDS
    while left := victims.own():
        if time.monotonic() > until:
            raise Failure(f"left behind:\n{victims.describe_all(left)}")
        victims.collect()
        select.select([], [], [], 0.001)


def end_all() -> None:
    """Kill and reap the processes that became children of this one."""
    while left := victims.own():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        victims.collect()
        select.select([], [], [], 0.001)


def run_mode(mode: Mode, events: int, seed: str) -> Counter[str]:
    """Run `events` events in one mode, and count the outcomes. Start another run if an event's attack has ended one."""
    plan, chance = Plan(f"{seed}, {mode.name}"), random.Random(f"{seed}, {mode.name}, runs")
    tally: Counter[str] = Counter()
    left = events
    while left > 0:
        run = Fuzz(mode, plan, seed, unordered=chance.random() < 0.5)
        done = events - left
        try:
            run.go(left, lambda lines, done=done: show(f"{mode.name}: {done + lines} of {events}"))  # type: ignore[misc]
            left -= run.judge.lines
        except Failure as failure:
            raise Failure(f"{failure}\nLoading did: {run.loading}\n{run.last_words()}") from None
        finally:
            run.close()
        tally += run.judge.tally
    return tally


def run_single(events: int, seed: str) -> Counter[str]:
    """Start pipe-init anew for each event, and count the outcomes."""
    plan, chance = Plan(f"{seed}, {SINGLE}"), random.Random(f"{seed}, {SINGLE}, modes")
    tally: Counter[str] = Counter()
    for number in range(events):
        mode, planned = chance.choice(MODES), plan.next()
        ended = subprocess.run(
            [*COMMAND, mode.handler, "-C", FUNCTION_DIR, "-q", f"-t{TIMEOUT}", f"--grace={GRACE}"]
            + ["--error-style=lambda", f"-e{planned.event.decode()}"],
            capture_output=True,
            timeout=HANG,
            check=False,
        )
        judge = Judge(mode)
        judge.announce(planned)
        try:
            judge_single(judge, planned, ended)
            check_nothing_left()
        except Failure as failure:
            said = ended.stderr[-2000:].decode(errors="replace")
            raise Failure(f"event {number}, {mode.handler}: {failure}\n{said}") from None
        tally += judge.tally
        show(f"{SINGLE}: {number + 1} of {events}")
    return tally


def judge_single(judge: Judge, planned: Planned, ended: subprocess.CompletedProcess[bytes]) -> None:
    """Raise Failure if the exit code, stdout or stderr does not fit the event."""
    code, out = ended.returncode, ended.stdout
    if code not in single_codes(planned):
        raise Failure(f"exit code {code} where one of {single_codes(planned)} is due: {planned}")
    if judge.mode.streams:
        lines = out.splitlines() if code == 0 else []
        out = b"[" + b", ".join(lines) + b"]\n" if lines and lines[0] != b'{"forged": true}' else out
    if judge.mode.is_http and code == 0:
        out = json.dumps({"statusCode": 200, "body": out.decode()}).encode()
    if code == 0:
        judge.take(out.removesuffix(b"\n"))
    elif out and not judge.mode.streams:
        raise Failure(f"stdout has {out[:300]!r} in spite of exit code {code}: {planned}")
    else:
        errors = [line for line in ended.stderr.splitlines() if line.startswith(b'{"errorMessage"')]
        why = judge.judge_error(planned, json.loads(errors[-1])) if errors else "no error on stderr"
        if why:
            raise Failure(f"{why}: {planned}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code: 1 if pipe-init has broken a promise."""
    options = parse(argv)
    victims.become_subreaper()
    facts = machine.describe(os.sched_getaffinity(0))
    facts["seed"] = options.seed
    machine.show(facts)
    names = [name for name in [SINGLE, *(mode.name for mode in MODES)] if options.mode in ("all", name)]
    share, kept = -(-options.events // (10 * len(names))), True
    print("\n| mode | events | seconds | outcomes |\n|---|---|---|---|", flush=True)
    for name in names:
        # In the mode of single runs, an event takes as long as ten events in another mode.
        events = share if name == SINGLE and len(names) > 1 else -(-options.events // len(names))
        began = time.monotonic()
        try:
            tally = (
                run_single(events, options.seed) if name == SINGLE else run_mode(by_name(name), events, options.seed)
            )
        except Failure as failure:
            print(f"\n{name}: FAILED: {failure}\nAgain: --mode='{name}' --seed={options.seed}", flush=True)
            kept = False
            continue
        finally:
            show("")
            end_all()
        outcomes = ", ".join(f"{count} {kind}" for kind, count in tally.most_common())
        print(f"| {name} | {events} | {time.monotonic() - began:.0f} | {outcomes} |", flush=True)
    return int(not kept)


def by_name(name: str) -> Mode:
    """Return the mode with this name."""
    return next(mode for mode in MODES if mode.name == name)


def show(text: str) -> None:
    """Show one line of progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [SINGLE, *(mode.name for mode in MODES)]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1000, metavar="N", help="events in all modes together (1000)")
    parser.add_argument(
        "--mode", default="all", choices=["all", *names], metavar="NAME", help=f"one of: {'; '.join(names)} (all)"
    )
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)), help="seed of the events")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
