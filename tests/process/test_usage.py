"""Tests of what a process reports about its own cost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from pipe_runtime import limits
from pipe_runtime.call import usage
from pipe_testing.environment import unmeasured


def peak_of(code: str) -> int:
    """Run `code` and return the peak that its process reports afterwards."""
    program = f"from pipe_runtime.call.usage import Meter\nmeter = Meter()\n{code}\nprint(meter.peak_memory())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, env=unmeasured(), check=True, cwd="/")
    return int(ended.stdout)


def test_peak_stays_after_the_memory_was_given_back() -> None:
    small = peak_of("")
    assert 1024 * 1024 < small < 1024 * 1024 * 1024
    assert peak_of("block = b'x' * (64 << 20); del block") >= small + (60 << 20)


def test_peak_is_not_that_of_a_larger_parent() -> None:
    # With a preexec_fn the child is a fork, and starts as a copy of the large parent.
    code = (
        "import subprocess, sys; block = b'x' * (200 << 20); "
        "code = 'from pipe_runtime.call.usage import Meter; print(Meter().peak_memory())'; "
        "print(subprocess.run([sys.executable, '-c', code], "
        "capture_output=True, check=True, close_fds=False, preexec_fn=int).stdout.decode())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True, cwd="/")
    assert int(ended.stdout) < 100 << 20


def test_high_water_mark_is_the_kernels() -> None:
    with open("/proc/self/status", encoding="ascii") as status:
        [line] = [line for line in status if line.startswith("VmHWM:")]
    assert limits.status_figure(b"VmHWM:") >= int(line.split()[1]) > 0


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
    Meter().read(0, 0)
    meter.read(0, 0)
assert os.listdir("/proc/self/fd") == before
"""
    assert peak_of(code) > 0


def test_duration_and_cpu_time_since_the_start() -> None:
    meter = usage.Meter()
    begun, cpu = time.perf_counter_ns(), time.process_time_ns()
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    measured = meter.read(begun, cpu)
    assert measured["duration_us"] > 0
    # One thread cannot use more CPU time than passes, and the spin used at least this much of it.
    assert 19_000 <= measured["cpu_us"] <= measured["duration_us"] + 1000


def test_another_threads_cpu_time_counts() -> None:
    meter = usage.Meter()
    before = time.process_time_ns()
    thread = threading.Thread(target=sum, args=(range(2_000_000),))
    thread.start()
    thread.join()
    used = (time.process_time_ns() - before) // 1000
    assert meter.read(0, before)["cpu_us"] >= used


def test_replaced_clocks_give_what_fits_into_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = usage.Meter()
    monkeypatch.setattr(usage, "perf_counter_ns", lambda: -(2**80))
    assert meter.read(0, 0)["duration_us"] == 0
    monkeypatch.setattr(usage, "perf_counter_ns", lambda: 2**80)
    assert meter.read(0, 0)["duration_us"] == usage.LONGEST_US


def behind(code: str, *limits: str) -> object:
    """Return the limit for which `error` stands, after `code` has set it under these limits (RLIMIT_…=value)."""
    set_limits = "".join(
        f"resource.setrlimit(resource.{name}, ({value}, {value}))\n"
        for name, value in (each.split("=") for each in limits)
    )
    program = (
        "import os, errno, resource, _thread\nfrom pipe_runtime.call import faults\n"
        f"{set_limits}{code}\nprint(repr(faults.describe(error).get('limit')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, env=unmeasured(), cwd="/")
    assert ended.returncode == 0, ended.stderr
    return eval(ended.stdout)


def raised(what: str) -> str:
    return f"try:\n    {what}\nexcept BaseException as caught:\n    error = caught"


MEMORY = "RLIMIT_DATA=200000000"
FILES = {"name": "open_files", "value": 30, "peak": 30}


@pytest.mark.parametrize(
    ("code", "limits", "expected"),
    [
        (raised("raise MemoryError"), (), None),
        (raised("bytes(1 << 30)"), (MEMORY,), {"name": "memory", "value": 200000000}),
        (raised("raise OSError(errno.ENOMEM, 'x')"), (MEMORY,), {"name": "memory", "value": 200000000}),
        (raised("raise OSError(errno.ENOMEM, 'x')"), (), None),
        (
            raised("[os.open('/', 0) for _ in range(99)]"),
            ("RLIMIT_NOFILE=30",),
            FILES,
        ),
        (raised("raise OSError(errno.EFBIG, 'x')"), (), None),
        (raised("raise OSError(errno.EFBIG, 'x')"), ("RLIMIT_FSIZE=9",), {"name": "file_size", "value": 9}),
        (raised("raise OSError(errno.EAGAIN, 'x')"), (), None),
        ("def f(): raise OSError(errno.EAGAIN, 'x'); os.fork()\n" + raised("f()"), (), {"name": "pids"}),
        (raised("raise RuntimeError('can\\'t start new thread')"), (), {"name": "pids"}),
        (raised("raise RuntimeError('can\\'t start new thread')"), (MEMORY,), {"name": "pids"}),
        (raised("raise RuntimeError('anything else')"), (), None),
        (raised("raise OSError('without a number')"), (), None),
        (raised("raise ValueError from OSError(errno.EMFILE, 'x')"), ("RLIMIT_NOFILE=30",), FILES),
    ],
)  # fmt: skip
def test_the_limit_that_an_error_stands_for(code: str, limits: tuple[str, ...], expected: object) -> None:
    assert behind(code, *limits) == expected


def test_an_error_that_lies_about_its_number() -> None:
    code = "class N(int):\n    def __eq__(self, other): raise KeyboardInterrupt\n    __hash__ = None\n"
    assert behind(code + "error = OSError('x')\nerror.errno = N(24)") is None


@pytest.mark.parametrize(
    ("free", "taken"),
    [
        (2 * limits.RESERVE_BYTES, limits.RESERVE_BYTES),
        (1024 * 1024, 1024 * 1024 - 256 * 1024),
        (1024 * 1024 + 9 * 1024, 1024 * 1024 + 9 * 1024 - 256 * 1024),
        (128 * 1024, 0),
    ],
)
def test_the_reserve_leaves_room_where_memory_is_short(monkeypatch: pytest.MonkeyPatch, free: int, taken: int) -> None:
    """Check how much of the `free` bytes the reserve takes, if 256 KiB of them must stay free."""
    left = free

    def from_what_is_free(size: int) -> bytes:
        nonlocal left
        if size > left:
            raise MemoryError
        left -= size
        return bytes(size)

    monkeypatch.setattr(limits, "bytes", from_what_is_free, raising=False)
    limits.free_reserve()
    limits.take_reserve(room=256 * 1024)
    found = sum(map(len, limits.reserve))
    limits.free_reserve()
    assert found == taken
