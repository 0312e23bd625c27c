"""The init's log: lines about requests and lines that functions wrote, to one descriptor, within a cap per request.

It knows no workers; it is told which request a line belongs to.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOG_CAP = 1024 * 1024
"""Bytes of log that one request may write. What is more is counted and dropped, with a line that says so."""

PARTIAL_LIMIT = 64 * 1024
"""Bytes of a raw line to wait for its end; a longer one goes on in pieces."""


NAME = 128
"""Characters shown of a request's id."""

RAW = "raw"
"""The stream of what came from below Python."""


@dataclass(slots=True)
class _Usage:
    """What one request has logged, in bytes, and what of it was dropped."""

    used: int = 0
    dropped_lines: int = 0
    dropped_bytes: int = 0


class Journal:
    """Writes log lines. Blocks while nobody reads them: a log of a command is part of its output.

    descriptor: where to, usually 2. escape: makes a function's line harmless for a terminal. cap: bytes that a request
    may log. before_line: called before each line.
    """

    def __init__(self, descriptor: int, escape: Callable[[bytes], bytes] | None = None, cap: int = LOG_CAP) -> None:
        self._descriptor = descriptor
        self._escape = escape
        self._cap = cap
        self._usage: dict[int, _Usage] = {}
        self._partial: dict[int, tuple[bytes, int]] = {}  # by source: the line, and whose it is
        self._open_line: tuple[int, str] | None = None
        self._lost, self._why = 0, b""  # bytes since the last ones that could be written
        self.raw_line: Callable[[bytes, int], bytes] | None = None
        """Makes of a line from below Python, and its request's id, what is written."""
        self.before_line: Callable[[], None] | None = None

    def say(self, line: str) -> None:
        """A line of pipe-init's own; "" says nothing."""
        if line:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def from_function(
        self, text: bytes, stream: str = RAW, continues: bool = False, id: int = 0, name: str = ""
    ) -> None:
        """Write one or more lines that the function printed or logged, without the last line break.

        Args:
            continues: The last line goes on in the next text of the same stream and id.
            id: Of the request, 0 for none.
            name: What to show before each line, with a tab: the request's id. The worker may have made it up.
        """
        usage = self._usage.get(id) or self._usage.setdefault(id, _Usage())
        size = len(text) + 1
        prefix = _shown(name) if name else b""
        if prefix:
            size += len(prefix) * (text.count(b"\n") + 1)
        if usage.dropped_lines or usage.used + size > self._cap:
            usage.dropped_lines += text.count(b"\n") + 1
            usage.dropped_bytes += size
            return
        usage.used += size
        shown = self._escape(text) if self._escape else text
        line = (id, stream)
        if prefix:
            shown = shown.replace(b"\n", b"\n" + prefix)
            if self._open_line != line:
                shown = prefix + shown
        self._write(shown if continues else shown + b"\n", line)
        self._open_line = line if continues else None

    def raw(self, data: bytes, id: int = 0, source: int = 0) -> None:
        """Bytes that came from below Python, in pieces: whole lines are passed on.

        id: as from_function. source: a number for each that may write at the same time.
        """
        partial, _ = self._partial.pop(source, (b"", 0))
        whole, line_break, rest = (partial + data).rpartition(b"\n")
        if line_break:
            self._raw_lines(whole, id)
        if len(rest) > PARTIAL_LIMIT:
            if self.raw_line is None:
                self.from_function(rest, continues=True, id=id)
            else:
                self._raw_lines(rest, id)  # a record cannot go on in the next one
            rest = b""
        if rest:
            self._partial[source] = rest, id

    def request_over(self, id: int = 0, source: int = 0) -> None:
        """A request has its outcome: say what was dropped of its lines, and forget it."""
        if not self._usage and not self._partial:
            return  # nothing came
        if source in self._partial and self._partial[source][1] in (0, id):
            partial, _ = self._partial.pop(source)
            self._raw_lines(partial, id)
        for each in {0, id}:  # lines of no request count from one outcome to the next
            usage = self._usage.pop(each, None)
            if usage is None:
                continue
            self._write(b"")
            if usage.dropped_lines:
                text = (
                    f"pipe-init: {usage.dropped_lines} log lines ({usage.dropped_bytes} bytes) of this request were "
                    f"dropped; a request may log {self._cap} bytes"
                )
                if self.raw_line is None:
                    self.say(text)
                else:
                    self._write(self.raw_line(text.encode(), each) + b"\n")

    def all_over(self, ids: Iterable[int] = (), source: int = 0) -> None:
        """A source is gone, and with it the requests whose lines it may have written."""
        for id in [0, *ids]:
            self.request_over(id, source)
        if source in self._partial:
            partial, id = self._partial.pop(source)
            self._raw_lines(partial, id)
            self.request_over(id, source)

    def _raw_lines(self, text: bytes, id: int) -> None:
        usage = self._usage.get(id)
        if self.raw_line is not None and not (usage is not None and usage.dropped_lines):
            text = b"\n".join(self.raw_line(line, id) for line in text.split(b"\n"))
        self.from_function(text, id=id)

    def _write(self, data: bytes, line: tuple[int, str] | None = None) -> None:
        """Write; a line that is open, and not this one, ends before."""
        if self._open_line and self._open_line != line:
            data, self._open_line = b"\n" + data, None
        if not data:
            return
        if self.before_line:
            self.before_line()
        size = len(data)
        if self._lost:
            data = b"pipe-init: %d bytes of the log could not be written: %s\n" % (self._lost, self._why) + data
        try:
            write_all(self._descriptor, data)
        except OSError as error:  # nobody reads it, or there is no place for it; the results do not depend on it
            self._lost, self._why = self._lost + size, (error.strerror or "").encode()
        else:
            self._lost = 0


def _shown(name: str) -> bytes:
    """Return a request's id as the start of a line: ASCII without control characters, at most NAME characters long."""
    return (name if name.isascii() and name.isprintable() else ascii(name)[1:-1])[:NAME].encode() + b"\t"


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data` to a descriptor that may be somebody else's non-blocking one. OSError: as os.write."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
