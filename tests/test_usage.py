"""What a process says about its own cost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pipe_runtime import usage
from pipe_testing.environment import unmeasured


def peak_of(code: str) -> int:
    """Run `code` and return the peak that the process then reports."""
    program = f"from pipe_runtime.usage import Meter\nmeter = Meter()\n{code}\nprint(meter.peak_memory())"
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
        "code = 'from pipe_runtime.usage import Meter; print(Meter().peak_memory())'; "
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
    Meter().read()
    meter.read()
assert os.listdir("/proc/self/fd") == before
"""
    assert peak_of(code) > 0


def test_duration_and_cpu_time_since_the_start() -> None:
    meter = usage.Meter()
    meter.start()
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    measured = meter.read()
    assert measured["duration_us"] > 0
    # One thread gets no more CPU than time passes, and the spin took at least this much of it.
    assert 19_000 <= measured["cpu_us"] <= measured["duration_us"] + 1000


def test_another_threads_cpu_time_counts() -> None:
    meter = usage.Meter()
    meter.start()
    before = time.process_time_ns()
    thread = threading.Thread(target=sum, args=(range(2_000_000),))
    thread.start()
    thread.join()
    used = (time.process_time_ns() - before) // 1000
    assert meter.read()["cpu_us"] >= used


def test_replaced_clocks_give_what_fits_into_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = usage.Meter()
    meter.start()
    monkeypatch.setattr(usage, "perf_counter_ns", lambda: -(2**80))
    assert meter.read()["duration_us"] == 0
    monkeypatch.setattr(usage, "perf_counter_ns", lambda: 2**80)
    assert meter.read()["duration_us"] == usage.LONGEST_US
