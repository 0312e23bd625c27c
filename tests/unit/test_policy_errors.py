"""Tests of the init's own answers: the error and the exit code for what is known of a worker's end."""

from __future__ import annotations

import errno
import gc
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from pipe_init.kernel.reaper import Death
from pipe_init.limits.cgroup import Evidence
from pipe_init.limits.confinement import Confinement
from pipe_init.limits.rlimits import Limits
from pipe_init.model import AFTER_FORK, BEFORE_FORK, Function, Request, Settings, WorkerEnd
from pipe_init.policy.actions import Cause
from pipe_init.policy.worker_failures import UNSEEN, answer


@pytest.mark.parametrize(
    "status, error_type, exit_code",
    [
        (signal.SIGTERM, "Runtime.ProtocolError", 4),
        (3 << 8, "Runtime.ProtocolError", 4),
        (signal.SIGKILL, "Runtime.ExitError", 137),
    ],
)
def test_a_worker_that_closed_the_stream_and_was_killed_by_another_process(
    status: int, error_type: str, exit_code: int
) -> None:
    end = WorkerEnd(death=Death(1, status, 0), closed=True, sent={signal.SIGTERM})
    function = Function([], {}, {}, Settings())
    error, code = answer(function, Request("id", b"", "", "", 1.0), Cause.DIED, end)
    assert (error["error_type"], code) == (error_type, exit_code)


MIB = 2**20
LIMITED = Limits(memory=100 * MIB, cpu_seconds=1)
KILLED = Death(1, signal.SIGKILL, 95 * MIB, 5.0)


def answered(cause: Cause, end: WorkerEnd, limits: Limits = LIMITED) -> tuple[str, str, int]:
    """Return an answer's error type, its message after the prefix, and the exit code."""
    function = Function(["python"], {}, {}, Settings(), confinement=Confinement(limits))
    error, code = answer(function, Request("id", b"", "", "", 1.0), cause, end)
    return error["error_type"], error["error_message"].removeprefix("RequestId: id Error: "), code


def test_who_was_killed_by_us_has_hit_no_limit() -> None:
    end = WorkerEnd(death=KILLED, closed=True, sent={signal.SIGTERM, signal.SIGKILL})
    broken = "The runtime broke the protocol: it closed its stream and did not end"
    assert answered(Cause.DIED, end) == ("Runtime.ProtocolError", broken, 4)
    assert answered(Cause.START_FAILED, end) == ("Runtime.ProtocolError", broken, 4)
    assert answered(Cause.DIED, WorkerEnd(death=KILLED))[0] == "Runtime.CpuTimeExceeded"
    end.evidence = Evidence(100 * MIB, 1, 1, 0, True)  # the kernel reports that it killed the worker first
    assert answered(Cause.DIED, end)[0] == "Runtime.OutOfMemory"


def test_a_template_has_no_limit_of_cpu_time() -> None:
    end = WorkerEnd(death=Death(1, signal.SIGKILL, MIB, 5.0), of_template=True, stage=BEFORE_FORK)
    message = "Runtime exited with error: signal: killed before it had forked the worker"
    assert answered(Cause.START_FAILED, end) == ("Runtime.ExitError", message, 3)
    end.of_template = False
    assert answered(Cause.START_FAILED, end)[0] == "Runtime.CpuTimeExceeded"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            WorkerEnd(death=Death(1, 7 << 8, 0)),
            "Runtime exited with error: exit status 7 while it was loading the handler",
        ),
        (
            WorkerEnd(death=Death(1, 7 << 8, 0), stage=AFTER_FORK),
            "Runtime exited with error: exit status 7 after it was forked and before it was ready",
        ),
        (
            WorkerEnd(death=Death(1, 1 << 8, 0), stage=BEFORE_FORK, farewell="it cannot fork"),
            "Runtime exited with error: exit status 1 before it had forked the worker: it cannot fork",
        ),
        (WorkerEnd(death=KILLED, violation="garbage"), "The runtime broke the protocol: garbage"),
        (WorkerEnd(unseen=True), UNSEEN),
        (
            WorkerEnd(start_error=OSError(errno.EMFILE, "Too many open files"), of_template=True),
            "Runtime could not be started: the template cannot fork it: Too many open files",
        ),
        (
            WorkerEnd(start_error=OSError(errno.EAGAIN, "Resource temporarily unavailable")),
            "Runtime could not be started: Resource temporarily unavailable",
        ),
        (WorkerEnd(), "Runtime was killed and does not end"),
    ],
)
def test_a_failed_start_says_what_has_happened(end: WorkerEnd, expected: str) -> None:
    assert answered(Cause.START_FAILED, end, Limits())[1] == expected


@pytest.mark.parametrize("cause", [Cause.START_FAILED, Cause.DIED, Cause.TIMED_OUT, Cause.START_TIMED_OUT])
@pytest.mark.parametrize(
    "end",
    [
        WorkerEnd(start_error=OSError(errno.EMFILE, "Too many open files")),
        WorkerEnd(start_error=OSError(errno.EMFILE, "Too many open files"), of_template=True),
        WorkerEnd(exec_error=OSError(errno.EMFILE, "Too many open files")),
        WorkerEnd(death=KILLED, dump=bytearray(b'Stack (most recent call first):\n  File "/f.py", line 1 in f\n')),
        WorkerEnd(unseen=True),
    ],
)
def test_no_answer_asks_the_kernel(cause: Cause, end: WorkerEnd) -> None:
    """Check that the policy asks the system nothing. Whatever catches an error of the system also describes it."""
    asked: list[str] = []

    def record(frame: FrameType, event: str, call: Any) -> None:
        if event == "c_call" and call.__module__ in ("posix", "time", "resource", "select", "fcntl", "_signal"):
            asked.append(call.__name__)

    before = sys.getprofile()
    gc.disable()  # a test library may read the clock whenever garbage is collected
    sys.setprofile(record)
    try:
        answered(cause, end)
    finally:
        sys.setprofile(before)
        gc.enable()
    assert set(asked) <= {"fspath", "WIFSIGNALED", "WTERMSIG", "strsignal"}  # these only compute
