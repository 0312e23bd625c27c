"""Plain data: a function and its settings, a request, and its outcome.

It must not know how any of it is used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipe_runtime.wire.frames import LARGEST_PAYLOAD

from .kernel.death import Death
from .limits.confinement import Confinement
from .limits.rlimits import Limits

if TYPE_CHECKING:
    from .limits.cgroup import Evidence

Stack = list[list[object]]
"""Calls in the form of ERROR's `stack` (docs/protocol.md), the most recent one last."""

MAX_PAYLOAD = LARGEST_PAYLOAD
"""Bytes of a request's payload, unless it is streamed."""

PROCESS, REQUEST = "process", "request"
"""Kinds of isolation: a process serves all requests of a worker, or one request."""

EXEC, TEMPLATE = "exec", "template"
"""Ways to start a worker: an interpreter of its own, or a fork of one that has loaded the handler."""

WHILE_LOADING = "while it was loading the handler"
BEFORE_FORK = "before it had forked the worker"
AFTER_FORK = "after it was forked and before it was ready"
"""Stages of a start: what the worker, or the template that was to fork it, was doing when it died."""


@dataclass(frozen=True)
class Settings:
    """How long things may take, in seconds, and how many requests a worker may have.

    Attributes:
        start_timeout: From the start of a worker to its READY.
        grace: Between asking a worker to end and forcing it.
        stop_timeout: From STOP to the end of the worker.
        dump_wait: For the stacks of a worker that hangs, at most.
        dump_quiet: After the last part of the stacks, before they count as complete.
        backoff: After the first failed start. Each further failure in a row doubles it.
        backoff_limit: The longest back-off.
        kill_wait: For a worker to be gone after SIGKILL. After each such time the init kills what may keep it.
        lose_wait: After SIGKILL, until the init gives the worker up.
        start_attempts: Failed starts in a row after which no worker is started any more.
        max_requests: Requests after which a worker is replaced; 0 for any number.
        prestart: Whether `Policy.begin` starts a worker before a request needs one.
        window_requests: Requests that a worker may have been sent and not have answered. The worker's HELLO may
            lower it.
        window_bytes: Bytes of payload of these requests. The worker's HELLO may lower it.
    """

    start_timeout: float = 10.0
    grace: float = 2.0
    stop_timeout: float = 5.0
    dump_wait: float = 1.0
    dump_quiet: float = 0.02
    backoff: float = 0.1
    backoff_limit: float = 10.0
    kill_wait: float = 0.05
    lose_wait: float = 1.0
    start_attempts: int = 5
    max_requests: int = 0
    prestart: bool = False
    window_requests: int = 1
    window_bytes: int = 1024 * 1024


@dataclass(frozen=True)
class Function:
    """What to run, and how.

    Attributes:
        command: The command of a worker.
        environment: The environment of a worker.
        hello: HELLO's configuration (docs/protocol.md).
        settings: The time limits of its workers, and how many requests each may have.
        confinement: What a worker may use, and how it is held to that.
        memory_mb: The memory size that reports name, in MB.
        version: The version of the function that start lines name.
        assumed_region: The region if it is only a default, else "".
        log_style: One of LOG_STYLES (log/request_lines.py).
        spin_us: Microseconds for which the init polls for an answer before it sleeps; 0 for none.
        concurrency: Requests that a worker may run at once.
        workers: Processes that serve at once.
        isolation: PROCESS, or REQUEST for a process per request.
        start_method: EXEC or TEMPLATE.
        metadata: INVOKE's fields that are the same for every request. A request's own fields win.
    """

    command: list[str]
    environment: dict[str, str]
    hello: dict[str, Any]
    settings: Settings
    confinement: Confinement = field(default_factory=Confinement)
    memory_mb: int = 0
    version: str = "$LATEST"
    assumed_region: str = ""
    log_style: str = "none"
    spin_us: int = 0
    concurrency: int = 1
    workers: int = 1
    isolation: str = PROCESS
    start_method: str = EXEC
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Return what a worker may use."""
        return self.confinement.limits


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        request_id: Its name in logs and errors.
        payload: The event.
        content_type: The content type of the event.
        accept: The content type that the result is wanted in.
        timeout: Seconds that the worker has for it.
        metadata: Further fields of INVOKE, such as http, stream and phase.
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

    Attributes:
        request_id: The request's.
        content_type: The content type of the result.
        payload: The result.
        problem: ERROR's metadata; None for a result.
        exit_code: 0, one of kernel/exit_codes.py, or 128 plus the signal that the worker died of.
        measured: What report_line() takes.
        http: RESULT's `http`, which is hostile like all that a worker says; None if the answer is not HTTP.
        streamed: Whether the body came in pieces, not as `payload`.
    """

    request_id: str
    content_type: str = ""
    payload: bytes = b""
    problem: Mapping[str, Any] | None = None
    exit_code: int = 0
    measured: dict[str, int] = field(default_factory=dict)
    http: Mapping[str, Any] | None = None
    streamed: bool = False


