"""Run one arm as a process that takes orders from stdin and writes times to stdout, one JSON object on each line.

An arm has its own process for two reasons. The engine of pipe-init owns all children and signals of its process here.
And modules that one arm has imported must not slow down another arm. This module knows no arm in particular.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Protocol

from .case import ANSWER

PLACEMENT = "PIPE_INIT_BENCHMARK_PLACEMENT"
"""The variable that sets on which CPUs an arm's two processes run."""

APART = "apart"
"""The value with which each process runs on its own CPU. Otherwise the kernel puts both on one CPU."""


class Arm(Protocol):
    """A child that answers events.

    Methods:
        exchange: Send the event and return the answer. The driver measures the time of this.
        settle: Finish the exchange before the next one begins. The driver does not measure the time of this.
        close: End the child.
    """

    def exchange(self) -> bytes: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


def serve(arm: Arm) -> None:
    """Carry out the orders on stdin until it ends.

    An order is `{"requests": how many, "pause": seconds between two}`. The reply has three fields. "times" lists the
    nanoseconds of each request. "elapsed" is the nanoseconds of all requests together. "cpu" is the CPU nanoseconds of
    both processes, or null if the kernel does not report them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; an arm ends when stdin ends
    child = only_child()
    if os.environ.get(PLACEMENT) == APART:
        keep_apart(child)
    _say({"ready": True})
    try:
        for line in sys.stdin:
            order = json.loads(line)
            _say(measure(arm, int(order["requests"]), float(order["pause"]), child))
    finally:
        arm.close()


def measure(arm: Arm, requests: int, pause: float, child: int | None) -> dict[str, object]:
    """Carry out one order and return the reply. Raise RuntimeError if an answer is wrong."""
    exchange, settle, clock = arm.exchange, arm.settle, time.perf_counter_ns
    times = []
    cpu_before, begin = cpu_time(child), clock()
    for _ in range(requests):
        start = clock()
        answer = exchange()
        times.append(clock() - start)
        settle()
        if answer != ANSWER:
            raise RuntimeError(f"the answer was {answer!r}, not {ANSWER!r}")
        if pause:
            time.sleep(pause)
    elapsed, cpu_after = clock() - begin, cpu_time(child)
    cpu = None if cpu_before is None or cpu_after is None else cpu_after - cpu_before
    return {"times": times, "elapsed": elapsed, "cpu": cpu}


def keep_apart(child: int | None) -> None:
    """Put this process on the first of its CPUs and the child on the last. Raise RuntimeError without a child's pid."""
    cpus = sorted(os.sched_getaffinity(0))
    if child is None:
        raise RuntimeError("without /proc the child cannot be put on a CPU of its own; use --placement free")
    os.sched_setaffinity(child, cpus[-1:])
    os.sched_setaffinity(0, cpus[:1])


def only_child() -> int | None:
    """Return the pid of this process's child, or None if proc(5) does not show it."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listing:
            pids = listing.read().split()
    except OSError:
        return None
    return int(pids[0]) if len(pids) == 1 else None


def cpu_time(child: int | None) -> int | None:
    """Return the CPU nanoseconds of this process and `child`, or None if the kernel does not report them."""
    if child is None:
        return None
    process_clock = ~child << 3 | 2  # the clock id that clock_getcpuclockid(3) computes from a pid on Linux
    try:
        return time.process_time_ns() + time.clock_gettime_ns(process_clock)
    except OSError:
        return None


def _say(reply: dict[str, object]) -> None:
    print(json.dumps(reply), flush=True)
