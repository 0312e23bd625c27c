"""An event that is sent in pieces: what is in memory of it, and what is still to be read.

It knows a descriptor and sizes, not who takes the pieces.
"""

from __future__ import annotations

import os

from .lines import READ_SIZE


class Body:
    """Bytes to send: `data`, then what `descriptor` has; -1: nothing more.

    ended: all of it was taken, the empty piece at its end included. error: why it could not be read to its end.
    """

    def __init__(self, data: bytes, descriptor: int = -1) -> None:
        self._data = memoryview(data)
        self._descriptor = descriptor
        self.ended = False
        self.error: OSError | None = None

    @property
    def waits_for(self) -> int:
        """The descriptor that must be readable before `take`; -1: none."""
        return -1 if self._data or self.ended else self._descriptor

    def take(self, room: int) -> bytes | None:
        """The next piece, at most `room` bytes; b"" at the end, None: nothing now."""
        if self._data:
            piece, self._data = bytes(self._data[:room]), self._data[room:]
            return piece
        try:
            piece = os.read(self._descriptor, min(room, READ_SIZE)) if self._descriptor >= 0 else b""
        except BlockingIOError:
            return None
        except OSError as error:
            self.error, piece = error, b""
        if not piece:
            self.ended = True
            if self._descriptor > 0:
                os.close(self._descriptor)
            self._descriptor = -1
        return piece
