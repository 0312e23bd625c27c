"""Run a function under awslambdaric, AWS Lambda's own runtime client, and return the outcome of each event.

A server on the loopback interface plays Lambda's runtime API. It hands out one event after the other, and takes a
result or an error for each. If the client's process ends during an event, that end is the outcome. A new process then
continues with the next event, as on Lambda. This module knows nothing of pipe-init.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import util
from pathlib import Path
from typing import Any, BinaryIO

API = "/2018-06-01/runtime/"
LIMIT = 60.0
"""Seconds after which a client that does not answer is killed."""

FRAME = b"\xa5\x5a\x00"
"""The first three bytes of each frame on Lambda's log descriptor. The fourth byte is the frame's type."""

HEADER = 16
"""The bytes of a frame before its text: the type, the length and the time."""

ERROR_TYPES = (0x16, 0x17)
"""The fourth byte of a frame at the level ERROR, as JSON and as text."""


@dataclass
class Outcome:
    """The outcome of one event.

    Attributes:
        result: The payload of the result, or None.
        error: The error that the client reported, or None.
        log: The text that was logged, without the client's report of the error.
    """

    result: str | None = None
    error: dict[str, Any] | None = None
    log: str = ""


@dataclass
class Run:
    """The outcomes of all events, and what came of loading the function.

    Attributes:
        error: The error if the function could not be loaded.
    """

    error: dict[str, Any] | None = None
    log: str = ""
    outcomes: list[Outcome] = field(default_factory=list)


def run(
    folder: Path,
    handler: str,
    events: Sequence[str],
    log: Path,
    headers: Mapping[str, str],
    environment: Mapping[str, str],
) -> Run:
    """Call a handler with each event, in as many processes as it takes.

    Args:
        folder: The folder with the handler's module.
        handler: The handler's name as Lambda writes it.
        events: The events as JSON texts.
        log: The path of a file for all that the function prints and logs.
        headers: The headers of each invocation, in addition to its id and its deadline.
        environment: The variables of the process.
    """
    if util.find_spec("awslambdaric") is None:
        raise ModuleNotFoundError("awslambdaric is not installed; tox.ini names it among what the tests need")
    log.touch()
    api = _Api(events, log, headers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(api))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        address = f"127.0.0.1:{server.server_address[1]}"
        while not api.finished:
            _run_process(api, folder, handler, {**environment, "AWS_LAMBDA_RUNTIME_API": address})
    finally:
        api.close()
        server.shutdown()
        thread.join()
        server.server_close()
    return api.run


def _run_process(api: _Api, folder: Path, handler: str, environment: Mapping[str, str]) -> None:
    """Start a client, and wait until there are no more events or the client has ended."""
    with api.log.open("ab", buffering=0) as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=[out.fileno()],
            env={**environment, "_LAMBDA_TELEMETRY_LOG_FD": str(out.fileno())},
        )
    waiter = threading.Thread(target=lambda: api.changes.put(process.wait()))
    waiter.start()
    try:
        change = api.changes.get(timeout=LIMIT)
    except queue.Empty:
        raise TimeoutError(f"awslambdaric does not answer; outcomes so far: {api.run.outcomes[-3:]}") from None
    finally:
        process.kill()
        waiter.join()
    if change is not None:
        api.ended(change)


class _Api:
    """The state of the runtime API.

    Attributes:
        changes: A queue with the exit status of a client that ended, or None after the last event's outcome.
    """

    def __init__(self, events: Sequence[str], log: Path, headers: Mapping[str, str]) -> None:
        self.log = log
        self.headers = headers
        self.changes: queue.Queue[int | None] = queue.Queue()
        self.run = Run()
        self.finished = False
        self._events = events
        self._open = False
        self._loaded = False
        self._seen = 0
        self._closed = threading.Event()

    def next(self) -> tuple[dict[str, str], bytes] | None:
        """Return the next event with its headers. After the last one, wait for the client's end and return None."""
        if not self._loaded:
            self._loaded = True
            self.run.log += self._new_log()
        number = len(self.run.outcomes)
        if number == len(self._events):
            self.finished = True
            self.changes.put(None)
            self._closed.wait()
            return None
        self._open = True
        deadline = int((time.time() + LIMIT) * 1000)
        own = {"Lambda-Runtime-Aws-Request-Id": f"request-{number}", "Lambda-Runtime-Deadline-Ms": str(deadline)}
        return {**self.headers, **own}, self._events[number].encode()

    def answered(self, result: str | None, error: dict[str, Any] | None) -> None:
        """Record an event's outcome. All that was logged since the previous outcome belongs to this event."""
        self._open = False
        self.run.outcomes.append(Outcome(result, error, self._new_log()))

    def failed(self, error: dict[str, Any]) -> None:
        """Record the error of loading the function."""
        self.run.error = error
        self.run.log += self._new_log()
        self.finished = True

    def ended(self, status: int) -> None:
        """Record the end of a client's process as the outcome of the event that it was handling."""
        while not self.changes.empty():
            self.changes.get()
        self._loaded = False
        message = f"RequestId: request-{len(self.run.outcomes)} Error: Runtime exited {_end_of(status)}"
        error = {"errorType": "Runtime.ExitError", "errorMessage": message}
        if self._open:
            self.answered(None, error)
        elif not self.finished:
            self.failed(error)

    def close(self) -> None:
        """Release the client's request for an event that will not come."""
        self._closed.set()

    def _new_log(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._seen)
            found = file.read()
        self._seen += len(found)
        return _text_of(found)


def _end_of(status: int) -> str:
    """Return the words that Lambda uses for the end of a process."""
    if status == 0:
        return "without providing a reason"
    signalled = signal.strsignal(-status) if status < 0 else None
    return f"with error: signal: {signalled.lower()}" if signalled else f"with error: exit status {status}"


def _handler_for(api: _Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.rfile = _ShortLines(self.rfile)  # type: ignore[assignment]

        def do_GET(self) -> None:
            given = api.next()
            if given is None:  # the client has ended
                self.close_connection = True
            else:
                self.respond(200, *given)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/response"):
                api.answered(body.decode(errors="backslashreplace"), None)
            elif self.path == API + "init/error":
                # The client encodes this body twice.
                api.failed(json.loads(body))
            else:
                api.answered(None, json.loads(body))
            self.respond(202, {}, b"{}")

        def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing, so that requests do not appear in the output of the tests."""

    return Handler


class _ShortLines:
    """A request stream that cuts long header lines, since http.server refuses them. The report for X-Ray is long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.close = file.close

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(2**21)
        return line if len(line) < limit else line[: limit - 3] + b"\r\n"


def _text_of(data: bytes) -> str:
    """Return what was printed and the texts of frames, each as lines. The client's reports of errors are left out."""
    pieces = []
    while data:
        printed, frame, rest = data.partition(FRAME)
        pieces.append(printed)
        if not frame:
            break
        length = int.from_bytes(rest[1:5], "big")
        kind, text, data = rest[0], rest[HEADER - 3 : HEADER - 3 + length], rest[HEADER - 3 + length :]
        if not (kind in ERROR_TYPES and _is_report(text)):
            pieces.append(text if text.endswith(b"\n") else text + b"\n")
    return b"".join(pieces).decode(errors="backslashreplace")


def _is_report(text: bytes) -> bool:
    if text.startswith(b"[ERROR] "):
        return b"\nTraceback (most recent call last):" in text
    return text.startswith(b"{") and "logger" not in json.loads(text)


def base_environment() -> dict[str, str]:
    """Return those of this process's variables that a client's process needs."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
