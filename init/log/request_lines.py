"""Write the log lines before and after requests and hooks (start, end and report) in the styles of --log-style.

The styles are those of Alibaba Function Compute and AWS Lambda, and a short one of pipe-init itself. This module knows
the function and the journal, not workers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..model import Function, Outcome, Request
from .journal import INFO, Journal

AUTO = "auto"
LOG_STYLES = (AUTO, "fc", "lambda", "json", "none")
"""The values of --log-style. AUTO means SHORT for a single event and SUMMARY for many, or the platform's style."""

SHORT = "short"
"""The style that has one line after each request, and none for hooks."""

SUMMARY = "summary"
"""The style without lines for requests. The command line writes a summary at the end of the run instead."""

INVOKE = "invoke"
"""The phase in which a worker handles an ordinary request."""

INITIALIZE, PRE_STOP = "initialize", "pre-stop"
"""The phases in which a worker runs a hook at its start and at its end."""


class RequestLines:
    """Write the lines for the requests and hooks of one lane. A lane has one worker at a time.

    Attributes:
        silent: Whether the style has no lines for requests. If so, callers need not call `begun` and `ended`.
    """

    def __init__(self, function: Function, journal: Journal) -> None:
        self._function = function
        self._journal = journal
        self.silent = function.log_style in ("none", SUMMARY)
        self._hook = ""

    def begun(self, request: Request) -> None:
        """Write the line that marks the start of a request. Call this just before the worker begins the request."""
        self._start(request.request_id, _phase_of(request))

    def ended(self, request: Request, outcome: Outcome) -> None:
        """Write the lines that mark the end of a request. Call this when a request that was begun has its outcome."""
        style, id, failed = self._function.log_style, outcome.request_id, outcome.problem is not None
        phase = _phase_of(request)
        if style != SHORT:
            self._journal.say(end_line(style, id, failed, phase))
            self._journal.say(report_line(style, id, outcome.measured, self._function.memory_mb))
        elif phase == INVOKE:
            limit = self._function.limits.memory
            limit_mb = None if limit is None else limit // 2**20
            self._journal.tell(short_line(id, failed, outcome.measured, limit_mb), INFO, id)

    def hook_begun(self, phase: str) -> None:
        """Write the line that marks the start of a hook, if the function has that hook."""
        if {INITIALIZE: "initializer", PRE_STOP: "pre_stop"}[phase] in self._function.hello:
            self._hook = phase
            self._start(self._init_request_id, phase)

    def hook_over(self, failed: bool, forced: bool = False) -> None:
        """Write the lines that mark the end of the hook, if one had begun. Call this also if the worker ends during it.

        Args:
            failed: Whether the hook has failed.
            forced: Whether the init has ended the worker by force.
        """
        phase, self._hook = self._hook, ""
        if phase and failed and forced and phase == PRE_STOP:
            self._journal.tell("pipe-init: the pre-stop hook did not end in time, and was ended")
        if phase:
            self._journal.say(end_line(self._function.log_style, self._init_request_id, failed, phase))

    def _start(self, request_id: str, phase: str) -> None:
        self._journal.say(start_line(self._function.log_style, request_id, self._function.version, phase))

    @property
    def _init_request_id(self) -> str:
        return str(self._function.hello.get("init_request_id", ""))


def start_line(style: str, request_id: str, version: str, phase: str = INVOKE) -> str:
    """Return the line before a request or a hook, without a line break; "" if the style has no such line."""
    if style == "fc":
        return f"FC {_camel_case(phase)} Start RequestId: {request_id}"
    if style == "lambda":
        return f"START RequestId: {request_id} Version: {version}{_lambda_phase(phase)}"
    return _record(style, "platform.start", {"requestId": request_id, "version": version}, phase)


