"""Send the runtime's frames whole and one after another, from any thread.

This module does not know what the frames mean, nor how they are encoded.
"""

from __future__ import annotations

from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Post = tuple[int, int, Mapping[str, Any] | None, bytes, bool]


class Outbox:
    """Send frames. It is safe between threads, and in a signal handler that interrupts a send.

    Args:
        encode: Makes the bytes of a frame of kind, id, metadata, payload and trusted; as Connection.send.
        write: Writes all of the bytes; as Pipes.write.

    Attributes:
        lock: Held while a frame is encoded and written. Code that feeds received bytes to the same connection holds it,
            too, if several threads post.
    """

    def __init__(self, encode: Callable[..., bytes], write: Callable[[bytes], None]) -> None:
        self._encode = encode
        self._write = write
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

        If a signal handler of the function raises meanwhile, a frame that one write takes is sent or not, never half.
        Post any larger frame inside SignalGuard.during.

        Args:
            trusted: As in Connection.send.

        Raises:
            LocalProtocolError: The protocol does not allow the frame now, or it is too large. Nothing was sent.
            BrokenPipeError: The init no longer reads.
        """
        with self.lock:
            if self._busy:
                self._deferred.append((kind, id, metadata, payload, trusted))
                return
            try:
                self._busy = True
                self._write(self._encode(kind, id, metadata, payload, trusted))
            finally:
                self._busy = False
                if self._deferred:
                    self._send_deferred()

    def after_fork(self) -> None:
        """Reset in a forked child what another thread of the parent may have held."""
        self.lock = RLock()
        self._busy = False
        self._deferred.clear()

    def _send_deferred(self) -> None:
        while self._deferred:
            try:
                self._busy = True
                if self._deferred:  # a signal handler that posted meanwhile has sent all of them
                    self._write(self._encode(*self._deferred.pop(0)))
            finally:
                self._busy = False
