"""One arm as a process: orders come on stdin, times go out on stdout, a JSON object per line each.

A process of its own, because a Supervisor owns all children and signals of the process that it is in, and because no
arm is to pay for what another one has imported. It knows no arm in particular.
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
"""The variable that says where an arm's two processes run."""

APART = "apart"
"""Each on a CPU of its own. Left alone, the kernel puts two processes that wake each other on one CPU."""


class Arm(Protocol):
    """A child that answers.

    exchange: hand over the event and return the answer; this is what is timed. settle: what must happen before the
    next exchange, not timed. close: end the child.
    """

    def exchange(self) -> bytes: ...

    def settle(self) -> None: ...

    def close(self) -> None: ...


def serve(arm: Arm) -> None:
    """Carry out the orders on stdin until its end.

    An order: {"requests": how many, "pause": seconds between two}. The reply: {"times": [nanoseconds of each],
    "elapsed": nanoseconds of all, "cpu": CPU nanoseconds of both processes, null where the kernel does not tell}.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the whole process group gets it; stdin's end is what ends an arm
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
    """The reply to one order. RuntimeError: a wrong answer came."""
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
    """This process on the first of its CPUs, its child on the last. RuntimeError: the child is not known."""
    cpus = sorted(os.sched_getaffinity(0))
    if child is None:
        raise RuntimeError("without /proc the child cannot be put on a CPU of its own; use --placement free")
    os.sched_setaffinity(child, cpus[-1:])
    os.sched_setaffinity(0, cpus[:1])


def only_child() -> int | None:
    """The pid of this process's child, where proc(5) tells it."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listing:
            pids = listing.read().split()
    except OSError:
        return None
    return int(pids[0]) if len(pids) == 1 else None


def cpu_time(child: int | None) -> int | None:
    """CPU nanoseconds of this process and of `child`."""
    if child is None:
        return None
    process_clock = ~child << 3 | 2  # what clock_getcpuclockid(3) makes of a pid on Linux
    try:
        return time.process_time_ns() + time.clock_gettime_ns(process_clock)
    except OSError:
        return None


def _say(reply: dict[str, object]) -> None:
    print(json.dumps(reply), flush=True)
