"""Write the init's log to one descriptor: the init's messages, and functions' lines with a cap per request.

While the descriptor's reader does not read, lines wait in a buffer. This module does not know workers: its callers say
which request a line belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..kernel.outlet import Outlet, Patience

LOG_CAP = 1024 * 1024
"""Bytes of log that one request may write. The journal drops the rest, and logs how much it has dropped.

The buffer counts as full when it holds this many bytes.
"""

PARTIAL_LIMIT = 64 * 1024
"""Most bytes of a raw line to keep until the line ends. The journal writes a longer line in pieces."""

NAME = 128
"""Most characters to show of a request's id."""

EMPTY, WAITING, FULL = range(3)
"""States of the buffer. While lines wait, workers get one request at a time; while it is full, they get none."""

INFO, WARN, ERROR = "INFO", "WARN", "ERROR"
"""Levels of pipe-init's own messages, with Lambda's names."""

NOT_READ = "its reader does not read"
"""A reason why bytes of the log were dropped."""

RAW = "raw"
"""The stream of bytes that came without frames, such as those of C code or of a child process."""


@dataclass(slots=True)
class _Usage:
    """How many bytes one request has logged, and how much of its log was dropped."""

    used: int = 0
    dropped_lines: int = 0
    dropped_bytes: int = 0


