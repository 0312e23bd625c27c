"""Define the plain data of a run: a function and its settings, a request, its outcome, and a worker's end.

This module must not know how the engine uses these data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from pipe_runtime.wire.frames import LARGEST_PAYLOAD

from .kernel.plain_classes import dataclass, field
from .kernel.reaper import Death
from .limits.confinement import Confinement
from .limits.rlimits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .limits.cgroup import Evidence

Metadata = Mapping[str, "Any"]
"""The fields of a frame's head, such as those of an ERROR (docs/protocol.md). A worker may have sent them."""

Fields = dict[str, "Any"]
"""Such fields, as long as the init still adds to them."""

Stack = list[list["Any"]]
"""Calls in the form of ERROR's `stack` (docs/protocol.md), the most recent call last."""

MAX_PAYLOAD = LARGEST_PAYLOAD
"""The most bytes of a request's payload. This does not limit a streamed body."""

PROCESS, REQUEST = "process", "request"
"""Kinds of isolation: with PROCESS, a process serves many requests; with REQUEST, each request gets its own process."""

EXEC, TEMPLATE = "exec", "template"
"""Ways to start a worker: execute a new interpreter, or fork a template, which has already loaded the handler."""

WHILE_LOADING = "while it was loading the handler"
BEFORE_FORK = "before it had forked the worker"
AFTER_FORK = "after it was forked and before it was ready"
"""Stages of a worker's start, for error messages: when did the worker, or the template that should fork it, die?"""


@dataclass(frozen=True)
class Settings:
    """The time limits of a function's workers, in seconds, and how many requests a worker may have.

    Attributes:
        start_timeout: The most time from the start of a worker to its READY.
        grace: The time that a worker has to end or to tidy up before the init uses the next stronger means.
        stop_timeout: The most time from STOP to the end of the worker.
        dump_wait: The most time to wait for the stacks of a worker that hangs.
        dump_quiet: The time without another part of the stacks after which they count as complete.
        backoff: The time to wait after the first failed start. Each further failure in a row doubles it.
        backoff_limit: The longest back-off.
        kill_wait: The time that a killed worker has to be gone. After each such time, the init kills the processes that
            may keep the worker from ending.
        lose_wait: The time from SIGKILL until the init gives up a worker that does not end.
        start_attempts: Failed starts in a row after which the init starts no more workers.
        max_requests: Requests after which a worker is replaced; 0 for no limit.
        prestart: Whether `Policy.begin` starts a worker before a request needs one.
        window_requests: The most requests that a worker may have without having answered them. The worker's HELLO may
            lower it.
        window_bytes: The most bytes of these requests' payloads. The worker's HELLO may lower it.
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
    """A function, and how to run it.

    Attributes:
        command: The command that starts a worker.
        environment: The environment of a worker.
        hello: HELLO's configuration fields (docs/protocol.md).
        settings: The time limits of the workers, and how many requests each may have.
        confinement: The limits of a worker, and how to enforce them.
        memory_mb: The memory size in MB that report lines show.
        version: The version of the function that start lines show.
        assumed_region: The region, if it is only a default; else "".
        log_style: One of LOG_STYLES (log/request_lines.py).
        spin_us: Microseconds for which the init and the worker each poll before they sleep; 0 for no polling.
        concurrency: The most requests that a worker runs at once.
        workers: The most processes that run requests at once.
        isolation: PROCESS, or REQUEST for one process per request.
        start_method: EXEC or TEMPLATE.
        metadata: INVOKE's fields that are the same for every request. A request's own fields override them.
    """

    command: list[str]
    environment: dict[str, str]
    hello: Fields
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
    metadata: Metadata = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Return the limits of a worker."""
        return self.confinement.limits


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        request_id: The id that logs and errors show.
        payload: The event.
        content_type: The content type of the event.
        accept: The content type that the caller wants for the result.
        timeout: Seconds that the worker has for the request.
        metadata: Further fields of INVOKE, such as http, stream and phase.
    """

    request_id: str
    payload: bytes
    content_type: str
    accept: str
    timeout: float
    metadata: Metadata | None = None


@dataclass(slots=True)
class Outcome:
    """How a request ended.

    Attributes:
        request_id: The request's id.
        content_type: The content type of the result.
        payload: The result.
        problem: The error, in the form of ERROR's metadata (docs/protocol.md); None if there is a result.
        exit_code: 0, a code from kernel/exit_codes.py, or 128 plus the signal that ended the worker.
        measured: The measured figures of the request, such as its time and memory, for report_line().
        http: RESULT's `http`; None if the answer is not HTTP. A worker sends it, so it may be hostile.
        streamed: Whether the body came in pieces instead of in `payload`.
    """

    request_id: str
    content_type: str = ""
    payload: bytes = b""
    problem: Metadata | None = None
    exit_code: int = 0
    measured: dict[str, int] = field(default_factory=dict)
    http: Metadata | None = None
    streamed: bool = False


def problem(error_type: str, message: str, stack: Stack | None = None) -> Fields:
    """Return an error in the form of ERROR's metadata (docs/protocol.md), for Outcome.problem."""
    return {"error_type": error_type, "error_message": message, "stack": stack or []}


