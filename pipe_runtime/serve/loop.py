"""Read requests and answer them, one after another. A request to a plain function takes these steps:

    next_frame -> answer -> decode the event -> call the function -> encode the result -> Process.conclude

A request that needs more than a plain call goes through an exchange (inline.py). For some functions an engine replaces
the loop (threads.py, tasks.py). The loop loads these modules only when it needs them. The init enforces the time
limits, and decides when the worker ends.
"""

from __future__ import annotations

import sys
from os import getpid  # these names are imported now, because the function may replace the modules' attributes
from time import perf_counter_ns, process_time_ns

from .. import namespace, run_hooks
from ..call import codec, faults
from ..call.context import Context
from ..limits import limit_itself, reserve, take_reserve
from ..log.writer import NO_REQUEST, Tag
from ..wire.connection import STREAM_BYTES
from ..wire.frames import LARGEST_PAYLOAD, Frame
from ..wire.messages import DUMP, ERROR, HELLO, INVOKE, READY, RESULT, STOP, VERSION
from .function import Function
from .hello import Configuration
from .process import KEPT_BYTES_OF_ONE, WINDOW_BYTES, WINDOW_REQUESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .concurrent_engine import Engine
    from .inline import InlineRequests
    from .invoker import Invoker
    from .process import Conversation, Outcome, Process

_FOR_THE_LOOP = (HELLO, STOP, DUMP)
_WHOLE = frozenset((dict, list, str, int, float, bool, type(None), bytes, tuple))
_IN_PIECES = ("__next__", "__anext__", "__await__")


