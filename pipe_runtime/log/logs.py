"""Turn what the function prints and logs into LOG frames with the right request id.

This file does not know the protocol: a Journal is given a function that sends. `logging` is touched only once the
function itself has imported it. The JSON style's lines are made in records.py.
"""

from __future__ import annotations

import io
import os
import select
import sys
from _thread import RLock, get_ident
from time import gmtime

from .. import namespace
from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from contextvars import ContextVar, Token
    from types import ModuleType
    from typing import Any, TextIO

PIECE = 3072
"""Bytes of text in one LOG frame: with its head it stays below PIPE_BUF, so it is written whole or not at all."""

NAME = 128
"""Characters of a request id in the metadata of a LOG frame: with PIECE bytes of text the frame fits PIPE_BUF."""

LEVEL_NAME = 32
"""Characters of a level's name in a LOG frame: a function chooses the names, and the head must stay small."""

_RECORD = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
_MOMENT = "%Y-%m-%dT%H:%M:%S"
"""A log record as AWS Lambda writes it."""

JSON_LINE = 256 * 1024
"""Bytes of a printed line that the JSON style waits for, since an object is sent whole: what a log event of
CloudWatch's may hold. A longer line becomes several objects."""

_LEVELS = {
    "TRACE": "DEBUG",  # logging knows nothing below
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "FATAL": "CRITICAL",
    "CRITICAL": "CRITICAL",
}
"""The levels' names on the platforms and in `logging`: in `logging`."""


class Tag:
    """The request that a line belongs to.

    Attributes:
        id: The frame's id, 0 for no request.
        request_id: The request's id, "" for no request.
        tenant_id: The tenant's id, "" for no tenant.
    """

    __slots__ = ("id", "request_id", "tenant_id")

    def __init__(self, id: int = 0, request_id: str = "", tenant_id: str = "") -> None:
        self.id = id
        self.request_id = request_id
        self.tenant_id = tenant_id


NOBODY = Tag()
"""The tag of a line that belongs to no request."""


def log_settings(hello: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, str]:
    """The format and the level that are asked for, unchecked: HELLO's fields, else the platforms' variables.

    ALIYUN_FC_LOG_LEVEL is Function Compute's, the other two are Lambda's.
    """
    format = hello.get("log_format") or environ.get("AWS_LAMBDA_LOG_FORMAT") or "text"
    level = hello.get("log_level") or environ.get("AWS_LAMBDA_LOG_LEVEL") or environ.get("ALIYUN_FC_LOG_LEVEL")
    return format, level or "INFO"


