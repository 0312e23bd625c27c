"""Send the text that the function prints and logs as LOG frames with the right request id.

This module must not know the protocol: a LogWriter gets a callable that sends. It does not use `logging` before the
function itself has imported it. Other modules of this folder have the parts that only some functions need: the handler
of the root logger, the JSON style, and support for several requests at once.
"""

from __future__ import annotations

import _frozen_importlib
import io
import sys
from _operator import itemgetter
from _thread import RLock, get_ident

from .. import namespace
from ..io.pipes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import ModuleType
    from typing import Any

PIECE = 3072
"""The most bytes of text in a LOG frame. The frame fits into PIPE_BUF, so the kernel writes it whole or not at all."""

NAME = 128
"""The most characters of a request id in the metadata of a LOG frame. The frame must not exceed PIPE_BUF, see PIECE."""

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_OTHER_NAMES = {"TRACE": "DEBUG", "WARN": "WARNING", "FATAL": "CRITICAL"}  # {a platform's name: its name in `logging`}


class Tag(tuple[int, str, str]):
    """The request that a line belongs to. Each request makes a Tag, so making one runs no Python code.

    Attributes:
        id: The id of the request's frames; 0 for no request.
        request_id: The request id that the function sees; "" for no request.
        tenant_id: The tenant's id; "" for no tenant.
    """

    __slots__ = ()
    id = property(itemgetter(0))
    request_id = property(itemgetter(1))
    tenant_id = property(itemgetter(2))


NO_REQUEST = Tag((0, "", ""))
"""The tag of a line that belongs to no request."""


