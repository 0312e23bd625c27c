"""The runtime itself: says hello, loads the handler, then answers one request after the other.

It ties the modules of this package together and knows no operating system. One process, one handler, one request at a
time; the init on the other end decides about time and death.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import time

from . import codec, faults, handler, namespace
from .connection import RUNTIME, Connection, End
from .context import Context
from .errors import Fault, LocalProtocolError, ProtocolError
from .logs import Journal, LoggingHook
from .messages import DUMP, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP, VERSION
from .outbox import Outbox, Quiet
from .stdio import claim
from .usage import peak_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from .frames import Frame

WINDOW_REQUESTS = 64
WINDOW_BYTES = 1024 * 1024
"""What may wait here unanswered: enough that an answer's way back never leaves the runtime without work."""

EXIT_STOPPED = 0
EXIT_NOT_LOADED = 1
EXIT_PROTOCOL = 4


def main(baseline: Collection[str]) -> int:
    """Serve until STOP or the end of stdin; returns the exit code.

    baseline: names of the modules that were there before the runtime imported any.
    """
    try:
        runtime = Runtime(baseline)
    except OSError as error:
        os.write(2, f"pipe_runtime: stdin and stdout must be pipes: {error.strerror}\n".encode())
        return 2
    try:
        return runtime.run()
    except BrokenPipeError:
        return EXIT_STOPPED  # nobody is there to be answered
    except ProtocolError as error:
        runtime.last_word({"error_type": "Runtime.ProtocolError", "error_message": str(error)})
        return EXIT_PROTOCOL


def leave(code: int) -> None:
    """End the process: what the function registered with atexit runs, its threads are not waited for."""
    try:
        atexit._run_exitfuncs()
    finally:
        os._exit(code)