@dataclass(slots=True)
class Piece:
    """A part of a streamed result. The first piece of a stream has no data, and only shows that the stream begins.

    Attributes:
        id: The number that `Supervisor.submit` returned.
        request_id: The request's id.
        content_type: The content type of the result.
        data: The bytes of this piece.
        http: RESULT's `http`, as in Outcome.
    """

    id: int
    request_id: str
    content_type: str
    data: bytes
    http: Metadata | None = None


@dataclass
class WorkerEnd:
    """What is known of the end of a worker or a template, for an answer in the worker's place.

    Attributes:
        last_word: The metadata of the process's ERROR with id 0.
        violation: How the process broke the protocol; "" if it did not.
        death: How the process died; None until the init has collected it.
        sent: The signals that the init has sent to make the process end.
        closed: Whether the init sent these signals because the process had closed its stream but did not end.
        asked: Whether the init has asked the process for its stacks.
        dump: The bytes that the process has written to the dump pipe.
        stacks: The stacks in the process's answer to DUMP, by the request's id.
        exec_error: Why the program could not be executed; a JoinError if the process could not join its cgroup.
        start_error: Why the process could not be started. Its strerror and that of `exec_error` are texts for users.
        evidence: The counts of the process's cgroup at its death.
        peak_memory: The most resident memory of the worker in bytes, for the report; 0 if it is not known.
        sizes: The sizes in bytes of results that were cut, by the requests' ids in frames.
        stage: The stage of the start in which the process was, if it was not ready yet.
        of_template: Whether `death` and `start_error` are about the template, not about the worker.
        farewell: The message in which the template has said why it ends.
        unseen: Whether the init cannot see how the worker ends, because the worker is not its child.
    """

    last_word: Metadata = field(default_factory=dict)
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
    sizes: dict[int, int] = field(default_factory=dict)
    stage: str = WHILE_LOADING
    of_template: bool = False
    farewell: str = ""
    unseen: bool = False


RANDOM_IDS = 64
"""How many request ids are made from one read of random bytes."""


def new_request_id() -> str:
    """Return a random UUID (RFC 9562, version 4). The standard module uuid would add 4 ms to every start."""
    return next(_request_ids)


def _random_ids() -> Iterator[str]:
    """Yield random UUIDs. It asks the kernel for the random bytes of many, because a system call for each is slow."""
    while True:
        many = os.urandom(16 * RANDOM_IDS).hex()
        for start in range(0, len(many), 32):
            digits = many[start : start + 32]
            variant = "89ab"[int(digits[16], 16) % 4]
            yield f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


_request_ids = _random_ids()
