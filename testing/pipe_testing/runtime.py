"""Drive a runtime process over its pipes, in the place of the init.

One test holds one conversation with one process; there is no supervisor. A test never blocks for ever: if something
takes longer than patience.HANGS, a TimeoutError shows what the runtime wrote to fd 2.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from types import TracebackType
from typing import Any

from pipe_runtime.wire.connection import INIT, Connection, EndOfStream
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import ANY, ERROR, HELLO, INVOKE, JSON, LOG, READY, RESULT, STOP, VERSION
from pipe_testing.patience import HANGS


def script() -> str:
    """Return the path of the installed runtime's __main__.py."""
    spec = util.find_spec("pipe_runtime")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).with_name("__main__.py"))


class RuntimeProcess:
    """A runtime that was started for a test.

    Attributes:
        log: What the runtime has written to fd 2 so far.
        lines: The LOG frames that came before the last answer.
        requests: Our end of the pipe for requests.
        answers: Our end of the pipe for answers.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> None:
        (folder / "index.py").write_text(source)
        self.folder = folder
        self.connection = Connection(INIT)
        self.log = b""
        self.lines: list[Frame] = []
        self._next_id = 1
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or [script()])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            pass_fds=keep,
            cwd=cwd,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.requests, self.answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._log = self.process.stderr.fileno()

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert file is not None
            file.close()
        if error is not None:
            print(f"fd 2 of the runtime: {self.log.decode(errors='replace')}")

    def hello(self, handler: str = "index.handler", **fields: Any) -> None:
        """Send HELLO."""
        self.send(HELLO, 0, {"versions": [VERSION], "handler": handler, "code_dir": str(self.folder), **fields})

    def start(self, handler: str = "index.handler", **fields: Any) -> Frame:
        """Send HELLO and return READY. The LOG frames before it are in `lines`."""
        self.hello(handler, **fields)
        return self.ready()

    def ready(self) -> Frame:
        """Return READY, which comes after the runtime's HELLO. The LOG frames before it are in `lines`."""
        assert self.next().kind == HELLO
        frame = self._after_logs()
        assert frame.kind == READY, frame
        return frame

    def invoke(self, event: object = None, accept: str = JSON, **fields: Any) -> int:
        """Send a request with `event` as JSON; return its id."""
        id, self._next_id = self._next_id, self._next_id + 1
        metadata = {"request_id": f"r-{id}", "content_type": JSON, "accept": accept, **fields}
        self.send(INVOKE, id, metadata, json.dumps(event).encode())
        return id

    def outcome(self, id: int) -> Frame:
        """Return the outcome of request `id`, which must end next. The LOG frames before it are in `lines`."""
        frame = self._after_logs()
        assert frame.kind in (RESULT, ERROR) and frame.id == id, frame
        return frame

    def call(self, event: object = None, **fields: Any) -> Any:
        """Send a request and return what its RESULT holds, decoded from JSON."""
        frame = self.outcome(self.invoke(event, **fields))
        assert frame.kind == RESULT, frame
        return json.loads(frame.payload)

    def fail(self, event: object = None, **fields: Any) -> dict[str, Any]:
        """Send a request and return the metadata of its ERROR."""
        frame = self.outcome(self.invoke(event, **fields))
        assert frame.kind == ERROR, frame
        return frame.metadata

    def raw(self, event: object = None) -> bytes:
        """Send a request that accepts bytes, and return the bytes of its RESULT."""
        return self.outcome(self.invoke(event, accept=ANY)).payload

    def logged(self, stream: str | None = None) -> list[str]:
        """Return the text of each LOG frame in `lines`, of one stream or of both."""
        return [line.payload.decode() for line in self.lines if stream in (None, line.metadata["stream"])]

    def stop(self) -> int:
        """Send STOP, read to the end, and return the exit code."""
        self.send(STOP)
        return self.exit_code()

    def exit_code(self) -> int:
        """Read to the end of the answers and return the exit code. The LOG frames are in `lines`."""
        self.lines = []
        while frame := self.next_or_end():
            assert frame.kind == LOG, frame
            self.lines.append(frame)
        return self.ended()

    def ended(self) -> int:
        """Wait for the process to end, without reading its answers, and return the exit code."""
        deadline = time.monotonic() + HANGS
        while self._read(self._log, deadline) != b"":
            continue
        return self.process.wait(HANGS)

    def send(self, kind: int, id: int = 0, metadata: Mapping[str, Any] | None = None, payload: bytes = b"") -> None:
        """Send a frame. This side does not read meanwhile, so the runtime must accept it."""
        self.write(self.connection.send(kind, id, metadata, payload))

    def write(self, data: bytes) -> None:
        """Write bytes. This side does not read meanwhile."""
        deadline = time.monotonic() + HANGS
        writable = select.poll()
        writable.register(self.requests, select.POLLOUT)
        while data:
            if not writable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(f"the runtime does not read; on fd 2: {self.log!r}")
            data = data[os.write(self.requests, data[:4096]) :]

    def close_input(self) -> None:
        """Close the runtime's input."""
        assert self.process.stdin
        self.process.stdin.close()

    def next(self) -> Frame:
        """Return the next frame."""
        frame = self.next_or_end()
        assert frame is not None, f"the runtime has ended; on fd 2: {self.log!r}"
        return frame

    def next_or_end(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        deadline = time.monotonic() + HANGS
        while (event := self.connection.next_frame()) is None:
            self.connection.receive(self._read(self.answers, deadline))
        return None if isinstance(event, EndOfStream) else event

    def _after_logs(self) -> Frame:
        self.lines = []
        for frame in self._frames():
            if frame.kind != LOG:
                return frame
            self.lines.append(frame)
        raise AssertionError("unreachable")

    def _frames(self) -> Iterator[Frame]:
        while True:
            yield self.next()

    def _read(self, wanted: int, deadline: float) -> bytes:
        """Return bytes from one of the two outputs, or b"" at its end. Read fd 2 all the time."""
        readable = select.poll()
        readable.register(wanted, select.POLLIN)
        log_open = True
        while True:
            if log_open and wanted != self._log:
                readable.register(self._log, select.POLLIN)
            ready = dict(readable.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                raise TimeoutError(f"nothing from the runtime for {HANGS:g} s; on fd 2: {self.log!r}")
            if wanted in ready:
                data = os.read(wanted, 65536)
                self.log += data if wanted == self._log else b""
                return data
            data = os.read(self._log, 65536)
            self.log += data
            if not data:
                log_open = False
                readable.unregister(self._log)
