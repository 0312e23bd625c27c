"""Tests that the benchmarks run and print their tables. No test compares a time with a limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.heavy


def run(program: str, *options: str) -> str:
    """Run a benchmark to its end and return what it printed."""
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / program), *options],
        capture_output=True,
        env=unmeasured(),
        timeout=HANGS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout.decode()


def test_a_request(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = run("invoke.py", "--requests", "20", "--rounds", "1", "--json", str(figures))
    arms = json.loads(figures.read_text())["back_to_back"]
    ours = {"pipe-init", "pipe-init, no spin"}
    assert ours | {"blocking pipe", "spinning pipe", "bare frames", "multiprocessing.Pipe"} <= set(arms)
    assert all(arm["requests"] == 20 and arm["min"] > 0 for arm in arms.values())
    if len(os.sched_getaffinity(0)) < 2:
        verdict = "the bounds are for two CPUs, and this ran on 1"
    else:
        verdict = "times faster than awslambdaric" if util.find_spec("awslambdaric") else "which is not installed"
    assert verdict in printed.splitlines()[-1]


def test_noise(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = run("noise.py", "--seconds", "0.1", "--json", str(figures))
    found = json.loads(figures.read_text())
    assert found["wake_up_us"] > 0 and 0 <= found["steal_percent"] <= 100
    assert printed.splitlines()[-1].startswith("this machine is quiet") == found["quiet"]


def test_many_events() -> None:
    assert "every result there, right and in order: yes" in run("events.py", "--events", "2000")


def test_scans(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("scan.py", "--seconds", "0.001", "--rounds", "1", "--json", str(figures))
    assert all(found["scan_us"] > 0 for found in json.loads(figures.read_text()).values())


def test_streams() -> None:
    assert "all came back as it was sent: yes" in run("streams.py", "--mebibytes", "4")


def test_waits() -> None:
    printed = run("waiting.py", "--requests", "5", "--rounds", "1", "--functions", "0,50", "--spin", "default,0")
    assert len([line for line in printed.splitlines() if line.startswith(("0 ", "50 "))]) == 6


def test_starts(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("startup.py", "--pairs", "1", "--json", str(figures))
    assert json.loads(figures.read_text())


def test_inits(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = run("inits.py", "--rounds", "1", "--json", str(figures))
    found = json.loads(figures.read_text())
    assert {"no init", "pipe-init exec"} <= set(found["milliseconds"])
    assert found["kibibytes"]["pipe-init exec"]["resident"] > 0
    for name in ("tini", "dumb-init"):
        assert (name in found["milliseconds"]) != (f"{name} is not installed" in printed)