class Journal:
    """Take lines from all of the function's threads and tasks.

    Args:
        send: Called as send(tag, metadata, text) with LOG's metadata and at most PIECE bytes of text, without the last
            line break. If the metadata has `continues`, the line goes on in the next text of this id and stream.
        lock: Held while a text is sent in several pieces, so that they stay together. It must be reentrant, and the
            same lock that `send` takes: with two locks, a signal handler that prints could wait for ever.

    Attributes:
        current: The tag of the request that runs, as long as one runs at a time; `per_context` ends that.
        forked: Whether this is a child that the function has forked.
    """

    def __init__(self, send: Callable[[Tag, dict[str, Any], bytes], None], lock: Any = None) -> None:
        self._send = send
        self._lock = lock or RLock()
        self.forked = False
        self.current = NOBODY
        self.level = "INFO"
        self.records: ModuleType | None = None
        """records.py, in the JSON style."""
        self._streams: list[LogStream] = []
        self._variable: ContextVar[Tag] | None = None
        self._running = {0}
        """With a tag for each context: the ids that a line may have."""
        self._open: tuple[Tag, str, int] | None = None
        """With a tag for each context: tag, stream and thread of the text that was sent last, if its line is open."""

    def configure(self, format: str, level: str) -> None:
        """Before any user code: the style of lines, "text" or "json", and the root logger's level, in any case.

        An unknown level counts as INFO, and a line says so. An unknown format counts as text.
        """
        if format.lower() == "json":
            self.records = namespace.own("log.records")
        self.level = _LEVELS.get(level.upper(), "")
        if not self.level:
            self.level = "INFO"
            self.log(f"pipe_runtime: there is no log level {level[:32]!r}; it is INFO")

    def per_context(self) -> None:
        """From now on each context, of a thread or a task, has a tag of its own, and `current` counts no more."""
        if self._variable is None:
            self._variable = late._contextvars.ContextVar("pipe_runtime.request", default=NOBODY)

    def enter(self, tag: Tag) -> Token[Tag] | None:
        """From now on what this context and its copies write belongs to `tag`; without contexts, it is `current`."""
        if self._variable is None:
            self.current = tag
            return None
        self._running.add(tag.id)
        return self._variable.set(tag)

    def leave(self, token: Token[Tag] | None) -> None:
        """End what `enter` has begun, in the same context. The request's lines end with `flush_request`."""
        if token is None:
            self.current = NOBODY
        elif self._variable is not None:
            self._variable.reset(token)

    def tag(self) -> Tag:
        """What a line written here and now belongs to."""
        return self.current if self._variable is None else self._settled(self._variable.get())

    def _settled(self, tag: Tag) -> Tag:
        """Return the tag, with id 0 if its request is over: a task that the request left running writes then."""
        return tag if self.runs(tag.id) else Tag(0, tag.request_id, tag.tenant_id)

    def runs(self, id: int) -> bool:
        """Whether a line may have this id."""
        return self._variable is None or id in self._running

    def open_streams(self) -> None:
        """Put streams of this journal in the place of sys.stdout and sys.stderr, and theirs with two underscores."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            raw = LogStream(self, name, descriptor)
            self._streams.append(raw)
            text = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
            setattr(sys, name, text)
            setattr(sys, f"__{name}__", text)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
        setattr(sys, "__stdin__", sys.stdin)  # noqa: B010  # it is declared final

    def log(self, message: str, tag: Tag | None = None) -> None:
        """A text of the runtime's own, or of context.log(): one record without a level.

        tag: of the request that it belongs to; None: what belongs to the caller's context.
        """
        text = message.rstrip("\n").encode("utf-8", "backslashreplace")
        self._print("log", self.tag() if tag is None else self._settled(tag), text, [text])

    def record(self, level: str, text: bytes) -> None:
        """Take a log record of one or more lines, in its final form, without the last line break."""
        tag = self.tag()
        metadata: dict[str, Any] = {"stream": "log", "level": level}
        if self._variable is None:
            self._post(tag, metadata, text)
            return
        if self.records is not None or tag.request_id.encode("utf-8", "backslashreplace") in text:
            metadata["named"] = True
        with self._lock:
            self._end_open_line()
            self._post(tag, metadata, text)

    def printed(self, stream: str, tag: Tag, text: bytes, line_break: bytes = b"\n") -> None:
        """Printed lines, without the last line break. line_break: b"" if that is still to come."""
        self._print(stream, tag, text, text.split(b"\n") if self.records else [], line_break)

    def _print(self, stream: str, tag: Tag, text: bytes, messages: list[bytes], line_break: bytes = b"\n") -> None:
        """messages: what is an object each in the JSON style, which begins no line that it does not end."""
        if self.records is not None and not self.forked:
            objects = [self.records.printed_line(message, stream, tag.request_id) for message in messages]
            metadata = {"stream": stream} if self._variable is None else {"stream": stream, "named": True}
            self._post(tag, metadata, b"\n".join(objects))
        elif self._variable is None:
            self._post(tag, {"stream": stream}, text, line_break)
        else:
            self._print_among_others(stream, tag, text, line_break)

    def _print_among_others(self, stream: str, tag: Tag, text: bytes, line_break: bytes) -> None:
        """Print where another context may have begun a line of the same id and stream."""
        writer = tag, stream, get_ident()
        with self._lock:
            goes_on = self._open is not None and _is_same(self._open, writer)
            if not goes_on:
                self._end_open_line()
            if self.forked and tag.request_id:  # no frame says whose it is
                name = f"{tag.request_id}\t".encode("utf-8", "backslashreplace")
                text = (b"" if goes_on else name) + text.replace(b"\n", b"\n" + name)
            self._open = None if line_break else writer
            self._post(tag, {"stream": stream}, text, line_break)

    def _end_open_line(self) -> None:
        """What is sent next would be taken for the rest of a line that another context has begun."""
        if self._open is not None:
            (tag, stream, _), self._open = self._open, None
            self._post(tag, {"stream": stream}, b"")

    def _post(self, tag: Tag, metadata: dict[str, Any], text: bytes, line_break: bytes = b"\n") -> None:
        """Send, in as many pieces as it takes. metadata: LOG's, as far as it is the same for each piece."""
        if self.forked:
            write_all(2, text + line_break)
            return
        if not tag.id and tag.request_id and self._variable is not None:
            metadata["request_id"] = tag.request_id[:NAME]
        if len(text) > PIECE:
            with self._lock:
                self._post_pieces(tag, metadata, text, line_break)
        else:
            self._send(tag, metadata if line_break else {**metadata, "continues": True}, text)

    def _post_pieces(self, tag: Tag, metadata: dict[str, Any], text: bytes, line_break: bytes) -> None:
        continued = {**metadata, "continues": True}
        start = 0
        while len(text) - start > PIECE:
            cut = text.rfind(b"\n", start, start + PIECE + 1)
            if cut >= 0:
                self._send(tag, metadata, text[start:cut])
                start = cut + 1
            else:
                cut = _character_boundary(text, start + PIECE)
                self._send(tag, continued, text[start:cut])
                start = cut
        self._send(tag, metadata if line_break else continued, text[start:])

    def flush(self) -> None:
        """Send everything that was printed without a line break so far."""
        for stream in self._streams:
            if stream.partial:
                stream.send_partial_lines()
        if self._open is not None:
            with self._lock:
                self._end_open_line()

    def flush_request(self, id: int) -> None:
        """Send what a request has printed without a line break, and forget the request: its outcome comes next.

        A line that comes later, from a task that it left running, gets id 0.
        """
        if id:
            self._running.discard(id)
        for stream in self._streams:
            if stream.partial:
                stream.send_partial_lines_of(id)
        if self._open is not None:
            with self._lock:
                if self._open is not None and self._open[0].id == id:
                    self._end_open_line()

    def after_fork(self) -> None:
        """In a child that the function has forked: from now on everything goes to fd 2."""
        self.forked = True
        self.restart(RLock())  # another thread of the parent's may have held the other one

    def restart(self, lock: Any) -> None:
        """In a forked child: what the parent had begun stays the parent's. lock: as at first, a new one."""
        self._lock = lock
        self._open = None
        for stream in self._streams:
            stream.partial.clear()


