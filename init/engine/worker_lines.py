"""Write the lines of one lane's worker to the log, each with the request that it belongs to.

It must not know processes, or how requests end.
"""

from __future__ import annotations

from pipe_runtime.wire.frames import Frame

from ..log.journal import Journal
from ..model import Function
from .outcomes import OpenRequests


class WorkerLines:
    """Knows whose a line is. A request that was answered in the worker's place may still log."""

    def __init__(self, number: int, function: Function, journal: Journal, requests: OpenRequests) -> None:
        """Begin with no worker.

        Args:
            number: The lane's number, which tells the raw lines of its workers apart.
            function: What the workers serve.
            journal: The init's log.
            requests: The lane's requests.
        """
        self._number = number
        self._journal = journal
        self._requests = requests
        self._shows_ids = function.concurrency > 1 and function.hello.get("log_format") != "json"
        self._still_logging: dict[int, str] = {}  # {id: request id}

    def write(self, frame: Frame) -> None:
        """Write the lines of a LOG."""
        metadata = frame.metadata
        name = self._request_id_of(frame) if self._shows_ids else ""
        self._journal.from_function(frame.payload, metadata["stream"], metadata.get("continues", False), frame.id, name)

    def write_raw(self, data: bytes) -> None:
        """Write bytes from below Python."""
        self._journal.raw(data, self._requests.the_one_begun, self._number)

    def answered_in_its_place(self, id: int) -> None:
        """Keep a request's id for lines that its worker still writes."""
        if self._shows_ids:
            self._still_logging[id] = self._requests.requests[id].request_id

    def over(self, id: int) -> None:
        """Forget a request that was answered in the worker's place, and that the worker has answered, too."""
        self._journal.request_over(id, self._number)
        self._still_logging.pop(id, None)

    def worker_gone(self, begun: dict[int, int]) -> None:
        """Forget the worker, and the requests that it had begun: no other worker writes lines for those."""
        self._still_logging.clear()
        self._journal.all_over(begun, self._number)

    def _request_id_of(self, line: Frame) -> str:
        """Return the request id to show before the lines of a LOG."""
        if line.metadata.get("named", False):
            return ""
        if line.id in self._requests.requests:
            return self._requests.requests[line.id].request_id
        return str(self._still_logging.get(line.id) or line.metadata.get("request_id", ""))
