"""Words for people and tools: log lines around a request, and error objects, in the platforms' own forms.

Functions from facts to text; only the JSON style looks at the clock. And back, from the text of a dump of stacks to
calls. The formats are those of Alibaba Function Compute and AWS Lambda.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from typing import Any

AUTO = "auto"
LOG_STYLES = (AUTO, "fc", "lambda", "json", "none")
"""The values of --log-style. AUTO stands for one of the two below, or for a platform's style."""

SHORT = "short"
"""One line after the request, none around hooks."""

SUMMARY = "summary"
"""No line for a request; the command line writes a summary at the end."""

ERROR_STYLES = ("auto", "text", "lambda", "fc")

_DEPTH = 16
"""Causes and groups inside each other, at most: the runtime sends fewer, but who knows what sent them."""

_LINE_DIGITS = 9
"""Digits of a line number, at most: int() refuses thousands of them, and who knows who wrote them."""

LINE_LENGTH = 1000
"""The most characters of an error within a line."""

_THREADS = 10
"""Threads shown of those that may serve a request, at most."""

_THREAD_CALLS = 10
"""Calls shown of each."""

LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""What JSON lets stand in a text, and some readers take for the end of a line (U+0085, U+2028, U+2029); its escape."""

_Call = tuple[str, int, str]
"""File, line, function."""

INVOKE = "invoke"
"""The phase that is a request. The others are hooks: initialize, pre-stop, pre-freeze."""


def start_line(style: str, request_id: str, version: str, phase: str = INVOKE) -> str:
    """The line before a request or a hook, without a line break; "" for none."""
    if style == "fc":
        return f"FC {_fc_phase(phase)} Start RequestId: {request_id}"
    if style == "lambda":
        return f"START RequestId: {request_id} Version: {version}" + ("" if phase == INVOKE else f" Phase: {phase}")
    if style == "json":
        more = {} if phase == INVOKE else {"phase": phase}
        return _json_line("platform.start", {"requestId": request_id, "version": version, **more})
    return ""


def end_line(style: str, request_id: str, failed: bool, phase: str = INVOKE) -> str:
    """The line after a request or a hook."""
    if style == "fc":
        error = ", Error: Unhandled function error" if failed else ""
        return f"FC {_fc_phase(phase)} End RequestId: {request_id}{error}"
    if style == "lambda":
        return f"END RequestId: {request_id}" + ("" if phase == INVOKE else f" Phase: {phase}")
    if style == "json":
        more = {} if phase == INVOKE else {"phase": phase}
        status = "failure" if failed else "success"
        return _json_line("platform.runtimeDone", {"requestId": request_id, "status": status, **more})
    return ""


def _fc_phase(phase: str) -> str:
    """As Function Compute writes it: PreStop."""
    return "".join(part.capitalize() for part in phase.split("-"))


def report_line(style: str, request_id: str, measured: Mapping[str, int], memory_mb: int) -> str:
    """The line of measurements; only what was measured is in it.

    measured: duration_us, cpu_us, init_us, peak_memory_bytes, each if known. memory_mb: what the function may have.
    """
    if style == "none":
        return ""
    milliseconds = {key: measured[f"{key}_us"] / 1000 for key in ("duration", "cpu", "init") if f"{key}_us" in measured}
    peak = measured.get("peak_memory_bytes")
    used = None if peak is None else math.ceil(peak / 2**20)
    if style == "json":
        metrics: dict[str, object] = {"memorySizeMB": memory_mb}
        names = {"duration": "durationMs", "cpu": "cpuMs", "init": "initDurationMs"}
        metrics.update((names[key], round(value, 3)) for key, value in milliseconds.items())
        if "duration" in milliseconds:
            metrics["billedDurationMs"] = math.ceil(milliseconds["duration"])
        if used is not None:
            metrics["maxMemoryUsedMB"] = used
        return _json_line("platform.report", {"requestId": request_id, "metrics": metrics})
    fields = [f"REPORT RequestId: {request_id}"]
    if "duration" in milliseconds:
        fields.append(f"Duration: {milliseconds['duration']:.2f} ms")
        fields.append(f"Billed Duration: {math.ceil(milliseconds['duration'])} ms")
    fields.append(f"Memory Size: {memory_mb} MB")
    if used is not None:
        fields.append(f"Max Memory Used: {used} MB")
    if "cpu" in milliseconds:
        fields.append(f"CPU Time: {milliseconds['cpu']:.2f} ms")
    if "init" in milliseconds:
        fields.append(f"Init Duration: {milliseconds['init']:.2f} ms")
    return "\t".join(fields) + "\t"


def short_line(request_id: str, failed: bool, measured: Mapping[str, int], limit_mb: int | None) -> str:
    """Return the one line that follows a request in the style SHORT, without a line break.

    Args:
        request_id: of the request.
        failed: whether its outcome is an error.
        measured: as report_line takes it; only what was measured is in the line.
        limit_mb: the function's memory limit in MB, None if it has none.
    """
    parts = [f"pipe-init: {request_id} {'failed' if failed else 'done'}"]
    if "duration_us" in measured:
        parts[0] += f" {'after' if failed else 'in'} {measured['duration_us'] / 1000:.2f} ms"
    peak = measured.get("peak_memory_bytes")
    of = "" if limit_mb is None else f" of {limit_mb}"
    if peak is not None:
        parts.append(f"memory {math.ceil(peak / 2**20)}{of} MB")
    elif limit_mb is not None:
        parts.append(f"memory limit {limit_mb} MB")
    if "init_us" in measured:
        parts.append(f"init {measured['init_us'] / 1000:.2f} ms")
    return ", ".join(parts)


def json_line(text: bytes, request_id: str, level: str = "") -> bytes:
    """Return text as JSON, as the runtime writes the function's own lines: one line for any reader.

    Args:
        text: A line from below Python, or a message of pipe-init's own.
        request_id: Of its request, "" for none.
        level: Of a message, "" for a line that has none.
    """
    record: dict[str, str] = {"timestamp": _moment()}
    if level:
        record["level"] = level
    record["message"] = text.decode("utf-8", "backslashreplace")
    if request_id:
        record["requestId"] = request_id
    return one_line(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def one_line(text: bytes) -> bytes:
    """Return JSON text in which all characters that a reader may take for a line end are escaped."""
    if not text.isascii():
        for character, escape in LINE_ENDS:
            text = text.replace(character, escape)
    return text


def error_object(style: str, problem: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """An error as Lambda's clients ("lambda") or Function Compute's ("fc") give it, plus its causes.

    problem: ERROR's metadata (docs/protocol.md).
    """
    limit = _limit(problem)
    return {**_error(style, problem, 0), "requestId": request_id, **({"limit": limit} if limit else {})}


def logged(error: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error object with a time and a level in front, as Lambda's JSON log has it."""
    return {"timestamp": _moment(), "level": "ERROR", **error}


