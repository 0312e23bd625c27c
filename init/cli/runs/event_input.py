"""Read the events of a run: a single event, whole or piece by piece, or many events, one in each line.

This file knows descriptors, and the options that say where the events are. It does not know the function.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque

from ...kernel.signals import Signals
from ...model import MAX_PAYLOAD
from ..options.run_options import RunOptions
from ..options.usage_errors import Exit, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ_SIZE = 64 * 1024
"""The most bytes to read with one system call."""

MAX_EVENT = 1024 * 1024 * 1024
"""The most bytes of a single event that is read whole before it is sent."""


def read_some(descriptor: int) -> tuple[bytes | None, OSError | None]:
    """Read once from a descriptor.

    Returns:
        The bytes, and an error. The bytes are None if there are none yet, and b"" at the end. If an error is the reason
        for the end, it is the second value. Otherwise that is None.
    """
    try:
        return os.read(descriptor, READ_SIZE), None
    except BlockingIOError:
        return None, None
    except OSError as error:
        return b"", error


class Body:
    """The bytes of an event: first the bytes in memory, then the bytes from a descriptor.

    The init reads one piece ahead. So it learns of the body's end, and can send that, even while the worker has given
    no credit for more bytes.

    Args:
        data: The bytes in memory.
        descriptor: The descriptor to read the rest from; -1 if there is no rest.

    Attributes:
        error: The error that ended the reading of the body too early; None if there was none.
    """

    def __init__(self, data: bytes, descriptor: int = -1) -> None:
        self._data = memoryview(data)
        self._descriptor = descriptor
        self.error: OSError | None = None

    @property
    def waits_for(self) -> int:
        """Return the descriptor to wait for before a call of `read_ahead`; -1 if it need not be called now."""
        return -1 if self._data else self._descriptor

    @property
    def ended(self) -> bool:
        """Return whether `take` has returned all of the body."""
        return not self._data and self._descriptor < 0

    def take(self, room: int) -> bytes:
        """Remove the next bytes from memory and return them, at most `room` bytes."""
        piece, self._data = bytes(self._data[:room]), self._data[room:]
        return piece

    def read_ahead(self) -> None:
        """Read the next piece into memory, if the descriptor has one now."""
        piece, self.error = read_some(self._descriptor)
        self._data = memoryview(piece or b"")
        if piece == b"":
            if self._descriptor > 0:
                os.close(self._descriptor)
            self._descriptor = -1


class LineReader:
    """Read lines from a descriptor. Leave out blank lines.

    Args:
        descriptor: The descriptor to read from.
        limit: The length of the longest line in bytes. A longer line is dropped while it is read, so that memory does
            not grow with it.

    Attributes:
        descriptor: The descriptor to read from.
        ended: Whether the descriptor has no more bytes.
        lines: The lines that were read, without their line breaks. None stands for a line that is too long.
        error: The error that ended the reading too early; None if there was none.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self._limit = limit
        self.error: OSError | None = None
        self.lines: deque[bytes | None] = deque()
        self._partial: list[bytes] = []
        self._size = 0

    @property
    def exhausted(self) -> bool:
        """Return whether the last line was taken."""
        return self.ended and not self.lines

    def fill(self) -> None:
        """Read once from the descriptor. This blocks unless the descriptor is readable."""
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
            self.lines.append(None)
        else:
            line = b"".join(self._partial).strip(b" \t\r")
            if line:
                self.lines.append(line)
        self._partial.clear()
        self._size = 0


def open_input(name: str) -> int:
    """Return a descriptor of the file `name`, or of stdin for "-".

    Raises:
        UsageError: The file cannot be read.
    """
    if name == "-":
        return 0
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 0)
    except OSError as error:
        raise UsageError(f"Cannot read {name!r}: {error.strerror}.") from None
    return descriptor


def read_event(options: RunOptions, signals: Signals) -> bytes | Body:
    """Return the single event of a run: its bytes, or a Body if the init sends it in pieces.

    If the event must be JSON, read it whole and check it. Otherwise, a large file, or anything that is not a regular
    file, is read only while it is sent. For an HTTP request, the event is its body, which is empty by default.

    Args:
        options: The options of the run.
        signals: The signals of this process, which may ask pipe-init to end meanwhile.

    Raises:
        UsageError: The event cannot be read, is too large, or is not JSON.
        Exit: A signal came before the whole event was read.
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
        raise UsageError(f"The event in {source} has more than {MAX_EVENT} bytes.")
    if not options.raw and not options.is_http:
        try:
            check_json(data)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"The event in {source} is not JSON: {error}. (--raw takes any text.)") from None
    return data if len(data) <= MAX_PAYLOAD else Body(data)


class _Defaults:
    """The settings that json's scanner reads from its argument: the values that json.loads uses by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def check_json(data: bytes) -> None:
    """Raise an error unless bytes are JSON in UTF-8, with or without a byte order mark.

    Importing json takes long. Importing only its scanner, which is written in C, does not. So this function uses the
    scanner. It imports json only if the scanner refuses the text, or if there are blanks around the value.

    Raises:
        ValueError: The bytes are not JSON.
        RecursionError: Values are nested too deeply.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").decode()
    if not _is_surely_json(text):
        import json

        json.loads(text)


def _is_surely_json(text: str) -> bool:
    from _json import make_scanner

    defaults: Any = _Defaults
    try:
        return make_scanner(defaults)(text, 0)[1] == len(text)
    except Exception:  # the scanner's own errors are unclear; json.loads will raise a clear one
        return False


def read_up_to(limit: int, descriptor: int, source: str, signals: Signals) -> bytes:
    """Read a descriptor to its end, or until at least `limit` bytes were read. Return the bytes.

    Args:
        limit: The number of bytes after which to stop.
        descriptor: The descriptor to read from.
        source: The name of the descriptor's file for an error message.
        signals: See read_event.

    Raises:
        UsageError: The descriptor cannot be read.
        Exit: A signal came before everything was read.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.register(signals.descriptor, select.POLLIN)
    pieces, size = [], 0
    while size < limit:
        ready = dict(waiting.poll())
        if signals.endings:
            raise Exit(128 + signals.endings[0])
        if descriptor not in ready:
            signals.drain()  # a child has died; the supervisor collects it later
            continue
        data, error = read_some(descriptor)
        if error is not None:
            raise UsageError(f"Cannot read {source}: {error.strerror}.")
        if data == b"":
            break
        pieces.append(data or b"")
        size += len(pieces[-1])
    signals.wake()
    return b"".join(pieces)
