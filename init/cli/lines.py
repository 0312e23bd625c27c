"""JSON Lines: cuts a descriptor's bytes into lines, and puts results back into the order of their events."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

READ_SIZE = 64 * 1024

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
"""Results that may wait for an earlier one."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of such results, from which on nothing more is to be announced."""


class InOrder(Generic[Result]):
    """Gives results, each with its place, in the order in which their keys were announced."""

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self._given = 0
        self._results: dict[str, tuple[Result, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def full(self) -> bool:
        """Whether nothing more is to be announced until an earlier result has come."""
        return len(self._order) >= MAX_WAITING or self._size >= MAX_WAITING_BYTES

    @property
    def first(self) -> str | None:
        """The key of the result that comes next, None if none is announced."""
        return self._order[0] if self._order else None

    def announce(self, key: str) -> None:
        """A result with this key will come."""
        self._order.append(key)

    def put(self, key: str, result: Result, size: int = 0) -> Iterator[tuple[int, Result]]:
        """Take a result, which holds `size` bytes; gives those that are next, each with its place, from 0 on."""
        self._results[key] = result, size
        self._size += size
        while self._order and self._order[0] in self._results:
            following, held = self._results.pop(self._order.popleft())
            self._size -= held
            self._given += 1
            yield self._given - 1, following


class AsTheyCome(InOrder[Result]):
    """Gives each result, with its place, as soon as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, int] = {}
        self._announced = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether nothing more is to be announced until a result has come."""
        return len(self._places) >= MAX_WAITING

    @property
    def first(self) -> str | None:
        """The key of the result that was announced first, None if none is awaited."""
        return next(iter(self._places), None)

    def announce(self, key: str) -> None:
        """A result with this key will come."""
        self._places[key] = self._announced
        self._announced += 1

    def put(self, key: str, result: Result, size: int = 0) -> Iterator[tuple[int, Result]]:
        """Take a result, and give it."""
        yield self._places.pop(key), result
