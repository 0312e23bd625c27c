"""Write the log to one descriptor: the init's own messages, and the lines of functions, with a cap for each request.

While the descriptor's reader does not read, lines wait in a buffer. This module does not know workers. Its callers say
which request a line belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..kernel.outlet import Outlet, Patience
from ..kernel.plain_classes import dataclass

LOG_CAP = 1024 * 1024
"""The most bytes of log that one request may write by default. The journal drops the rest, and logs how much it was.

The buffer counts as full when it holds this many bytes.
"""

PARTIAL_LIMIT = 64 * 1024
"""The most bytes of a raw line to keep until the line ends. The journal writes a longer line in pieces."""

NAME = 128
"""The most characters to show of a request's id."""

EMPTY, WAITING, FULL = range(3)
"""States of the buffer. In the state WAITING, each worker gets one request at a time. In FULL, workers get none."""

INFO, WARN, ERROR = "INFO", "WARN", "ERROR"
"""Levels of pipe-init's own messages. Lambda uses the same names."""

NOT_READ = "its reader does not read"
"""A reason for which the journal drops bytes of the log, as a message gives it."""

RAW = "raw"
"""The stream of bytes that came without frames, for example from C code or a child process of the function."""


@dataclass(slots=True)
class _Usage:
    """How many bytes the journal has written for one request, and how many of the request's lines it has dropped."""

    used: int = 0
    dropped_lines: int = 0
    dropped_bytes: int = 0


