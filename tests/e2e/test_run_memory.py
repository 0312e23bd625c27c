"""Tests of the peak memory of `run` with large results, against what docs/run.md says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipe_testing import modes
from pipe_testing.command import PipeInit

pytestmark = [pytest.mark.modes(modes.EXEC), pytest.mark.unmeasured]

MIB = 2**20

FUNCTION = """
def pieces(event, context):
    return ("y" * 50_000 for _ in range(event * 20))

def many(event, context):
    return ("é" * 20 for _ in range(event * 50_000))

def app(environ, start_response):
    start_response("200 OK", [])
    return (b"\\x01" * 50_000 for _ in range(int(environ["wsgi.input"].read()) * 20))
"""

LINE = 64
"""The MiB that one result may have, and all waiting results together."""

SPARE = 12
"""The MiB to spare: the unused eighth of a growing buffer, pieces on their way, and what allocators keep."""


def peak(pipe_init: PipeInit, folder: Path, *arguments: str) -> float:
    """Run pipe-init and return the larger of its own peak and its worker's, in MiB."""
    (folder / "index.py").write_text(FUNCTION)
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(
            [*pipe_init.command, "run", *arguments, "-q"], cwd=folder, env=pipe_init.environment(), stdout=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.fixture
def base(pipe_init: PipeInit, tmp_path: Path) -> float:
    (tmp_path / "few").write_text("0\n" * 4)
    return peak(pipe_init, tmp_path, "index.many", "--events", "few")


@pytest.mark.parametrize(
    ("events", "options", "written", "allowed"),
    [
        ("60\n", ["index.pieces"], 60, LINE),
        ("50\n" * 4, ["index.pieces", "--concurrency", "4"], 200, 2 * LINE),
        ("50\n" * 4, ["index.pieces", "-w", "4", "--unordered"], 200, 2 * LINE),
        ("4\n", ["index.many"], 8, 9),
        ("20\n", ["index.app", "--type", "wsgi"], 120, 20),  # each byte of the body takes six
    ],
)
def test_many_events(
    pipe_init: PipeInit, tmp_path: Path, base: float, events: str, options: list[str], written: int, allowed: int
) -> None:
    (tmp_path / "events").write_text(events)
    found = peak(pipe_init, tmp_path, *options, "--events", "events")
    assert (tmp_path / "out").stat().st_size > written * 10**6
    assert found < base + allowed + SPARE


def test_a_single_result_is_not_held(pipe_init: PipeInit, tmp_path: Path, base: float) -> None:
    found = peak(pipe_init, tmp_path, "index.pieces", "-e", "100")
    assert (tmp_path / "out").stat().st_size > 100 * 10**6
    assert found < base + SPARE
