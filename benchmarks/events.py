"""Send many events through `pipe-init run --events`, and measure lines per second and whether memory grows.

    python benchmarks/events.py [--events N | --million] [--json FILE]

The program also counts open descriptors. The input and the output are files, so that no other process needs a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import figures
import machine
from arms.case import CODE_DIR, HANDLER
from startup import pipe_init_command

MILLION = 1_000_000
INTERVAL = 0.1
"""The seconds between two samples of the processes' memory and descriptors."""

LINE = '"hello {:07d}"\n'
"""The result line of each event. All lines have the same length, so the file's size shows how many there are."""
LINE_SIZE = len(LINE.format(0))
BATCH = 10_000
"""How many result lines to compare at once."""


class Sample(NamedTuple):
    """One sample: seconds since the start, results so far, and resident KiB and descriptors of both processes."""

    seconds: float
    lines: int
    init_kib: int
    worker_kib: int
    init_fds: int
    worker_fds: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code: 1 if a result was wrong or missing."""
    options = parse(argv)
    count = MILLION if options.million else options.events
    wrong = machine.installation()
    facts = machine.describe(os.sched_getaffinity(0))
    facts["events"] = f"{count:,} to {HANDLER}, {LINE_SIZE} bytes back for each"
    machine.show(facts)
    with tempfile.TemporaryDirectory() as folder:
        events, results = Path(folder, "events.jsonl"), Path(folder, "results.jsonl")
        write_events(events, count)
        command = [*pipe_init_command(wrong), "run", HANDLER, "-C", CODE_DIR, "-q", "--events", str(events)]
        with open(results, "wb") as output:
            code, seconds, samples = run(command, output.fileno(), count)
        right = code == 0 and all_right(results, count)
    show(samples, count, seconds)
    if options.json:
        report = {"machine": facts, "seconds": seconds, "samples": [sample._asdict() for sample in samples]}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print(f"exit code {code}; every result there, right and in order: {'yes' if right else 'NO'}")
    return 0 if right else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--events", type=int, default=200_000, help="number of events to send (%(default)s)")
    size.add_argument("--million", action="store_true", help="send 1,000,000 events")
    parser.add_argument("--json", metavar="FILE", help="write the samples to this file")
    return parser.parse_args(argv)


def write_events(path: Path, count: int) -> None:
    """Write `count` events to the file. Each event has a different name."""
    with open(path, "w") as file:
        file.writelines(f'{{"name": "{number:07d}"}}\n' for number in range(count))


def all_right(path: Path, count: int) -> bool:
    """Return whether the file has the results of all events, in order, and nothing else."""
    with open(path) as file:
        for first in range(0, count, BATCH):
            expected = "".join(LINE.format(number) for number in range(first, min(first + BATCH, count)))
            if file.read(len(expected)) != expected:
                return False
        return not file.read(1)


def run(command: Sequence[str], output: int, count: int) -> tuple[int, float, list[Sample]]:
    """Run the command with its stdout on the descriptor `output`. Return exit code, seconds and samples."""
    samples: list[Sample] = []
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output)
    try:
        while True:
            try:
                code = process.wait(INTERVAL)
                break
            except subprocess.TimeoutExpired:
                lines = os.fstat(output).st_size // LINE_SIZE
                samples.extend(look(process.pid, time.perf_counter() - start, lines))
                progress(lines, count, time.perf_counter() - start)
    except BaseException:  # also for KeyboardInterrupt: end the child before this program ends
        process.terminate()
        process.wait()
        raise
    elapsed = time.perf_counter() - start
    progress(0, 0, 0)
    return code, elapsed, samples


def look(init: int, seconds: float, lines: int) -> Iterator[Sample]:
    """Yield one sample. Yield none if the worker has not started yet."""
    try:
        worker = int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
        pair = (init, worker)
        kib = [resident(pid) for pid in pair]
        fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pair]
    except (OSError, IndexError):
        return
    yield Sample(seconds, lines, *kib, *fds)


def resident(pid: int) -> int:
    """Return a process's resident memory in KiB, from proc(5)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def progress(lines: int, count: int, seconds: float) -> None:
    """Show one line of progress on a terminal, or erase it if `count` is 0."""
    if not sys.stderr.isatty():
        return
    text = f"{lines:,} of {count:,} events, {lines / seconds:,.0f}/s" if count else ""
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def show(samples: Sequence[Sample], count: int, seconds: float) -> None:
    """Print the figures. Leave out the first tenth of the memory samples, because caches and buffers fill meanwhile."""
    print(f"\n{count / seconds:,.0f} lines/s, start and end of the command included ({seconds:.2f} s)")
    steady = [sample for sample in samples if sample.lines >= count / 10]
    if len(steady) < 2:
        print("too short to say more: give it more --events")
        return
    first, last = steady[0], steady[-1]
    if last.seconds > first.seconds:
        rate = (last.lines - first.lines) / (last.seconds - first.seconds)
        print(f"{rate:,.0f} lines/s from {first.lines:,} to {last.lines:,}")
    for who, column in (("init", 2), ("worker", 3)):
        values = [int(sample[column]) for sample in steady]
        fds = f"descriptors {first[column + 2]} to {last[column + 2]}"
        print(
            f"{who:<7} {values[0]:,} KiB at a tenth, {values[-1]:,} at the end ({values[-1] - values[0]:+,}), "
            f"highest {max(values):,}; {fds}"
        )
        print(f"        {figures.bars(shorten(values, 72))}")


def shorten(values: Sequence[int], width: int) -> list[int]:
    """Return at most `width` values. Each is the highest of as many neighbouring values as needed."""
    step = max(1, -(-len(values) // width))
    return [max(values[at : at + step]) for at in range(0, len(values), step)]


if __name__ == "__main__":
    sys.exit(main())
