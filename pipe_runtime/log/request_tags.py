"""Give each thread and task a tag of its own, and keep their lines apart, while a worker runs several requests at once.

The runtime loads this module if a worker's `concurrency` is above 1. This module must not know frames.
"""

from __future__ import annotations

from _thread import get_ident

from ..namespace import late
from .writer import NO_REQUEST, Tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import ContextVar, Token
    from typing import Any

    from .writer import LogWriter


class Contexts:
    """Keep the tag of each context (see contextvars), and the unfinished line of the context that wrote last."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._tags: ContextVar[Tag] = late._contextvars.ContextVar("pipe_runtime.request", default=NO_REQUEST)
        self._running = {0}  # the ids of the running requests, and 0: a line may have one of these ids
        # The tag and the writer of the last text that was sent, if the text has not ended its line; otherwise None. A
        # writer is a request, a stream and a thread. All texts of one line have the same writer.
        self._open: tuple[Tag, tuple[int, str, str, int]] | None = None

    def enter(self, tag: Tag) -> Token[Tag]:
        """From now on, give the lines that this context and its copies write this tag."""
        self._running.add(tag.id)
        return self._tags.set(tag)

    def leave(self, token: Token[Tag]) -> None:
        """Undo `enter`, in the same context."""
        self._tags.reset(token)

    def tag(self) -> Tag:
        """Return the tag for a line that the caller's context writes now."""
        return self.settled(self._tags.get())

    def settled(self, tag: Tag) -> Tag:
        """Return the tag. If its request has ended and a task of it still writes lines, return the tag with id 0."""
        return tag if tag.id in self._running else Tag((0, tag.request_id, tag.tenant_id))

    def forget(self, id: int) -> None:
        """From now on, give no line this id, because the request has ended."""
        self._running.discard(id)

    def record(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        """Write a log record."""
        log = self._log
        if log.records is not None or tag.request_id.encode("utf-8", "backslashreplace") in text:
            metadata["named"] = True
        with log.lock:
            self._end_open_line()
            log.post(tag, metadata, text)

    def print(self, stream: str, tag: Tag, text: bytes, line_break: bytes) -> None:
        """Write printed lines. If another context has begun a line, end that line first."""
        log, writer = self._log, (tag.id, tag.request_id, stream, get_ident())
        with log.lock:
            goes_on = self._open is not None and self._open[1] == writer
            if not goes_on:
                self._end_open_line()
            if log.forked and tag.request_id:  # a forked child sends no frames, so the text itself names the request
                name = f"{tag.request_id}\t".encode("utf-8", "backslashreplace")
                text = (b"" if goes_on else name) + text.replace(b"\n", b"\n" + name)
            self._open = None if line_break else (tag, writer)
            log.post(tag, {"stream": stream}, text, line_break)

    def end_open_line(self, id: int | None = None) -> None:
        """End the unfinished line if it belongs to the request with this id. With None, end it in any case."""
        if self._open is not None:
            with self._log.lock:
                if self._open is not None and id in (None, self._open[0].id):
                    self._end_open_line()

    def _end_open_line(self) -> None:
        """End the unfinished line, so that the next text does not seem to be the rest of it."""
        if self._open is not None:
            (tag, (_, _, stream, _)), self._open = self._open, None
            self._log.post(tag, {"stream": stream}, b"")

    def restart(self) -> None:
        """Drop the unfinished line in a forked child."""
        self._open = None
