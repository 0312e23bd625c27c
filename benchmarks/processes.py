"""Measure the time, page faults and memory of processes: a forked worker, a process for each request, many workers.

    python benchmarks/processes.py [--forks N] [--requests N] [--workers N] [--json FILE]

The output also shows the bounds that the project has set itself for two idle CPUs (docs/performance.md). The same run
measures two simpler cases for comparison. In the first case, one worker serves all requests, with the same pauses. The
second case is a fork for each request without any of pipe-init's promises (arms/bare_forks.py).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import figures
import machine
import readiness
from arms.case import ANSWER, CODE_DIR, EVENT, HANDLER, TIMEOUT, request_ids

from pipe_init.engine.supervisor import Supervisor
from pipe_init.kernel import reaper
from pipe_init.kernel.host import SoleHost
from pipe_init.kernel.plain_classes import replace
from pipe_init.kernel.signals import Signals
from pipe_init.log.journal import Journal
from pipe_init.model import PROCESS, REQUEST, TEMPLATE, Function, Request, Settings
from pipe_init.workers import launch
from pipe_init.workers.template_socket import TemplateSocket
from pipe_init.workers.worker_source import worker_hello
from pipe_runtime.wire.messages import INVOKE, JSON

LIMIT = 30.0
"""The seconds after which the program gives up waiting."""

PAUSE = 0.02
"""The seconds between two requests with pauses. It is long enough for the next process to stand by again."""

SINGLE = 200
"""The number of requests with pauses."""

FAULTED = 20
"""The number of workers whose page faults are counted."""

READY_MS, PER_SECOND, P50_US, PRIVATE_MIB = 5.0, 600.0, 300.0, 3.0
"""The bounds that the output shows: fork to READY, requests per second, one request with pauses, and private memory."""

ids = request_ids()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--forks", type=int, default=200, help="workers to fork from the template (%(default)s)")
    parser.add_argument("--requests", type=int, default=3000, help="requests with a process each (%(default)s)")
    parser.add_argument("--workers", type=int, default=50, help="workers whose memory is measured (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    options = parser.parse_args(argv)
    if not reaper.become_subreaper():
        raise SystemExit("processes.py: this system has no subreaper, so there can be no template")
    facts = machine.describe(os.sched_getaffinity(0))
    machine.show(facts)
    signals = Signals()
    signals.install()
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    starts = forks(options.forks)
    ready_faults, request_faults = page_faults(FAULTED)
    rate, single = isolated(signals, options.requests)
    staying = stays(signals)
    bare = bare_forks(options.requests)
    shares = memory(signals, options.workers)
    interpreter = [start_of_an_interpreter() for _ in range(10)]
    rows = [
        ["", "p50", "p99", "bound"],
        row("template to READY, ms", starts, 1e6, f"at most {READY_MS:.0f}"),
        row("page faults from the fork to READY", ready_faults, 1, ""),
        row("page faults for the request after that", request_faults, 1, ""),
        row("page faults of a bare fork, to its answer", bare["faults"], 1, "floor"),
        row("a process per request, one at a time, µs", single, 1e3, f"at most {P50_US:.0f}"),
        row("the same of a worker that stays, µs", staying, 1e3, "floor"),
        row("the same of a bare fork, µs", bare["single_ns"], 1e3, "floor"),
        row("private memory of a worker, MiB", shares, 2**20, f"at most {PRIVATE_MIB:.0f}"),
        row("for comparison: python -c pass, ms", interpreter, 1e6, ""),
    ]
    print(f"\n{figures.table(rows)}")
    print(f"\na process per request, one lane, saturated: {rate:.0f}/s (bound: at least {PER_SECOND:.0f}/s)")
    print(
        f"bare forks, which promise nothing: {bare['per_second']:.0f}/s, {bare['per_second'] / rate:.1f} times as many"
    )
    print(f"an interpreter per request would take {figures.median(interpreter) * rate / 1e9:.1f} times as long")
    if options.json:
        found = {"ready_ns": starts, "single_ns": single, "per_second": rate, "private_bytes": shares}
        found |= {"staying_ns": staying, "bare_forks": bare}
        found |= {"ready_faults": ready_faults, "request_faults": request_faults}
        Path(options.json).write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    return 0


def row(name: str, values: Sequence[float], unit: float, bound: str) -> list[str]:
    """Return a row of the table."""
    ordered = sorted(values)
    return [name, *(f"{figures.quantile(ordered, share) / unit:.2f}" for share in (0.5, 0.99)), bound]


def function(**changes: object) -> Function:
    """Return the function of all benchmarks, in workers that a template forks."""
    plain = Function(
        command=launch.runtime_command(launch.this_python()),
        environment=launch.function_environment(os.environ),
        hello={"handler": HANDLER, "code_dir": CODE_DIR, "environment": {}, "function": {}},
        settings=Settings(window_requests=1),
        start_method=TEMPLATE,
        spin_us=50 if len(os.sched_getaffinity(0)) > 1 else 0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def forks(count: int) -> list[float]:
    """Fork `count` workers one after the other. Return the nanoseconds from each request for a worker to its READY."""
    plain = function()
    template = TemplateSocket(plain.command, plain.environment)
    hello, times = worker_hello(plain), []
    readiness.until_ready(template.pipes, {**hello, "template": {"control_fd": launch.CONTROL_FD}}, LIMIT)
    for ticket in range(1, count + 1):
        start = time.perf_counter_ns()
        worker = template.fork(ticket)
        readiness.until_ready(worker, hello, LIMIT)
        times.append(float(time.perf_counter_ns() - start))
        worker.close_requests()
        while not (reports := template.reports()) or not any(report.ours for report in reports):
            wait_for(template.control)
        os.waitpid(reports[-1].pid, 0)
        worker.close()
    template.close()
    template.pipes.close_requests()
    os.waitpid(template.pipes.pid, 0)
    template.pipes.close()
    return times


def page_faults(count: int) -> tuple[list[float], list[float]]:
    """Return the page faults of workers for single requests: from the fork to READY, and for the request after that."""
    plain = function(isolation=REQUEST)
    template = TemplateSocket(plain.command, plain.environment)
    hello, until_ready, for_request = worker_hello(plain), [], []
    readiness.until_ready(template.pipes, {**hello, "template": {"control_fd": launch.CONTROL_FD}}, LIMIT)
    invoke = {"request_id": next(ids), "timeout_ms": 1000, "deadline_ms": 0, "content_type": JSON, "accept": JSON}
    for ticket in range(1, count + 1):
        worker = template.fork(ticket)
        while not (reports := template.reports()) or not any(report.ours for report in reports):
            wait_for(template.control)
        pid = reports[-1].pid
        connection = readiness.until_ready(worker, hello, LIMIT)
        before = faults_of(pid)
        os.write(worker.requests, connection.send(INVOKE, 1, invoke, EVENT))
        wait_for(worker.answers)
        if not os.read(worker.answers, 65536).endswith(ANSWER):
            raise SystemExit("processes.py: a request failed")
        until_ready.append(float(before))
        for_request.append(float(faults_of(pid) - before))
        worker.close_requests()
        os.waitpid(pid, 0)
        worker.close()
    template.close()
    template.pipes.close_requests()
    os.waitpid(template.pipes.pid, 0)
    template.pipes.close()
    return until_ready, for_request


def faults_of(pid: int) -> int:
    """Wait until a process sleeps, and return how many page faults it has had (proc(5), stat)."""
    while True:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        if fields[0] == "S":
            return int(fields[7])
        time.sleep(0.001)


def wait_for(descriptor: int) -> None:
    """Wait until the descriptor is readable."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if not waiting.poll(LIMIT * 1000):
        raise SystemExit("processes.py: nothing came")


