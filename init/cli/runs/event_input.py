"""Read the events of a run: a single one, whole or piece by piece, or many, one in each line.

This file knows descriptors, and the options that say where the event is. It does not know the function.
"""

from __future__ import annotations

import json
import os
import select
import stat
from collections import deque

import click

from ...kernel.signals import Signals
from ...model import MAX_PAYLOAD
from ..options.run_options import RunOptions

READ_SIZE = 64 * 1024
"""Bytes to read at a time."""

MAX_EVENT = 1024 * 1024 * 1024
"""Bytes of a single event that is read before it is sent."""


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


def open_input(name: str) -> int:
    """Return a descriptor of the file `name`, or of stdin for "-".

    Raises:
        click.UsageError: The file cannot be read.
    """
    if name == "-":
        return 0
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 0)
    except OSError as error:
        raise click.UsageError(f"Cannot read {name!r}: {error.strerror}.") from None
    return descriptor


def read_event(options: RunOptions, signals: Signals) -> bytes | Body:
    """Return the single event: its bytes, or a Body if it is sent in pieces.

    An event that has to be JSON is read whole and checked. The bytes of a large file, or of anything that is no regular
    file, are read while they are sent. For an HTTP request the event is its body, and there is none by default.

    Args:
        options: The options of the run.
        signals: The signals that may ask pipe-init to end meanwhile.

    Raises:
        click.UsageError: The event cannot be read, is too large, or is not JSON.
        click.exceptions.Exit: A signal came before the event was there.
    """
    if options.event_file is not None:
        descriptor = open_input(options.event_file)
        source = "stdin" if options.event_file == "-" else repr(options.event_file)
        status = os.fstat(descriptor)
        size, is_small = status.st_size, stat.S_ISREG(status.st_mode) and status.st_size <= MAX_PAYLOAD
        if (options.raw or options.is_http) and not is_small:
            return Body(b"", descriptor)
        data = read_up_to(MAX_EVENT + 1, descriptor, source, signals) if size <= MAX_EVENT else b""
        if descriptor != 0:
            os.close(descriptor)
    else:
        default = "" if options.is_http else "{}"
        data = (default if options.event is None else options.event).encode("utf-8", "surrogateescape")
        source, size = "--event", 0
    if max(size, len(data)) > MAX_EVENT:
        raise click.UsageError(f"The event in {source} has more than {MAX_EVENT} bytes.")
    if not options.raw and not options.is_http:
        try:
            json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"The event in {source} is not JSON: {error}. (--raw takes any text.)") from None
    return data if len(data) <= MAX_PAYLOAD else Body(data)


def read_up_to(limit: int, descriptor: int, source: str, signals: Signals) -> bytes:
    """Read a descriptor to its end, or until there are at least `limit` bytes, and return them.

    Args:
        limit: The number of bytes after which to stop.
        descriptor: The descriptor.
        source: What the error message calls it.
        signals: As for read_event.

    Raises:
        click.UsageError: It cannot be read.
        click.exceptions.Exit: A signal came before its end.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.register(signals.descriptor, select.POLLIN)
    pieces, size = [], 0
    while size < limit:
        ready = dict(waiting.poll())
        if signals.endings:
            raise click.exceptions.Exit(128 + signals.endings[0])
        if descriptor not in ready:
            signals.drain()  # a child has died: the supervisor collects it later
            continue
        data, error = read_some(descriptor)
        if error is not None:
            raise click.UsageError(f"Cannot read {source}: {error.strerror}.")
        if data == b"":
            break
        pieces.append(data or b"")
        size += len(pieces[-1])
    signals.wake()
    return b"".join(pieces)
