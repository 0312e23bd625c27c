"""Measure how long the command and a worker take to start, compared with the import of a library that each one needs.

    python benchmarks/startup.py [--pairs N] [--json FILE] [--source]

Run it on an installed wheel. An editable install, or a checkout on the path, makes every start slower.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import figures
import machine
import readiness
from arms.case import CODE_DIR, HANDLER

from pipe_init.workers import launch
from pipe_runtime.wire.messages import VERSION

WARM_UP = 3
START_LIMIT = 30.0
"""The seconds that a worker may take until READY."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40, help="pairs of starts of each kind (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--source", action="store_true", help="measure even if the wheel is not installed")
    options = parser.parse_args(argv)
    wrong = machine.installation()
    if wrong and not options.source:
        raise SystemExit(f"startup.py: {wrong}. Install the wheel (README.md), or say --source.")
    facts = machine.describe(os.sched_getaffinity(0))
    machine.show(facts)
    python, environment = sys.executable, dict(os.environ)
    command = [*pipe_init_command(wrong), "run", HANDLER, "-C", CODE_DIR, "-e", "{}"]
    results = {
        "command / import click": pairs(
            "pipe-init run", lambda: run(command), lambda: run([python, "-c", "import click"]), options.pairs
        ),
        "worker to READY / import msgpack": pairs(
            "worker to READY",
            lambda: until_ready(launch.runtime_command(python), environment),
            lambda: run([python, "-I", "-c", "import msgpack"]),
            options.pairs,
        ),
    }
    show(results)
    if wrong:
        print(f"\nThese figures are no measurement: {wrong}.")
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": facts, "milliseconds": results}, indent=1) + "\n")
    return 0


def pipe_init_command(wrong: str) -> list[str]:
    """Return the installed command. A source tree has no console script, so return `python -m pipe_init` for it."""
    script = os.path.join(sysconfig.get_path("scripts"), "pipe-init")
    return [sys.executable, "-m", "pipe_init"] if wrong else [script]


def pairs(title: str, ours: Callable[[], float], base: Callable[[], float], count: int) -> list[tuple[float, float]]:
    """Return `count` pairs of times in milliseconds. Each pair is measured close in time, with alternating order."""
    for _ in range(WARM_UP):  # these starts also write the bytecode files
        ours(), base()
    measured = []
    for number in range(count):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{title}: pair {number + 1} of {count}")
        if number % 2:
            second = base()
            measured.append((ours(), second))
        else:
            measured.append((ours(), base()))
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    return measured


def run(command: Sequence[str]) -> float:
    """Return the milliseconds from spawn to exit. Raise SystemExit if the command fails."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], list(command), os.environ, file_actions=silent)
    _, status = os.waitpid(pid, 0)
    elapsed = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with exit code {os.waitstatus_to_exitcode(status)}")
    return elapsed * 1000


def until_ready(command: Sequence[str], environment: dict[str, str]) -> float:
    """Return the milliseconds from fork and exec of a worker to its READY. Raise SystemExit if READY does not come."""
    start = time.perf_counter()
    process = launch.start(command, environment)
    configuration = {"handler": HANDLER, "code_dir": CODE_DIR, "environment": {}, "function": {}}
    readiness.until_ready(process, {"versions": [VERSION], **configuration}, START_LIMIT)
    elapsed = time.perf_counter() - start
    process.dismiss()  # this closes the alive pipe, and the kernel kills the worker
    return elapsed * 1000


def show(results: dict[str, list[tuple[float, float]]]) -> None:
    """Print the medians and the median ratio of the pairs. A delay of both starts of a pair hardly changes it."""
    rows = [["milliseconds", "p50", "base p50", "ratio p50", "p25", "p75", "min", "max"]]
    for name, measured in results.items():
        ratios = sorted(ours / base for ours, base in measured)
        shares = (figures.quantile(ratios, share) for share in (0.5, 0.25, 0.75, 0.0, 1.0))
        middle = (figures.median([pair[side] for pair in measured]) for side in (0, 1))
        rows.append([name, *(f"{value:.1f}" for value in middle), *(f"{value:.2f}" for value in shares)])
    print(f"\n{figures.table(rows)}")


if __name__ == "__main__":
    sys.exit(main())
