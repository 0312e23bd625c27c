"""Send and take bodies that travel in pieces, within the credit of each side.

A request is known here by its id. This module must not know which worker runs a request, or when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipe_runtime.wire.connection import MAX_CHUNK, STREAM_BYTES
from pipe_runtime.wire.messages import CHUNK, CREDIT, END

from ..model import Outcome, Piece
from ..workers.link import Link


@dataclass(slots=True)
class _Stream:
    """The streams of one request.

    Attributes:
        content_type: The result's content type; None until the result begins.
        http: The result's HTTP status and headers, if it has any.
        fed: Whether a part of the request's body was sent.
        due: Bytes of the result that the caller has taken and for which no credit was given yet.
        came: Bytes of the result that came.
    """

    content_type: str | None = None
    http: Mapping[str, Any] | None = None
    fed: bool = False
    due: int = 0
    came: int = 0


class Streams:
    """The streams of all requests that have no outcome yet.

    Attributes:
        pieces: Pieces of results, in the order in which they came. Those of a request come before its outcome.
    """

    def __init__(self) -> None:
        self.pieces: deque[Piece] = deque()
        self._of: dict[int, _Stream] = {}

    # The body of a request

    def takes_body(self, link: Link | None, id: int) -> bool:
        """Return whether a piece of the body, or at least its end, can be fed now."""
        return link is not None and not link.wants_to_write and id in link.connection.open_requests

    def room(self, link: Link | None, id: int) -> int:
        """Return the bytes of the body that `feed` takes now."""
        return link.connection.stream_credit(id) if link is not None and self.takes_body(link, id) else 0

    def feed(self, link: Link | None, id: int, data: bytes) -> None:
        """Send a piece of the body, at most `room` bytes; b"" says that the body is complete."""
        if link is None or id not in link.connection.open_requests:
            return  # the request has its outcome, or soon will have it
        self._of.setdefault(id, _Stream()).fed = True
        for start in range(0, len(data), MAX_CHUNK):
            link.send(CHUNK, id, payload=data[start : start + MAX_CHUNK])
        if not data:
            link.send(END, id)

    def was_fed(self, id: int) -> bool:
        """Return whether a part of the body was sent to a worker, so that it cannot be sent to another one."""
        return id in self._of and self._of[id].fed

    # The result

    def begin(self, id: int, request_id: str, metadata: Mapping[str, Any]) -> None:
        """Note that a streamed result begins, with the metadata of its RESULT."""
        stream = self._of.setdefault(id, _Stream())
        stream.content_type, stream.http = metadata["content_type"], metadata.get("http")
        self.take(id, request_id, b"")

    def size_with(self, id: int, data: bytes) -> int:
        """Return the bytes of the result so far, with the piece that came."""
        stream = self._of[id]
        stream.came += len(data)
        return stream.came

    def take(self, id: int, request_id: str, data: bytes) -> None:
        """Hand a piece that came to the caller. The request has no outcome yet."""
        stream = self._of[id]
        self.pieces.append(Piece(id, request_id, stream.content_type or "", data, stream.http))

    def taken(self, link: Link | None, piece: Piece) -> None:
        """Note that the caller has taken a piece: the worker may send as many bytes more."""
        stream = self._of.get(piece.id)
        if stream is None or link is None or piece.id not in link.connection.open_requests:
            return
        stream.due += len(piece.data)
        if stream.due >= STREAM_BYTES // 2:
            link.send(CREDIT, piece.id, {"bytes": stream.due})
            stream.due = 0

    def end(self, id: int, outcome: Outcome) -> None:
        """Note that the request has its outcome, which gets the content type and HTTP fields of a streamed result."""
        stream = self._of.pop(id, None)
        if stream is not None and stream.content_type is not None:
            outcome.streamed = True
            outcome.content_type, outcome.http = stream.content_type, stream.http