@contextmanager
def supervised(signals: Signals, served: Function) -> Iterator[Supervisor]:
    """Yield a supervisor, and close it at the end."""
    supervisor = Supervisor(served, SoleHost(signals, served.spin_us), Journal(2))
    try:
        yield supervisor
    finally:
        supervisor.close()


def isolated(signals: Signals, count: int) -> tuple[float, list[float]]:
    """Measure a lane that gives each request its own process.

    Returns:
        The requests per second without pauses, and the nanoseconds of each request with pauses.
    """
    settings = Settings(window_requests=1, max_requests=1, prestart=True)
    with supervised(signals, function(isolation=REQUEST, settings=settings)) as supervisor:
        ask(supervisor, 20)
        start = time.perf_counter()
        ask(supervisor, count)
        rate = count / (time.perf_counter() - start)
        return rate, with_pauses(supervisor)


def stays(signals: Signals) -> list[float]:
    """Return the nanoseconds of each request, with the same pauses, if one worker serves all requests."""
    with supervised(signals, function()) as supervisor:
        ask(supervisor, 20)
        return with_pauses(supervisor)


def with_pauses(supervisor: Supervisor) -> list[float]:
    """Return the nanoseconds of requests that arrive when all processes sleep."""
    single = []
    for _ in range(SINGLE):
        rest = time.monotonic() + PAUSE
        signal.setitimer(signal.ITIMER_REAL, PAUSE)  # the signal wakes `step` after the pause
        while time.monotonic() < rest:
            supervisor.step()
        begin = time.perf_counter_ns()
        ask(supervisor, 1)
        single.append(float(time.perf_counter_ns() - begin))
    return single


def bare_forks(count: int) -> dict[str, Any]:
    """Run arms/bare_forks.py in its own process, and return its figures."""
    command = [sys.executable, "-m", "arms.bare_forks", str(count), str(SINGLE), str(PAUSE)]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ask(supervisor: Supervisor, count: int) -> None:
    """Submit `count` requests, each as soon as there is room for it. Raise SystemExit if an answer is wrong."""
    asked = answered = 0
    while answered < count:
        while asked < count and supervisor.has_room():
            supervisor.submit(Request(next(ids), EVENT, JSON, JSON, TIMEOUT))
            asked += 1
        supervisor.step()
        while supervisor.outcomes:
            outcome = supervisor.outcomes.popleft()
            if outcome.payload != ANSWER:
                raise SystemExit(f"processes.py: a request failed: {outcome.problem}")
            answered += 1


def memory(signals: Signals, count: int) -> list[float]:
    """Start `count` workers, send them some requests, and return the bytes of private memory of each worker."""
    with supervised(signals, function(isolation=PROCESS, workers=count)) as supervisor:
        ask(supervisor, 20 * count)
        return [float(private(lane.pid)) for lane in supervisor._lanes if lane.pid]


def private(pid: int) -> int:
    """Return the bytes of a process that no other process shares (proc(5), smaps_rollup)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Private_Clean", "Private_Dirty"))


def start_of_an_interpreter() -> float:
    """Return the nanoseconds that `python -c pass` takes."""
    begin = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return float(time.perf_counter_ns() - begin)


if __name__ == "__main__":
    sys.exit(main())
