"""The init's log: lines about requests and lines that functions wrote, to one descriptor, within a cap per request.

It knows no workers; it is told which request a line belongs to.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

LOG_CAP = 1024 * 1024
"""Bytes of log that one request may write. What is more is counted and dropped, with a line that says so."""

PARTIAL_LIMIT = 64 * 1024
"""Bytes of a raw line to wait for its end; a longer one goes on in pieces."""


RAW = "raw"
"""The stream of what came from below Python."""


class Journal:
    """Writes log lines. Blocks while nobody reads them: a log of a command is part of its output.

    descriptor: where to, usually 2. escape: makes a function's line harmless for a terminal. cap: bytes that a request
    may log. before_line: called before each line.
    """

    def __init__(self, descriptor: int, escape: Callable[[bytes], bytes] | None = None, cap: int = LOG_CAP) -> None:
        self._descriptor = descriptor
        self._escape = escape
        self._cap = cap
        self._used = 0
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._partial = b""
        self._open_line = ""
        self.before_line: Callable[[], None] | None = None

    def say(self, line: str) -> None:
        """A line of pipe-init's own; "" says nothing."""
        if line:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def from_function(self, text: bytes, stream: str = RAW, continues: bool = False) -> None:
        """One or more lines that the function printed or logged, without the last line break.

        continues: the last line goes on in the next text of the same stream.
        """
        size = len(text) + 1
        if self._dropped_lines or self._used + size > self._cap:
            self._dropped_lines += text.count(b"\n") + 1
            self._dropped_bytes += size
            return
        self._used += size
        shown = self._escape(text) if self._escape else text
        self._write(shown if continues else shown + b"\n", stream)
        self._open_line = stream if continues else ""

    def raw(self, data: bytes) -> None:
        """Bytes that came from below Python, in pieces: whole lines are passed on."""
        whole, line_break, rest = (self._partial + data).rpartition(b"\n")
        if line_break:
            self.from_function(whole)
        if len(rest) > PARTIAL_LIMIT:
            self.from_function(rest, continues=True)
            rest = b""
        self._partial = rest

    def request_over(self) -> None:
        """The request that these lines belonged to has its outcome: say what was dropped, and count anew."""
        if not self._used and not self._partial and not self._dropped_lines:
            return  # nothing came
        if self._partial:
            partial, self._partial = self._partial, b""
            self.from_function(partial)
        self._write(b"")
        if self._dropped_lines:
            self.say(
                f"pipe-init: {self._dropped_lines} log lines ({self._dropped_bytes} bytes) of this request were "
                f"dropped; a request may log {self._cap} bytes"
            )
        self._used = self._dropped_lines = self._dropped_bytes = 0

    def _write(self, data: bytes, stream: str = "") -> None:
        """Write; a line that is open, and not of this stream, ends before."""
        if self._open_line and self._open_line != stream:
            data, self._open_line = b"\n" + data, ""
        if not data:
            return
        if self.before_line:
            self.before_line()
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EBADF, errno.EIO):
                raise
            # Nobody can read the log any more; the results do not depend on it.


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
