"""Tests that handlers that misbehave at random break no promise, in any mode.

benchmarks/fuzz.py is the program, and docs/reliability.md says what it checks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import fuzz
finally:
    sys.path.remove(str(BENCHMARKS))

EVENTS = int(os.environ.get("PIPE_INIT_FUZZ_EVENTS") or 1000)
"""The events of all modes together."""

SINGLE_COST = 10
"""An event with a pipe-init of its own costs as much as this many other events."""

NAMES = [fuzz.SINGLE, *(mode.name for mode in fuzz.MODES)]


@pytest.mark.heavy
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", NAMES)
def test_random_misbehaviour_breaks_no_promise(name: str, seed: int) -> None:
    events = -(-EVENTS // len(NAMES)) // (SINGLE_COST if name == fuzz.SINGLE else 1)
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fuzz.py"), f"--events={events}", f"--mode={name}", f"--seed={seed}"],
        capture_output=True,
        env=unmeasured(),
        timeout=HANGS + EVENTS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stdout.decode()