def error_text(problem: Mapping[str, Any]) -> str:
    """An error as Python prints one: causes first, most recent call last, ending in a line break."""
    lines, limit = _text(problem, 0), _limit(problem)
    if limit:
        lines.append(_limit_text(limit))
    return "\n".join(lines) + "\n"


def error_line(problem: Mapping[str, Any]) -> str:
    """Return an error's type and message as a part of one line, without the request's id before it."""
    message = re.sub(r"^RequestId: \S* Error: ", "", _string(problem.get("error_message")))
    return " ".join(_said(problem, message).split()).rstrip(".")[:LINE_LENGTH]


def _said(problem: Mapping[str, Any], message: str) -> str:
    """Return an error's type and, if there is one, its message, as Python prints them."""
    kind = _string(problem.get("error_type"))
    return f"{kind}: {message}" if message else kind


def _error(style: str, problem: Mapping[str, Any], depth: int) -> dict[str, Any]:
    stack = _stack(problem)
    result: dict[str, Any] = {
        "errorMessage": _string(problem.get("error_message")),
        "errorType": _string(problem.get("error_type")),
        "stackTrace": [list(entry) for entry in stack] if style == "fc" else [_stack_line(entry) for entry in stack],
    }
    cause, exceptions = problem.get("cause"), problem.get("exceptions")
    if isinstance(cause, Mapping) and depth < _DEPTH:
        result["cause"] = _error(style, cause, depth + 1)
    if isinstance(exceptions, list) and depth < _DEPTH:
        result["exceptions"] = [_error(style, each, depth + 1) for each in exceptions if isinstance(each, Mapping)]
    return result


def _limit(problem: Mapping[str, Any]) -> dict[str, object]:
    """The limit that was hit, as far as it has the right form."""
    found = problem.get("limit")
    types = {"name": str, "value": int, "peak": int, "counts": str, "resident": int}
    known = found if isinstance(found, Mapping) and type(found.get("name")) is str else {}
    return {key: known[key] for key, wanted in types.items() if type(known.get(key)) is wanted}


