"""How long a start takes, against the least that it could: the whole command, and a worker from exec to READY.

    python benchmarks/startup.py [--pairs N] [--json FILE] [--source]

Run it on an installed wheel: an editable install, or a checkout on the path, makes every start slower.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import figures
import machine
from arms.case import CODE_DIR, HANDLER

from pipe_init.workers import launch
from pipe_init.workers.link import Worker
from pipe_runtime.wire.messages import HELLO, READY, VERSION

WARM_UP = 3
START_LIMIT = 30.0
"""Seconds that a worker may take to be ready."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40, help="starts of each kind, in turns (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--source", action="store_true", help="go on although it is not the installed wheel")
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
    """The console script of this environment; for a source tree, where there is none, the module."""
    script = os.path.join(sysconfig.get_path("scripts"), "pipe-init")
    return [sys.executable, "-m", "pipe_init"] if wrong else [script]


def pairs(title: str, ours: Callable[[], float], base: Callable[[], float], count: int) -> list[tuple[float, float]]:
    """`count` measurements of (ours, base) in milliseconds, each pair close in time, taking turns at being first."""
    for _ in range(WARM_UP):  # and the bytecode gets written
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
    """Milliseconds from spawn to exit. SystemExit: it failed."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], list(command), os.environ, file_actions=silent)
    _, status = os.waitpid(pid, 0)
    elapsed = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} ended with exit code {os.waitstatus_to_exitcode(status)}")
    return elapsed * 1000


def until_ready(command: Sequence[str], environment: dict[str, str]) -> float:
    """Milliseconds from fork and exec of a worker to its READY. SystemExit: it did not become ready."""
    start = time.perf_counter()
    process = launch.start(command, environment)
    worker = Worker(process)
    configuration = {"handler": HANDLER, "code_dir": CODE_DIR, "environment": {}, "function": {}}
    worker.send(HELLO, metadata={"versions": [VERSION], **configuration})
    waiting = select.poll()
    waiting.register(process.answers, select.POLLIN)
    ready = False
    while not ready and not worker.ended and waiting.poll(START_LIMIT * 1000):
        ready = any(event.kind == READY for event in worker.events())
    elapsed = time.perf_counter() - start
    process.dismiss()  # the worker dies of its closed alive pipe
    if not ready:
        raise SystemExit("the worker did not become ready")
    return elapsed * 1000


def show(results: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and the ratio pair by pair: what was slow in both of a pair does not count."""
    rows = [["milliseconds", "p50", "base p50", "ratio p50", "p25", "p75", "min", "max"]]
    for name, measured in results.items():
        ratios = sorted(ours / base for ours, base in measured)
        shares = (figures.quantile(ratios, share) for share in (0.5, 0.25, 0.75, 0.0, 1.0))
        middle = (figures.median([pair[side] for pair in measured]) for side in (0, 1))
        rows.append([name, *(f"{value:.1f}" for value in middle), *(f"{value:.2f}" for value in shares)])
    print(f"\n{figures.table(rows)}")


if __name__ == "__main__":
    sys.exit(main())
