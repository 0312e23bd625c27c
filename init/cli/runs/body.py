"""An event that is sent in pieces: what is in memory of it, and what is still to be read.

It knows a descriptor and sizes, not who takes the pieces.
"""

from __future__ import annotations

import os

from .lines import READ_SIZE


class Body:
    """Bytes to send: `data`, then what `descriptor` has; -1: nothing more.

    A piece is read ahead: that the body is at its end is known, and can be said, without room for more.
    error: why it could not be read to its end.
    """

    def __init__(self, data: bytes, descriptor: int = -1) -> None:
        self._data = memoryview(data)
        self._descriptor = descriptor
        self.error: OSError | None = None

    @property
    def waits_for(self) -> int:
        """The descriptor that must be readable before `read_ahead`, which is due; -1: none."""
        return -1 if self._data else self._descriptor

    @property
    def ended(self) -> bool:
        """Whether all of it was taken."""
        return not self._data and self._descriptor < 0

    def take(self, room: int) -> bytes:
        """The next piece of what is in memory, at most `room` bytes."""
        piece, self._data = bytes(self._data[:room]), self._data[room:]
        return piece

    def read_ahead(self) -> None:
        """Read the next piece into memory, if it is there now."""
        try:
            piece = os.read(self._descriptor, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.error, piece = error, b""
        self._data = memoryview(piece)
        if not piece:
            if self._descriptor > 0:
                os.close(self._descriptor)
            self._descriptor = -1