def problem(error_type: str, message: str, stack: Stack | None = None) -> dict[str, Any]:
    """Return an error in the form of ERROR's metadata (docs/protocol.md), as Outcome has it."""
    return {"error_type": error_type, "error_message": message, "stack": stack or []}


@dataclass(slots=True)
class Piece:
    """A part of a streamed result. The first one has no data: it says that a stream begins.

    Attributes:
        id: What `Supervisor.submit` returned.
        request_id: The request's.
        content_type: As in Outcome.
        data: The bytes.
        http: As in Outcome.
    """

    id: int
    request_id: str
    content_type: str
    data: bytes
    http: Mapping[str, Any] | None = None


@dataclass
class WorkerEnd:
    """What is known of a worker, or of a template, when a request must be answered in its place.

    Attributes:
        last_word: The metadata of its ERROR with id 0.
        violation: How it broke the protocol.
        death: How it died, once it was reaped.
        sent: The signals that the init sent it to end it.
        closed: Whether it was sent signals because it had closed its stream and did not end.
        asked: Whether it was asked for its stacks.
        dump: What it wrote to the dump pipe.
        stacks: What it answered to DUMP, by the request's id.
        exec_error: Why its program could not be executed; a JoinError if it could not join its cgroup.
        start_error: Why its process could not be started.
        evidence: The counts of its cgroup, once it is dead.
        peak_memory: The most resident memory of the worker in bytes, for the report; 0 if it is not known.
        sizes: Bytes of results that were cut, by request_id.
        stage: What it was doing if it was not ready yet.
        of_template: Whether `death` and `start_error` are those of the template.
        farewell: What the template has said about its end.
        unseen: Whether the worker is not a child of the init, which then cannot see how it ends.
    """

    last_word: Mapping[str, Any] = field(default_factory=dict)
    violation: str = ""
    death: Death | None = None
    sent: set[int] = field(default_factory=set)
    closed: bool = False
    asked: bool = False
    dump: bytearray = field(default_factory=bytearray)
    stacks: dict[int, Stack] = field(default_factory=dict)
    exec_error: OSError | None = None
    start_error: OSError | None = None
    evidence: Evidence | None = None
    peak_memory: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    stage: str = WHILE_LOADING
    of_template: bool = False
    farewell: str = ""
    unseen: bool = False


def invoke_metadata(function: Function, request: Request) -> tuple[dict[str, Any], bool]:
    """Return INVOKE's metadata, and whether the init has made all of it itself."""
    metadata: dict[str, Any] = {
        "request_id": request.request_id,
        "timeout_ms": int(request.timeout * 1000),
        "deadline_ms": int((time.time() + request.timeout) * 1000),
        "content_type": request.content_type,
        "accept": request.accept,
    }
    more = request.metadata or function.metadata
    if more:
        metadata.update(function.metadata)
        metadata.update(request.metadata or {})
    return metadata, not more


def new_request_id() -> str:
    """Return a random UUID (RFC 9562, version 4). Importing uuid for it would take 4 ms of every start."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