def _limit_text(limit: Mapping[str, object]) -> str:
    """Return the line about a limit: its name, its value and what was measured."""
    unit = {"time": " ms", "cpu_time": " ms", "pids": "", "open_files": ""}.get(str(limit["name"]), " bytes")
    parts = [f"Limit: {limit['name']}" + (f" {limit['value']}{unit}" if "value" in limit else "")]
    if "counts" in limit:
        parts[0] += f" of {limit['counts']}"
        parts.append("beyond which allocations are refused")
    if "peak" in limit:
        parts.append(f"peak {limit['peak']}{unit}")
    if "resident" in limit:
        parts.append(f"at most {limit['resident']} bytes were resident")
    return ", ".join(parts)


def _text(problem: Mapping[str, Any], depth: int) -> list[str]:
    lines: list[str] = []
    cause, exceptions = problem.get("cause"), problem.get("exceptions")
    if isinstance(cause, Mapping) and depth < _DEPTH:
        lines += [*_text(cause, depth + 1), "", "which led to:", ""]
    stack = _stack(problem)
    if stack:
        lines.append("Traceback (most recent call last):")
        lines += [_stack_line(entry).rstrip("\n") for entry in stack]
    lines.append(_said(problem, _string(problem.get("error_message"))))
    if isinstance(exceptions, list) and depth < _DEPTH:
        for number, each in enumerate(exceptions, 1):
            if isinstance(each, Mapping):
                lines += [f"  +-- {number} of {len(exceptions)}:"]
                lines += ["  | " + line for text in _text(each, depth + 1) for line in text.split("\n")]
    return lines


def _stack(problem: Mapping[str, Any]) -> list[tuple[str, int, str, str]]:
    """The stack's entries that have the right form; who sent them need not be our runtime."""
    entries = problem.get("stack")
    found: list[tuple[str, int, str, str]] = []
    if isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, list) and [type(part) for part in entry] == [str, int, str, str]:
                found.append((entry[0], entry[1], entry[2], entry[3]))
    return found


def _stack_line(entry: tuple[str, int, str, str]) -> str:
    """One call as traceback.format_list() writes it, or the marker of calls left out."""
    file, line, function, code = entry
    if not file:
        return f"  {function}\n"
    text = f'  File "{file}", line {line}, in {function}\n'
    return text + f"    {code.strip()}\n" if code.strip() else text


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _json_line(type: str, record: Mapping[str, Any]) -> str:
    return json.dumps({"time": _moment(), "type": type, "record": record}, ensure_ascii=False)


def _moment() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def parse_stacks(text: str, own_folder: str) -> list[list[object]]:
    """The calls of the function's code in a faulthandler dump, most recent last.

    Those of the last thread, which is the main one; where that is at nothing of the function's, of the threads that
    serve requests: of all of them, as it is not known whose each is.

    text: as CPython's faulthandler writes it. own_folder: of the runtime's modules, whose calls are cut at the start.
    """
    threads: list[list[_Call]] = []
    for line in text.splitlines():
        if line.endswith("C stack trace (most recent call first):"):
            continue  # CPython 3.14 and newer; its lines name no Python file, and the last thread stays the last
        if line.endswith("(most recent call first):"):
            threads.append([])
        elif threads and line.startswith('  File "'):
            call = _parse_call(line)
            if call:
                threads[-1].append(call)
    own_folder = os.path.join(own_folder, "")
    if not threads:
        return []
    calls = _from_the_function(threads[-1], own_folder)
    if calls:
        return calls
    server = os.path.join(own_folder, "serve", "threads.py")
    servers = (thread for thread in threads if any(file == server for file, _, _ in thread))
    serving = [calls for calls in (_from_the_function(thread, own_folder) for thread in servers) if calls]
    if len(serving) == 1:
        return serving[0]
    found: list[list[object]] = []
    for number, calls in enumerate(serving[:_THREADS], 1):
        found.append(["", 0, f"thread {number} of {len(serving)}, of which one serves this request:", ""])
        found += calls[-_THREAD_CALLS:]
    return found


def _from_the_function(thread: list[_Call], own_folder: str) -> list[list[object]]:
    """A thread's calls, most recent last, from the first one of the function's code on."""
    calls = thread[::-1]
    while calls and (calls[0][0].startswith((own_folder, "<frozen importlib")) or _calls_the_function(calls[0][0])):
        del calls[0]
    return [[file, number, function, ""] for file, number, function in calls]


def _calls_the_function(file: str) -> bool:
    """Whether it is threading's or the event loop's. By its name: no handler's module may have that of such a one."""
    folder, name = os.path.split(file)
    return os.path.basename(folder) == "asyncio" or name in ("threading.py", "selectors.py")


def _parse_call(line: str) -> _Call | None:
    file, found, rest = line[len('  File "') :].rpartition('", line ')
    number, _, function = rest.partition(" in ")
    if not found or not number.isdecimal() or len(number) > _LINE_DIGITS:
        return None
    return file, int(number), function
