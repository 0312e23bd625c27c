"""What is asked of the supervisor and what it answers: plain data, and the exit codes of README.md's table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipe_runtime.frames import LARGEST_PAYLOAD

from .policy import Settings

MAX_PAYLOAD = LARGEST_PAYLOAD
"""Bytes of a request's payload, unless it is streamed."""

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
    concurrency: requests that a worker may be at together. hooks: which of "initializer", "pre_stop" and "pre_freeze"
    hello names. metadata: INVOKE's fields that are the same for every request; a request's own win.
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
    concurrency: int = 1
    hooks: frozenset[str] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """One request. timeout: seconds. payload: the event in `content_type`; the result is wanted in `accept`.

    metadata: further fields of INVOKE, such as http, stream and phase.
    """

    request_id: str
    payload: bytes
    content_type: str
    accept: str
    timeout: float
    metadata: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Outcome:
    """How a request ended.

    content_type, payload: of the result. problem: ERROR's metadata, None for a result. exit_code: 0, or one of the
    above, or 128 and the signal that the worker died of. measured: what report_line() takes. http: RESULT's, as hostile
    as all that a worker says; None where the answer is not HTTP. streamed: the body came in pieces, not as `payload`.
    """

    request_id: str
    content_type: str = ""
    payload: bytes = b""
    problem: Mapping[str, Any] | None = None
    exit_code: int = 0
    measured: dict[str, int] = field(default_factory=dict)
    http: Mapping[str, Any] | None = None
    streamed: bool = False


@dataclass(slots=True)
class Piece:
    """A part of a streamed result. The first one has no data: it says that a stream begins.

    id: what `Supervisor.submit` returned. content_type, http: of the result, as in Outcome.
    """

    id: int
    request_id: str
    content_type: str
    data: bytes
    http: Mapping[str, Any] | None = None


def new_request_id() -> str:
    """A random UUID (RFC 9562, version 4). Importing uuid for it would take 4 ms of every start."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
