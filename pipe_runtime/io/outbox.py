"""Everything that the runtime says leaves through here: one frame after the other, whole, from any thread.

This file knows the connection and the pipes, not what the frames mean.
"""

from __future__ import annotations

from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..wire.connection import Connection
    from .stdio import Pipes

    Post = tuple[int, int, Mapping[str, Any] | None, bytes, bool]


class Outbox:
    """Sends frames. Safe between threads, and inside a signal handler that interrupts a send.

    lock: held while the connection changes. Where several threads post, whoever takes frames in holds it too.
    """

    def __init__(self, connection: Connection, pipes: Pipes) -> None:
        self._connection = connection
        self._pipes = pipes
        # Reentrant, because a signal handler may post at any moment after this thread has taken the lock.
        self.lock = RLock()
        self._busy = False
        self._deferred: list[Post] = []

    def post(
        self,
        kind: int,
        id: int = 0,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        trusted: bool = False,
    ) -> None:
        """Send one frame. A frame that a signal handler posts in the middle of another one follows that one.

        What a signal handler of the function's raises meanwhile may break off a frame that one write takes (it is
        sent or not, never half); for any other frame there must be Quiet.
        trusted: as in Connection.send.
        LocalProtocolError: the protocol does not allow it now, or it is too large; nothing was sent.
        BrokenPipeError: nobody reads any more.
        """
        with self.lock:
            if self._busy:
                self._deferred.append((kind, id, metadata, payload, trusted))
                return
            try:
                self._busy = True
                self._pipes.write(self._connection.send(kind, id, metadata, payload, trusted))
            finally:
                self._busy = False
                if self._deferred:
                    self._send_deferred()

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent's may have been at a frame. Sending fails from now on."""
        self.lock = RLock()
        self._busy = False
        self._deferred.clear()

    def _send_deferred(self) -> None:
        more = True
        while more:
            try:
                self._busy = True  # before looking: a signal handler that posts now would send them all, this one too
                if self._deferred:
                    self._pipes.write(self._connection.send(*self._deferred.pop(0)))
            finally:
                self._busy = False
            more = bool(self._deferred)
