"""Read an event that is sent in pieces. It knows a descriptor and sizes, but not where the pieces go."""

from __future__ import annotations

import os

READ_SIZE = 64 * 1024
"""Bytes to read at a time."""


def read_some(descriptor: int) -> tuple[bytes | None, OSError | None]:
    """Read once from a descriptor.

    Returns:
        The bytes, b"" at the end and None if there are none yet; and the error that is the end, if it is one.
    """
    try:
        return os.read(descriptor, READ_SIZE), None
    except BlockingIOError:
        return None, None
    except OSError as error:
        return b"", error


class Body:
    """The bytes of an event: some that are in memory, then those of a descriptor.

    One piece is always read ahead. So the end of the body is known, and can be sent, before there is room for more.

    Args:
        data: The bytes in memory.
        descriptor: Where the rest is read from; -1 if there is no more.

    Attributes:
        error: Why the body could not be read to its end; None if it could.
    """

    def __init__(self, data: bytes, descriptor: int = -1) -> None:
        self._data = memoryview(data)
        self._descriptor = descriptor
        self.error: OSError | None = None

    @property
    def waits_for(self) -> int:
        """Return the descriptor to wait for before `read_ahead` has to be called; -1 if it need not be called."""
        return -1 if self._data else self._descriptor

    @property
    def ended(self) -> bool:
        """Return whether all of the body was taken."""
        return not self._data and self._descriptor < 0

    def take(self, room: int) -> bytes:
        """Return the next piece of what is in memory, at most `room` bytes."""
        piece, self._data = bytes(self._data[:room]), self._data[room:]
        return piece

    def read_ahead(self) -> None:
        """Read the next piece into memory, if there is one now."""
        piece, self.error = read_some(self._descriptor)
        self._data = memoryview(piece or b"")
        if piece == b"":
            if self._descriptor > 0:
                os.close(self._descriptor)
            self._descriptor = -1
