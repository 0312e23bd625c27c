"""Stream a large body through `pipe-init run --raw -f -` and back, and measure bytes per second and peak memory.

    python benchmarks/streams.py [--mebibytes N] [--way iterator|file|asynchronous] [--limit MIB]

The program makes and compares the body piece by piece, and never stores all of it. The peaks are VmHWM of proc(5). The
program reads them when all blocks except the last block have come back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import machine
from startup import pipe_init_command

CODE_DIR = Path(__file__).resolve().parent / "arms"
BLOCK = 1024 * 1024
PROGRESS = 64
"""The number of blocks between two updates of the progress line on a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code: 1 if the body came back changed or a peak is above the limit."""
    options = parse(argv)
    wrong = machine.installation()
    facts = machine.describe(os.sched_getaffinity(0))
    facts["body"] = f"{options.mebibytes:,} MiB there and back, taken by echo.{options.way}"
    machine.show(facts)
    handler = f"echo.{options.way}"
    command = [*pipe_init_command(wrong), "run", handler, "-C", str(CODE_DIR), "-q", "--raw", "-t", "3600", "-f", "-"]
    start = time.perf_counter()
    code, right, peaks = run(command, options.mebibytes)
    seconds = time.perf_counter() - start
    print(f"\n{options.mebibytes / seconds:,.0f} MiB/s in each direction, start and end included ({seconds:.2f} s)")
    for who, kib in peaks.items():
        print(f"{who:<7} {kib / 1024:,.1f} MiB at most")
    small = bool(peaks) and max(peaks.values()) < options.limit * 1024
    print(f"exit code {code}; all came back as it was sent: {'yes' if right else 'NO'}")
    print(f"each below {options.limit} MiB: {'yes' if small else 'NO'}")
    return 0 if code == 0 and right and small else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the body in MiB (%(default)s)")
    parser.add_argument(
        "--way",
        choices=("iterator", "file", "asynchronous"),
        default="iterator",
        help="how the function reads (%(default)s)",
    )
    parser.add_argument("--limit", type=int, default=100, help="MiB that each process may use (%(default)s)")
    return parser.parse_args(argv)


def blocks(count: int) -> Iterator[bytes]:
    """Yield `count` blocks that all differ."""
    noise = os.urandom(BLOCK)
    for number in range(count):
        yield number.to_bytes(8, "big") + noise[8:]


def run(command: Sequence[str], count: int) -> tuple[int, bool, dict[str, int]]:
    """Run the command with a body of `count` blocks.

    Returns:
        The exit code, whether the body came back unchanged, and the highest resident KiB of each process.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    peaks: dict[str, int] = {}
    sent, returned = hashlib.sha256(), hashlib.sha256()
    rest_is_back = threading.Event()
    writer = threading.Thread(target=write, args=(process.stdin, count, sent.update, rest_is_back))
    writer.start()
    try:
        size = 0
        while data := process.stdout.read1(BLOCK):  # type: ignore[attr-defined]  # of a BufferedReader
            returned.update(data)
            if size // BLOCK // PROGRESS != (size + len(data)) // BLOCK // PROGRESS:
                progress(f"{(size + len(data)) // BLOCK:,} of {count:,} MiB")
            size += len(data)
            if size >= (count - 1) * BLOCK and not rest_is_back.is_set():
                peaks = highest(process.pid)
                rest_is_back.set()
    except BaseException:  # also for KeyboardInterrupt: end the child before this program ends
        process.terminate()
        raise
    finally:
        rest_is_back.set()
        process.stdout.close()
        code = process.wait()
        writer.join()
        progress("")
    return code, sent.digest() == returned.digest() and size == count * BLOCK, peaks


def write(stdin: IO[bytes], count: int, note: Callable[[bytes], None], rest_is_back: threading.Event) -> None:
    """Write the body. Write the last block only when all others have come back, so that both processes still run."""
    try:
        with stdin:
            for number, block in enumerate(blocks(count), 1):
                if number == count:
                    rest_is_back.wait()
                stdin.write(block)
                note(block)
    except BrokenPipeError:
        return  # the exit code says why


def highest(init: int) -> dict[str, int]:
    """Return the highest resident memory so far, in KiB, of the init and its worker."""
    worker = int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
    return {"init": high_water(init), "worker": high_water(worker)}


def high_water(pid: int) -> int:
    """Return VmHWM of a process in KiB, as in proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def progress(text: str) -> None:
    """Show one line of progress on a terminal. An empty text erases it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