class Journal:
    """Write log lines as soon as the descriptor accepts them, and keep them in a buffer until then. Never block.

    The buffer counts as full when it has `cap` bytes. Each request that has already begun can add another `cap` bytes.
    Code that begins requests must look at `level` first. The journal drops only lines beyond a request's cap, unless
    the descriptor's reader is gone, or still does not read when the journal ends.

    Args:
        descriptor: The descriptor to write to, usually 2.
        escape: Makes a function's line harmless for a terminal. None if the lines do not go to a terminal.
        cap: The bytes that one request may log.
        drops: Whether to drop and count bytes that would not fit into a buffer of `cap` bytes. If False, the buffer
            can grow beyond `cap`, and the callers must begin fewer requests.
        json_line: Makes a line of JSON from (text, request id or "", level or ""). None if the log is text.

    Attributes:
        level: The state of the buffer: EMPTY, WAITING or FULL.
        usage: What requests without an outcome have logged: {id: usage}. Lines without a request have the id 0.
        partial: Raw lines that have not ended yet: {source: (line, its request's id)}.
        before_line: A function that the journal calls before it writes lines; None for no call.
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
        self.usage: dict[int, _Usage] = {}
        self.partial: dict[int, tuple[bytes, int]] = {}
        self._open_line: tuple[int, str] | None = None
        self._lost, self._why = 0, ""  # the number of dropped bytes, and the reason
        self.request_id: Callable[[int], str] = lambda id: ""
        """Return the request id that belongs to a frame id; "" if that request already has an outcome."""
        self.before_line: Callable[[], None] | None = None
        self.held_back: Callable[[], bool] | None = None
        """Return whether the log must wait, because stdout is the same file and a result line on it is incomplete."""
        self._in_line = False

    @property
    def descriptor(self) -> int:
        """Return the descriptor to poll for POLLOUT while the buffer is not empty. If it is writable, call `flush`."""
        return self._outlet.descriptor

    @property
    def cut(self) -> bool:
        """Return whether only the beginning of a line is written yet, and the rest waits in the buffer."""
        return self._in_line and bool(self._buffer)

    def flush(self) -> None:
        """Write as much of the buffer as the descriptor accepts without waiting."""
        if self._buffer and not (self.held_back is not None and self.held_back()):
            self._write_out()
        size = len(self._buffer)
        self.level = FULL if size >= self._cap else WAITING if size else EMPTY

    def _write_out(self) -> None:
        try:
            written = self._outlet.write(self._buffer)
        except OSError as error:  # the reader is gone, or the disk is full; that must not change the results
            self._lose(error.strerror or "")
            return
        if written:
            self._in_line = self._buffer[written - 1] != ord("\n")
            del self._buffer[:written]

    def end_line(self) -> None:
        """Write a line break if a function has left a line open. Call this before other output to the same file."""
        self._write(b"")

    def finish(self, patience: Patience) -> None:
        """Wait until everything is written, or until the patience is over. Then drop what is left."""
        self.held_back = None
        self.flush()
        while self._buffer and patience.wait(self._outlet.descriptor):
            self.flush()
        if self._buffer:
            self._lose(NOT_READ)
        patience.over()

    def close(self) -> None:
        """Close the copy of the descriptor that the journal may have opened. Leave the given descriptor open."""
        self._outlet.close()

    def put(self, data: bytes) -> None:
        """Append bytes to the log unchanged. They need not be whole lines."""
        if self._lost and not self._buffer:
            note = f"pipe-init: {self._lost} bytes of the log could not be written: {self._why}"
            lost, self._lost = self._lost, 0
            self._buffer += self._own(note, WARN)
            self.flush()
            if self._lost:
                self._lost = lost  # the note is lost too, so the next one has to give this number
        if self.drops and len(self._buffer) + len(data) > self._cap:
            self._lost, self._why = self._lost + len(data), NOT_READ
            if self._buffer and not self._buffer.endswith(b"\n"):
                self._buffer += b"\n"  # the dropped bytes were the rest of this line
        else:
            self._buffer += data
        self.flush()

    def _lose(self, why: str) -> None:
        """Drop all bytes in the buffer, and count them as lost for the reason `why`."""
        self._lost, self._why = self._lost + len(self._buffer), why
        self._buffer.clear()
        self.level = EMPTY

    def say(self, line: str) -> None:
        """Write a line that already has the form of this log, text or JSON. Write nothing if it is empty."""
        if line:
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")

    def tell(self, message: str, level: str = WARN, request_id: str = "") -> None:
        """Write a message of pipe-init: as text, or as one line of JSON in a JSON log.

        Args:
            message: One or more lines, without the last line break.
            level: INFO, WARN or ERROR.
            request_id: The id of the request that the message is about; "" if it is about no request.
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
            stream: The stream that the function wrote them to: "stdout", "stderr", "log" or RAW.
            continues: Whether the last line continues in the next text of the same stream and id.
            id: The frame id of the lines' request; 0 if they belong to no request.
            name: The request id to show before each line, followed by a tab; "" for none. The worker has sent it, so
                it may be any text.
        """
        usage = self.usage.get(id) or self.usage.setdefault(id, _Usage())
        size = len(text) + 1
        prefix = _shown(name) if name else b""
        if prefix:
            size += len(prefix) * (text.count(b"\n") + 1)
        # Lines without a request can come even while the buffer is full and no request begins.
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
        """Accept bytes that came without frames. Write the complete lines, and keep the rest for the next call.

        Args:
            data: The next bytes from this source.
            id: See from_function.
            source: The number of the lane or template whose process wrote the bytes. Several processes can
                write at once.
        """
        partial, _ = self.partial.pop(source, (b"", 0))
        whole, line_break, rest = (partial + data).rpartition(b"\n")
        if line_break:
            self._raw_lines(whole, id)
        if len(rest) > PARTIAL_LIMIT:
            self._raw_lines(rest, id, continues=True)
            rest = b""
        if rest:
            self.partial[source] = rest, id

    def request_over(self, id: int = 0, source: int = 0) -> None:
        """Forget a request that has its outcome. First log how many of its lines the journal has dropped, if any.

        Args:
            id: The request's frame id.
            source: See raw. If this source has an unfinished line of the request, write that line first.
        """
        if source in self.partial and self.partial[source][1] in (0, id):
            partial, _ = self.partial.pop(source)
            self._raw_lines(partial, id)
        for each in {0, id}:  # lines without a request get a new cap after each outcome
            usage = self.usage.pop(each, None)
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
        """Forget a source after its end, and the requests whose lines may have come from it.

        Args:
            ids: The frame ids of those requests.
            source: See raw.
        """
        _, last = self.partial.get(source, (b"", 0))
        for id in [0, *ids, last]:
            self.request_over(id, source)

    def _raw_lines(self, text: bytes, id: int, continues: bool = False) -> None:
        """Write lines that came without frames. A JSON record cannot be continued, so each piece of a line is one."""
        make = self._json_line
        if make is None:
            self.from_function(text, continues=continues, id=id)
            return
        name, lines = self.request_id(id), text.split(b"\n")
        for number, line in enumerate(lines):  # one by one, so that as many lines as the cap allows are written
            usage = self.usage.get(id)
            if usage is not None and usage.dropped_lines:
                self.from_function(b"\n".join(lines[number:]), id=id)
                return
            self.from_function(make(line, name, ""), id=id)

    def _write(self, data: bytes, line: tuple[int, str] | None = None) -> None:
        """Write data. If a line other than `line` is open, end it first."""
        if self._open_line and self._open_line != line:
            data, self._open_line = b"\n" + data, None
        if not data:
            return
        if self.before_line:
            self.before_line()
        self.put(data)


def _shown(name: str) -> bytes:
    """Return the start of a log line for a request: its id, as at most NAME printable ASCII characters, and a tab."""
    return (name if name.isascii() and name.isprintable() else ascii(name)[1:-1])[:NAME].encode() + b"\t"
