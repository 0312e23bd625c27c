"""Tests that the scan of a large JSON text needs little memory for any text. Each case has a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

BOMBS = {
    "depth": b"[" * 2**22,
    "deep objects": b'{"":' * 2**20,
    "many items": b"[" + b"[],0," * 2**18 + b"0]",
    "many escapes": b'"' + b"\\n" * 2**21 + b'"',
    "a string without an end": b'["' + b"x" * 2**22,
    "a number without an end": b"[1." + b"1" * 2**22,
    "escapes in members in items": b"[" + (b'{"' + b'\\"' * 16 + b'": ["' + b'\\"' * 16 + b'"]},') * 20_000 + b"0]",
}


IN_A_CHILD = """
import resource, sys
from pipe_init.cli.results.json_scan import scan
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answers = []
def run():
    answers.append((yield from scan(data, 0, len(data))))
for _ in run():
    pass
print(answers[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", BOMBS)
def test_memory_does_not_follow_the_text(name: str) -> None:
    data = BOMBS[name]
    limit = (resource.RLIMIT_CPU, (60, 60))  # the scan is linear: less than ten seconds on any machine
    child = subprocess.run(
        [sys.executable, "-c", IN_A_CHILD],
        input=data,
        capture_output=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(*limit),
    )
    answer, kilobytes = child.stdout.split()
    assert (answer == b"True") is (data[-1:] in b']"')
    assert int(kilobytes) < 20 * 1024