class LogStream(io.RawIOBase):
    """The binary file under sys.stdout or sys.stderr: whole lines go to the journal as they are completed."""

    def __init__(self, journal: Journal, name: str, descriptor: int) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self.mode = "wb"
        self._stream = name
        self._journal = journal
        self._descriptor = descriptor
        self.partial: dict[tuple[int, int], tuple[Tag, bytes]] = {}
        """What each thread has begun of a line, for each request: of (its id, the thread), the tag and the text."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        """Take bytes; each thread completes lines of its own, for each request that it runs."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        text = data if type(data) is bytes else memoryview(data).tobytes()
        journal = self._journal
        tag = journal.tag()
        key = tag.id, get_ident()
        whole = self._take(key) + text if key in self.partial else text
        end = whole.rfind(b"\n") + 1
        start = end
        limit = PIECE if journal.records is None else JSON_LINE
        while len(whole) - start > limit:  # an endless line goes on in pieces: nothing may grow
            start = _character_boundary(whole, start + limit)
        if start < len(whole):
            self.partial[key] = tag, whole[start:]  # never empty after a piece: the line break is still to come
        if start:
            whole_lines = start == end
            line_break = b"\n" if whole_lines else b""
            journal.printed(self._stream, tag, whole[: start - whole_lines], line_break)
        if not journal.runs(tag.id):  # the request has just ended, so flush_request() will not be called again
            self._send_partial_line(key)
        return len(text)

    def flush(self) -> None:
        """Pass on the line that this thread has begun, because it may hang or die before the line is complete."""
        super().flush()
        tag = self._journal.tag()
        text = self._take((tag.id, get_ident()))
        if text:
            self._journal.printed(self._stream, tag, text, b"")

    def send_partial_lines(self) -> None:
        """Pass on what has no line break yet, with one."""
        for key in list(self.partial):
            self._send_partial_line(key)

    def send_partial_lines_of(self, id: int) -> None:
        """Do the same for one request, and for threads that have ended and cannot complete their lines."""
        threads = sys._current_frames()
        for key in list(self.partial):
            if key[0] == id or key[1] not in threads:
                self._send_partial_line(key)

    def _send_partial_line(self, key: tuple[int, int]) -> None:
        tag, text = self.partial.pop(key, (NOBODY, b""))
        if text:  # the thread has not just completed it itself
            self._journal.printed(self._stream, tag, text)

    def _take(self, key: tuple[int, int]) -> bytes:
        return self.partial.pop(key, (NOBODY, b""))[1]