class Journal:
    """Take log lines, and write them as soon as the descriptor takes them. Never block.

    A full buffer has `cap` bytes. Each request that has already begun can add another `cap` bytes. Code that begins
    requests must look at `level` first. The journal drops only lines beyond a request's cap, unless the descriptor's
    reader is gone, or still does not read when the journal ends.

    Args:
        descriptor: Where lines go, usually 2.
        escape: Makes a function's line harmless for a terminal.
        cap: Bytes that a request may log.
        drops: Drop and count the bytes that do not fit into a buffer of `cap` bytes. If it is False, the callers must
            begin fewer requests.
        json_line: Makes a line of JSON of (text, request id or "", level or ""). None if the log is text.

    Attributes:
        level: The state of the buffer: EMPTY, WAITING or FULL.
        before_line: Called before each line.
    """

    def __init__(
        self,
        descriptor: int,
        escape: Callable[[bytes], bytes] | None = None,
        cap: int = LOG_CAP,
        drops: bool = False,
        json_line: Callable[[bytes, str, str], bytes] | None = None,
    ) -> None:
        self._outlet = Outlet(descriptor)
        self._buffer = bytearray()
        self.level = EMPTY
        self._escape = escape
        self._cap = cap
        self.drops = drops
        self._json_line = json_line
        self._usage: dict[int, _Usage] = {}
        self._partial: dict[int, tuple[bytes, int]] = {}  # by source: an unfinished line, and its request's frame id
        self._open_line: tuple[int, str] | None = None
        self._lost, self._why = 0, ""  # bytes that could not be written, and the reason
        # Bytes at the buffer's start that belong to the message about this loss, and the number in that message.
        self._note_left, self._noted = 0, 0
        self.request_id: Callable[[int], str] = lambda id: ""
        """Return the request id for a frame id; "" if that request already has an outcome."""
        self.before_line: Callable[[], None] | None = None
        self.held_back: Callable[[], bool] | None = None
        """Return whether the log must wait: stdout is the same file, and a result line on it is not complete."""
        self._in_line = False

    @property
    def descriptor(self) -> int:
        """Return the descriptor to poll for POLLOUT while the buffer is not empty; call `flush` when it is writable."""
        return self._outlet.descriptor

    @property
    def cut(self) -> bool:
        """Return whether the descriptor has taken only the beginning of a line, and the rest waits."""
        return self._in_line and bool(self._buffer)

    def flush(self) -> None:
        """Write as much of the buffer as the descriptor takes without waiting."""
        if self._buffer and not (self.held_back is not None and self.held_back()):
            self._write_out()
        size = len(self._buffer)
        self.level = FULL if size >= self._cap else WAITING if size else EMPTY

    def _write_out(self) -> None:
        try:
            written = self._outlet.write(self._buffer)
        except OSError as error:  # its reader is gone, or the disk is full; results must not depend on the log
            self._lose(error.strerror or "")
            return
        if written:
            self._in_line = self._buffer[written - 1] != ord("\n")
            del self._buffer[:written]
        self._note_left = max(0, self._note_left - written)
        if not self._note_left:
            self._lost, self._noted = self._lost - self._noted, 0

    def end_line(self) -> None:
        """End the line that a function has left open, because other output follows in the same file."""
        self._write(b"")

    def finish(self, patience: Patience) -> None:
        """Wait until everything is written or the patience is over. Then drop the rest."""
        self.held_back = None
        self.flush()
        while self._buffer and patience.wait(self._outlet.descriptor):
            self.flush()
        if self._buffer:
            self._lose(NOT_READ)
        patience.over()

    def close(self) -> None:
        """Close what the journal has opened for the descriptor. The descriptor itself stays open."""
        self._outlet.close()

    def put(self, data: bytes) -> None:
        """Append bytes to the log as they are: they need not be lines."""
        if self._lost and not self._buffer:
            self._buffer += self._own(
                f"pipe-init: {self._lost} bytes of the log could not be written: {self._why}", WARN
            )
            self._note_left, self._noted = len(self._buffer), self._lost
        if self.drops and len(self._buffer) + len(data) > self._cap:
            self._lost, self._why = self._lost + len(data), NOT_READ
            if self._buffer and not self._buffer.endswith(b"\n"):
                self._buffer += b"\n"  # the rest of this line was dropped
        else:
            self._buffer += data
        self.flush()

    def _lose(self, why: str) -> None:
        """Drop the bytes that wait, and count them."""
        self._lost += len(self._buffer) - self._note_left
        self._note_left, self._noted, self._why = 0, 0, why
        self._buffer.clear()
        self.level = EMPTY

    def say(self, line: str) -> None:
        """Write a line that already has the log's form. Write nothing if it is empty."""
        if line:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def tell(self, message: str, level: str = WARN, request_id: str = "") -> None:
        """Write a message of pipe-init as text, or in a JSON log as one line of JSON.

        Args:
            message: One line or more, without the last line break.
            level: INFO, WARN or ERROR.
            request_id: The id of the request that it is about, or "".
        """
        self._write(self._own(message, level, request_id))

    def _own(self, message: str, level: str, request_id: str = "") -> bytes:
        text = message.encode("utf-8", "backslashreplace")
        return (text if self._json_line is None else self._json_line(text, request_id, level)) + b"\n"

    def from_function(
        self, text: bytes, stream: str = RAW, continues: bool = False, id: int = 0, name: str = ""
    ) -> None:
        """Write one or more lines that the function printed or logged, without the last line break.

        Args:
            text: The lines.
            stream: Where the function wrote them: "stdout", "stderr", "log" or RAW.
            continues: The last line goes on in the next text of the same stream and id.
            id: The request's frame id, 0 for none.
            name: The request id to show before each line, followed by a tab. The worker may have made it up.
        """
        usage = self._usage.get(id) or self._usage.setdefault(id, _Usage())
        size = len(text) + 1
        prefix = _shown(name) if name else b""
        if prefix:
            size += len(prefix) * (text.count(b"\n") + 1)
        # Lines of no request may go on while the buffer is full and no request begins.
        unasked = not id and len(self._buffer) > 2 * self._cap
        if usage.dropped_lines or usage.used + size > self._cap or unasked:
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
        """Take a piece of the bytes that came without frames, and write its complete lines.

        Args:
            data: The next piece.
            id: As for from_function.
            source: The number of the writer, because several can write at the same time.
        """
        partial, _ = self._partial.pop(source, (b"", 0))
        whole, line_break, rest = (partial + data).rpartition(b"\n")
        if line_break:
            self._raw_lines(whole, id)
        if len(rest) > PARTIAL_LIMIT:
            if self._json_line is None:
                self.from_function(rest, continues=True, id=id)
            else:
                self._raw_lines(rest, id)  # each piece is a JSON record: a record cannot go on in the next one
            rest = b""
        if rest:
            self._partial[source] = rest, id

    def request_over(self, id: int = 0, source: int = 0) -> None:
        """Forget a request that has its outcome. First log how many of its lines were dropped, if any."""
        if not self._usage and not self._partial:
            return  # the request has logged nothing
        if source in self._partial and self._partial[source][1] in (0, id):
            partial, _ = self._partial.pop(source)
            self._raw_lines(partial, id)
        for each in {0, id}:  # the count of lines without a request begins again after each outcome
            usage = self._usage.pop(each, None)
            if usage is None:
                continue
            self._write(b"")
            if usage.dropped_lines:
                text = (
                    f"pipe-init: {usage.dropped_lines} log lines ({usage.dropped_bytes} bytes) of this request were "
                    f"dropped; a request may log {self._cap} bytes"
                )
                self.tell(text, WARN, self.request_id(each))

    def all_over(self, ids: Iterable[int] = (), source: int = 0) -> None:
        """Forget a source that is gone, and the requests whose lines it may have written."""
        for id in [0, *ids]:
            self.request_over(id, source)
        if source in self._partial:
            partial, id = self._partial.pop(source)
            self._raw_lines(partial, id)
            self.request_over(id, source)

    def _raw_lines(self, text: bytes, id: int) -> None:
        make = self._json_line
        if make is None:
            self.from_function(text, id=id)
            return
        name, lines = self.request_id(id), text.split(b"\n")
        for number, line in enumerate(lines):  # one by one, to keep as many of them as the cap allows
            usage = self._usage.get(id)
            if usage is not None and usage.dropped_lines:
                self.from_function(b"\n".join(lines[number:]), id=id)
                return
            self.from_function(make(line, name, ""), id=id)

    def _write(self, data: bytes, line: tuple[int, str] | None = None) -> None:
        """Write data, after ending any open line other than `line`."""
        if self._open_line and self._open_line != line:
            data, self._open_line = b"\n" + data, None
        if not data:
            return
        if self.before_line:
            self.before_line()
        self.put(data)


def _shown(name: str) -> bytes:
    """Return a request's id as the start of a line: ASCII without control characters, at most NAME characters long."""
    return (name if name.isascii() and name.isprintable() else ascii(name)[1:-1])[:NAME].encode() + b"\t"
