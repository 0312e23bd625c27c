"""The init's own answers: from what is known of a request's end to a typed error and its exit code. Pure.

The names and messages are AWS Lambda's, so that tools which parse them keep working (docs/run.md, Errors).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pipe_runtime

from ..kernel.death import Death
from ..kernel.shortage import describe
from ..limits.confinement import PER_PROCESS
from ..log.formats import parse_stacks
from ..model import (
    BEFORE_FORK,
    EXIT_FUNCTION_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_NOT_LOADED,
    EXIT_PROTOCOL,
    EXIT_STOPPED,
    EXIT_TIMED_OUT,
    WHILE_LOADING,
    Function,
    Request,
    problem,
)
from . import limit_hit
from .actions import Cause

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence
    from ..limits.rlimits import Limits

UNSEEN = (
    "Runtime is gone, and pipe-init cannot tell how it ended: its process was not a child of pipe-init. "
    "Another process of the function has collected or adopted it"
)

OWN_FOLDER = os.path.dirname(os.path.abspath(pipe_runtime.__file__))

Problem = Mapping[str, Any]
"""ERROR's metadata (docs/protocol.md)."""


@dataclass
class WorkerEnd:
    """What is known of a worker when a request must be answered in its place.

    Attributes:
        last_word: The metadata of its ERROR with id 0.
        violation: How it broke the protocol.
        death: How it died, once it was reaped.
        forced: Whether the init sent it a signal.
        sent: The signals that the init sent it.
        closed: Whether it was sent signals because it had closed its stream and did not end.
        asked: Whether it was asked for its stacks.
        dump: What it wrote to the dump pipe.
        stacks: What it answered to DUMP, by the request's id.
        exec_error: Why its program could not be executed.
        joining: Whether `exec_error` is of its attempt to join its cgroup.
        start_error: Why its process could not be started.
        evidence: The counts of its cgroup, once it is dead.
        sizes: Bytes of results that were cut, by request_id.
        peak_memory: The most resident memory of the worker in bytes, for the report; 0 if it is not known.
        stage: What it was doing if it was not ready yet.
        of_template: Whether `death` and `start_error` are those of the template.
        farewell: What the template has said about its end.
        unseen: Whether the worker is not a child of the init, which then cannot see how it ends.
    """

    last_word: Problem = field(default_factory=dict)
    violation: str = ""
    death: Death | None = None
    forced: bool = False
    sent: set[int] = field(default_factory=set)
    closed: bool = False
    asked: bool = False
    dump: bytes = b""
    stacks: dict[int, list[list[object]]] = field(default_factory=dict)
    exec_error: OSError | None = None
    joining: bool = False
    start_error: OSError | None = None
    evidence: Evidence | None = None
    peak_memory: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    stage: str = WHILE_LOADING
    of_template: bool = False
    farewell: str = ""
    unseen: bool = False


def answer(
    function: Function, request: Request, cause: Cause, end: WorkerEnd, stack: list[list[object]] | None = None
) -> tuple[Problem, int]:
    """(the error, the exit code) for a request that the runtime has not answered.

    stack: what the runtime itself has said of this very request's.
    """
    prefix = f"RequestId: {request.request_id} Error: "
    if cause is Cause.NOT_LOADED:
        return end.last_word, EXIT_NOT_LOADED
    if cause is Cause.TIMED_OUT:
        message = f"{prefix}Task timed out after {request.timeout:.2f} seconds"
        return _timed_out(message, request.timeout, stack or _stack(end) or _no_stack(end))
    if cause is Cause.START_TIMED_OUT:
        seconds = function.settings.start_timeout
        message = f"{prefix}The function was not ready after {seconds:.2f} seconds"
        return _timed_out(message, seconds, _stack(end) or _no_stack(end, starting=True))
    if cause is Cause.VIOLATION or (cause is Cause.START_FAILED and end.violation):
        message = f"{prefix}The runtime broke the protocol: {end.violation}"
        return problem("Runtime.ProtocolError", message), EXIT_PROTOCOL
    if cause is Cause.TOO_LARGE:
        size, limit = end.sizes.get(request.request_id, 0), function.limits.output_bytes or 0
        return limit_hit.too_large(size, limit, streamed=True), EXIT_FUNCTION_FAILED
    if cause is Cause.STOPPED:
        message = f"{prefix}pipe-init stopped before the request was answered"
        return problem("Runtime.Stopped", message), EXIT_STOPPED
    if end.start_error is not None and end.of_template:  # it may have other limits than this process
        message = f"{prefix}Runtime could not be started: the template cannot fork it: {end.start_error.strerror}"
        return problem("Runtime.ExitError", message), EXIT_NOT_LOADED
    if end.start_error is not None:
        message = f"{prefix}Runtime could not be started: {describe(end.start_error)}"
        return problem("Runtime.ExitError", message), EXIT_NOT_LOADED
    if end.exec_error is not None and end.joining:
        message = f"{prefix}Runtime could not be started: it cannot join its cgroup: {describe(end.exec_error)}"
        return problem("Runtime.ExitError", message), EXIT_NOT_LOADED
    if end.exec_error is not None:
        message = f"Cannot execute {function.command[0]}: {describe(end.exec_error)}"
        missing = isinstance(end.exec_error, FileNotFoundError)
        return problem("Runtime.InvalidEntrypoint", message), EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE
    return _died(function, prefix, cause, end)


