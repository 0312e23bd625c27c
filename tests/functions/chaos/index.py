"""A function that answers, prints, forks, crashes, exits or stops, as its event says.

benchmarks/chaos.py chooses the events. First of all, the function notes that the request has begun. It writes a line
with number, pid and request id to the file that CHAOS_LOG names. It does not know which processes are killed from
outside.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

LEFT_BEHIND_SECONDS = 60.0
"""The seconds that a child lives if no process ends it: longer than any test waits."""

MOST_CHILDREN = 3
"""The most children and daemons that one process leaves behind."""

log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
children = 0


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    os.write(log, b"%d %d %s\n" % (event["n"], os.getpid(), context.aws_request_id.encode()))
    if event["ms"]:
        time.sleep(event["ms"] / 1000)
    DO[event["do"]](event["n"])
    return {"n": event["n"], "id": context.aws_request_id}


def nothing(number: int) -> None:
    """Do nothing else: the answer is all."""


def say(number: int) -> None:
    print(f"event {number}", "x" * (number % 200))
    print(f"event {number}", file=sys.stderr)


def fail(number: int) -> None:
    raise ValueError(f"event {number}")


def leave_child(number: int, daemon: bool = False) -> None:
    """Start a child that outlives the request and keeps open all that it has inherited."""
    global children
    if children >= MOST_CHILDREN:
        return
    children += 1
    if os.fork():
        return
    try:
        if daemon:
            os.setsid()
            if os.fork():
                os._exit(0)
        with open("/proc/self/comm", "w") as name:
            name.write("chaos-child")
        time.sleep(LEFT_BEHIND_SECONDS)
    finally:
        os._exit(0)


def leave_daemon(number: int) -> None:
    leave_child(number, daemon=True)


def crash(number: int) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(LEFT_BEHIND_SECONDS)


def leave(number: int) -> None:
    os._exit(3)


def stop(number: int) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(number: int) -> None:
    time.sleep(LEFT_BEHIND_SECONDS)


DO = {
    "echo": nothing,
    "print": say,
    "raise": fail,
    "child": leave_child,
    "daemon": leave_daemon,
    "segfault": crash,
    "exit": leave,
    "stop": stop,
    "hang": hang,
}


def linger() -> None:
    """Delay the parent after every second fork.

    Between a fork and its report there is a short moment. The delay makes it long enough to be hit by a strike.
    """
    if random.random() < 0.5:
        time.sleep(random.random() * float(os.environ.get("CHAOS_FORK_MS", "0")) / 1000)


os.register_at_fork(after_in_parent=linger)
