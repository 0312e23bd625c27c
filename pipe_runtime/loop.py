"""The runtime itself: says hello, loads the handler, then answers one request after the other.

It ties the modules of this package together. One process, one handler, one request at a time; the init on the other
end decides about time and death.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
from time import monotonic, perf_counter_ns  # now: a function may replace the module's

from . import codec, faults, handler, namespace
from .connection import RUNTIME, Connection, End
from .context import DEFAULT_TIMEOUT_MS, Context
from .errors import Fault, LocalProtocolError, ProtocolError
from .frames import MAX_HEAD
from .logs import Journal, LoggingHook, write_all
from .messages import DUMP, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP, VERSION
from .outbox import Outbox
from .quiet import Quiet
from .stdio import claim
from .usage import Meter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from .frames import Frame

    Outcome = tuple[int, dict[str, Any], bytes]
    """Kind, metadata and payload of a frame that says how it went."""

WINDOW_REQUESTS = 64
WINDOW_BYTES = 1024 * 1024
"""What may wait here unanswered: enough that an answer's way back never leaves the runtime without work."""

KEPT_BYTES = WINDOW_BYTES + WINDOW_REQUESTS * (8 + MAX_HEAD)
"""What the init may have sent of such requests while an answer cannot be written."""

EXIT_STOPPED = 0
EXIT_NOT_LOADED = 1
EXIT_PIPE_LOST = 1
EXIT_USAGE = 2
EXIT_PROTOCOL = 4


def main(baseline: Collection[str]) -> int:
    """Serve until STOP or the end of stdin; returns the exit code.

    baseline: names of the modules that were there before the runtime imported any.
    """
    try:
        runtime = Runtime(baseline)
    except OSError as error:
        _complain(f"stdin and stdout must be pipes: {error.strerror}")
        return EXIT_USAGE
    try:
        return runtime.run()
    except (BrokenPipeError, ConnectionResetError):
        return EXIT_STOPPED  # nobody is there to be answered
    except OSError as error:
        _complain(f"the pipe to pipe-init is lost (did the function close it?): {error.strerror}")
        return EXIT_PIPE_LOST
    except ProtocolError as error:
        if not runtime.last_word({"error_type": "Runtime.ProtocolError", "error_message": str(error)}):
            _complain(str(error))
        return EXIT_PROTOCOL


def leave(code: int) -> None:
    """End the process: what the function registered with atexit runs, its threads are not waited for."""
    try:
        atexit._run_exitfuncs()
    finally:
        os._exit(code & 0xFF)


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except BaseException:  # whatever the function has put there, or closed: nobody is left to be told
        return