class LoggingHook:
    """Wait on sys.meta_path for the function to import `logging`, then put our handler on its root logger."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._module: ModuleType | None = None

    def install(self) -> None:
        """Before any user code."""
        namespace.after_import.append(self.attach)
        self.attach()
        if self._module is None:
            sys.meta_path.insert(0, self)

    def attach(self) -> None:
        """Take the records of the `logging` that is there by now: the runtime's own imports do not ask the finders."""
        module = sys.modules.get("logging")
        spec = namespace.spec_of(module)
        if module is not None and namespace.is_standard(spec) and not getattr(spec, "_initializing", False):
            self._attach(module)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Import protocol: for `logging`, its ordinary spec, with a loader that attaches us after it has run."""
        if name != "logging" or path is not None:
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, None, target) if find else None
            if spec is not None:
                break
        else:
            return None
        loader: Any = spec.loader
        if loader is not None and namespace.is_standard(spec):
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._attach(module)

            loader.exec_module = exec_module
        return spec

    def _attach(self, module: Any) -> None:
        if module is self._module:
            return
        self._module = module
        # No import here: it could wait for a thread that waits for the import of `logging`.
        _put_root_handler(module, self._journal)


def _put_root_handler(module: Any, journal: Journal) -> None:
    """Put a handler on the root logger of `module`, the function's `logging`, and set the root logger's level.

    The handler's class has the name of Lambda's, and in the text style a plain Formatter, because code that was written
    for Lambda looks for both. `logging.basicConfig()` works as in a script: it removes our handler first, unless the
    function has given that another formatter. `dictConfig` and `fileConfig` remove it by themselves.
    """
    root, records = module.root, journal.records
    known = frozenset(module.makeLogRecord({}).__dict__)

    class LambdaLoggerHandler(module.Handler):  # type: ignore[misc]
        def emit(self, record: logging.LogRecord) -> None:
            try:
                line = self.format(record).encode("utf-8", "backslashreplace")
                if line.endswith(b"\n"):  # formats that were made for Lambda's handler end with a line break
                    line = line[:-1]
                if records is not None and self.formatter is not formatter and not journal.forked:
                    line = records.printed_line(line, "log", journal.tag().request_id, level_of(record))
                journal.record(_short(record.levelname), line)
            except RecursionError:
                raise  # as in logging's own handlers
            except Exception:  # logging's own contract: a record that cannot be formatted is reported, not raised
                self.handleError(record)

    class JsonFormatter(module.Formatter):  # type: ignore[misc]
        def format(self, record: logging.LogRecord) -> str:
            assert records is not None, "used in the JSON style only"
            if journal.forked:  # the init makes an object of each line that comes through fd 2
                return str(as_text.format(record))
            return str(records.record_line(record, journal.tag(), level_of(record), known))

    def level_of(record: logging.LogRecord) -> str:
        """Return the name of the standard level at or below a custom one, as Lambda's JSON shows it."""
        number = record.levelno
        return str(module.getLevelName(min(50, max(0, number)) // 10 * 10 if isinstance(number, (int, float)) else 0))

    def name_request(record: Any) -> bool:
        tag = journal.tag()
        record.aws_request_id, record.tenant_id = tag.request_id, tag.tenant_id or None
        return True

    def basic_config(*given: Any, **settings: Any) -> None:
        is_ours = handler in root.handlers and handler.formatter is formatter
        if is_ours:
            root.removeHandler(handler)
        try:
            configure(*given, **settings)
        except BaseException:  # such as a wrong setting: what was not configured stays as it was
            if is_ours and not root.handlers:
                root.addHandler(handler)
            raise

    handler = LambdaLoggerHandler()
    as_text = module.Formatter(_RECORD, _MOMENT, defaults={"aws_request_id": ""})
    as_text.converter = gmtime
    formatter = as_text if records is None else JsonFormatter()
    handler.setFormatter(formatter)
    handler.addFilter(name_request)
    root.addHandler(handler)
    root.setLevel(journal.level)
    configure = module.basicConfig
    basic_config.__name__ = basic_config.__qualname__ = "basicConfig"
    basic_config.__doc__, basic_config.__wrapped__ = configure.__doc__, configure  # type: ignore[attr-defined]
    module.basicConfig = basic_config
    module.traceback = _Traceback(module)


class _Traceback:
    """The module `traceback` for `logging`: it leaves the runtime's own calls out of stacks and tracebacks."""

    def __init__(self, logging: Any) -> None:
        self._logging = logging
        self._module = logging.traceback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def print_stack(self, f: Any = None, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the stack of a caller that logs, as stacks.print_stack does."""
        namespace.own("call.stacks").print_stack(
            sys._getframe(1) if f is None else f, limit, file, self._logging.__dict__
        )

    def print_exception(self, *given: Any, **named: Any) -> None:
        """Print an exception, as stacks.print_exception does."""
        namespace.own("call.stacks").print_exception(*given, **named)


def _is_same(one: tuple[Tag, str, int], other: tuple[Tag, str, int]) -> bool:
    """Return whether two texts may belong to one line: same thread, same stream, same request."""
    return one[1:] == other[1:] and one[0].id == other[0].id and one[0].request_id == other[0].request_id


def _character_boundary(text: bytes, limit: int) -> int:
    """The largest cut of UTF-8 `text` that is at most `limit` and not inside a character."""
    cut = limit
    while cut > limit - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _short(name: object) -> str:
    """A level's name for a LOG frame."""
    return ascii(name)[1:-1][:LEVEL_NAME] if not isinstance(name, str) or not name.isascii() else name[:LEVEL_NAME]


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a descriptor that others may have made non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()
