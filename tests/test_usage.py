"""What a process says about its own memory."""

from __future__ import annotations

import subprocess
import sys

from pipe_runtime import usage
from pipe_testing.environment import unmeasured


def peak_of(code: str) -> int:
    """Run `code` and return the peak that the process then reports."""
    program = f"from pipe_runtime.usage import PeakMemory\npeak = PeakMemory()\n{code}\nprint(peak.read())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, env=unmeasured(), check=True, cwd="/")
    return int(ended.stdout)


def test_peak_stays_after_the_memory_was_given_back() -> None:
    small = peak_of("")
    assert 1024 * 1024 < small < 1024 * 1024 * 1024
    assert peak_of("block = b'x' * (64 << 20); del block") >= small + (60 << 20)


def test_peak_is_not_that_of_a_larger_parent() -> None:
    # A preexec_fn makes it a fork, whose child is first a copy of all that.
    code = (
        "import subprocess, sys; block = b'x' * (200 << 20); "
        "code = 'from pipe_runtime.usage import PeakMemory; print(PeakMemory().read())'; "
        "print(subprocess.run([sys.executable, '-c', code], "
        "capture_output=True, check=True, close_fds=False, preexec_fn=int).stdout.decode())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True, cwd="/")
    assert int(ended.stdout) < 100 << 20


def test_high_water_mark_is_the_kernels() -> None:
    with open("/proc/self/status", encoding="ascii") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    assert usage._high_water_mark() >= int(line.split()[1]) > 0


def test_without_proc_there_is_still_a_figure() -> None:
    code = """
import os
def nothing(path, flags):
    raise FileNotFoundError(2, "No such file or directory", path)
os.open = nothing
"""
    assert peak_of(code) > 1024 * 1024


def test_no_descriptor_is_left() -> None:
    code = """
import os
before = os.listdir("/proc/self/fd")
for _ in range(100):
    PeakMemory().read()
    peak.read()
assert os.listdir("/proc/self/fd") == before
"""
    assert peak_of(code) > 0
