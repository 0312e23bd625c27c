"""Tests that idle processes do nothing: the init, the template and the workers use no CPU time and never wake up.

The kernel's own counters tell. After some events the run is kept open by its standard input.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipe_testing import processes
from pipe_testing.command import PipeInit, popen
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured

SECONDS = 1.0
"""The seconds in which nothing may happen."""

FUNCTION = """
import asyncio, os
def plain(event):
    return os.getpid()
async def coroutine(event):
    await asyncio.sleep(0)
    return os.getpid()
"""

RUNS = {
    "exec": ["plain"],
    "exec, 3 workers": ["plain", "-w", "3", "--start-method", "exec"],
    "template": ["plain", "--start-method", "template"],
    "template, 3 workers": ["plain", "-w", "3"],
    "request isolation": ["plain", "--isolation", "request"],
    "request isolation, 3 workers": ["plain", "--isolation", "request", "-w", "3"],
    "threads": ["plain", "-w", "2", "--concurrency", "4"],
    "tasks": ["coroutine", "-w", "2", "--concurrency", "4"],
    "limits": ["plain", "-w", "2", "--max-requests", "3", "--max-growth", "10", "-m", "512"],
}


@pytest.mark.parametrize("name", RUNS)
def test_no_process_wakes_up_without_requests(pipe_init: PipeInit, tmp_path: Path, name: str) -> None:
    (tmp_path / "index.py").write_text(FUNCTION)
    handler, *options = RUNS[name]
    command = ("run", f"index.{handler}", "--events", "-", "-q", *options)
    with popen(pipe_init, *command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"{}\n" * 10)
        served = {json.loads(process.stdout.readline()) for _ in range(10)}
        before = settled(process.pid)
        if "request" not in name:
            assert served & before.keys()
        assert len(before) >= (3 if options else 2)
        after = look(process.pid, SECONDS)
        changes = {processes.describe(pid): (before.get(pid), after.get(pid)) for pid in before.keys() | after.keys()}
        assert {who: change for who, change in changes.items() if change[0] != change[1]} == {}
        process.communicate(timeout=HANGS)
    assert process.returncode == 0


def settled(pid: int) -> dict[int, list[str]]:
    """Return the counters of a process and its descendants, once they have not changed for a moment."""
    ends = time.monotonic() + 30
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    while not before or before != after:
        assert time.monotonic() < ends, f"it does not come to rest: {before}, then {after}"
        try:
            before, after = after, look(pid, 0.3)
        except FileNotFoundError:  # a process has just been replaced
            continue
    return before


def look(pid: int, seconds: float) -> dict[int, list[str]]:
    """Return the same counters after this many seconds without any request."""
    select.select([], [], [], seconds)
    return {each: counters(each) for each in descendants(pid)}


def descendants(pid: int) -> Iterator[int]:
    """Yield the process and all its descendants."""
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield from descendants(int(child))


def counters(pid: int) -> list[str]:
    """Return a text for each thread: how often it slept or was interrupted, and its CPU time in ticks."""
    found = []
    for task in sorted(os.listdir(f"/proc/{pid}/task")):
        status = Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()
        switches = " ".join(line for line in status if "ctxt_switches" in line)
        user, system = Path(f"/proc/{pid}/task/{task}/stat").read_text().rpartition(")")[2].split()[11:13]
        found.append(f"{task}: {switches} user {user} system {system}")
    return found
