"""Give each thread and task a tag of its own, and keep their lines apart, while a worker runs several requests at once.

The runtime loads it if a worker's `concurrency` is above 1. It knows no frames.
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
    """The tag of each context, and the line that one of the contexts has begun."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._tags: ContextVar[Tag] = late._contextvars.ContextVar("pipe_runtime.request", default=NO_REQUEST)
        self._running = {0}  # the ids that a line may have
        # If the last text that was sent has not ended its line: its tag, and its writer. All texts of one line have the
        # same writer: the same request, stream and thread.
        self._open: tuple[Tag, tuple[int, str, str, int]] | None = None

    def enter(self, tag: Tag) -> Token[Tag]:
        """Tag the lines that this context and its copies write with `tag`."""
        self._running.add(tag.id)
        return self._tags.set(tag)

    def leave(self, token: Token[Tag]) -> None:
        """Undo `enter`, in the same context."""
        self._tags.reset(token)

    def tag(self) -> Tag:
        """Return the tag of a line that is written here and now."""
        return self.settled(self._tags.get())

    def settled(self, tag: Tag) -> Tag:
        """Return the tag, but with id 0 if its request is over, and a task that it left running writes the line."""
        return tag if tag.id in self._running else Tag(0, tag.request_id, tag.tenant_id)

    def runs(self, id: int) -> bool:
        """Return whether a line may have this id."""
        return id in self._running

    def forget(self, id: int) -> None:
        """From now on, give this id to no line."""
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
        """Write printed lines. Another context may have begun a line of the same id and stream."""
        log, writer = self._log, (tag.id, tag.request_id, stream, get_ident())
        with log.lock:
            goes_on = self._open is not None and self._open[1] == writer
            if not goes_on:
                self._end_open_line()
            if log.forked and tag.request_id:  # a forked child sends no frame that could name the request
                name = f"{tag.request_id}\t".encode("utf-8", "backslashreplace")
                text = (b"" if goes_on else name) + text.replace(b"\n", b"\n" + name)
            self._open = None if line_break else (tag, writer)
            log.post(tag, {"stream": stream}, text, line_break)

    def end_open_line(self, id: int | None = None) -> None:
        """End the line that a context has begun, if its request has this id; with None, end it in any case."""
        if self._open is not None:
            with self._log.lock:
                if self._open is not None and id in (None, self._open[0].id):
                    self._end_open_line()

    def _end_open_line(self) -> None:
        """End the open line, so that the next text does not look like the rest of it."""
        if self._open is not None:
            (tag, (_, _, stream, _)), self._open = self._open, None
            self._log.post(tag, {"stream": stream}, b"")

    def restart(self) -> None:
        """Forget the open line, in a forked child."""
        self._open = None
