"""Measure the start time and the memory of `pipe-init exec`, compared with tini and dumb-init.

    python benchmarks/inits.py [--rounds N] [--json FILE] [--source]

Run it on an installed wheel. On Debian: apt-get install tini dumb-init. An init that is not installed is left out, and
the program says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import figures
import machine
from startup import pipe_init_command

WARM_UP = 3
OTHERS = {"tini": ["-s", "--"], "dumb-init": ["--"]}
"""The arguments of each init. tini gets -s because it complains unless it is PID 1 or a subreaper."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="number of starts of each init (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--source", action="store_true", help="measure even if the wheel is not installed")
    options = parser.parse_args(argv)
    wrong = machine.installation()
    if wrong and not options.source:
        raise SystemExit(f"inits.py: {wrong}. Install the wheel (README.md), or say --source.")
    facts = machine.describe(os.sched_getaffinity(0))
    machine.show(facts)
    arms = commands(wrong)
    times = measure(arms, options.rounds)
    kept = {name: memory(command) for name, command in arms.items() if name != "no init"}
    show(times, kept)
    for name in OTHERS:
        if name not in arms:
            print(f"{name} is not installed, so it is left out")
    if wrong:
        print(f"\nThese figures are no measurement: {wrong}.")
    if options.json:
        results = {"machine": facts, "milliseconds": times, "kibibytes": kept}
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def commands(wrong: str) -> dict[str, list[str]]:
    """Return the command prefix that runs a program under each init that is installed."""
    ours = [*pipe_init_command(wrong), "exec"]
    arms = {
        "no init": [],
        "python -c pass": [sys.executable, "-c", "pass"],
        "pipe-init exec": [*ours, "--"],
        "pipe-init exec, read by click": [*ours, "--grace=2", "--"],
    }
    for name, arguments in OTHERS.items():
        path = shutil.which(name)
        if path is not None:
            arms[name] = [path, *arguments]
    return arms


def measure(arms: dict[str, list[str]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Start the program under each init in turn.

    Returns:
        Two times in milliseconds for each start: from spawn to the program's first byte, and to the end of the init.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for number in range(-WARM_UP, rounds):
        names = list(arms)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = run(arms[name], name)
            if number >= 0:
                times[name].append(taken)
    return times


def run(prefix: Sequence[str], name: str) -> tuple[float, float]:
    """Run one program, which writes a byte and ends, under one init. Raise SystemExit if it fails."""
    reader, writer = os.pipe()
    program = ["/bin/echo"] if name != "python -c pass" else []
    command = [*prefix, *program]
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.close(writer)
    os.read(reader, 1)  # the bare interpreter writes nothing: its end closes the pipe
    first = time.perf_counter() - start
    _, status = os.waitpid(pid, 0)
    end = time.perf_counter() - start
    os.close(reader)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with exit code {os.waitstatus_to_exitcode(status)}")
    return first * 1000, end * 1000


def memory(prefix: Sequence[str]) -> dict[str, int]:
    """Return the KiB of memory of an init while its program runs: resident, and private as in smaps_rollup."""
    if prefix[-1] == "pass":
        return {}
    ends = *os.pipe(), *os.pipe()
    gate, key, reader, writer = ends
    command = [*prefix, "/bin/sh", "-c", "echo; read line"]
    actions = [(os.POSIX_SPAWN_DUP2, gate, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.read(reader, 1)
    found = {"resident": 0, "private": 0}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            field, _, value = line.partition(":")
            if field == "Rss":
                found["resident"] = int(value.split()[0])
            elif field.startswith("Private_"):
                found["private"] += int(value.split()[0])
    os.write(key, b"\n")
    os.waitpid(pid, 0)
    for end in ends:
        os.close(end)
    return found


def show(times: dict[str, list[tuple[float, float]]], kept: dict[str, dict[str, int]]) -> None:
    """Print times and memory in one table."""
    rows = [["ms to the first byte, to the end; KiB", "min", "p50", "end min", "end p50", "resident", "private"]]
    for name, measured in times.items():
        firsts, ends = ([pair[side] for pair in measured] for side in (0, 1))
        sizes = kept.get(name) or {}
        cells = [f"{value:.1f}" for value in (min(firsts), figures.median(firsts), min(ends), figures.median(ends))]
        rows.append([name, *cells, *(str(sizes.get(field, "-")) for field in ("resident", "private"))])
    print(f"\n{figures.table(rows)}")


if __name__ == "__main__":
    sys.exit(main())