def _complain(text: str) -> None:
    try:
        write_all(2, f"pipe_runtime: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # there is no stderr


def _exit_code(error: SystemExit) -> int:
    """What Python would exit with."""
    return error.code if isinstance(error.code, int) else int(error.code is not None)


class Runtime:
    """One conversation with the init, from HELLO to the end."""

    def __init__(self, baseline: Collection[str]) -> None:
        self._baseline = baseline
        self._meter = Meter()
        self._pipes = claim(KEPT_BYTES)
        self._connection = Connection(RUNTIME)
        self._outbox = Outbox(self._connection, self._pipes)
        self._journal = Journal(self._send_log)
        self._quiet = Quiet(self._signal_handled, lambda error: leave(_exit_code(error)))
        self._current = 0
        self._cold = True
        self._forked = False
        self._pid = os.getpid()
        self._handler_name = ""
        self._handler: Callable[[Any, Any], Any]
        self._function: dict[str, Any] = {}
        self._dump_fd = -1
        self._dump_signal = 0
        atexit.register(self._last_lines)  # the first to register is the last to run

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
        kind, metadata, _ = self._quiet.call(self._configure, hello.metadata, self._problem)
        self._journal.flush()
        if kind == ERROR:
            self.last_word(metadata)
            return EXIT_NOT_LOADED
        self._outbox.post(kind, 0, metadata)
        return self._serve()

    def last_word(self, problem: dict[str, Any]) -> bool:
        """ERROR with id 0. False: nobody listens any more, or HELLO was not said yet."""
        try:
            self._outbox.post(ERROR, 0, problem)
        except (BrokenPipeError, LocalProtocolError):
            return False
        return True

    def _serve(self) -> int:
        while True:
            frame = self._next()
            if frame is not None and frame.kind == INVOKE:
                self._answer(frame)
            elif frame is None or frame.kind == STOP:
                self._journal.flush()
                return EXIT_STOPPED
            elif frame.kind == DUMP:
                self._outbox.post(DUMP, metadata={"stacks": []})  # nothing runs, or this would not be read

    def _next(self) -> Frame | None:
        """The next frame, None at the end of the stream. CANCEL never comes: what it names is answered by then."""
        connection = self._connection
        event = connection.next_event()
        while event is None:
            event = connection.receive_event(self._quiet.wait(self._pipes.read))
        return None if isinstance(event, End) else event

    def _answer(self, frame: Frame) -> None:
        request = frame.metadata
        self._current = frame.id
        self._journal.request_id = request["request_id"]
        if self._cold:
            codec.warm_up(request["content_type"], request["accept"])
            self._cold = False
        self._meter.start()
        kind, metadata, payload = self._quiet.call(self._call, frame, self._problem)
        self._leave_if_forked(None)  # in the handler, or in code of the event's or the result's
        measured = self._meter.read()
        self._journal.flush()
        self._current, self._journal.request_id = 0, ""
        metadata.update(measured)
        try:
            self._outbox.post(kind, frame.id, metadata, payload, kind == RESULT)
        except LocalProtocolError as error:
            too_large = {
                "error_type": "Function.ResponseSizeTooLarge",
                "error_message": f"The result is too large: {error}",
            }
            self._outbox.post(ERROR, frame.id, {**too_large, **measured})
        except MemoryError as error:  # making the frame copies the result
            self._outbox.post(ERROR, frame.id, {**faults.describe(error), **measured})

    def _problem(self, error: BaseException) -> Outcome:
        self._leave_if_forked(error)
        return ERROR, faults.describe(error), b""

    def _call(self, frame: Frame) -> Outcome:
        request = frame.metadata
        deadline = monotonic() + request.get("timeout_ms", DEFAULT_TIMEOUT_MS) / 1000
        context = Context(request, self._function, self._handler_name, deadline, self._log)
        payload, frame.payload = frame.payload, b""  # the handler need not hold the event twice
        event = codec.decode_event(payload, request["content_type"])
        del payload
        value = self._handler(event, context)
        content_type, result = codec.encode_result(value, request["accept"])
        return RESULT, {"content_type": content_type}, result

    def _configure(self, hello: dict[str, Any]) -> Outcome:
        """Become what HELLO asks for: environment, folder, path, standard streams; then load the handler."""
        start = perf_counter_ns()
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
        self._leave_if_forked(None)
        init_us = max(0, perf_counter_ns() - start) // 1000
        return READY, {"init_us": init_us, "peak_memory_bytes": self._meter.peak_memory()}, b""

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
        if self._forked:
            return  # a fork of a fork: those numbers may be the function's own descriptors by now
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
        if not self._forked and os.getpid() == self._pid:
            return
        self._after_fork()  # a fork below Python runs no hooks
        code = 0
        try:
            if isinstance(error, SystemExit):
                code = _exit_code(error)
            elif error is not None:
                code = 1
                sys.excepthook(type(error), error, error.__traceback__)
            self._last_lines()
        finally:
            os._exit(code & 0xFF)

    def _last_lines(self) -> None:
        """What the function has printed, and not flushed, would be lost with the process."""
        _flush(sys.stdout)
        _flush(sys.stderr)
        _flush(self._journal)

    def _signal_handled(self, error: BaseException | None) -> None:
        """A signal handler of the function's has run between requests, and has raised `error`."""
        self._leave_if_forked(error)
        if error is not None and not isinstance(error, SystemExit):
            text = f"pipe_runtime: a signal handler raised {faults.type_name(error)} between requests"
            self._log(f"{text}: {faults.message_of(error)}")

    def _send_log(self, stream: str, level: str, text: bytes, continues: bool) -> None:
        if os.getpid() != self._pid:  # a fork below Python, which has run no hooks
            self._after_fork()
            write_all(2, text if continues else text + b"\n")
            return
        metadata: dict[str, Any] = {"stream": stream}
        if level:
            metadata["level"] = level
        if continues:
            metadata["continues"] = True
        try:
            self._outbox.post(LOG, self._current, metadata, text)
        except LocalProtocolError:  # the request's outcome has overtaken this thread, or nothing follows the last word
            try:
                self._outbox.post(LOG, 0, metadata, text)
            except LocalProtocolError:
                write_all(2, text if continues else text + b"\n")

    def _log(self, message: str) -> None:
        self._journal.record("log", "", str(message).rstrip("\n").encode("utf-8", "backslashreplace"))
