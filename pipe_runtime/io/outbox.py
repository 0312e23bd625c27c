"""Send the runtime's frames from any thread, each frame whole and one after another.

This module must not know what the frames mean, nor how they are encoded.
"""

from __future__ import annotations

from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Post = tuple[int, int, Mapping[str, Any] | None, bytes, bool]


class Outbox:
    """Send frames. Several threads may use it, and a signal handler may use it while it interrupts a send.

    Args:
        encode: See the attribute.
        write: Pipes.write, or a callable like it. It writes all bytes that it is given.

    Attributes:
        encode: Connection.send, or a callable like it. It takes kind, id, metadata, payload and trusted, and returns
            the bytes of the frame.
        lock: The lock that is held while a frame is encoded and written. If several threads send, code that gives
            received bytes to the same connection must hold it, too.
    """

    def __init__(self, encode: Callable[..., bytes], write: Callable[[bytes], None]) -> None:
        self.encode = encode
        self._write = write
        # Reentrant, because a signal handler may call `post` while this thread holds the lock.
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
        """Send one frame. If a signal handler calls this while a frame is being sent, its frame follows that frame.

        A signal handler of the function may also raise meanwhile. A frame that fits into one write(2) is then sent
        whole or not at all. To send a larger frame safely, call `post` inside SignalGuard.during.

        Args:
            trusted: See Connection.send.

        Raises:
            LocalProtocolError: The protocol does not allow the frame now, or the frame is too large. Nothing was sent.
            BrokenPipeError: The init no longer reads.
        """
        with self.lock:
            if self._busy:
                self._deferred.append((kind, id, metadata, payload, trusted))
                return
            try:
                self._busy = True
                self._write(self.encode(kind, id, metadata, payload, trusted))
            finally:
                self._busy = False
                if self._deferred:
                    self._send_deferred()

    def after_fork(self) -> None:
        """Reset the state in a forked child, because another thread of the parent may have been sending."""
        self.lock = RLock()
        self._busy = False
        self._deferred.clear()

    def _send_deferred(self) -> None:
        while self._deferred:
            try:
                self._busy = True
                if self._deferred:  # a signal handler may have called `post` meanwhile, which sent these frames
                    self._write(self.encode(*self._deferred.pop(0)))
            finally:
                self._busy = False
