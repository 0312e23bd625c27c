"""Say whether this machine is quiet enough for measurements.

    python benchmarks/noise.py [--seconds N] [--json FILE] [--check]

The program runs the same loop of Python again and again, on each CPU in turn, and compares the times. On a quiet
machine, nearly all of them are close to the shortest one. It also prints the share of the time that the host has given
to other guests ("steal" in proc_stat(5)), and how long it takes to wake a process on another CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures
import machine

LOOP = 5_000
"""The number of additions in one run of the loop. That takes some 100 µs."""

USUAL, RARE = 1.15, 1.6
"""The machine is quiet if the median run takes at most USUAL times the shortest run, and 99 % take at most RARE times.
"""

WAKE_UPS = 200
"""The number of round trips between two processes that sleep."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code: with --check, 1 if the machine is not quiet."""
    options = parse(argv)
    cpus = os.sched_getaffinity(0)
    machine.show(machine.describe(cpus))
    before = stolen()
    found: dict[str, Any] = {f"CPU {cpu}": on_cpu(cpu, options.seconds / len(cpus)) for cpu in sorted(cpus)}
    os.sched_setaffinity(0, cpus)
    taken, total = (after - earlier for after, earlier in zip(stolen(), before, strict=True))
    rows = [["the same loop", "shortest µs", "median", "99 %", "median / shortest", "99 % / shortest"]]
    for name, times in found.items():
        least, usual, rare = times["shortest"], times["median"], times["p99"]
        ratios = f"{usual / least:.2f}", f"{rare / least:.2f}"
        rows.append([name, f"{least:.1f}", f"{usual:.1f}", f"{rare:.1f}", *ratios])
    print(f"\n{figures.table(rows)}")
    steal = 100 * taken / max(total, 1)
    wake_up = round_trip() / 2
    print(f"\ntime given to other guests of the host: {steal:.1f} %; waking a process takes {wake_up:.1f} µs")
    quiet = all(
        times["median"] <= USUAL * times["shortest"] and times["p99"] <= RARE * times["shortest"]
        for times in found.values()
    )
    print("this machine is quiet" if quiet else "this machine is NOT quiet: trust no figure of this hour")
    if options.json:
        result = {**found, "steal_percent": steal, "wake_up_us": wake_up, "quiet": quiet}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    return 0 if quiet or not options.check else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds for all CPUs together (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless the machine is quiet")
    return parser.parse_args(argv)


def on_cpu(cpu: int, seconds: float) -> dict[str, float]:
    """Return the times of the loop on one CPU, in microseconds: the shortest, the median, and the 99th percentile."""
    os.sched_setaffinity(0, {cpu})
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        begun = time.perf_counter_ns()
        total = 0
        for number in range(LOOP):
            total += number
        times.append((time.perf_counter_ns() - begun) / 1000)
    times.sort()
    return {"shortest": times[0], "median": figures.quantile(times, 0.5), "p99": figures.quantile(times, 0.99)}


def stolen() -> tuple[int, int]:
    """Return the clock ticks that other guests of the host have taken, and all ticks, since boot; (0, 0) if unknown."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return (ticks[7] if len(ticks) > 7 else 0), sum(ticks)


def round_trip() -> float:
    """Return the median time in microseconds of a byte to another process and back. Both processes sleep meanwhile."""
    there, here = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(there[1])
        while byte := os.read(there[0], 1):
            os.write(here[1], byte)
        os._exit(0)
    times = []
    for _ in range(WAKE_UPS):
        begun = time.perf_counter_ns()
        os.write(there[1], b".")
        os.read(here[0], 1)
        times.append((time.perf_counter_ns() - begun) / 1000)
    for end in (there[1], there[0], *here):
        os.close(end)
    os.waitpid(pid, 0)
    return figures.median(times)


if __name__ == "__main__":
    sys.exit(main())
