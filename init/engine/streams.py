"""Bodies that travel in pieces: what may be sent of a request's, what has come of a result's, and the credit for both.

It writes to a worker and knows requests by number; who runs them, and when, is the lane's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipe_runtime.wire.connection import MAX_CHUNK, STREAM_BYTES
from pipe_runtime.wire.messages import CHUNK, CREDIT, END

from ..model import Outcome, Piece
from ..workers.link import Worker


@dataclass(slots=True)
class _Stream:
    """The streams of one request. content_type: of its result's, None until that begins. http: the same's.

    fed: some of its body was sent. due: bytes of the result that were taken and for which no credit was given yet.
    came: bytes of the result.
    """

    content_type: str | None = None
    http: Mapping[str, Any] | None = None
    fed: bool = False
    due: int = 0
    came: int = 0


class Streams:
    """The streams of all requests that have no outcome yet.

    pieces: of results, in the order in which they came; those of a request come before its outcome.
    """

    def __init__(self) -> None:
        self.pieces: deque[Piece] = deque()
        self._of: dict[int, _Stream] = {}

    def feed(self, worker: Worker, id: int, data: bytes) -> None:
        """Send a piece of a request's body, within its credit; b"": the body is complete."""
        self._of.setdefault(id, _Stream()).fed = True
        for start in range(0, len(data), MAX_CHUNK):
            worker.send(CHUNK, id, payload=data[start : start + MAX_CHUNK])
        if not data:
            worker.send(END, id)

    def was_fed(self, id: int) -> bool:
        """Whether some of the request's body was sent to a worker, and cannot be sent to another one."""
        return id in self._of and self._of[id].fed

    def begin(self, id: int, request_id: str, metadata: Mapping[str, Any]) -> None:
        """RESULT with a stream came. metadata: its."""
        stream = self._of.setdefault(id, _Stream())
        stream.content_type, stream.http = metadata["content_type"], metadata.get("http")
        self.take(id, request_id, b"")

    def size_with(self, id: int, data: bytes) -> int:
        """Bytes of the request's streamed result, with the CHUNK that came."""
        stream = self._of[id]
        stream.came += len(data)
        return stream.came

    def take(self, id: int, request_id: str, data: bytes) -> None:
        """CHUNK came for a request that has no outcome yet."""
        stream = self._of[id]
        self.pieces.append(Piece(id, request_id, stream.content_type or "", data, stream.http))

    def taken(self, worker: Worker, piece: Piece) -> None:
        """The caller is done with a piece; as many bytes more may come."""
        stream = self._of.get(piece.id)
        if stream is None or piece.id not in worker.connection.open_requests:
            return
        stream.due += len(piece.data)
        if stream.due >= STREAM_BYTES // 2:
            worker.send(CREDIT, piece.id, {"bytes": stream.due})
            stream.due = 0

    def end(self, id: int, outcome: Outcome) -> None:
        """The request has its outcome; of a streamed result it gets what that began with."""
        stream = self._of.pop(id, None)
        if stream is not None and stream.content_type is not None:
            outcome.streamed = True
            outcome.content_type, outcome.http = stream.content_type, stream.http
