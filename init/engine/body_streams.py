"""Send request bodies and receive results in pieces, within the credit that the receiving side has given.

This module knows a request only by its id. It must not know which worker runs a request, or when.
"""

from __future__ import annotations

from collections import deque

from pipe_runtime.wire.connection import MAX_CHUNK, STREAM_BYTES
from pipe_runtime.wire.messages import CHUNK, CREDIT, END

from ..kernel.plain_classes import dataclass
from ..model import Metadata, Outcome, Piece
from ..workers.link import Link


@dataclass(slots=True)
class _Stream:
    """The two streams of one request: its body, and its result.

    Attributes:
        request_id: The request's id for people; "" until the result begins.
        content_type: The result's content type; None until the result begins.
        http: The result's HTTP status and headers, if it has any.
        fed: Whether a part of the request's body was sent.
        due: Bytes of the result that the caller has taken, but for which the worker has got no new credit yet.
        came: Bytes of the result that have come from the worker.
    """

    request_id: str = ""
    content_type: str | None = None
    http: Metadata | None = None
    fed: bool = False
    due: int = 0
    came: int = 0


class Streams:
    """The streams of all requests that have no outcome yet.

    Attributes:
        of: The streams of each request that has any: {id: streams}.
        pieces: Pieces of results, in the order in which they came. A request's pieces come before its outcome.
    """

    def __init__(self) -> None:
        self.pieces: deque[Piece] = deque()
        self.of: dict[int, _Stream] = {}

    # The body of a request

    def takes_body(self, link: Link | None, id: int) -> bool:
        """Return whether `feed` takes a piece of the body now, or at least the body's end."""
        return link is not None and not link.wants_to_write and id in link.connection.open_requests

    def room(self, link: Link | None, id: int) -> int:
        """Return how many bytes of the body `feed` takes now."""
        return link.connection.stream_credit(id) if link is not None and self.takes_body(link, id) else 0

    def feed(self, link: Link | None, id: int, data: bytes) -> None:
        """Send a piece of the body, at most `room` bytes. b"" means that the body is complete."""
        if link is None or id not in link.connection.open_requests:
            return  # the request has its outcome, or will have it soon
        self.of.setdefault(id, _Stream()).fed = True
        for start in range(0, len(data), MAX_CHUNK):
            link.send(CHUNK, id, payload=data[start : start + MAX_CHUNK])
        if not data:
            link.send(END, id)

    def was_fed(self, id: int) -> bool:
        """Return whether a part of the body was sent to a worker. If so, no other worker can get the request."""
        return id in self.of and self.of[id].fed

    # The result

    def begin(self, id: int, request_id: str, metadata: Metadata) -> None:
        """Begin a streamed result, with the metadata of its RESULT, and hand the caller a first piece without data."""
        stream = self.of.setdefault(id, _Stream())
        stream.request_id, stream.content_type = request_id, metadata["content_type"]
        stream.http = metadata.get("http")
        self.take(id, b"", None)

    def take(self, id: int, data: bytes, limit: int | None) -> int:
        """Append a piece from the worker to `pieces`, for the caller. The request has no outcome yet.

        Returns:
            0. If the result is now larger than `limit` bytes, its size; the piece is dropped then.
        """
        stream = self.of[id]
        stream.came += len(data)
        if limit is not None and stream.came > limit:
            return stream.came
        self.pieces.append(Piece(id, stream.request_id, stream.content_type or "", data, stream.http))
        return 0

    def taken(self, link: Link | None, piece: Piece) -> None:
        """Record that the caller has taken a piece. The worker gets new credit for it as soon as enough is due."""
        stream = self.of.get(piece.id)
        if stream is None or link is None or piece.id not in link.connection.open_requests:
            return
        stream.due += len(piece.data)
        if stream.due >= STREAM_BYTES // 2:
            link.send(CREDIT, piece.id, {"bytes": stream.due})
            stream.due = 0

    def end(self, id: int, outcome: Outcome) -> None:
        """Forget the request's streams. Copy a streamed result's content type and HTTP fields to `outcome`."""
        stream = self.of.pop(id, None)
        if stream is not None and stream.content_type is not None:
            outcome.streamed = True
            outcome.content_type, outcome.http = stream.content_type, stream.http
