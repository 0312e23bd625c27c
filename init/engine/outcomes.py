"""Keep the requests of one lane from the moment it takes them to their outcomes: exactly one for each.

An outcome is what a worker has answered, or what is known of a worker that has not answered. Lines that a worker logs
meanwhile are written with the request that they belong to. This module must not know which outcome counts, which is
the policy's decision, or which process ran the request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import END, MEASURED, RESULT

from ..kernel import exit_codes
from ..log.journal import Journal
from ..log.request_lines import RequestLines
from ..model import Function, Outcome, Request, WorkerEnd, problem
from ..policy import limit_hit
from ..policy.actions import Cause
from ..policy.errors import answer
from .streams import Streams

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence

UNKNOWN = float("inf")
"""Microseconds that a request takes, before one is done: no other request must wait for the first one."""

NEWEST_SHARE = 0.25
"""The weight of the last request in the average of what a request takes."""


class OpenRequests:
    """The requests of one lane that have no outcome yet.

    Attributes:
        requests: The requests, by id.
        busy_us: Microseconds that a request takes, as an average that follows recent requests.
        request_lines: Writes the lines around requests and hooks.
        init_us: Microseconds that the worker took to be ready, for the report of its first request. None after that.
    """

    def __init__(
        self, lane: int, function: Function, journal: Journal, streams: Streams, outcomes: deque[Outcome]
    ) -> None:
        """Begin without a request.

        Args:
            lane: The lane's number.
            function: What the requests are for.
            journal: The init's log.
            streams: The streams of all lanes.
            outcomes: Where outcomes go.
        """
        self.requests: dict[int, Request] = {}
        self.busy_us = UNKNOWN
        self.init_us: int | None = None
        self._lane = lane
        self._function = function
        self._limits = function.limits
        self._journal = journal
        self.request_lines = RequestLines(function, journal)
        self._streams = streams
        self._outcomes = outcomes
        self._begun: dict[int, float] = {}
        self._unsendable: dict[int, tuple[str, str]] = {}  # error type and message
        self._shows_ids = function.concurrency > 1 and function.hello.get("log_format") != "json"
        self._still_logging: dict[int, str] = {}  # {id: request id} of those answered in the worker's place

    def cannot_send(self, id: int, error_type: str, message: str) -> None:
        """Keep the error for a request that could not be sent. It gets that when its turn comes."""
        self._unsendable[id] = error_type, message

    def begin(self, id: int) -> bool:
        """Note that it is this request's turn. Return whether the worker was sent it, and so runs it now."""
        self._begun[id] = time.monotonic()
        if not self.request_lines.silent:
            self.request_lines.begun(self.requests[id])
        return id not in self._unsendable

    def answered(self, frame: Frame, evidence: Callable[[int], Evidence | None], now: float) -> int:
        """Conclude a request with the worker's outcome. Return the peak memory that the worker reports.

        Args:
            frame: The outcome.
            evidence: Returns what the worker's cgroup tells of a request.
            now: The time.
        """
        id, metadata = frame.id, frame.metadata
        request_id = self.requests[id].request_id
        measured = {}
        for key in MEASURED:  # a comprehension would be a call
            if key in metadata:
                measured[key] = metadata[key]
        if "duration_us" not in measured:
            measured.update(self._duration(id, now))
        limit = self._limits.output_bytes
        if limit is not None and len(frame.payload) > limit:
            error = limit_hit.too_large(len(frame.payload), limit, streamed=False)
            outcome = Outcome(request_id, "", b"", error, exit_codes.FUNCTION_FAILED, measured)
        elif frame.kind == RESULT:
            outcome = Outcome(request_id, metadata["content_type"], frame.payload, None, 0, measured)
            if "http" in metadata:
                outcome.http = metadata["http"]
        elif frame.kind == END and "error_type" not in metadata:
            outcome = Outcome(request_id, measured=measured)
        else:
            error = dict(limit_hit.completed(metadata, self._limits, evidence(id), measured))
            outcome = Outcome(request_id, "", b"", error, exit_codes.FUNCTION_FAILED, measured)
        took = float(measured.get("duration_us", 0))
        self.busy_us = took if self.busy_us == UNKNOWN else self.busy_us + (took - self.busy_us) * NEWEST_SHARE
        self._conclude(id, outcome)
        return int(measured.get("peak_memory_bytes", 0))

    def answer(self, id: int, cause: Cause, end: WorkerEnd) -> None:
        """Conclude a request in the worker's place. `end` is what is known of the worker."""
        self._unsendable.pop(id, None)
        request = self.requests[id]
        measured = self._duration(id, time.monotonic())
        if id in self._begun and end.peak_memory:
            measured["peak_memory_bytes"] = end.peak_memory
        error, exit_code = answer(self._function, request, cause, end, end.stacks.get(id))
        error = limit_hit.timed(error, measured)
        self._conclude(id, Outcome(request.request_id, problem=error, exit_code=exit_code, measured=measured))

    def fail(self, id: int) -> None:
        """Conclude a request that could not be sent."""
        error = problem(*self._unsendable.pop(id))
        self._conclude(id, Outcome(self.requests[id].request_id, problem=error, exit_code=exit_codes.FUNCTION_FAILED))

    def _duration(self, id: int, now: float) -> dict[str, int]:
        return {"duration_us": int((now - self._begun[id]) * 1e6)} if id in self._begun else {}

    def _conclude(self, id: int, outcome: Outcome) -> None:
        """Give a request its outcome. A request that was submitted gets it here and nowhere else."""
        self._journal.request_over(id, self._lane)
        request = self.requests.pop(id)
        self._streams.end(id, outcome)
        if self._begun.pop(id, None) is not None:
            if self.init_us is not None:
                outcome.measured["init_us"], self.init_us = self.init_us, None
            if not self.request_lines.silent:
                self.request_lines.ended(request, outcome)
        self._outcomes.append(outcome)

    # Lines of the worker

    def write_lines(self, frame: Frame) -> None:
        """Write the lines of a LOG."""
        metadata = frame.metadata
        name = self._request_id_of(frame) if self._shows_ids else ""
        self._journal.from_function(frame.payload, metadata["stream"], metadata.get("continues", False), frame.id, name)

    def write_raw(self, data: bytes) -> None:
        """Write bytes from below Python. If one request alone can have written them, they are of that one."""
        is_known = self._function.concurrency == 1 or len(self._begun) == 1
        self._journal.raw(data, next(iter(self._begun), 0) if is_known else 0, self._lane)

    def keep_id(self, id: int) -> None:
        """Keep a request's id for lines that its worker still writes. The request is answered in the worker's place."""
        if self._shows_ids:
            self._still_logging[id] = self.requests[id].request_id

    def over(self, id: int) -> None:
        """Forget a request that was answered in the worker's place, and that the worker has answered, too."""
        self._journal.request_over(id, self._lane)
        self._still_logging.pop(id, None)

    def worker_gone(self, begun: dict[int, int]) -> None:
        """Forget the worker, and the requests that it had begun: no other worker writes lines for those."""
        self._still_logging.clear()
        self._journal.all_over(begun, self._lane)

    def _request_id_of(self, line: Frame) -> str:
        """Return the request id to show before the lines of a LOG."""
        if line.metadata.get("named", False):
            return ""
        if line.id in self.requests:
            return self.requests[line.id].request_id
        return str(self._still_logging.get(line.id) or line.metadata.get("request_id", ""))
