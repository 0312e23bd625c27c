"""Tests of real workers' memory limits: what fits, what is refused, and how a death for lack of memory is reported."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipe_init.kernel import exit_codes
from pipe_init.limits import rlimits
from pipe_init.limits.rlimits import Limits
from pipe_init.workers import launch
from pipe_testing.supervision import Driver, supervised, within

MIB = 2**20
LIMIT = 512 * MIB
"""More than this process has ever used, because a forked child starts with its parent's peak."""

HANDLER = f"""
import os, signal, subprocess, sys

LIMIT = {LIMIT}
held = []

def handler(event, context):
    return eval(event)

def fill(keep):
    try:
        while True:
            held.append(b"x" * {8 * MIB})
    except MemoryError:
        size = sum(map(len, held))
        if not keep:
            held.clear()
        return size

def fill_and_die(number):
    fill(True)
    os.kill(os.getpid(), number)
"""


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Driver]:
    """Yield a driver of a supervisor that runs HANDLER with LIMIT."""
    (tmp_path / "index.py").write_text(HANDLER)
    hello = {"handler": "index.handler", "code_dir": str(tmp_path)}
    command = launch.runtime_command(sys.executable)
    with supervised(tmp_path / "log", command, hello=hello, limits=Limits(memory=LIMIT)) as driver:
        yield driver


def code(expression: str) -> bytes:
    """Return an event with this expression."""
    return f'"{expression}"'.encode()


def test_beyond_the_limit_is_a_memory_error_and_the_worker_lives_on(limited: Driver) -> None:
    before = limited.ask(code("os.getpid()")).payload
    outcome = limited.ask(code("len(bytes(LIMIT))"))
    assert outcome.problem is not None
    assert outcome.problem["error_type"] == "MemoryError"
    assert outcome.exit_code == exit_codes.FUNCTION_FAILED
    assert limited.ask(code("os.getpid()")).payload == before


def test_most_of_the_limit_can_be_used(limited: Driver) -> None:
    used = int(limited.ask(code("fill(False)")).payload)
    assert 0.8 * LIMIT < used < LIMIT


def test_children_of_the_worker_have_the_limit_too(limited: Driver) -> None:
    child = "subprocess.run([sys.executable, '-S', '-c', 'bytes(%d)' % LIMIT], stderr=subprocess.PIPE).stderr.decode()"
    outcome = limited.ask(code(child))
    assert b"MemoryError" in outcome.payload


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGKILL", "SIGABRT", "SIGBUS"])
def test_a_death_near_the_limit_is_one_of_memory(limited: Driver, number: str) -> None:
    outcome = limited.ask(code(f"fill_and_die(signal.{number})"))
    assert outcome.problem is not None
    assert outcome.problem["error_type"] == "Runtime.OutOfMemory"
    assert f"it may allocate {LIMIT // MIB} MB" in outcome.problem["error_message"]
    assert outcome.exit_code == exit_codes.OUT_OF_MEMORY
    assert outcome.measured["peak_memory_bytes"] > 0.9 * LIMIT
    assert limited.ask(code("1 + 1")).payload == b"2"


@pytest.mark.parametrize(("number", "exit_code"), [("SIGSEGV", 139), ("SIGKILL", 137)])
def test_a_death_far_from_the_limit_is_not(limited: Driver, number: str, exit_code: int) -> None:
    outcome = limited.ask(code(f"os.kill(os.getpid(), signal.{number})"))
    assert outcome.problem is not None
    assert outcome.problem["error_type"] == "Runtime.ExitError"
    assert outcome.exit_code == exit_code


def test_an_exit_near_the_limit_is_not_one_of_memory(limited: Driver) -> None:
    outcome = limited.ask(code("(fill(True), os._exit(3))"))
    assert outcome.problem is not None
    assert outcome.problem["error_type"] == "Runtime.ExitError"
    assert outcome.exit_code == exit_codes.FUNCTION_FAILED


def test_a_lower_hard_limit_stays() -> None:
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    process = launch.start(command, {})
    try:
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (100 * MIB, 200 * MIB))
        rlimits.apply(process.pid, Limits(memory=300 * MIB))
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA) == (200 * MIB, 200 * MIB)
        rlimits.apply(process.pid, Limits(memory=150 * MIB))
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA) == (150 * MIB, 150 * MIB)
    finally:
        with within():
            process.dismiss()
    with pytest.raises(OSError):
        rlimits.apply(process.pid, Limits(memory=150 * MIB))


def test_our_own_limit_is_untouched(limited: Driver) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limited.ask(code("1"))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_tasks_of_this_user_are_counted() -> None:
    before = rlimits.tasks_of_user()
    assert before >= 1
    children = [launch.start([sys.executable, "-I", "-S", "-c", "input()"], {}) for _ in range(20)]
    try:
        assert rlimits.tasks_of_user() >= before + 20 - 15  # other processes may have ended meanwhile
    finally:
        with within():
            for child in children:
                child.dismiss()
