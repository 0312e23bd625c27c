"""Measure the costs of waiting for an answer, for functions of several durations and for several values of --spin.

    python benchmarks/waiting.py [--placement apart,free,one] [--spin default,0,50,200,1000] [--rounds N] [--plot FILE]

Each request is sent after the answer to the previous request. For each duration of the function, the table shows the
p50 of a request's time and the CPU time that both processes used for a request. Both figures leave out the function's
own time. Each round measures all values of --spin in turn, and begins with a different one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import figures
import machine
from arms.driver import only_child
from arms.pipe import default_spin
from invoke import progress

from pipe_init.engine.supervisor import Supervisor
from pipe_init.kernel.host import SoleHost
from pipe_init.kernel.signals import Signals
from pipe_init.log.journal import Journal
from pipe_init.model import Function, Request, Settings
from pipe_init.workers import launch
from pipe_runtime.wire.messages import JSON

CODE_DIR = Path(__file__).resolve().parent / "arms"
DURATIONS = (0, 20, 50, 100, 300, 1000)
PLACEMENTS = {"apart": "a CPU for each process", "free": "where the kernel puts them", "one": "both on one CPU"}
WARM_UP = 300
"""The number of requests of each duration before the measured ones. By then, both sides have learned when to spin."""

Measured = dict[int, tuple[float, float]]
"""{duration of the function: (p50, CPU time) of a request}, all in microseconds, without the function's own time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
    options = parse(argv)
    if options.turn:
        spin, placement = options.turn
        print(json.dumps(list(turn(int(spin), placement, options.functions, options.requests).items())))
        return 0
    facts = machine.describe(os.sched_getaffinity(0))
    machine.show(facts)
    found: dict[str, dict[str, Measured]] = {}
    for placement in options.placement:
        found[placement] = measure(placement, options)
        show(placement, found[placement], options.functions)
    if options.plot:
        plot(options.plot, found, options.functions)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--placement", type=lambda text: text.split(","), default=list(PLACEMENTS))
    parser.add_argument("--spin", type=lambda text: text.split(","), default=["default", "0", "50", "200", "1000"])
    parser.add_argument(
        "--functions",
        type=lambda text: [int(each) for each in text.split(",")],
        default=list(DURATIONS),
        metavar="LIST",
        help="microseconds that the function takes (0,20,50,100,300,1000)",
    )
    parser.add_argument("--requests", type=int, default=2000, help="requests of each duration and turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each cap (%(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw p50 against the function's time; needs matplotlib")
    parser.add_argument("--turn", nargs=2, metavar=("SPIN", "PLACEMENT"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def measure(placement: str, options: argparse.Namespace) -> dict[str, Measured]:
    """Return {value of --spin: the medians of all rounds}."""
    rounds: dict[str, list[Measured]] = {name: [] for name in options.spin}
    for round in range(options.rounds):
        for place in range(len(options.spin)):
            name = options.spin[(place + round) % len(options.spin)]
            progress(f"{placement}: round {round + 1} of {options.rounds}, --spin {name}")
            spin = default_spin() if name == "default" else int(name)
            command = [sys.executable, __file__, "--turn", str(spin), placement, "--requests", str(options.requests)]
            command += ["--functions", ",".join(map(str, options.functions))]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            rounds[name].append({each: tuple(values) for each, values in json.loads(done.stdout)})
    progress("")
    return {
        name: {
            each: tuple(statistics.median(turn[each][place] for turn in turns) for place in (0, 1))  # type: ignore[misc]
            for each in options.functions
        }
        for name, turns in rounds.items()
    }


def turn(spin: int, placement: str, durations: Sequence[int], requests: int) -> Measured:
    """Run a worker with this value of --spin, with the init in this process. Return the measured figures."""
    if placement == "one":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    function = Function(
        command=launch.runtime_command(launch.this_python()),
        environment=launch.function_environment(os.environ),
        hello={"handler": "spend.handler", "code_dir": str(CODE_DIR), "environment": {}, "function": {}},
        settings=Settings(window_requests=1),
        spin_us=spin,
    )
    signals = Signals()
    signals.install()
    supervisor, ids = Supervisor(function, SoleHost(signals, spin), Journal(2)), count(1)

    def exchange(microseconds: int) -> int:
        start = time.perf_counter_ns()
        supervisor.submit(Request(f"request-{next(ids)}", b"%d" % microseconds, JSON, JSON, 60.0))
        while not supervisor.outcomes:
            supervisor.step()
        outcome = supervisor.outcomes.popleft()
        if outcome.problem is not None:
            raise RuntimeError(f"the function failed: {outcome.problem}")
        return time.perf_counter_ns() - start

    exchange(0)
    worker = only_child()
    assert worker is not None, "the worker is the only child, and proc(5) tells its pid"
    if placement == "apart":
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(worker, cpus[-1:])
        os.sched_setaffinity(0, cpus[:1])
    measured: Measured = {}
    for duration in durations:
        for _ in range(WARM_UP):
            exchange(duration)
        before = cpu_time(worker)
        times = [exchange(duration) for _ in range(requests)]
        spent = (cpu_time(worker) - before) / requests
        measured[duration] = figures.median(times) / 1000 - duration, spent / 1000 - duration
    supervisor.close()
    return measured


def cpu_time(worker: int) -> int:
    """Return the CPU time in nanoseconds that this process and the worker have used together, from proc(5)."""
    return time.process_time_ns() + int(Path(f"/proc/{worker}/schedstat").read_text().split()[0])


def show(placement: str, found: dict[str, Measured], durations: Sequence[int]) -> None:
    """Print the table for one way of placing the processes on CPUs."""
    rows = [[f"{placement}: function, µs", *(f"spin {name}: p50" + "  CPU" for name in found)]]
    for duration in durations:
        cells = [f"{measured[duration][0]:.0f}  {measured[duration][1]:4.0f}" for measured in found.values()]
        rows.append([str(duration), *cells])
    print(f"\n{PLACEMENTS[placement]}; microseconds of a request beyond the function's own\n\n{figures.table(rows)}")


def plot(path: str, found: dict[str, dict[str, Measured]], durations: Sequence[int]) -> None:
    """Draw the p50 over the duration of the function. Raise SystemExit if matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install -r benchmarks/requirements.txt") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(5 * len(found), 4), sharey=True, layout="constrained")
    for each, (placement, measured) in zip([axes] if len(found) == 1 else axes, found.items(), strict=True):
        for name, values in measured.items():
            each.plot(durations, [values[duration][0] for duration in durations], marker="o", label=f"spin {name}")
        each.set(title=PLACEMENTS[placement], xlabel="the function's time, µs", xscale="symlog")
        each.grid(alpha=0.3)
    figure.supylabel("p50 of a request without the function's time, µs")
    pyplot.legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