class Loop:
    """Hold one conversation with the init: answer HELLO, load the function, send READY, serve requests, and stop.

    Attributes:
        function: The loaded function; not set before `load` has run.
    """

    function: Function

    def __init__(self, process: Process) -> None:
        self.process = process
        # Frames for the loop that were read while the function waited for its own. None is the end of the stream.
        self._queue: list[Frame | None] = []
        self._invoker: Invoker | None = None
        self._inline: InlineRequests | None = None
        self._engine: Engine | None = None
        self._begun = 0

    # Requests

    def serve(self) -> None:
        """Serve requests until STOP, the end of the stream, or SIGTERM."""
        try:
            if self._engine is not None:
                self._engine.serve()
            else:
                self._serve_plain()
        except SystemExit:
            if not self.process.guard.terminated:
                raise

    def _serve_plain(self) -> None:
        process = self.process
        while not process.guard.terminated:
            frame = self.next_frame()
            if frame is not None and frame.kind == INVOKE:
                self.answer(frame)
            elif frame is None or frame.kind == STOP:
                process.log.flush()
                return
            elif frame.kind == DUMP:
                process.outbox.post(DUMP, metadata={"stacks": []})  # no request runs while the loop reads

    def next_frame(self) -> Frame | None:
        """Return the next frame that the loop handles itself; None at the end of the stream."""
        process, guard, connection = self.process, self.process.guard, self.process.connection
        guard.waiting = True  # do what SignalGuard.wait does, without one more call for each request
        try:
            if guard.exit is not None:
                guard.end(guard.exit)
            while True:
                if self._queue:
                    return self._queue.pop(0)
                if self._inline is not None:
                    self._inline.receive()
                    continue
                event = connection.next_frame() if connection.reader.buffered else None
                event = event or connection.next_frame(process.pipes.read())
                if isinstance(event, Frame):
                    if (event.kind == INVOKE and "stream" not in event.metadata) or event.kind in _FOR_THE_LOOP:
                        return event
                    self._requests_in_pieces().hear(event)
                elif event is not None:
                    return None
        finally:
            guard.waiting = False

    def answer(self, frame: Frame) -> None:
        """Answer an INVOKE in this thread."""
        process, request = self.process, frame.metadata
        process.log.current = Tag((frame.id, request["request_id"], request.get("tenant_id", "")))
        if not reserve:  # this is the first request, or memory has run out in an earlier one
            codec.warm_up(request["content_type"], request["accept"])
            take_reserve()
        begun, cpu_begun = perf_counter_ns(), process_time_ns()
        kind, metadata, payload = process.guard.call(self._call, frame, process.problem)
        if process.forked or getpid() != process.pid:
            process.leave_if_forked()  # the handler has forked, or a method of its event or of its result
        terminated = process.guard.terminated
        metadata |= process.meter.read(begun, cpu_begun)
        if process.log.unfinished:
            process.log.flush()
        process.log.current = NO_REQUEST
        if self._inline is not None:
            self._inline.settle(frame.id)
        if not terminated:  # after SIGTERM the worker ends without an outcome
            process.conclude(kind, frame.id, metadata, payload)

    def _call(self, frame: Frame) -> Outcome:
        request, function = frame.metadata, self.function
        if self._inline is not None:
            self._inline.refuse_cancelled(frame.id)
        if not function.is_plain or "stream" in request or "http" in request or "phase" in request:
            return self._requests_in_pieces().serve(frame)
        if function.trace_is_set or "trace" in request:
            function.tell_trace(request)
        context = Context(request, *function.facts)
        event = codec.decode_event(frame.payload, request["content_type"])
        frame.payload = b""  # while the handler runs, memory holds the decoded event only
        value = function.call(event, context)
        if type(value) not in _WHOLE and any(hasattr(type(value), name) for name in _IN_PIECES):
            return self._requests_in_pieces().serve_rest(frame, value)
        content_type, result = codec.encode_result(value, request["accept"])
        if len(result) > LARGEST_PAYLOAD:
            del event, value
            return self._requests_in_pieces().serve_large(frame, content_type, result)
        return RESULT, {"content_type": content_type}, result

    def _requests_in_pieces(self) -> InlineRequests:
        """Return the object that serves streams, HTTP requests and hooks. Create it at the first call."""
        if self._inline is None:
            self._inline = namespace.own("serve.inline").InlineRequests(self.process, self._new_invoker(), self._queue)
        return self._inline

    def _new_invoker(self) -> Invoker:
        invoker: Invoker = namespace.own("serve.invoker").Invoker(self.function, self.process)
        self._invoker = invoker
        return invoker

    # Before the first request

    def greet(self, hello: Frame) -> Configuration:
        """Answer the init's HELLO."""
        configuration = Configuration(hello.metadata)
        window = max(WINDOW_REQUESTS, configuration.concurrency)
        self.process.pipes.limit = WINDOW_BYTES + window * KEPT_BYTES_OF_ONE
        self.process.outbox.post(
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
        return configuration

    def load(self, configuration: Configuration) -> None:
        """Load the function. A template does this once for all its workers. Raise what the function's module raises."""
        self._begun = perf_counter_ns()
        self.process.dump_to(configuration.dump_fd, configuration.dump_signal)
        self.process.watch_forks()
        self.function = Function(configuration, self.process)

    def restart(self, conversation: Conversation) -> None:
        """Begin a new conversation, in a worker that a template has forked."""
        self._begun = perf_counter_ns()
        self.process.restart(conversation)

    def become_ready(self, configuration: Configuration) -> Outcome:
        """Prepare this worker to serve requests to the loaded function, and return the READY frame.

        Raise what the initializer and the function's other hooks raise.
        """
        process, function = self.process, self.function
        function.configuration = configuration
        process.pipes.spin(configuration.spin_us)
        if configuration.cpu_seconds is not None or configuration.open_files is not None:
            limit_itself(configuration.cpu_seconds, configuration.open_files)
        if configuration.cpu_seconds is not None:
            process.dump_at_cpu_limit()
        run_hooks()
        if not function.is_plain:
            invoker = self._new_invoker()
            if invoker.engine == "tasks":
                self._engine = namespace.own("serve.tasks").Tasks(process, invoker, configuration.concurrency)
            elif invoker.engine == "threads":
                self._engine = namespace.own("serve.threads").Threads(process, invoker, configuration.concurrency)
            invoker.initialize()
            if self._engine is not None:
                self._engine.start()
        return self.ready()

    def ready(self) -> Outcome:
        """Return the READY frame. If this process is a child that the function has forked, end it instead."""
        self.process.leave_if_forked()
        ready: dict[str, Any] = {}
        if self._invoker is not None:
            engine = self._engine
            ready["type"] = self._invoker.type
            ready["concurrency"] = 1 if engine is None else self.function.configuration.concurrency
            ready["answers_dump"] = engine is not None
        ready["init_us"] = max(0, perf_counter_ns() - self._begun) // 1000
        ready["peak_memory_bytes"] = self.process.meter.peak_memory()
        return READY, ready, b""

    # After the last request

    def stop(self) -> bool:
        """Run the pre-stop hook and end the engine. Return False if either raised an exception, which is logged."""
        if self._invoker is None:
            return True
        kind, _, _ = self.process.guard.call(self._run_stop, self._invoker, self._failed_at_its_end)
        self.process.log.flush()
        return kind != ERROR

    def _run_stop(self, invoker: Invoker) -> Outcome:
        try:
            invoker.run_hook("pre-stop")
        finally:
            if self._engine is not None:
                self._engine.stop()
        self.process.leave_if_forked()
        return STOP, {}, b""

    def _failed_at_its_end(self, error: BaseException) -> Outcome:
        self.process.leave_if_forked(error)
        self.process.log.flush()
        self.process.log.write("pipe_runtime: the function failed at its end: " + faults.in_words(error), NO_REQUEST)
        return ERROR, {}, b""
