"""Keep the requests of one lane until each has its outcome, and write the log lines that belong to them.

A request's outcome is the worker's own answer, or an error that the init makes in the worker's place. The policy
decides which of them counts, and calls this module exactly once for each request. This module must not know which
process ran a request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import END, RESULT

from ..kernel import exit_codes
from ..log.journal import Journal
from ..log.request_lines import RequestLines
from ..model import Function, Outcome, Request, WorkerEnd, problem
from ..policy import limit_hit
from ..policy.actions import Cause
from ..policy.worker_failures import answer
from .body_streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits.cgroup import Evidence

UNKNOWN = float("inf")
"""The average time of a request until the first one is done. Infinity keeps requests from being queued until then."""

NEWEST_SHARE = 0.25
"""The weight of the latest request in the average time of a request."""


class OpenRequests:
    """The requests of one lane that have no outcome yet.

    Attributes:
        function: The function that runs the requests.
        journal: The init's log.
        streams: The streams of all lanes.
        requests: The requests, by id.
        begun: When each request's turn came, on time.monotonic()'s clock, by id.
        unsendable: Requests that could not be sent: {id: (error type, message)}.
        request_lines: Writes log lines at the start and end of requests and hooks.
        init_us: Microseconds that the worker took to be ready, for the report of its first request. None after that.
    """

    def __init__(
        self, lane: int, function: Function, journal: Journal, streams: Streams, outcomes: deque[Outcome]
    ) -> None:
        """Make the record of a lane (a worker and those that replace it), with no requests yet.

        Args:
            lane: The lane's number.
            function: The function that runs the requests.
            journal: The init's log.
            streams: The streams of all lanes.
            outcomes: The queue to which to append outcomes.
        """
        self.requests: dict[int, Request] = {}
        self.init_us: int | None = None
        self._lane = lane
        self.function = function
        self._limits = function.limits
        self.journal = journal
        self.request_lines = RequestLines(function, journal)
        self.streams = streams
        self._outcomes = outcomes
        self.begun: dict[int, float] = {}
        self.unsendable: dict[int, tuple[str, str]] = {}
        self._shows_ids = function.concurrency > 1 and function.hello.get("log_format") != "json"
        self._still_logging: dict[int, str] = {}  # {id: request id} of requests answered in the worker's place

    def cannot_send(self, id: int, error_type: str, message: str) -> None:
        """Keep the error of a request that could not be sent. The request gets the error when its turn comes."""
        self.unsendable[id] = error_type, message

    def begin(self, id: int, now: float) -> bool:
        """Record that this request's turn has come. Return False if it could not be sent, so that no worker runs it."""
        self.begun[id] = now
        if not self.request_lines.silent:
            self.request_lines.begun(self.requests[id])
        return id not in self.unsendable

    def made_of(self, frame: Frame, measured: dict[str, int], evidence: Callable[[int], Evidence | None]) -> Outcome:
        """Return the outcome that a worker has sent. It is an error if the result is too large.

        Args:
            frame: The worker's outcome.
            measured: What the worker has measured.
            evidence: Returns the counts of the worker's cgroup for a request's id.
        """
        metadata, limit = frame.metadata, self._limits.output_bytes
        request_id = self.requests[frame.id].request_id
        if limit is not None and len(frame.payload) > limit:
            error = limit_hit.too_large(len(frame.payload), limit, streamed=False)
        elif frame.kind == RESULT:
            http = metadata.get("http")
            return Outcome(request_id, metadata["content_type"], frame.payload, None, 0, measured, http)
        elif frame.kind == END and "error_type" not in metadata:
            return Outcome(request_id, measured=measured)
        else:
            error = dict(limit_hit.completed(metadata, self._limits, evidence(frame.id), measured))
        return Outcome(request_id, "", b"", error, exit_codes.FUNCTION_FAILED, measured)

    def answer(self, id: int, cause: Cause, end: WorkerEnd) -> None:
        """Conclude a request with an error in the worker's place. `end` is what is known of the worker's end."""
        self.unsendable.pop(id, None)
        request = self.requests[id]
        measured = self.duration(id, time.monotonic())
        if id in self.begun and end.peak_memory:
            measured["peak_memory_bytes"] = end.peak_memory
        error, exit_code = answer(self.function, request, cause, end, end.stacks.get(id), end.sizes.get(id, 0))
        error = limit_hit.timed(error, measured)
        self.conclude(id, Outcome(request.request_id, "", b"", error, exit_code, measured))

    def fail(self, id: int) -> None:
        """Conclude a request that could not be sent."""
        error = problem(*self.unsendable.pop(id))
        outcome = Outcome(self.requests[id].request_id, "", b"", error, exit_codes.FUNCTION_FAILED)
        self.conclude(id, outcome)

    def duration(self, id: int, now: float) -> dict[str, int]:
        """Return the time since the request's turn came, as a part of its measurements; {} if it has not come."""
        return {"duration_us": int((now - self.begun[id]) * 1e6)} if id in self.begun else {}

    def conclude(self, id: int, outcome: Outcome) -> None:
        """Give a request its outcome. This is the only place where a request that a lane has gets one."""
        journal = self.journal
        if journal.usage or journal.partial:
            journal.request_over(id, self._lane)
        request = self.requests.pop(id)
        if self.streams.of:
            self.streams.end(id, outcome)
        if self.begun.pop(id, None) is not None:
            if self.init_us is not None:
                outcome.measured["init_us"], self.init_us = self.init_us, None
            if not self.request_lines.silent:
                self.request_lines.ended(request, outcome)
        self._outcomes.append(outcome)

    # Lines of the worker

    def write_lines(self, frame: Frame) -> None:
        """Write the lines of a LOG frame to the log."""
        metadata = frame.metadata
        name = self._request_id_of(frame) if self._shows_ids else ""
        self.journal.from_function(frame.payload, metadata["stream"], metadata.get("continues", False), frame.id, name)

    def write_raw(self, data: bytes) -> None:
        """Write bytes that did not come in LOG frames, such as output of C code.

        If only one request can have written them, log them as lines of that request.
        """
        is_known = self.function.concurrency == 1 or len(self.begun) == 1
        self.journal.raw(data, next(iter(self.begun), 0) if is_known else 0, self._lane)

    def keep_id(self, id: int) -> None:
        """Keep the id of a request that is answered in the worker's place, because its worker may still write lines."""
        if self._shows_ids:
            self._still_logging[id] = self.requests[id].request_id

    def over(self, id: int) -> None:
        """Forget a request that was first answered in the worker's place, and then by the worker, too."""
        self.journal.request_over(id, self._lane)
        self._still_logging.pop(id, None)

    def worker_gone(self, begun: dict[int, int]) -> None:
        """Forget the worker and the requests in `begun`. No other worker writes lines for these requests."""
        self._still_logging.clear()
        self.journal.all_over(begun, self._lane)

    def _request_id_of(self, line: Frame) -> str:
        """Return the request id to show before the lines of a LOG frame; "" for none."""
        if line.metadata.get("named", False):
            return ""
        if line.id in self.requests:
            return self.requests[line.id].request_id
        return str(self._still_logging.get(line.id) or line.metadata.get("request_id", ""))
