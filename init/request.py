"""What is asked of the supervisor and what it answers: plain data, and the exit codes of README.md's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipe_runtime.frames import MAX_FRAME, MAX_HEAD

from .policy import Settings

MAX_PAYLOAD = MAX_FRAME - 4 - MAX_HEAD
"""Bytes of a request's payload that surely fit into a frame."""

EXIT_FUNCTION_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_LOADED = 3
EXIT_PROTOCOL = 4
EXIT_TIMED_OUT = 124
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_OUT_OF_MEMORY = 137
EXIT_STOPPED = 143


@dataclass(frozen=True)
class Function:
    """What to run, and how.

    command, environment: of the worker's process. hello: HELLO's configuration (docs/protocol.md).
    memory_limit: bytes, None for none. memory_mb: what the report calls the memory size. version: of the function, for
    its start lines. log_style: of report.py. spin_us: microseconds to look for an answer before sleeping, 0 for none.
    """

    command: list[str]
    environment: dict[str, str]
    hello: dict[str, Any]
    settings: Settings
    memory_limit: int | None = None
    memory_mb: int = 0
    version: str = "$LATEST"
    log_style: str = "none"
    spin_us: int = 0


@dataclass(slots=True)
class Request:
    """One request. timeout: seconds. payload: the event in `content_type`; the result is wanted in `accept`."""

    request_id: str
    payload: bytes
    content_type: str
    accept: str
    timeout: float


@dataclass(slots=True)
class Outcome:
    """How a request ended.

    content_type, payload: of the result. problem: ERROR's metadata, None for a result. exit_code: 0, or one of the
    above, or 128 and the signal that the worker died of. measured: what report_line() takes.
    """

    request_id: str
    content_type: str = ""
    payload: bytes = b""
    problem: Mapping[str, Any] | None = None
    exit_code: int = 0
    measured: dict[str, int] = field(default_factory=dict)
