"""Build the error and the exit code with which the init answers a request that the worker has not answered.

Error types and messages are the same as in AWS Lambda, so that tools which parse them keep working (docs/run.md,
Errors). This module must not know how processes are started or collected.
"""

from __future__ import annotations

from _signal import SIGKILL

from ..kernel import exit_codes
from ..kernel.execution import JoinError
from ..limits.confinement import PER_PROCESS
from ..model import Function, Metadata, Request, Stack, WorkerEnd, problem
from . import limit_hit
from .actions import Cause
from .stackdump import no_stack, parse_stacks

UNSEEN = (
    "Runtime is gone, and pipe-init cannot tell how it ended: its process was not a child of pipe-init. "
    "Another process of the function has collected or adopted it"
)


def answer(
    function: Function, request: Request, cause: Cause, end: WorkerEnd, stack: Stack | None = None, size: int = 0
) -> tuple[Metadata, int]:
    """Return the error and the exit code for a request that the worker has not answered.

    Args:
        function: The function that the worker served.
        request: The request.
        cause: Why the init answers in the worker's place.
        end: What is known of the worker's end.
        stack: This request's stack from the worker's answer to DUMP; None if the worker sent no such stack.
        size: The size in bytes of the request's result when it was cut.
    """
    prefix = f"RequestId: {request.request_id} Error: "
    if cause is Cause.NOT_LOADED:
        return end.last_word, exit_codes.NOT_LOADED
    if cause is Cause.TIMED_OUT:
        message = f"{prefix}Task timed out after {request.timeout:.2f} seconds"
        return _timed_out(message, request.timeout, end, stack)
    if cause is Cause.START_TIMED_OUT:
        seconds = function.settings.start_timeout
        message = f"{prefix}The function was not ready after {seconds:.2f} seconds"
        return _timed_out(message, seconds, end, starting=True)
    if cause is Cause.VIOLATION or (cause is Cause.START_FAILED and end.violation):
        message = f"{prefix}The runtime broke the protocol: {end.violation}"
        return problem("Runtime.ProtocolError", message), exit_codes.PROTOCOL
    if cause is Cause.TOO_LARGE:
        limit = function.limits.output_bytes or 0
        return limit_hit.too_large(size, limit, streamed=True), exit_codes.FUNCTION_FAILED
    if cause is Cause.STOPPED:
        message = f"{prefix}pipe-init stopped before the request was answered"
        return problem("Runtime.Stopped", message), exit_codes.STOPPED
    error = end.start_error or end.exec_error
    return _died(function, prefix, cause, end) if error is None else _not_started(function, prefix, end, error)


def _timed_out(
    message: str, seconds: float, end: WorkerEnd, stack: Stack | None = None, starting: bool = False
) -> tuple[Metadata, int]:
    ended = end.death is not None and end.death.signal not in end.sent
    stack = stack or _stack(end) or no_stack(end.dump, end.stage, end.asked, starting, ended)
    error = problem("Sandbox.Timedout", message, stack)
    error["limit"] = limit_hit.limit(limit_hit.TIME, int(seconds * 1000))
    return error, exit_codes.TIMED_OUT


def _not_started(function: Function, prefix: str, end: WorkerEnd, error: OSError) -> tuple[Metadata, int]:
    if error is end.exec_error and not isinstance(error, JoinError):
        message = f"Cannot execute {function.command[0]}: {error.strerror}"
        code = exit_codes.NOT_FOUND if isinstance(error, FileNotFoundError) else exit_codes.NOT_EXECUTABLE
        return problem("Runtime.InvalidEntrypoint", message), code
    why = error.strerror
    if error is end.exec_error:
        why = f"it cannot join its cgroup: {why}"
    elif end.of_template:
        why = f"the template cannot fork it: {why}"
    return problem("Runtime.ExitError", f"{prefix}Runtime could not be started: {why}"), exit_codes.NOT_LOADED


def _died(function: Function, prefix: str, cause: Cause, end: WorkerEnd) -> tuple[Metadata, int]:
    death = end.death
    if end.unseen:
        return problem("Runtime.ExitError", prefix + UNSEEN), exit_codes.FUNCTION_FAILED
    if death is None:  # the worker was killed and did not end
        return problem("Runtime.ExitError", f"{prefix}Runtime was killed and does not end"), 128 + SIGKILL
    stack = _stack(end) if death.signal else []
    message = f"{prefix}Runtime exited with error: {death.description}"
    by_another = death.signal and death.signal not in end.sent
    if by_another or (end.evidence is not None and end.evidence.oom_kills):
        # The limits on CPU time and open files do not apply to a template.
        limits = function.limits.without(*PER_PROCESS) if end.of_template else function.limits
        hit = limit_hit.of_death(death, limits, end.evidence)
        if hit is not None:
            return {**problem(hit.kind, f"{message}, {hit.why}", stack), "limit": hit.limit}, hit.code
    if end.closed and cause in (Cause.DIED, Cause.START_FAILED) and not by_another:
        message = f"{prefix}The runtime broke the protocol: it closed its stream and did not end"
        return problem("Runtime.ProtocolError", message, stack), exit_codes.PROTOCOL
    if cause is Cause.START_FAILED:
        farewell = f": {end.farewell}" if end.farewell else ""
        return problem("Runtime.ExitError", f"{message} {end.stage}{farewell}", stack), exit_codes.NOT_LOADED
    code = 128 + death.signal if death.signal else exit_codes.FUNCTION_FAILED
    return problem("Runtime.ExitError", message, stack), code


def _stack(end: WorkerEnd) -> Stack:
    return parse_stacks(end.dump.decode("utf-8", "replace"))