class LogWriter:
    """Take lines from all of the function's threads and tasks, and send them.

    Args:
        send: The callable that sends a LOG frame: send(tag, metadata, text). The text has at most PIECE bytes, without
            the last line break. If the metadata has `continues`, the line goes on in the next text of this id and
            stream.
        lock: The lock to hold while a text is sent in several pieces, so that they stay together. It must be reentrant,
            and the same lock that `send` takes. With two locks, a signal handler that prints could cause a deadlock.

    Attributes:
        contexts: A Contexts object if the worker runs several requests at once; otherwise None.
        current: The tag of the running request, if `contexts` is None.
        forked: Whether this process is a child that the function has forked.
        level: The name in `logging` of the root logger's level.
        records: The module `records` in the JSON style; None in the text style.
        unfinished: Whether a line may have been begun that `flush` has to send.
    """

    def __init__(self, send: Callable[[Tag, dict[str, Any], bytes], None], lock: Any = None) -> None:
        self.send = send
        self.lock = lock or RLock()
        self.forked = False
        self.current = NO_REQUEST
        self.level = "INFO"
        self.records: ModuleType | None = None
        self.unfinished = False
        self._streams: list[LogStream] = []
        self.contexts: Any = None

    def configure(self, format: str, level: str) -> None:
        """Set the style of lines and the root logger's level. Call it before any code of the function runs.

        Args:
            format: "text" or "json", in upper or lower case. Any other value means text.
            level: The name of a level, in upper or lower case. Any other value means INFO, and a log line reports it.
        """
        if format.lower() == "json":
            self.records = namespace.own("log.json_records")
        name = level.upper()
        self.level = _OTHER_NAMES.get(name, name)
        if self.level not in _LEVELS:
            self.level = "INFO"
            self.write(f"pipe_runtime: there is no log level {level[:32]!r}; it is INFO")

    def enter(self, tag: Tag) -> Token[Tag] | None:
        """From now on, tag the lines of this context (see contextvars) and its copies. Without `contexts`, tag all."""
        if self.contexts is not None:
            return self.contexts.enter(tag)  # type: ignore[no-any-return]
        self.current = tag
        return None

    def leave(self, token: Token[Tag] | None) -> None:
        """Undo `enter`, in the same context. Also call `flush`, to send the request's unfinished lines."""
        if token is None:
            self.current = NO_REQUEST
        elif self.contexts is not None:
            self.contexts.leave(token)

    def tag(self) -> Tag:
        """Return the tag for a line that the caller's context writes now."""
        return self.current if self.contexts is None else self.contexts.tag()

    def open_streams(self) -> None:
        """Replace sys.stdout, sys.stderr, sys.__stdout__ and sys.__stderr__ with streams that write to this object."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            raw = LogStream(self, name, descriptor)
            self._streams.append(raw)
            text = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
            setattr(sys, name, text)
            setattr(sys, f"__{name}__", text)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
        setattr(sys, "__stdin__", sys.stdin)  # noqa: B010  # it is declared final

    def write(self, message: str, tag: Tag | None = None) -> None:
        """Write one record without a level: a message of the runtime, or a text of context.log().

        Args:
            message: The text.
            tag: The request that the text belongs to. None means the request of the caller's context.
        """
        text = message.rstrip("\n").encode("utf-8", "backslashreplace")
        if tag is None:
            tag = self.tag()
        elif self.contexts is not None:
            tag = self.contexts.settled(tag)
        self.print("log", tag, text, one_message=True)

    def record(self, level: str, text: bytes) -> None:
        """Write a formatted log record of one or more lines. `text` lacks the last line break."""
        tag = self.tag()
        metadata: dict[str, Any] = {"stream": "log", "level": level}
        if self.contexts is None:
            self.post(tag, metadata, text)
        else:
            self.contexts.record(tag, metadata, text)

    def print(self, stream: str, tag: Tag, text: bytes, line_break: bytes = b"\n", one_message: bool = False) -> None:
        """Write printed lines. In the JSON style every line is complete, and each line becomes one object.

        Args:
            text: The lines, without the last line break.
            line_break: The last line break; b"" if the last line is not complete.
            one_message: Whether the whole text becomes one object in the JSON style.
        """
        if self.records is not None and not self.forked:
            messages = [text] if one_message else text.split(b"\n")
            objects = [self.records.printed_line(message, stream, tag.request_id) for message in messages]
            metadata = {"stream": stream} if self.contexts is None else {"stream": stream, "named": True}
            self.post(tag, metadata, b"\n".join(objects))
        elif self.contexts is None:
            self.post(tag, {"stream": stream}, text, line_break)
        else:
            self.contexts.print(stream, tag, text, line_break)

    def post(self, tag: Tag, metadata: dict[str, Any], text: bytes, line_break: bytes = b"\n") -> None:
        """Send a text as one or more LOG frames. Each frame has the entries of `metadata`."""
        if self.forked:
            write_all(2, text + line_break)
            return
        if not tag.id and tag.request_id and self.contexts is not None:
            metadata["request_id"] = tag.request_id[:NAME]
        if len(text) > PIECE:
            with self.lock:
                self._post_pieces(tag, metadata, text, line_break)
        else:
            self.send(tag, metadata if line_break else {**metadata, "continues": True}, text)

    def _post_pieces(self, tag: Tag, metadata: dict[str, Any], text: bytes, line_break: bytes) -> None:
        continued = {**metadata, "continues": True}
        start = 0
        while len(text) - start > PIECE:
            cut = text.rfind(b"\n", start, start + PIECE + 1)
            if cut >= 0:
                self.send(tag, metadata, text[start:cut])
                start = cut + 1
            else:
                cut = _character_boundary(text, start + PIECE)
                self.send(tag, continued, text[start:cut])
                start = cut
        self.send(tag, metadata if line_break else continued, text[start:])

    def flush(self, id: int | None = None) -> None:
        """Send the unfinished lines: the text that was printed so far without a line break.

        Args:
            id: Send only the lines of this request, and remove the request, because its outcome follows. If a task of
                the request still runs and writes more lines, they get id 0.
        """
        self.unfinished = id is not None
        if self.contexts is not None and id:
            self.contexts.forget(id)
        for stream in self._streams:
            if stream.partial:
                stream.send_partial_lines(id)
        if self.contexts is not None:
            self.contexts.end_open_line(id)

    def after_fork(self) -> None:
        """Write all lines to fd 2 from now on, in a child that the function has forked."""
        self.forked = True
        self.restart(RLock())  # another thread of the parent may have held the other lock

    def restart(self, lock: Any) -> None:
        """Drop the parent's unfinished lines in a forked child, and use a new lock (see __init__)."""
        self.lock = lock
        if self.contexts is not None:
            self.contexts.restart()
        for stream in self._streams:
            stream.partial.clear()