def stacks_by_request(entries: object) -> dict[int, list[list[object]]]:
    """What a runtime answers to DUMP, as far as it has the right form: who sent it need not be our runtime."""
    found: dict[int, list[list[object]]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("stack"), list):
            stack = [call for call in entry["stack"] if isinstance(call, list)]
            if stack:
                found[entry["id"]] = stack
    return found


def _timed_out(message: str, seconds: float, stack: list[list[object]]) -> tuple[Problem, int]:
    error = problem("Sandbox.Timedout", message, stack)
    error["limit"] = limit_hit.limit(limit_hit.TIME, int(seconds * 1000))
    return error, EXIT_TIMED_OUT


def _no_stack(end: WorkerEnd, starting: bool = False) -> list[list[object]]:
    """Return the reason why there is no stack, in the form of a stack. starting: the worker was not ready yet."""
    if not end.asked:
        why = "the runtime has not said that it can write one"
    elif b"Fatal Python error" in end.dump:
        why = "the interpreter crashed while it wrote one"
    elif b" in _wait_for\n" in end.dump and end.stage == BEFORE_FORK:
        why = "the template was forking the worker; a fork hook of the function's (os.register_at_fork) may hang"
    elif end.dump.strip() and starting:
        why = "the worker was not in the function's code"
    elif b"/asyncio/" in end.dump:
        why = "the worker's event loop was waiting, and does not say for what"
    elif end.dump.strip():
        why = "the worker was not in the function's code, but decoding the event, or encoding or sending the result"
    else:
        why = "the worker did not write one; it blocks signals, or sits in the kernel"
    return [["", 0, f"no stack: {why}", ""]]


def _died(function: Function, prefix: str, cause: Cause, end: WorkerEnd) -> tuple[Problem, int]:
    death = end.death
    if end.unseen:
        return problem("Runtime.ExitError", prefix + UNSEEN), EXIT_FUNCTION_FAILED
    if death is None:  # it was killed and did not end
        return problem("Runtime.ExitError", f"{prefix}Runtime was killed and does not end"), 128 + SIGKILL
    stack = _stack(end) if death.signal else []
    message = f"{prefix}Runtime exited with error: {death.description}"
    by_another = death.signal and death.signal not in end.sent  # who was killed needs a while to be gone, too
    if by_another or (end.evidence is not None and end.evidence.oom_kills):
        hit = limit_hit.of_death(death, _limits_of(function, end), end.evidence)
        if hit is not None:
            return {**problem(hit.kind, f"{message}, {hit.why}", stack), "limit": hit.limit}, hit.code
    if end.closed and cause in (Cause.DIED, Cause.START_FAILED) and not by_another:
        message = f"{prefix}The runtime broke the protocol: it closed its stream and did not end"
        return problem("Runtime.ProtocolError", message, stack), EXIT_PROTOCOL
    if cause is Cause.START_FAILED:
        farewell = f": {end.farewell}" if end.farewell else ""
        return problem("Runtime.ExitError", f"{message} {end.stage}{farewell}", stack), EXIT_NOT_LOADED
    return problem("Runtime.ExitError", message, stack), 128 + death.signal if death.signal else EXIT_FUNCTION_FAILED


def _limits_of(function: Function, end: WorkerEnd) -> Limits:
    """Return the limits of the process that died. A template has no limit of CPU time and open files."""
    if end.of_template:
        return function.limits.without(*PER_PROCESS)
    return function.limits


def _stack(end: WorkerEnd) -> list[list[object]]:
    return parse_stacks(end.dump.decode("utf-8", "replace"), OWN_FOLDER)
