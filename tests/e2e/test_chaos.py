"""Tests that kill, stop and crash processes at random moments, and at the moments at which larger runs found a fault.

benchmarks/chaos.py is the large program, and docs/reliability.md has its figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FUNCTIONS = Path(__file__).parents[1] / "functions" / "chaos"

pytestmark = [pytest.mark.heavy, pytest.mark.unmeasured]


@pytest.mark.parametrize(
    "mode", ["exec, 4 workers, concurrency 1", "template, 4 workers, concurrency 4", "request, 1 worker, concurrency 1"]
)
def test_strikes_at_random(mode: str, seed: int) -> None:
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / "chaos.py"), "--kills=12", "--ends=2", f"--mode={mode}", f"--seed={seed}"],
        capture_output=True,
        env=unmeasured(),
        timeout=HANGS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stdout.decode()


@contextmanager
def running(pipe_init: PipeInit, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running `pipe-init run --events - ARGUMENTS`, with pipes for stdin and stdout."""
    with subprocess.Popen(
        [*pipe_init.command, "run", "-q", "--events", "-", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=FUNCTIONS,
        env=pipe_init.environment({}),
    ) as process:
        try:
            yield process
            process.communicate(timeout=HANGS)
        finally:
            process.kill()


def ask(process: subprocess.Popen[bytes], event: object) -> Any:
    """Send one event and return its result line."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(event).encode() + b"\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize("method", ["exec", "template"])
def test_an_event_comes_when_all_workers_are_ending(pipe_init: PipeInit, method: str) -> None:
    arguments = "births.slow_to_end", "--workers=2", "--max-requests=1", f"--start-method={method}"
    with running(pipe_init, *arguments) as process:
        assert [ask(process, number) for number in range(5)] == [0, 1, 2, 3, 4]


def test_a_killed_template_leaves_no_descriptor(pipe_init: PipeInit) -> None:
    victims = load_victims()
    with running(pipe_init, "births.echo", "--start-method=template") as process:
        open_at_first = []
        for number in range(3):
            event, worker = ask(process, number)
            assert event == number
            open_at_first.append(victims.descriptors(process.pid))
            for victim in victims.below(process.pid):
                kinds = ("worker", "forking") if victim.pid == worker else ("template", "forking")
                assert victim.kind in kinds
                assert victims.strike(victim, 9) or victim.kind == "forking", "only a process that forks ends by itself"
            # Each death must be known before the next event, or that event would be lost with the worker. A worker that
            # was just becoming pipe-init's child was in no process's list of children before.
            while left := [victim for victim in victims.below(process.pid) if victims.look(victim.pid)]:
                for victim in left:
                    victims.strike(victim, 9)
        assert len(set(open_at_first)) == 1


def test_a_worker_whose_fork_is_not_reported(pipe_init: PipeInit, tmp_path: Path) -> None:
    log = tmp_path / "begun"
    ended = pipe_init(
        "run",
        "births.forked_unreported",
        "-q",
        "--events=-",
        "--start-method=template",
        cwd=FUNCTIONS,
        stdin=b"1\n2\n3\n",
        env={"CHAOS_LOG": str(log)},
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines == [1, 2, 3], "the init sends a worker nothing before it knows the pid, so the next one gets request 1"
    assert log.read_bytes() == b"1\n2\n3\n", "each begins once"
    assert ended.returncode == 0


def load_victims() -> Any:
    """Import benchmarks/victims.py, which is not in any package."""
    spec = util.spec_from_file_location("victims", BENCHMARKS / "victims.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
