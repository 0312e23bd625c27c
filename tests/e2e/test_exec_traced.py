"""Tests of `exec` with a program that asks its parent to trace it (PTRACE_TRACEME): `exec` detaches at each stop."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured

PROGRAM = """
import ctypes, os, signal
assert ctypes.CDLL(None).ptrace(0, 0, None, None) == 0
os.kill(os.getpid(), signal.SIGWINCH)
os.write(1, b"on")
{}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("os._exit(7)", 7), ("os.kill(os.getpid(), 15)", 143), ("os.execvp('true', ['true'])", 0)]
)
def test_a_stop_of_a_program_that_asks_to_be_traced_is_not_its_end(pipe_init: PipeInit, end: str, code: int) -> None:
    command = [*pipe_init.command, "exec", "--", sys.executable, "-c", PROGRAM.format(end)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, env=pipe_init.environment())
    try:
        out, _ = program.communicate(timeout=HANGS)
    finally:
        program.kill()  # a program that hangs would not end by a signal that pipe-init forwards
    assert (program.returncode, out) == (code, b"on")
