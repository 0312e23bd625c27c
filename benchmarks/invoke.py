"""Measure a small event and its result through pipe-init, and compare that with a bare pipe and with HTTP, in one run.

    python benchmarks/invoke.py [--requests N] [--rounds R] [--json FILE] [--plot FILE] [--check]

This file runs the rounds and prints the figures. The folder arms/ has the code that is measured. README.md says what
each arm is.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import figures
import machine
from arms.case import ANSWER, EVENT, HANDLER
from arms.driver import APART, PLACEMENT

FOLDER = Path(__file__).resolve().parent
PIPE = "pipe-init"
FLOORS = ("blocking pipe", "spinning pipe")
PEERS = ("awslambdaric", "awslambdaric, server spins")

BOUND_US = 60.0
BOUND_RATIO = 6.0
"""The bounds that the project has set itself, for requests without pauses on two CPUs. --check tests them."""

WARM_UP = 200
"""The number of requests before the first round. A tenth as many come before each round, to refill the caches."""
PAUSE = 0.001
PACED_SHARE = 10
"""The number of requests without a pause for each request with a pause."""
REPLY_LIMIT = 60.0
"""The seconds that an arm may take for a reply, in addition to the pause and one millisecond for each request."""


@dataclass
class Series:
    """The measurements of one arm at one pace.

    Attributes:
        times: The nanoseconds of each request, a list for each round.
        elapsed: The nanoseconds of all rounds together.
        cpu: The CPU nanoseconds of all rounds together, or None if the kernel does not report them.
    """

    times: list[list[int]] = field(default_factory=list)
    elapsed: int = 0
    cpu: int | None = 0

    def add(self, reply: dict[str, Any]) -> None:
        """Add the reply of one round."""
        self.times.append(reply["times"])
        self.elapsed += reply["elapsed"]
        self.cpu = None if self.cpu is None or reply["cpu"] is None else self.cpu + reply["cpu"]

    def summary(self) -> dict[str, Any]:
        """Return the figures, with times in microseconds."""
        ordered = sorted(time for round in self.times for time in round)
        return {
            "requests": len(ordered),
            "p50": figures.quantile(ordered, 0.5) / 1000,
            "p99": figures.quantile(ordered, 0.99) / 1000,
            "min": ordered[0] / 1000,
            "round_p50": [figures.median(round) / 1000 for round in self.times],
            "per_second": len(ordered) / self.elapsed * 1e9,
            "cycle": self.elapsed / len(ordered) / 1000,
            "cpu_us": None if self.cpu is None else self.cpu / len(ordered) / 1000,
            "percentiles": [figures.quantile(ordered, percent / 100) / 1000 for percent in range(101)],
            "histogram": figures.histogram(ordered),
        }


class Driver:
    """The process of one arm, which is one of the compared ways to serve requests.

    Attributes:
        command: The module in arms/ and its arguments.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        module, *arguments = command
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"arms.{module}", *arguments],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reply(REPLY_LIMIT)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # the arm has already ended, which is no fault
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def run(self, requests: int, pause: float = 0.0) -> dict[str, Any]:
        """Order the arm to measure, and return its reply. Raise SystemExit if the arm fails."""
        assert self.process.stdin is not None
        try:
            print(json.dumps({"requests": requests, "pause": pause}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise SystemExit(f"the arm {self.name!r} has ended; its output is above") from None
        return self.reply(REPLY_LIMIT + requests * (0.001 + pause))

    def reply(self, limit: float) -> dict[str, Any]:
        """Return the next line that the arm writes within `limit` seconds."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], limit)[0]:
            self.process.kill()
            raise SystemExit(f"the arm {self.name!r} did not answer within {limit:.0f} seconds")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the arm {self.name!r} has ended; its output is above")
        reply: dict[str, Any] = json.loads(line)
        return reply


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(argv)
    try:
        cpus = machine.choose_cpus(options.cpus)
    except ValueError as error:
        raise SystemExit(f"--cpus: {error}") from None
    os.sched_setaffinity(0, cpus)
    os.environ[PLACEMENT] = options.placement
    facts = machine.describe(cpus)
    facts["placement"] = "each process on a CPU of its own" if options.placement == APART else "left to the kernel"
    facts["awslambdaric"] = machine.version_under(options.lambda_python, "awslambdaric") or "not installed: left out"
    facts["event"] = f"{len(EVENT)} bytes to {HANDLER}, {len(ANSWER)} bytes back, one in flight"
    facts["rounds"] = f"{options.rounds} of {options.requests} requests back to back, then {paced(options)} paced"
    machine.show(facts)
    measured = measure(commands(options, facts["awslambdaric"]), options)
    back_to_back = {name: series.summary() for name, (series, _) in measured.items()}
    with_pauses = {name: series.summary() for name, (_, series) in measured.items()}
    show("Back to back", back_to_back)
    show(f"{PAUSE * 1000:.0f} ms between two requests", with_pauses)
    print(f"\n{verdict(back_to_back, cpus)[1]}")
    result = {"machine": facts, "back_to_back": back_to_back, "paced": with_pauses}
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        plot(options.plot, back_to_back, facts)
    return 0 if not options.check or verdict(back_to_back, cpus)[0] else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=positive, default=2000, help="requests back to back per round (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=10, help="rounds; each arm has a turn in each (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions to this file; needs matplotlib")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless pipe-init keeps its two bounds")
    parser.add_argument(
        "--placement", choices=(APART, "free"), default=APART, help="CPUs of an arm's two processes (%(default)s)"
    )
    parser.add_argument("--cpus", metavar="LIST", help="CPUs to run on, such as 0,1; default: the first two allowed")
    parser.add_argument("--spin", type=int, metavar="MICROSECONDS", help="--spin of pipe-init; default: the command's")
    parser.add_argument(
        "--lambda-python",
        metavar="PATH",
        default=sys.executable,
        help="the interpreter that has awslambdaric; default: this one",
    )
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """Parse a number above zero for argparse. Raise ValueError if it is not one."""
    number = int(text)
    if number <= 0:
        raise ValueError(text)
    return number


def paced(options: argparse.Namespace) -> int:
    """Return how many requests of each round have a pause after them."""
    requests: int = options.requests
    return max(1, requests // PACED_SHARE)


def commands(options: argparse.Namespace, awslambdaric: str) -> dict[str, list[str]]:
    """Return the command of each arm by its name."""
    pipe = ["pipe"] if options.spin is None else ["pipe", "--spin", str(options.spin)]
    arms = {
        PIPE: pipe,
        "pipe-init, no spin": ["pipe", "--spin", "0"],
        FLOORS[0]: ["floor"],
        FLOORS[1]: ["floor", "--spin", "50"],
        "bare frames": ["bare_frames", "--spin", "50"],
        "multiprocessing.Pipe": ["multiprocessing_pipe"],
    }
    if not awslambdaric.startswith("not"):
        client = ["lambda_client", "--python", options.lambda_python]
        arms[PEERS[0]] = client
        arms[PEERS[1]] = [*client, "--spin", "1000"]
    return arms


def measure(arms: dict[str, list[str]], options: argparse.Namespace) -> dict[str, tuple[Series, Series]]:
    """Return the measurements of each arm: back to back, and with pauses."""
    measured = {name: (Series(), Series()) for name in arms}
    with ExitStack() as stack:
        drivers = [stack.enter_context(Driver(name, command)) for name, command in arms.items()]
        for driver in drivers:
            driver.run(WARM_UP)
        for driver, done in turns(drivers, options.rounds):
            progress(f"round {done // len(drivers) + 1} of {options.rounds}: {driver.name}")
            driver.run(WARM_UP // 10)
            series, series_with_pauses = measured[driver.name]
            series.add(driver.run(options.requests))
            series_with_pauses.add(driver.run(paced(options), PAUSE))
    progress("")
    return measured


def turns(drivers: Sequence[Driver], rounds: int) -> Iterator[tuple[Driver, int]]:
    """Yield each arm in each round, with the number of turns so far. Each round begins with another arm."""
    for round in range(rounds):
        for place in range(len(drivers)):
            yield drivers[(round + place) % len(drivers)], round * len(drivers) + place


def progress(text: str) -> None:
    """Show one line of progress on a terminal. An empty text erases it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def show(title: str, arms: dict[str, dict[str, Any]]) -> None:
    """Print the figures of all arms at one pace."""
    rows = [[title, "p50 µs", "p99", "min", "/s", "CPU µs", "x pipe-init", "(rounds)", *(f"x {f}" for f in FLOORS)]]
    for name, figure in arms.items():
        cpu = "-" if figure["cpu_us"] is None else f"{figure['cpu_us']:.0f}"
        lowest, highest = ratio_range(figure, arms[PIPE])
        rows.append(
            [
                name,
                *(f"{figure[key]:.1f}" for key in ("p50", "p99", "min")),
                f"{figure['per_second']:,.0f}",
                cpu,
                f"{figure['p50'] / arms[PIPE]['p50']:.2f}",
                f"{lowest:.2f}-{highest:.2f}",
                *(f"{figure['p50'] / arms[floor]['p50']:.2f}" for floor in FLOORS),
            ]
        )
    print(f"\n{figures.table(rows)}\n")
    width = max(map(len, arms))
    for name, figure in arms.items():
        print(f"{name:<{width}}  {figures.bars(figure['histogram'])}")
    print(f"{'':<{width}}  {figures.axis()}")


def ratio_range(figure: dict[str, Any], base: dict[str, Any]) -> tuple[float, float]:
    """Return the lowest and the highest ratio of the two medians in a single round."""
    ratios = [mine / its for mine, its in zip(figure["round_p50"], base["round_p50"], strict=True)]
    return min(ratios), max(ratios)


def verdict(arms: dict[str, dict[str, Any]], cpus: set[int]) -> tuple[bool, str]:
    """Return whether pipe-init has kept both bounds, and the sentence that reports it."""
    p50 = float(arms[PIPE]["p50"])
    bounds = f"{PIPE} p50 {p50:.1f} µs (bound: below {BOUND_US:.0f})"
    if len(cpus) != 2:
        return False, f"{bounds}; the bounds are for two CPUs, and this ran on {len(cpus)}"
    if PEERS[0] not in arms:
        return False, f"{bounds}; not compared with awslambdaric, which is not installed (README.md)"
    loop, spun = (arms[name]["cycle"] / arms[PIPE]["cycle"] for name in PEERS)
    kept = bool(p50 < BOUND_US and loop >= BOUND_RATIO)
    times = f"{loop:.1f} times faster than awslambdaric's fetch loop (bound: {BOUND_RATIO:.0f})"
    others = f"{spun:.1f} times if its server spins; from event to answer alone"
    halves = " and ".join(f"{arms[name]['p50'] / p50:.1f}" for name in PEERS)
    return kept, f"{bounds}, {times}: {'kept' if kept else 'NOT KEPT'}; {others}, {halves} times"


def plot(path: str, arms: dict[str, dict[str, Any]], facts: dict[str, str]) -> None:
    """Draw the share of requests that each arm has answered within a time. Raise SystemExit without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install -r benchmarks/requirements.txt") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name, each in arms.items():
        axes.plot(each["percentiles"], range(101), label=f"{name}: p50 {each['p50']:.0f} µs")
    axes.set(xscale="log", xlabel="time from event to answer, µs", ylabel="requests answered within it, %")
    axes.set_title(f"{facts['kernel']}, {facts['processor']}, {facts['python'].partition(',')[0]}", fontsize="small")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