def end_line(style: str, request_id: str, failed: bool, phase: str = INVOKE) -> str:
    """Return the line after a request or a hook, without a line break; "" if the style has no such line."""
    if style == "fc":
        error = ", Error: Unhandled function error" if failed else ""
        return f"FC {_camel_case(phase)} End RequestId: {request_id}{error}"
    if style == "lambda":
        return f"END RequestId: {request_id}{_lambda_phase(phase)}"
    status = "failure" if failed else "success"
    return _record(style, "platform.runtimeDone", {"requestId": request_id, "status": status}, phase)


def report_line(style: str, request_id: str, measured: Mapping[str, int], memory_mb: int) -> str:
    """Return the line that reports a request's duration and memory, without a line break; "" if the style has none.

    Args:
        style: One of LOG_STYLES.
        request_id: The request's id.
        measured: A map with those of the keys duration_us, cpu_us, init_us and peak_memory_bytes that are known.
        memory_mb: The function's memory size in MB, as its context states it.
    """
    duration, cpu, init = (
        measured[key] / 1000 if key in measured else None for key in ("duration_us", "cpu_us", "init_us")
    )
    metrics = (
        (2, "memorySizeMB", "Memory Size", memory_mb),
        (0, "durationMs", "Duration", duration),
        (4, "cpuMs", "CPU Time", cpu),
        (5, "initDurationMs", "Init Duration", init),
        (1, "billedDurationMs", "Billed Duration", None if duration is None else math.ceil(duration)),
        (3, "maxMemoryUsedMB", "Max Memory Used", _megabytes(measured)),
    )  # The rows have the order of the JSON record. The number in each row gives its place in the text.
    known = [(place, name, label, value) for place, name, label, value in metrics if value is not None]
    if style not in ("fc", "lambda"):
        rounded = {name: round(value, 3) for _, name, _, value in known}
        return _record(style, "platform.report", {"requestId": request_id, "metrics": rounded})
    fields = [f"REPORT RequestId: {request_id}"]
    for _, name, label, value in sorted(known):
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        fields.append(f"{label}: {shown} {'MB' if name.endswith('MB') else 'ms'}")
    return "\t".join(fields) + "\t"


def short_line(request_id: str, failed: bool, measured: Mapping[str, int], limit_mb: int | None) -> str:
    """Return the line that the style SHORT has after a request, without a line break.

    Args:
        request_id: The request's id.
        failed: Whether the request's outcome is an error.
        measured: See report_line.
        limit_mb: The function's memory limit in MB; None if it has none.
    """
    parts = [f"pipe-init: {request_id} {'failed' if failed else 'done'}"]
    if "duration_us" in measured:
        parts[0] += f" {'after' if failed else 'in'} {measured['duration_us'] / 1000:.2f} ms"
    used, of = _megabytes(measured), "" if limit_mb is None else f" of {limit_mb}"
    if used is not None:
        parts.append(f"memory {used}{of} MB")
    elif limit_mb is not None:
        parts.append(f"memory limit {limit_mb} MB")
    if "init_us" in measured:
        parts.append(f"init {measured['init_us'] / 1000:.2f} ms")
    return ", ".join(parts)


def _megabytes(measured: Mapping[str, int]) -> int | None:
    peak = measured.get("peak_memory_bytes")
    return None if peak is None else math.ceil(peak / 2**20)


def _phase_of(request: Request) -> str:
    return str((request.metadata or {}).get("phase", INVOKE))


def _camel_case(phase: str) -> str:
    """Return a phase's name in the form that Function Compute uses, such as PreStop."""
    return "".join(part.capitalize() for part in phase.split("-"))


def _lambda_phase(phase: str) -> str:
    return "" if phase == INVOKE else f" Phase: {phase}"


def _record(style: str, type: str, record: Mapping[str, object], phase: str = INVOKE) -> str:
    """Return a record in the form of Lambda's JSON log; "" if the style is not "json"."""
    if style != "json":
        return ""
    from .json_lines import timestamp, to_line  # imported late, because json takes long to import

    more = {} if phase == INVOKE else {"phase": phase}
    return to_line({"time": timestamp(), "type": type, "record": {**record, **more}}).decode()
