"""Show an error to people and tools: as an object in a platform's form, as text, or as a part of one line.

An error is the metadata of an ERROR frame (docs/protocol.md). It comes from a process that may be hostile. So the
functions here treat a field of the wrong type as missing. This module does not know where the error goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..model import Metadata, Stack
from .json_lines import timestamp

LINE_LENGTH = 1000
"""The most characters that an error may take up in a line."""

_DEPTH = 16
"""How deep causes and exception groups may be nested. pipe_runtime nests them less deeply, other runtimes may not."""


def error_object(style: str, problem: Metadata, request_id: str) -> dict[str, object]:
    """Return an error as AWS Lambda ("lambda") or Function Compute ("fc") reports it, and add its causes to it."""
    limit = _limit(problem)
    return {**_object(style, problem, 0), "requestId": request_id, **({"limit": limit} if limit else {})}


def logged(error: Metadata) -> dict[str, object]:
    """Return an error object with a timestamp and a level before its fields, as in Lambda's JSON log."""
    return {"timestamp": timestamp(), "level": "ERROR", **error}


def error_text(problem: Metadata) -> str:
    """Return an error as Python prints it: causes first, the most recent call last, and a line break at the end."""
    lines, limit = _text(problem, 0), _limit(problem)
    if limit:
        lines.append(_limit_text(limit))
    return "\n".join(lines) + "\n"


def error_line(problem: Metadata) -> str:
    """Return an error's type and message as a part of one line. Leave out a request id before the message."""
    message = re.sub(r"^RequestId: \S* Error: ", "", _string(problem, "error_message"))
    return " ".join(_title(problem, message).split()).rstrip(".")[:LINE_LENGTH]


def _object(style: str, problem: Metadata, depth: int) -> dict[str, object]:
    stack = calls_of(problem)
    result: dict[str, object] = {
        "errorMessage": _string(problem, "error_message"),
        "errorType": _string(problem, "error_type"),
        "stackTrace": stack if style == "fc" else [_stack_line(*entry) for entry in stack],
    }
    causes, members = _inner(problem, depth)
    for cause in causes:
        result["cause"] = _object(style, cause, depth + 1)
    if members:
        result["exceptions"] = [_object(style, member, depth + 1) for member in members]
    return result


def _text(problem: Metadata, depth: int) -> list[str]:
    lines: list[str] = []
    causes, members = _inner(problem, depth)
    for cause in causes:
        lines += [*_text(cause, depth + 1), "", "which led to:", ""]
    stack = calls_of(problem)
    if stack:
        lines.append("Traceback (most recent call last):")
        lines += [_stack_line(*entry).rstrip("\n") for entry in stack]
    lines.append(_title(problem, _string(problem, "error_message")))
    for number, member in enumerate(members, 1):
        lines += [f"  +-- {number} of {len(members)}:"]
        lines += ["  | " + line for text in _text(member, depth + 1) for line in text.split("\n")]
    return lines


def _title(problem: Metadata, message: str) -> str:
    """Return an error's type, and its message if it has one, as Python prints them."""
    kind = _string(problem, "error_type")
    return f"{kind}: {message}" if message else kind


def _inner(problem: Metadata, depth: int) -> tuple[list[Metadata], list[Metadata]]:
    """Return (an error's cause in a list, the errors in an exception group). At the depth _DEPTH both are empty."""
    if depth == _DEPTH:
        return [], []
    members = problem.get("exceptions")
    found = [problem.get("cause")], members if isinstance(members, list) else []
    causes, members = ([each for each in errors if isinstance(each, Mapping)] for errors in found)
    return causes, members


def _limit(problem: Metadata) -> dict[str, object]:
    """Return the valid fields of the limit that caused the error; {} if no limit did."""
    found = problem.get("limit")
    types = {"name": str, "value": int, "peak": int, "counts": str, "resident": int}
    known = found if isinstance(found, Mapping) and type(found.get("name")) is str else {}
    return {key: known[key] for key, wanted in types.items() if type(known.get(key)) is wanted}


def _limit_text(limit: Metadata) -> str:
    """Return the line about a limit: its name, its value, and what the init has measured."""
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


def calls_of(problem: Metadata) -> Stack:
    """Return the calls of an error's stack, each as [file, line, function, code]."""
    entries = problem.get("stack")
    calls = [entry for entry in entries if isinstance(entry, list)] if isinstance(entries, list) else []
    return [call for call in calls if [type(part) for part in call] == [str, int, str, str]]


def _stack_line(file: str, line: int, function: str, code: str) -> str:
    """Return a call in the form of traceback.format_list(). An entry without a file stands for omitted calls."""
    if not file:
        return f"  {function}\n"
    text = f'  File "{file}", line {line}, in {function}\n'
    return text + f"    {code.strip()}\n" if code.strip() else text


def _string(problem: Metadata, key: str) -> str:
    value = problem.get(key)
    return value if isinstance(value, str) else ""