class LogStream(io.RawIOBase):
    """The binary file below sys.stdout or sys.stderr. It passes each line to the log writer when the line is complete.

    Attributes:
        partial: {(request id, thread id): (tag, text of the line that this thread has begun for this request)}.
    """

    def __init__(self, log: LogWriter, name: str, descriptor: int) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self.mode = "wb"
        self._stream = name
        self._log = log
        self._descriptor = descriptor
        self.partial: dict[tuple[int, int], tuple[Tag, bytes]] = {}

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        """Take bytes. Keep an unfinished line for each thread and request until the same thread completes it."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        text = data if type(data) is bytes else memoryview(data).tobytes()
        log = self._log
        tag = log.tag()
        key = tag.id, get_ident()
        whole = self.partial.pop(key, (tag, b""))[1] + text
        end = whole.rfind(b"\n") + 1
        start = end
        limit = PIECE if log.records is None else log.records.LARGEST_OBJECT
        while len(whole) - start > limit:  # send an endless line in pieces, so that it does not fill the memory
            start = _character_boundary(whole, start + limit)
        if start < len(whole):
            self.partial[key] = tag, whole[start:]  # never empty if pieces were cut off: the line break must follow
            log.unfinished = True
        if start:
            whole_lines = start == end
            line_break = b"\n" if whole_lines else b""
            log.print(self._stream, tag, whole[: start - whole_lines], line_break)
        if log.contexts is not None and log.contexts.settled(tag) is not tag:
            self._send_partial_line(key)  # the request has ended, so no flush() for it follows
        return len(text)

    def flush(self) -> None:
        """Send the line that this thread has begun, because the worker may hang or die before the line is complete."""
        super().flush()
        tag = self._log.tag()
        text = self.partial.pop((tag.id, get_ident()), (tag, b""))[1]
        if text:
            self._log.print(self._stream, tag, text, b"")

    def send_partial_lines(self, id: int | None = None) -> None:
        """End and send unfinished lines. With `id`, only lines of this request and of threads that have ended."""
        threads = sys._current_frames()  # a thread that has ended cannot complete its lines
        for key in list(self.partial):
            if id is None or key[0] == id or key[1] not in threads:
                self._send_partial_line(key)

    def _send_partial_line(self, key: tuple[int, int]) -> None:
        tag, text = self.partial.pop(key, (NO_REQUEST, b""))
        if text:  # unless the thread itself has just completed the line
            self._log.print(self._stream, tag, text)


class LoggingHook:
    """Detect with a finder on sys.meta_path that the function imports `logging`. Then add the runtime's log handler."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._module: ModuleType | None = None

    def install(self) -> None:
        """Add the finder to sys.meta_path. Call this before any code of the function runs."""
        namespace.after_import.append(self.attach)
        self.attach()
        if self._module is None:
            sys.meta_path.insert(0, self)

    def attach(self) -> None:
        """Add the handler if `logging` is already loaded. The finder does not see the runtime's own imports."""
        module = sys.modules.get("logging")
        spec = namespace.spec_of(module)
        is_ready = namespace.is_standard(spec) and not getattr(spec, "_initializing", False)
        if module is not None and module is not self._module and is_ready:
            self._put(module)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the ordinary spec of `logging`, with a loader that adds the handler after the module has run."""
        if name != "logging" or path is not None:
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        spec = _frozen_importlib._find_spec(name, None, target)  # type: ignore[attr-defined]
        loader: Any = None if spec is None else spec.loader
        if loader is not None and namespace.is_standard(spec):
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._put(module)

            loader.exec_module = exec_module
        return spec

    def _put(self, module: ModuleType) -> None:
        self._module = module
        # Do not use own(): it could wait for another thread, which in turn waits for this import of `logging`.
        namespace.own_alone("log.root_handler").put(module, self._log, lambda: namespace.own("log.tracebacks"))


def _character_boundary(text: bytes, limit: int) -> int:
    """Return the largest index of at most `limit` at which UTF-8 `text` can be cut between two characters."""
    cut = limit
    while cut > limit - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut
