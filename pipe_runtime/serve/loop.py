"""The runtime itself: says hello, loads the handler, then answers one request after the other.

It ties the modules of this package together. One process, one handler; plain functions, one request at a time, are
served right here. An engine (threads.py, tasks.py) serves several at once or in an event loop, an exchange what is more
than one payload. The init on the other end decides about time and death.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
from _signal import SIGTERM, SIGXCPU
from os import _exit, getpid, kill  # now: a function may replace the module's
from time import monotonic, perf_counter_ns, tzset  # now: a function may replace the module's

from .. import namespace, run_hooks
from ..call import codec, faults
from ..call.context import DEFAULT_TIMEOUT_MS, Context
from ..call.usage import Meter, has_cpu_limit, limit_itself
from ..io.outbox import Outbox
from ..io.signal_guard import SignalGuard
from ..io.stdio import claim, write_all
from ..load import handler
from ..log.writer import NAME, NOBODY, LoggingHook, LogWriter, Tag, log_settings
from ..wire.connection import MAX_CONCURRENCY, RUNTIME, STREAM_BYTES, Connection
from ..wire.errors import Fault, LocalProtocolError, ProtocolError
from ..wire.frames import LARGEST_PAYLOAD, MAX_HEAD, Frame
from ..wire.messages import DUMP, END, ERROR, HELLO, INVOKE, LOG, MEASURED, READY, RESULT, STOP, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from ..io.stdio import Pipes
    from ..template.control import Template
    from .service import Service

    Outcome = tuple[int, dict[str, Any], bytes]
    """Kind, metadata and payload of a frame that says how it went."""

WINDOW_REQUESTS = 64
WINDOW_BYTES = 1024 * 1024
"""What may wait here unanswered: enough that an answer's way back never leaves the runtime without work."""

KEPT_BYTES = WINDOW_BYTES + WINDOW_REQUESTS * (8 + MAX_HEAD)
"""What the init may have sent of such requests while an answer cannot be written."""

KEPT_BYTES_OF_ONE = 8 + MAX_HEAD + 2 * STREAM_BYTES
"""The same for each request that may be streamed; small pieces are half frame."""

_TRACE = "_X_AMZN_TRACE_ID"
_FOR_THE_LOOP = (HELLO, STOP, DUMP)
_WHOLE = frozenset((dict, list, str, int, float, bool, type(None), bytes, tuple))
_IN_PIECES = ("__next__", "__anext__", "__await__")
_PLAIN_SETTINGS = (("type", "auto"), ("concurrency", 1), ("initializer", ""), ("pre_stop", ""), ("pre_freeze", ""))
"""HELLO's fields, and the values with which the loop serves a plain function by itself."""

EXIT_STOPPED = 0
EXIT_HOOK_FAILED = 1
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
        code = runtime.run()
    except SystemExit as error:
        if not runtime.guard.terminated:
            raise
        code = _exit_code(error)
    except OSError as error:
        return _pipe_lost(error)
    except ProtocolError as error:
        if not runtime.last_word({"error_type": "Runtime.ProtocolError", "error_message": str(error)}):
            _complain(str(error))
        return EXIT_PROTOCOL
    except Fault as fault:  # a template's
        runtime.last_word(faults.describe(fault))
        return EXIT_NOT_LOADED
    if runtime.guard.terminated:
        leave(code, terminated=True)
    return code


def _pipe_lost(error: OSError) -> int:
    """The exit code where the pipe to the init is of no more use."""
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return EXIT_STOPPED  # the init is gone, and so is whoever waits for answers
    _complain(f"the pipe to pipe-init is lost (did the function close it?): {error.strerror}")
    return EXIT_PIPE_LOST


def leave(code: int, terminated: bool = False) -> None:
    """End the process: what the function registered with atexit runs, its threads are not waited for.

    Args:
        code: The exit code.
        terminated: Die of SIGTERM instead, which was sent.
    """
    try:
        atexit._run_exitfuncs()
    finally:
        if terminated:
            kill(getpid(), SIGTERM)  # its handler has put the default back
        _exit(code & 0xFF)


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except BaseException:  # the function may have replaced or closed it, and it is too late to report that
        return


def _complain(text: str) -> None:
    try:
        write_all(2, f"pipe_runtime: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # there is no stderr


def _measured(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: metadata[name] for name in MEASURED if name in metadata}


def _exit_code(error: SystemExit) -> int:
    """What Python would exit with."""
    return error.code if isinstance(error.code, int) else int(error.code is not None)


class Runtime:
    """One conversation with the init, from HELLO to the end.

    queue: frames that were read while a function waited for something else; None: the stream has ended.
    plain: whether the loop serves the function itself; then `handler` is to be called. found: what its name stands for.
    multiplying: whether a fork is a template's, not the function's.
    dump_fd: where stacks go. control_fd: where a template is asked for workers. -1: there is none.
    """

    def __init__(self, baseline: Collection[str]) -> None:
        self._baseline = baseline
        self._meter = Meter()
        self.pipes = claim(KEPT_BYTES)
        self.connection = Connection(RUNTIME)
        self.outbox = Outbox(self.connection.send, self.pipes.write)
        self.log = LogWriter(self._send_log, self.outbox.lock)
        self.guard = SignalGuard(self._signal_handled, lambda error: leave(_exit_code(error)))
        self.queue: list[Frame | None] = []
        self._service: Service | None = None
        self.plain = True
        self._cold = True
        self._forked = False
        self._pid = getpid()
        self._handler_name = ""
        self.handler: Callable[[Any, Any], Any]
        self.found: Callable[..., object]
        self.code_dir = ""
        self._begun = 0
        self._function: dict[str, Any] = {}
        self.platform = ""
        self._tells_trace = self._trace_is_set = False  # in a variable, as on Lambda
        self.multiplying = False
        self._template: Template | None = None
        self.dump_fd = self.control_fd = -1
        self._dump_signal = 0
        atexit.register(self.last_lines)  # the first to register is the last to run

    def run(self) -> int:
        """The whole conversation. ProtocolError, BrokenPipeError: as they say."""
        hello = self.next()
        if hello is None:
            return EXIT_STOPPED  # an init that changed its mind
        self._greet(hello.metadata)
        prepare = self._configure
        if "template" in hello.metadata:
            # Kept: were it let go of, its socket would be closed before this process has said how it ends.
            template = self._template = namespace.own("template.control").Template(self)
            if not self._announce(template.load, hello.metadata):
                return EXIT_NOT_LOADED
            hello = template.serve()
            if hello is None:
                return EXIT_STOPPED  # or it is a worker that is not wanted any more
            self._greet(hello.metadata)
            prepare = template.become_ready
        if not self._announce(prepare, hello.metadata):
            return EXIT_NOT_LOADED
        self._run_requests()
        return EXIT_STOPPED if self._service is None else self._stop(self._service)

    def _run_requests(self) -> None:
        """Serve requests until the init says STOP, or sends SIGTERM."""
        try:
            if self._service is None or self._service.engine is None:
                self._serve()
            elif self._service.on_event_loop:
                while self.guard.call(self._run_engine, self._service, self._engine_broken_off)[0] != STOP:
                    continue
                if self._service.failure is not None:
                    raise self._service.failure
            else:
                self._service.engine.serve()
        except SystemExit:
            if not self.guard.terminated:
                raise

    def _greet(self, hello: dict[str, Any]) -> None:
        """Answer the init's HELLO."""
        window = max(WINDOW_REQUESTS, min(hello.get("concurrency", 1), MAX_CONCURRENCY))
        self.pipes.limit = WINDOW_BYTES + window * KEPT_BYTES_OF_ONE
        self.outbox.post(
            HELLO,
            metadata={
                "versions": [VERSION],
                "software": "pipe_runtime CPython {}.{}.{}".format(*sys.version_info),
                "capabilities": ["dump-signal", "template"],
                "window_requests": window,
                "window_bytes": WINDOW_BYTES,
                "stream_bytes": STREAM_BYTES,
            },
        )

    def _announce(self, prepare: Callable[[dict[str, Any]], Outcome], hello: dict[str, Any]) -> bool:
        """prepare(hello), and say READY. False: it has failed, and that is said."""
        kind, metadata, _ = self.guard.call(prepare, hello, self.problem)
        self.log.flush()
        if self.guard.terminated:
            return False
        if kind == ERROR:
            self.last_word(metadata)
            return False
        self.outbox.post(kind, 0, metadata)
        return True

    def last_word(self, problem: dict[str, Any]) -> bool:
        """Send ERROR with id 0. Return False if the init does not read any more, or HELLO was not sent yet."""
        try:
            self.outbox.post(ERROR, 0, problem)
        except (BrokenPipeError, LocalProtocolError):
            return False
        return True

    def _serve(self) -> None:
        while not self.guard.terminated:
            frame = self.next()
            if frame is not None and frame.kind == INVOKE:
                self.answer(frame)
            elif frame is None or frame.kind == STOP:
                self.log.flush()
                return
            elif frame.kind == DUMP:
                self.outbox.post(DUMP, metadata={"stacks": []})  # nothing runs, or this would not be read

    def next(self) -> Frame | None:
        """The next frame for the loop itself, None at the end of the stream."""
        while True:
            if self.queue:
                return self.queue.pop(0)
            if self._service is not None:
                self._receive(self._service)
                continue
            event = self.connection.next_frame() or self.connection.receive_frame(self.guard.wait(self.pipes.read))
            if isinstance(event, Frame):
                if event.kind == INVOKE:
                    if "stream" not in event.metadata:
                        return event
                elif event.kind in _FOR_THE_LOOP:
                    return event
                self.service().hear(event)
            elif event is not None:
                return None

    def _receive(self, service: Service) -> None:
        """Hear the next frame, if it is there, or read once."""
        with service.reader.lock:  # a thread that the function has left behind may still wait for its body, and hear
            if self.queue:
                return
            with self.outbox.lock:
                event = self.connection.next_frame()
            if event is None:
                data = self.guard.wait(self.pipes.read)
                with self.outbox.lock:
                    event = self.connection.receive_frame(data)
            if event is not None:
                service.hear(event if isinstance(event, Frame) else None)

    def service(self) -> Service:
        """What serves what the loop does not."""
        if self._service is None:
            service: Service = namespace.own("serve.service").Service(self)
            self._service = service
        return self._service

    # A request

    def answer(self, frame: Frame) -> None:
        """Answer an INVOKE in this thread."""
        request = frame.metadata
        self.log.current = Tag(frame.id, request["request_id"], request.get("tenant_id", ""))
        if self._cold:
            codec.warm_up(request["content_type"], request["accept"])
            self._cold = False
        self._meter.start()
        kind, metadata, payload = self.guard.call(self._call, frame, self.problem)
        self.leave_if_forked(None)  # in the handler, or in code of the event's or the result's
        if self.guard.terminated:
            self.log.flush()
            self.log.current = NOBODY
            return  # the init does not wait for an outcome
        measured = self._meter.read()
        self.log.flush()
        self.log.current = NOBODY
        if self._service is not None:
            self._service.settle(frame.id)
        metadata.update(measured)
        self.conclude(kind, frame.id, metadata, payload)

    def conclude(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes) -> None:
        """Send a request's outcome; where that is impossible, the error that says why."""
        if self.connection.answer_begun(id):
            kind = END
        try:
            self.outbox.post(kind, id, metadata, payload, kind == RESULT and "http" not in metadata)
        except LocalProtocolError as error:
            too_large = {
                "error_type": "Function.ResponseSizeTooLarge",
                "error_message": f"The result is too large: {error}",
            }
            self.outbox.post(END if kind == END else ERROR, id, {**_measured(metadata), **too_large})
        except MemoryError as error:  # making the frame copies the result
            self.outbox.post(END if kind == END else ERROR, id, {**_measured(metadata), **faults.describe(error)})

    def problem(self, error: BaseException) -> Outcome:
        """The outcome of a request that has raised `error`."""
        self.leave_if_forked(error)
        return ERROR, faults.describe(error), b""

    def context(self, request: dict[str, Any], cancelled: Callable[[], bool] | bool = False) -> Context:
        """What the handler gets for a request, INVOKE's metadata. Its time runs from now on."""
        if self._tells_trace and (self._trace_is_set or "trace" in request):
            self._trace_is_set = namespace.own("call.platforms").set_trace(request.get("trace"))
        deadline = monotonic() + request.get("timeout_ms", DEFAULT_TIMEOUT_MS) / 1000
        return Context(request, self._function, self._handler_name, deadline, self.log.write, cancelled)

    def peak_memory(self) -> int:
        """Of this process, in bytes."""
        return self._meter.peak_memory()

    def _call(self, frame: Frame) -> Outcome:
        request = frame.metadata
        if self._service is not None:
            self._service.refuse_cancelled(frame.id)
        if not self.plain or "stream" in request or "http" in request or "phase" in request:
            return self.service().perform(frame)
        context = self.context(request)
        payload, frame.payload = frame.payload, b""  # the handler need not hold the event twice
        event = codec.decode_event(payload, request["content_type"])
        del payload
        value = self.handler(event, context)
        if type(value) not in _WHOLE and any(hasattr(type(value), name) for name in _IN_PIECES):
            return self.service().perform_rest(frame, value)
        content_type, result = codec.encode_result(value, request["accept"])
        if len(result) > LARGEST_PAYLOAD:
            del event, value
            return self.service().perform_large(frame, content_type, result)
        return RESULT, {"content_type": content_type}, result

    # Before the first request, and after the last one

    def _configure(self, hello: dict[str, Any]) -> Outcome:
        """Become what HELLO asks for."""
        self.load(hello)
        return self.become_ready(hello)

    def load(self, hello: dict[str, Any]) -> None:
        """What a template does for its workers: environment, folder, path, standard streams; then load the handler."""
        self._begun = perf_counter_ns()
        self._dump_to(hello.get("dump_fd", -1), hello.get("dump_signal", 0))
        os.register_at_fork(after_in_child=self._after_fork)
        self._set_variables(hello)
        self.log.open_streams()
        self.log.configure(*log_settings(hello, os.environ))
        LoggingHook(self.log).install()
        codec.write_bytes_as(hello.get("bytes"))
        self._function = hello.get("function", {})
        self._handler_name = hello.get("handler", "")
        code_dir = self.code_dir = os.path.abspath(hello.get("code_dir", "."))
        try:
            os.chdir(code_dir)
        except OSError as error:
            raise Fault(
                "Runtime.ImportModuleError",
                f"Unable to enter the code directory {code_dir}: {error.strerror}",
            ) from None
        namespace.prepare(code_dir, hello.get("layers", []), self._baseline, self._handler_name)
        self.found = handler.find(self._handler_name, code_dir)
        plain = all(hello.get(field, value) == value for field, value in _PLAIN_SETTINGS)
        self.plain = plain and handler.is_plain(self.found) and "snapshot_restore_py" not in sys.modules
        if self.plain:
            self.handler = handler.adapt(self.found)

    def _set_variables(self, hello: dict[str, Any]) -> None:
        """Set the variables of HELLO, and those of the platform whose values only the runtime knows."""
        variables = hello.get("environment", {})
        os.environ.update(variables)
        if "TZ" in variables:
            tzset()
        self.platform = hello.get("platform", "")
        if self.platform == "lambda":
            if not os.environ.get("AWS_EXECUTION_ENV"):
                os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python{}.{}".format(*sys.version_info)
            self._tells_trace = hello.get("concurrency", 1) <= 1 and _TRACE not in os.environ

    def become_ready(self, hello: dict[str, Any]) -> Outcome:
        """What each worker does for itself; then the function can be called."""
        self.pipes.spin(hello.get("spin_us", 0))
        if hello.get("rehearse"):
            namespace.own("template.rehearsal").rehearse(self)
        limit_itself(hello.get("cpu_seconds"), hello.get("open_files"))
        if "cpu_seconds" in hello:
            self._dump_at_cpu_limit()
        run_hooks()
        if not self.plain:
            self.service().configure(self.found, hello, self.code_dir)
        return self.ready(self._service)

    def ready(self, service: Service | None = None) -> Outcome:
        """READY, unless this is a child that the function has forked."""
        self.leave_if_forked(None)
        ready = {} if service is None else service.ready()
        ready["init_us"] = max(0, perf_counter_ns() - self._begun) // 1000
        ready["peak_memory_bytes"] = self._meter.peak_memory()
        return READY, ready, b""

    def restart(self, pipes: Pipes) -> None:
        """In a forked worker: what this process has done so far was the template's; another conversation begins."""
        self._begun = perf_counter_ns()
        self._pid = getpid()
        self._meter = Meter()
        self.pipes = pipes
        self.connection = Connection(RUNTIME)
        self.outbox = Outbox(self.connection.send, pipes.write)  # with a lock that no thread of the template's holds
        self.log.restart(self.outbox.lock)

    def stand_in(self, pipes: Pipes, handler: Callable[[Any, Any], Any]) -> Runtime:
        """Another runtime in this process, for a plain handler, with a conversation of its own."""
        other = object.__new__(Runtime)
        vars(other).update(vars(self), queue=[], handler=handler, plain=True, log=LogWriter(other._send_log))
        other._service, other._tells_trace = None, False
        other.restart(pipes)
        return other

    def _run_engine(self, service: Service) -> Outcome:
        assert service.engine is not None
        if not self.guard.terminated:
            service.engine.serve()
        return STOP, {}, b""

    def _engine_broken_off(self, error: BaseException) -> Outcome:
        assert self._service is not None
        if self.guard.terminated:
            self._service.engine.end_serving()  # type: ignore[union-attr]  # as below
            return STOP, {}, b""
        self._service.engine.broken_off(error)  # type: ignore[union-attr]  # it is the one with an event loop
        return ERROR, {}, b""

    def _stop(self, service: Service) -> int:
        """The hooks of the end; returns the exit code."""
        kind, _, _ = self.guard.call(self._run_stop, service, self._failed_at_its_end)
        self.log.flush()
        return EXIT_HOOK_FAILED if kind == ERROR else EXIT_STOPPED

    def _failed_at_its_end(self, error: BaseException) -> Outcome:
        self.leave_if_forked(error)
        self.log.flush()
        self.log.write("pipe_runtime: the function failed at its end: " + faults.in_words(error), NOBODY)
        return ERROR, {}, b""

    def _run_stop(self, service: Service) -> Outcome:
        service.stop()
        self.leave_if_forked(None)
        return STOP, {}, b""

    def abandon(self, error: OSError) -> None:
        """From a thread or task: an outcome cannot be written. As in main()."""
        leave(_pipe_lost(error))

    def report(self, what: str, error: BaseException, when: str = "", tag: Tag = NOBODY) -> None:
        """Log an exception of the function's code that no outcome reports.

        Args:
            what: The code that raised it.
            error: What it raised.
            when: A phrase that says when.
            tag: The request that it belongs to, if any.
        """
        self.leave_if_forked(error)
        name, _, rest = faults.in_words(error).partition(":")
        self.log.write(f"pipe_runtime: {what} raised {name}{when}:{rest}", tag)

    def _dump_to(self, descriptor: int, signal: int) -> None:
        """Have the stacks written to `descriptor` on `signal` and on a crash, even if the interpreter is stuck."""
        if descriptor < 0:
            return
        os.set_inheritable(descriptor, False)
        self.dump_fd, self._dump_signal = descriptor, signal
        faulthandler.enable(file=descriptor, all_threads=False)
        if signal:
            faulthandler.register(signal, file=descriptor, all_threads=True)
        if has_cpu_limit():
            self._dump_at_cpu_limit()

    def _dump_at_cpu_limit(self) -> None:
        """Have the stacks written before the signal ends the process."""
        if self.dump_fd >= 0:
            faulthandler.register(SIGXCPU, file=self.dump_fd, all_threads=True, chain=True)

    def _after_fork(self) -> None:
        """In a child that the function forked: let go of everything that speaks for this process."""
        if self._forked or self.multiplying:
            return  # a fork of a fork: those numbers may be the function's own descriptors by now
        self._forked = True
        self.guard.after_fork()
        self.outbox.after_fork()
        self.log.after_fork()
        self.pipes.close()
        if self._service is not None:
            self._service.after_fork()
        if self.dump_fd >= 0:
            faulthandler.disable()
            if self._dump_signal:
                faulthandler.unregister(self._dump_signal)
            faulthandler.unregister(SIGXCPU)
            os.close(self.dump_fd)
        if self.control_fd >= 0:
            os.close(self.control_fd)

    def leave_if_forked(self, error: BaseException | None) -> None:
        """A child that the function forked must not come back from the handler as a second runtime."""
        if not self._forked and getpid() == self._pid:
            return
        self._after_fork()  # a fork below Python runs no hooks
        code = 0
        try:
            if isinstance(error, SystemExit):
                code = _exit_code(error)
            elif error is not None:
                code = 1
                shown = error.__traceback__
                while shown is not None and namespace.is_own(shown.tb_frame):
                    shown = shown.tb_next
                sys.excepthook(type(error), BaseException.with_traceback(error, shown), shown)
            self.last_lines()
        finally:
            _exit(code & 0xFF)

    def last_lines(self) -> None:
        """What the function has printed, and not flushed, would be lost with the process."""
        _flush(sys.stdout)
        _flush(sys.stderr)
        _flush(self.log)

    def _signal_handled(self, error: BaseException | None) -> None:
        """A signal handler of the function's has run between requests, and has raised `error`."""
        self.leave_if_forked(error)
        if error is not None and not isinstance(error, SystemExit):
            self.report("a signal handler", error, " between requests")

    def _send_log(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        if getpid() != self._pid:  # a fork below Python, which has run no hooks
            self._after_fork()
            write_all(2, text if "continues" in metadata else text + b"\n")
            return
        try:
            self.outbox.post(LOG, tag.id, metadata, text)
        except LocalProtocolError:  # the request's outcome has overtaken this thread, or nothing follows the last word
            try:
                self.outbox.post(LOG, 0, {**metadata, "request_id": tag.request_id[:NAME]}, text)
            except LocalProtocolError:
                write_all(2, text if "continues" in metadata else text + b"\n")
