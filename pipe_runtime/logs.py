"""What the function prints and logs, on its way to LOG frames with the right request id.

This file does not know the protocol: a Journal is given a function that sends. `logging` is touched only once the
function itself has imported it.
"""

from __future__ import annotations

import io
import os
import select
import sys
import time
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

PIECE = 3072
"""Bytes of text in one LOG frame: with its head it stays below PIPE_BUF, so it is written whole or not at all."""

_RECORD = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
"""A log record as AWS Lambda writes it."""


class Journal:
    """Takes lines from all of the function's threads.

    send: called as send(stream, level, text, continues) with text of at most PIECE bytes, without the last line
    break; continues: there was none, its line goes on in the next text.
    request_id: of the request that runs now, for log records; "" between requests. forked: whether this is a child
    that the function has forked.
    """

    def __init__(self, send: Callable[[str, str, bytes, bool], None]) -> None:
        self._send = send
        self.forked = False
        self._streams: list[LogStream] = []
        self.request_id = ""

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

    def record(self, stream: str, level: str, text: bytes, line_break: bytes = b"\n") -> None:
        """One record of one or more lines, without the last line break. line_break: b"" if that is still to come."""
        if self.forked:
            write_all(2, text + line_break)
            return
        start = 0
        while len(text) - start > PIECE:
            cut = text.rfind(b"\n", start, start + PIECE + 1)
            if cut >= 0:
                self._send(stream, level, text[start:cut], False)
                start = cut + 1
            else:
                cut = _character_boundary(text, start + PIECE)
                self._send(stream, level, text[start:cut], True)
                start = cut
        self._send(stream, level, text[start:], not line_break)

    def flush(self) -> None:
        """Send what was printed without a line break so far."""
        for stream in self._streams:
            if stream.partial:
                stream.send_partial_lines()

    def after_fork(self) -> None:
        """In a forked child: from now on everything goes to fd 2, and what the parent had begun stays the parent's."""
        self.forked = True
        for stream in self._streams:
            stream.forget_partial_lines()


class LogStream(io.RawIOBase):
    """The binary file under sys.stdout or sys.stderr: whole lines go to the journal as they are completed."""

    def __init__(self, journal: Journal, name: str, descriptor: int) -> None:
        super().__init__()
        self.name = f"<{name}>"
        self.mode = "wb"
        self._stream = name
        self._journal = journal
        self._descriptor = descriptor
        self.partial: dict[int, bytes] = {}

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        """Take bytes; each thread completes lines of its own."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        text = data if type(data) is bytes else memoryview(data).tobytes()
        thread = get_ident()
        whole = self.partial.pop(thread, b"") + text if thread in self.partial else text
        end = whole.rfind(b"\n") + 1
        start = end
        while len(whole) - start > PIECE:  # an endless line goes on in pieces: nothing may grow
            start = _character_boundary(whole, start + PIECE)
        if start < len(whole):
            self.partial[thread] = whole[start:]  # never empty after a piece: the line break is still to come
        if start:
            whole_lines = start == end
            line_break = b"\n" if whole_lines else b""
            self._journal.record(self._stream, "", whole[: start - whole_lines], line_break)
        return len(text)

    def flush(self) -> None:
        """Pass on what this thread has begun of a line: who flushes may hang, or die, before it is complete."""
        super().flush()
        text = self.partial.pop(get_ident(), b"")
        if text:
            self._journal.record(self._stream, "", text, b"")

    def send_partial_lines(self) -> None:
        """Pass on what has no line break yet, with one."""
        for thread in list(self.partial):
            text = self.partial.pop(thread, b"")
            if text:  # the thread has not just completed it itself
                self._journal.record(self._stream, "", text)

    def forget_partial_lines(self) -> None:
        """Drop what a forked child has inherited: it is the parent's to complete."""
        self.partial.clear()


class LoggingHook:
    """Waits on sys.meta_path for the function to import `logging`, then makes its unconfigured records ours.

    A handler installed beforehand on the root logger would turn the function's own logging.basicConfig() into a
    no-op; the handler of last resort does not. With it goes a root level of INFO, so that records are not lost.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def install(self) -> None:
        if "logging" in sys.modules:
            self._attach(sys.modules["logging"])
        else:
            sys.meta_path.insert(0, self)

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
        if loader is not None and spec.origin == os.path.join(os.path.dirname(os.__file__), "logging", "__init__.py"):
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._attach(module)

            loader.exec_module = exec_module
        return spec

    def _attach(self, module: Any) -> None:
        journal = self._journal

        class JournalHandler(module.Handler):  # type: ignore[misc]
            def emit(self, record: logging.LogRecord) -> None:
                try:
                    text = self.format(record)
                    journal.record("log", _level(record.levelname), text.encode("utf-8", "backslashreplace"))
                except RecursionError:
                    raise  # as in logging's own handlers
                except Exception:  # logging's own contract: a record that cannot be formatted is reported, not raised
                    self.handleError(record)

        class LambdaFormatter(module.Formatter):  # type: ignore[misc]
            converter = time.gmtime

            def format(self, record: logging.LogRecord) -> str:
                record.aws_request_id = journal.request_id
                return str(super().format(record))

        def basic_config(*given: Any, **settings: Any) -> None:
            # logging.info() and its like call it for a root logger without handlers. That is our case, not a wish.
            if given or settings or sys._getframe(1).f_globals is not module.__dict__:
                configure(*given, **settings)

        handler = JournalHandler()
        handler.setFormatter(LambdaFormatter(_RECORD, "%Y-%m-%dT%H:%M:%S"))
        configure = module.basicConfig
        basic_config.__doc__, basic_config.__wrapped__ = configure.__doc__, configure  # type: ignore[attr-defined]
        module.basicConfig = basic_config
        module.lastResort = handler
        module.root.setLevel(module.INFO)


def _character_boundary(text: bytes, limit: int) -> int:
    """The largest cut of UTF-8 `text` that is at most `limit` and not inside a character."""
    cut = limit
    while cut > limit - 4 and text[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _level(name: object) -> str:
    """A level's name that fits into a LOG frame beside PIECE bytes: a function may name levels as it likes."""
    return ascii(name)[1:-1][:32] if not isinstance(name, str) or not name.isascii() else name[:32]


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a descriptor that others may have made non-blocking."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()
