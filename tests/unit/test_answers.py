"""Tests of a runtime's answer to DUMP, and how far the init believes it. The function may have forged it."""

from __future__ import annotations

import errno
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.kernel.death import Death
from pipe_init.limits.cgroup import Evidence
from pipe_init.limits.confinement import Confinement
from pipe_init.limits.rlimits import Limits
from pipe_init.model import AFTER_FORK, BEFORE_FORK, Function, Request, Settings
from pipe_init.policy.actions import Cause
from pipe_init.policy.errors import UNSEEN, WorkerEnd, answer, stacks_by_request

CALL: list[object] = ["/code/index.py", 3, "handler", "    work()"]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "stack", "name", 1]), inner, max_size=3)
        | st.fixed_dictionaries({"id": inner, "stack": inner})
    ),
    max_leaves=24,
)


def test_each_request_has_its_own() -> None:
    entries = [{"name": "request 4", "id": 4, "stack": [CALL]}, {"id": 9, "stack": [CALL, CALL]}]
    assert stacks_by_request(entries) == {4: [CALL], 9: [CALL, CALL]}


@pytest.mark.parametrize(
    "entry",
    [
        {"id": 1},
        {"stack": [CALL]},
        {"id": 1, "stack": []},
        {"id": 1, "stack": ["a call"]},
        {"id": 1, "stack": {"0": CALL}},
        {"id": True, "stack": [CALL]},
        {"id": "1", "stack": [CALL]},
        {"id": [1], "stack": [CALL]},
        [1, [CALL]],
        None,
    ],
)
def test_what_is_none_is_left_out(entry: object) -> None:
    assert stacks_by_request([entry, {"id": 2, "stack": [None, CALL]}]) == {2: [CALL]}


@given(entries=ANYTHING)
def test_whatever_comes(entries: object) -> None:
    for id, stack in stacks_by_request(entries).items():
        assert type(id) is int
        assert stack and all(isinstance(call, list) for call in stack)


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
    end = WorkerEnd(death=Death(1, status, 0), forced=True, closed=True, sent={signal.SIGTERM})
    function = Function([], {}, {}, Settings())
    error, code = answer(function, Request("id", b"", "", "", 1.0), Cause.DIED, end)
    assert (error["error_type"], code) == (error_type, exit_code)


MIB = 2**20
LIMITED = Limits(memory=100 * MIB, cpu_seconds=1)
KILLED = Death(1, signal.SIGKILL, 95 * MIB, 5.0)


def answered(cause: Cause, end: WorkerEnd, limits: Limits = LIMITED) -> tuple[str, str, int]:
    """Return an answer's error type, its message after the prefix, and the exit code."""
    function = Function([], {}, {}, Settings(), confinement=Confinement(limits))
    error, code = answer(function, Request("id", b"", "", "", 1.0), cause, end)
    return error["error_type"], error["error_message"].removeprefix("RequestId: id Error: "), code


def test_who_was_killed_by_us_has_hit_no_limit() -> None:
    end = WorkerEnd(death=KILLED, forced=True, closed=True, sent={signal.SIGTERM, signal.SIGKILL})
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


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (WorkerEnd(), "the runtime has not said that it can write one"),
        (WorkerEnd(asked=True), "the worker did not write one; it blocks signals, or sits in the kernel"),
        (WorkerEnd(asked=True, dump=b"Fatal Python error"), "the interpreter crashed while it wrote one"),
        (WorkerEnd(asked=True, dump=b"  File x\n"), "the worker was not in the function's code"),
        (
            WorkerEnd(asked=True, stage=BEFORE_FORK, dump=b'  File "template.py", line 1 in _wait_for\n'),
            "the template was forking the worker; a fork hook of the function's (os.register_at_fork) may hang",
        ),
    ],
)
def test_a_start_that_is_late_without_a_stack_says_why(end: WorkerEnd, why: str) -> None:
    error, _ = answer(Function([], {}, {}, Settings()), Request("id", b"", "", "", 1.0), Cause.START_TIMED_OUT, end)
    assert error["stack"] == [["", 0, f"no stack: {why}", ""]]