class Runtime:
    """One conversation with the init, from HELLO to the end."""

    def __init__(self, baseline: Collection[str]) -> None:
        self._baseline = baseline
        self._pipes = claim()
        self._connection = Connection(RUNTIME)
        self._outbox = Outbox(self._connection, self._pipes)
        self._journal = Journal(self._send_log)
        self._quiet = Quiet()
        self._current = 0
        self._forked = False
        self._ended = False
        self._handler_name = ""
        self._handler: Callable[[Any, Any], Any]
        self._function: dict[str, Any] = {}
        self._dump_fd = -1
        self._dump_signal = 0
        self._pipes.room = self._room
        self._pipes.arrived = self._arrived

    def run(self) -> int:
        """The whole conversation. ProtocolError, BrokenPipeError: as they say."""
        hello = self._next()
        if hello is None:
            return EXIT_STOPPED  # an init that changed its mind
        self._outbox.post(
            HELLO,
            metadata={
                "versions": [VERSION],
                "software": "pipe_runtime CPython {}.{}.{}".format(*sys.version_info),
                "capabilities": ["dump-signal"],
                "window_requests": WINDOW_REQUESTS,
                "window_bytes": WINDOW_BYTES,
            },
        )
        start = time.perf_counter_ns()
        try:
            self._configure(hello.metadata)
        except BaseException as error:  # whatever the function's module raises, SystemExit too, is the answer
            self._leave_if_forked(error)
            self._journal.flush()
            self.last_word(faults.describe(error))
            return EXIT_NOT_LOADED
        self._leave_if_forked(None)
        self._journal.flush()
        init_us = (time.perf_counter_ns() - start) // 1000
        self._outbox.post(READY, metadata={"init_us": init_us, "peak_memory_bytes": peak_memory()})
        return self._serve()

    def last_word(self, problem: dict[str, Any]) -> None:
        """ERROR with id 0, if anybody still listens."""
        try:
            self._outbox.post(ERROR, 0, problem)
        except (BrokenPipeError, LocalProtocolError):
            return

    def _serve(self) -> int:
        while True:
            frame = self._next()
            if frame is None or frame.kind == STOP:
                self._journal.flush()
                return EXIT_STOPPED
            if frame.kind == INVOKE:
                self._answer(frame)
            elif frame.kind == DUMP:
                self._outbox.post(DUMP, metadata={"stacks": []})  # nothing runs, or this would not be read

    def _next(self) -> Frame | None:
        """The next frame, None at the end of the stream. CANCEL never comes: what it names is answered by then."""
        while True:
            event = self._connection.next_event()
            if event is None:
                try:
                    self._connection.receive(self._pipes.read())
                except KeyboardInterrupt:
                    continue  # a SIGINT between requests belongs to none of them
            elif isinstance(event, End):
                self._ended = True
                return None
            else:
                return event

    def _answer(self, frame: Frame) -> None:
        request = frame.metadata
        self._current = frame.id
        self._journal.request_id = request["request_id"]
        started, cpu = time.perf_counter_ns(), time.process_time_ns()
        kind, metadata, payload = self._outcome(frame)
        metadata["duration_us"] = (time.perf_counter_ns() - started) // 1000
        metadata["cpu_us"] = (time.process_time_ns() - cpu) // 1000
        metadata["peak_memory_bytes"] = peak_memory()
        self._journal.flush()
        self._current = 0
        try:
            self._outbox.post(kind, frame.id, metadata, payload)
        except LocalProtocolError as error:
            too_large = {
                "error_type": "Function.ResponseSizeTooLarge",
                "error_message": f"The result is too large: {error}",
            }
            self._outbox.post(ERROR, frame.id, too_large)

    def _outcome(self, frame: Frame) -> tuple[int, dict[str, Any], bytes]:
        """Call the handler: (kind, metadata, payload) of RESULT or ERROR, whatever it does short of dying."""
        outcome: tuple[int, dict[str, Any], bytes] | None = None
        while True:
            try:
                if outcome is None:
                    outcome = self._call(frame)
                self._quiet.begin()
                return outcome
            except BaseException as error:  # a signal handler of the function's may raise anywhere until it is quiet
                self._leave_if_forked(error)
                if outcome is None:
                    outcome = ERROR, faults.describe(error), b""

    def _call(self, frame: Frame) -> tuple[int, dict[str, Any], bytes]:
        request = frame.metadata
        deadline = time.monotonic() + request.get("timeout_ms", 60_000) / 1000
        context = Context(request, self._function, self._handler_name, deadline, self._log)
        self._quiet.end()
        payload, frame.payload = frame.payload, b""  # the handler need not hold the event twice
        event = codec.decode_event(payload, request["content_type"])
        del payload
        value = self._handler(event, context)
        self._leave_if_forked(None)
        content_type, result = codec.encode_result(value, request["accept"])
        return RESULT, {"content_type": content_type}, result

    def _configure(self, hello: dict[str, Any]) -> None:
        """Become what HELLO asks for: environment, folder, path, standard streams; then load the handler."""
        self._pipes.spin(hello.get("spin_us", 0))
        self._dump_to(hello.get("dump_fd", -1), hello.get("dump_signal", 0))
        os.register_at_fork(after_in_child=self._after_fork)
        self._journal.open_streams()
        LoggingHook(self._journal).install()
        os.environ.update(hello.get("environment", {}))
        self._function = hello.get("function", {})
        self._handler_name = hello.get("handler", "")
        code_dir = os.path.abspath(hello.get("code_dir", "."))
        try:
            os.chdir(code_dir)
        except OSError as error:
            raise Fault(
                "Runtime.ImportModuleError",
                f"Unable to enter the code directory {code_dir}: {error.strerror}",
            ) from None
        namespace.prepare(code_dir, hello.get("layers", []), self._baseline, self._handler_name)
        self._handler = handler.load(self._handler_name, code_dir)

    def _dump_to(self, descriptor: int, signal: int) -> None:
        """Have the stacks written to `descriptor` on `signal` and on a crash, even if the interpreter is stuck."""
        if descriptor < 0:
            return
        os.set_inheritable(descriptor, False)
        self._dump_fd, self._dump_signal = descriptor, signal
        faulthandler.enable(file=descriptor, all_threads=False)
        if signal:
            faulthandler.register(signal, file=descriptor, all_threads=True)

    def _after_fork(self) -> None:
        """In a child that the function forked: let go of everything that speaks for this process."""
        self._forked = True
        self._journal.after_fork()
        self._pipes.close()
        if self._dump_fd >= 0:
            faulthandler.disable()
            if self._dump_signal:
                faulthandler.unregister(self._dump_signal)
            os.close(self._dump_fd)

    def _leave_if_forked(self, error: BaseException | None) -> None:
        """A child that the function forked must not come back from the handler as a second runtime."""
        if not self._forked:
            return
        code = 0
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
        os._exit(code & 0xFF)

    def _send_log(self, stream: str, level: str, text: bytes) -> None:
        metadata = {"stream": stream, "level": level} if level else {"stream": stream}
        self._outbox.post(LOG, self._current, metadata, text)

    def _log(self, message: str) -> None:
        self._journal.record("log", "", str(message).rstrip("\n").encode("utf-8", "backslashreplace"))

    def _room(self) -> bool:
        return not self._ended and self._connection.buffered < WINDOW_BYTES

    def _arrived(self, data: bytes) -> None:
        if not data:
            self._ended = True
        self._connection.receive(data)
