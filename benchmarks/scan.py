"""Measure how long pipe-init takes to check that a result is one JSON value, compared with json.loads.

    python benchmarks/scan.py [--seconds S] [--rounds N] [--json FILE]

Each text has a turn in each round. The shortest time of all rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import machine

from pipe_init.cli.results import json_scan
from pipe_init.cli.results.json_text import is_utf8


def record(number: int) -> dict[str, Any]:
    """Return a typical record, as functions return it."""
    return {"id": number, "name": f"item {number}", "price": number / 3, "tags": ["a", "b"], "ok": True, "none": None}


def texts() -> dict[str, bytes]:
    """Return the texts to check: small texts, typical texts, and texts that are slow to scan or to load."""
    answer = {"statusCode": 200, "body": "hello", "headers": {"a": "b"}}
    records = [record(number) for number in range(8000)]
    values = {
        "a number": 12,
        "an answer": answer,
        "records": records,
        "a list of records in a text": {**answer, "body": json.dumps(records)},
        "floats": [number / 7 for number in range(50_000)],
        "integers": list(range(150_000)),
        "base64": "QUJD" * 250_000,
        "a text that is not ASCII": "äöü" * 170_000,
        "values in values": {"a": [{"b": {"c": [{"d": [number, {"e": number}]}]}} for number in range(20_000)]},
    }
    found = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in values.items()}
    return {**found, "brackets, 90,000 deep": b"[" * 90_000 + b"]" * 90_000}


def least(call: Callable[[bytes], object], data: bytes, seconds: float) -> float:
    """Return the microseconds of the fastest call, out of as many as fit into `seconds`."""
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        repeat = max(1, 20_000 // (len(data) + 100))
        start = time.perf_counter()
        for _ in range(repeat):
            call(data)
        times.append((time.perf_counter() - start) / repeat * 1e6)
    return min(times)


def scan(data: bytes) -> bool:
    """Check a result as a run of many events does."""
    answers = []

    def run() -> Iterator[None]:
        answers.append((yield from json_scan.scan(data, 0, len(data))))

    for _ in run():
        continue
    return is_utf8(data) and answers[0]


def loads(data: bytes) -> None:
    """Decode the result, for comparison."""
    try:
        json.loads(data)
    except RecursionError:
        return


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds for each text in each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; each text has a turn in each (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(argv)
    machine.installation()
    machine.show(machine.describe(os.sched_getaffinity(0)))
    found: dict[str, dict[str, float]] = {}
    data_of = texts()
    for name, data in data_of.items():
        assert scan(data), name
    for _ in range(options.rounds):
        for name, data in data_of.items():
            took = {"scan_us": least(scan, data, options.seconds), "loads_us": least(loads, data, options.seconds)}
            before = found.setdefault(name, took)
            found[name] = {key: min(value, before[key]) for key, value in took.items()} | {"bytes": len(data)}
    print(f"\n{'':<28} {'bytes':>10} {'scan, µs':>11} {'MB/s':>7} {'loads, µs':>11} {'ratio':>6}")
    for name, took in found.items():
        took["ratio"] = took["scan_us"] / took["loads_us"]
        speed = took["bytes"] / took["scan_us"]
        print(
            f"{name:<28} {took['bytes']:>10,.0f} {took['scan_us']:>11,.1f} {speed:>7,.0f} {took['loads_us']:>11,.1f} "
            f"{took['ratio']:>6.1f}"
        )
    print("json.loads gives up the 90,000 brackets early: RecursionError.")
    if options.json is not None:
        options.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
