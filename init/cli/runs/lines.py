"""JSON Lines: cut a descriptor's bytes into lines, and put results back into the order of their events."""

from __future__ import annotations

import os
from collections import deque
from typing import Generic, TypeVar

from .body import READ_SIZE

Result = TypeVar("Result")


class LineReader:
    """The lines of a descriptor, at most `limit` bytes each; blank ones are left out.

    A longer line is dropped as it comes and given as `None`: memory does not follow the input.
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
        """Whether the last line was given."""
        return self.ended and not self._lines

    def has_line(self) -> bool:
        """Whether `next_line` can be called."""
        return bool(self._lines)

    def next_line(self) -> bytes | None:
        """A line without its line break, or None for one that is too long."""
        return self._lines.popleft()

    def fill(self) -> None:
        """Read once; blocks unless the descriptor is readable. `error` is why it ended, if it could not be read."""
        try:
            data = os.read(self.descriptor, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.error, self.ended = error, True
            return
        if not data:
            self.ended = True
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

MAX_HELD = 64 * 1024 * 1024
"""Bytes of results that may wait to be printed. While there are more, no further events are announced."""


class InOrder(Generic[Result]):
    """Return results, each with its place, in the order in which their keys were announced.

    Attributes:
        size: Bytes of the results that are held.
    """

    def __init__(self) -> None:
        self.size = 0
        self._order: deque[str] = deque()
        self._given = 0
        self._results: dict[str, tuple[Result, int]] = {}

    def __len__(self) -> int:
        """Return how many were announced and not taken."""
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether results have to be taken before more is announced."""
        return len(self) >= MAX_WAITING or self.size >= MAX_HELD

    @property
    def awaited(self) -> int:
        """How many were announced and have not come."""
        return len(self._order) - len(self._results)

    @property
    def first(self) -> str | None:
        """The key of the result that `take` returns next; None if no result is awaited."""
        return self._order[0] if self._order else None

    def announce(self, key: str) -> None:
        """Note that a result with this key will come."""
        self._order.append(key)

    def put(self, key: str, result: Result, size: int = 0) -> None:
        """Accept a result that holds `size` bytes."""
        self._results[key] = result, size
        self.size += size

    def take(self) -> tuple[int, Result] | None:
        """Return the next result with its place, counted from 0; None if it has not come yet."""
        if not self._order or self._order[0] not in self._results:
            return None
        result, size = self._results.pop(self._order.popleft())
        self.size -= size
        self._given += 1
        return self._given - 1, result


class AsTheyCome(InOrder[Result]):
    """Return results, each with its place, in the order in which they come."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, int] = {}
        self._came: deque[tuple[int, Result, int]] = deque()
        self._announced = 0

    def __len__(self) -> int:
        """Return how many were announced and not taken."""
        return len(self._places) + len(self._came)

    @property
    def awaited(self) -> int:
        """How many were announced and have not come."""
        return len(self._places)

    @property
    def first(self) -> str | None:
        """The key, of those whose result has not come, that was announced first; None if there is none."""
        return next(iter(self._places), None)

    def announce(self, key: str) -> None:
        """Note that a result with this key will come."""
        self._places[key] = self._announced
        self._announced += 1

    def put(self, key: str, result: Result, size: int = 0) -> None:
        """Accept a result that holds `size` bytes."""
        self._came.append((self._places.pop(key), result, size))
        self.size += size

    def take(self) -> tuple[int, Result] | None:
        """Return the next result with its place; None if all that came were taken."""
        if not self._came:
            return None
        place, result, size = self._came.popleft()
        self.size -= size
        return place, result
