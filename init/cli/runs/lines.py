"""Cut the bytes of a descriptor into lines, and put results back into the order of their events."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from .event_input import read_some

Result = TypeVar("Result")


class LineReader:
    """Read the lines of a descriptor. Blank lines are left out.

    Args:
        descriptor: The descriptor.
        limit: The longest line, in bytes. A longer one is dropped while it is read, so memory does not grow with it.

    Attributes:
        descriptor: The descriptor.
        ended: Whether everything was read.
        error: Why it could not be read to its end; None if it could.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._limit = limit
        self.error: OSError | None = None
        self._lines: deque[bytes | None] = deque()
        self._partial: list[bytes] = []
        self._size = 0

    @property
    def exhausted(self) -> bool:
        """Return whether the last line was taken."""
        return self.ended and not self._lines

    def has_line(self) -> bool:
        """Return whether `next_line` can be called."""
        return bool(self._lines)

    def next_line(self) -> bytes | None:
        """Return a line without its line break; None for one that is too long."""
        return self._lines.popleft()

    def fill(self) -> None:
        """Read once. This waits unless the descriptor is readable."""
        data, self.error = read_some(self.descriptor)
        if not data:
            self.ended = data is not None
            if self.error is None and self.ended:
                self._end_line()
            return
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            self._end_line()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._partial.clear()
        elif piece:
            self._partial.append(piece)

    def _end_line(self) -> None:
        if self._size > self._limit:
            self._lines.append(None)
        else:
            line = b"".join(self._partial).strip(b" \t\r")
            if line:
                self._lines.append(line)
        self._partial.clear()
        self._size = 0


MAX_WAITING = 1024
"""Events that may be in flight or wait for their line to be printed."""


class ResultQueue(Generic[Result]):
    """Return results, each with the place of its event, in the order of the events or in that in which they come.

    Args:
        unordered: Whether results are returned in the order in which they come.
    """

    def __init__(self, unordered: bool = False) -> None:
        self._unordered = unordered
        self._places: dict[str, int] = {}  # of the events whose results have not come, in their order
        self._came: dict[int, Result] = {}  # by place
        self._announced = self._taken = 0

    def __len__(self) -> int:
        """Return how many events were announced whose results were not taken."""
        return self._announced - self._taken

    @property
    def full(self) -> bool:
        """Return whether results have to be taken before more events are announced."""
        return len(self) >= MAX_WAITING

    @property
    def awaited(self) -> int:
        """Return how many results have not come."""
        return len(self._places)

    @property
    def first(self) -> str | None:
        """Return the key of the first event whose result has not come; None if all have."""
        return next(iter(self._places), None)

    def announce(self, key: str) -> None:
        """Note that a result with this key will come."""
        self._places[key] = self._announced
        self._announced += 1

    def put(self, key: str, result: Result) -> None:
        """Accept a result."""
        self._came[self._places.pop(key)] = result

    def take(self) -> tuple[int, Result] | None:
        """Return the next result with its place, counted from 0; None if it has not come yet."""
        place = next(iter(self._came), -1) if self._unordered else self._taken
        if place not in self._came:
            return None
        self._taken += 1
        return place, self._came.pop(place)
