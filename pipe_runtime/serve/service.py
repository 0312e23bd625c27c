"""How a function is served that is more than a plain one called with one event after the other.

Loaded only where it is needed: for an engine (several requests at once, an event loop), an HTTP function, a typed or
streamed event, an iterator as a result, a hook. It chooses who does what, and is the engines' way to the init. How a
request is answered in the loop's own thread, and all that a fork or a signal does to it, is the loop's business.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from time import perf_counter_ns, thread_time_ns

from .. import namespace
from ..load import handler
from ..log.writer import NOBODY, Tag
from ..namespace import late
from ..wire.connection import MAX_CONCURRENCY, End
from ..wire.errors import Fault, ProtocolError
from ..wire.messages import CANCEL, CHUNK, CREDIT, DUMP, END, INVOKE, PRE_FREEZE
from .event_function import EventFunction, answer, run, send_whole
from .exchange import GIVEN_UP, CallerGone, Exchange
from .reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..call.context import Context
    from ..wire.frames import Frame
    from .exchange import Incoming
    from .hooks import Hook
    from .loop import Outcome, Runtime
    from .tasks import AsyncExchange, Tasks
    from .threads import Threads

TYPES = ("event", "wsgi", "asgi")


class Service:
    """What serves a function in, or in place of, the loop.

    engine: serves requests in the loop's place, on an event loop or in threads; None: the loop serves them itself.
    type: event, wsgi or asgi.
    exchanges: what the loop answers, or will, and frames may come for. failure: why the pipe is of no more use.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._thread = get_ident()
        self.reader = Reader(runtime.connection, runtime.pipes, runtime.outbox, runtime.guard, self.hear)
        self.exchanges: dict[int, Exchange] = {}
        self._hung_up = False
        self._cancelled: list[Frame] = []  # CANCELs of requests that wait in the loop's queue
        self.engine: Threads | Tasks | None = None
        self.on_event_loop = False
        self.type = "event"
        self.failure: Exception | None = None
        self._adapter: Callable[[Exchange], None] | None = None
        self._hooks: dict[str, Hook] = {}
        self._concurrency = 1
        self._init_request_id = ""
        self._headers: Callable[[Context], list[tuple[str, str]]] | None = None

    # Before READY

    def configure(self, found: Callable[..., object], hello: dict[str, Any], code_dir: str) -> None:
        """Become what serves the handler `found`; then the initializer runs. Raises what the function's code raises."""
        self._concurrency = min(hello.get("concurrency", 1), MAX_CONCURRENCY)
        self._init_request_id = hello.get("init_request_id", "")
        self.type = _type(found, hello)
        if self.type != "event" and hello.get("platform") == "fc":
            platforms = namespace.own("call.platforms")
            self._headers = lambda context: platforms.fc_headers(context, hello)
        self._hooks = _hooks(hello, code_dir)
        engine = _engine(found, hello)
        if engine == "tasks":
            self.engine = self._tasks(found, hello)
            self.on_event_loop = True
        elif engine == "threads":
            self.engine = namespace.own("serve.threads").Threads(self, self._concurrency)
        if self.type == "wsgi":
            wsgi, multithread = namespace.own("adapters.wsgi"), self._concurrency > 1
            self._adapter = lambda exchange: wsgi.serve(found, exchange, multithread, self._more_headers(exchange))
        elif self.type == "event":
            self._adapter = _event_function(found, hello).serve
        if self._concurrency > 1:
            self._runtime.log.per_context()
        if self.engine is not None:
            self._runtime.pipes.spin(0)  # who looks again and again takes the interpreter from those who work
        self.run_hook("initialize")
        if "snapshot_restore_py" in sys.modules:
            namespace.own("serve.hooks").snapshot(self.run)
        if self.engine is not None:
            self.engine.start()

    def _tasks(self, found: Callable[..., object], hello: dict[str, Any]) -> Tasks:
        tasks = namespace.own("serve.tasks")
        if self.type == "event":
            engine: Tasks = tasks.Tasks(self, self._concurrency, _event_function(found, hello).serve_async)
            return engine
        asgi = namespace.own("adapters.asgi")

        async def serve_one(exchange: AsyncExchange) -> None:
            await asgi.serve(found, exchange, engine.state, self._more_headers(exchange))

        engine = tasks.Tasks(self, self._concurrency, serve_one, asgi.Lifespan(found, self._log), cancels=False)
        return engine

    def _log(self, text: str) -> None:
        self._runtime.log.write("pipe_runtime: " + text, NOBODY)

    def _more_headers(self, exchange: Incoming) -> list[tuple[str, str]]:
        """Return the headers that the platform adds to an HTTP request."""
        return [] if self._headers is None else self._headers(exchange.context)

    def ready(self) -> dict[str, Any]:
        """What READY says of it."""
        return {
            "type": self.type,
            "concurrency": self._concurrency if self.engine is not None else 1,
            "answers_dump": self.engine is not None,
        }

    def run_hook(self, phase: str) -> None:
        """Run the hook for a phase, if there is one. Raises what it raises."""
        hook = self._hooks.get(phase)
        if hook is not None:
            log, id = self._runtime.log, self._init_request_id
            token = log.enter(Tag(0, id))
            try:
                hook(self._runtime.context({"request_id": id}), self.run)
            finally:
                log.leave(token)

    def stop(self) -> None:
        """After the last request. Raises what the function's code raises."""
        try:
            self.run_hook("pre-stop")
        finally:
            if self.engine is not None:
                self.engine.stop()

    def run(self, work: Awaitable[Any]) -> Any:
        """What an awaitable gives, on the function's event loop."""
        if self.on_event_loop:
            return self.engine.run(namespace.own("serve.tasks").result_of(work))  # type: ignore[union-attr]
        return run(work)

    # In the loop's thread, one after the other

    def hear(self, frame: Frame | None) -> None:
        """Take a frame that is not the loop's own, or one that came while the function waited; None: no more come."""
        if frame is None:
            self._hung_up = self.reader.ended = True
            for exchange in self.exchanges.values():
                exchange.hang_up()
            self._runtime.queue.append(None)
        elif frame.kind in (CHUNK, END, CREDIT, CANCEL):
            found = self.exchanges.get(frame.id)
            if found is not None:
                found.hear(frame)
            elif frame.kind == CANCEL:
                self._cancelled.append(frame)
            if frame.kind == CANCEL:
                self.reader.look_soon()  # requests that wait behind it may be cancelled too
        elif frame.kind == DUMP and self._runtime.log.current is not NOBODY:
            self.post(DUMP, metadata={"stacks": self._stack()})
        else:
            if frame.kind == INVOKE and "stream" in frame.metadata:
                self.exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self.reader)
            self._runtime.queue.append(frame)

    def _stack(self) -> list[dict[str, Any]]:
        """Return the stack of the request that the loop's thread runs."""
        stacks, id = namespace.own("call.stacks"), self._runtime.log.current.id
        return list(stacks.fitting([{"name": f"request {id}", "id": id, "stack": stacks.of_thread(self._thread)}]))

    def refuse_cancelled(self, id: int) -> None:
        """Raise CallerGone if the request was cancelled while it waited for its turn."""
        self.reader.look()
        found = self.exchanges.get(id)
        if found.cancelled if found is not None else any(cancel.id == id for cancel in self._cancelled):
            raise CallerGone(GIVEN_UP)

    def perform(self, frame: Frame) -> Outcome:
        """Serve the request of an INVOKE; raises what the function raises."""
        exchange = self._exchange(frame)
        try:
            self._serve(exchange)
        except BaseException as error:
            self._report_unheard(exchange, error)
            raise
        return exchange.outcome()

    def perform_rest(self, frame: Frame, value: object) -> Outcome:
        """Answer a request whose handler has returned `value` already."""
        exchange = self._exchange(frame)
        try:
            answer(exchange, value)
        except BaseException as error:
            self._report_unheard(exchange, error)
            raise
        return exchange.outcome()

    def perform_large(self, frame: Frame, content_type: str, payload: bytes) -> Outcome:
        """Answer a request with an encoded result that is too large for one frame."""
        exchange = self._exchange(frame)
        send_whole(exchange, content_type, payload)
        return exchange.outcome()

    def settle(self, id: int) -> None:
        """The request is over."""
        exchange = self.exchanges.pop(id, None)
        if exchange is not None:
            exchange.hang_up()  # a thread that it has left behind is not to wait for the rest of its body
        if self._cancelled:
            self._cancelled = [cancel for cancel in self._cancelled if cancel.id > id]

    def after_fork(self) -> None:
        """In a forked child: nothing that a request waits for will come, and no lock is anybody's."""
        self.reader.after_fork()
        for exchange in self.exchanges.values():
            exchange.hang_up()
        if self.engine is not None:
            self.engine.after_fork()

    def _exchange(self, frame: Frame) -> Exchange:
        exchange = self.exchanges.get(frame.id)
        if exchange is None:
            payload, frame.payload = frame.payload, b""
            exchange = self.exchanges[frame.id] = Exchange(frame.id, frame.metadata, payload, self.reader)
            for cancel in self._cancelled:
                if cancel.id == frame.id:
                    exchange.hear(cancel)
            if self._hung_up:
                exchange.hang_up()
        exchange.context = self._context(exchange)
        return exchange

    def _context(self, exchange: Incoming) -> Context:
        return self._runtime.context(exchange.request, lambda: exchange.cancelled)

    def _serve(self, exchange: Exchange) -> None:
        if "phase" in exchange.request:
            self._serve_phase(exchange)
        elif self._adapter is not None:
            self._adapter(exchange)
        else:
            EventFunction(self._runtime.handler, platform=self._runtime.platform).serve(exchange)

    def _serve_phase(self, exchange: Incoming) -> None:
        hook = self._hook_of(exchange)
        if hook is not None:
            hook(exchange.context, self.run)
        exchange.respond(b"null", "application/json")

    async def _serve_phase_async(self, exchange: Incoming) -> None:
        hook = self._hook_of(exchange)
        work = None if hook is None else hook.begin(exchange.context)
        if work is not None:
            await work
        exchange.respond(b"null", "application/json")

    def _hook_of(self, exchange: Incoming) -> Hook | None:
        phase = exchange.request["phase"]
        if phase != PRE_FREEZE:
            raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: unknown phase {phase[:64]!r}")
        return self._hooks.get(phase)

    # For the engines

    @property
    def requests_descriptor(self) -> int:
        """What becomes readable when the init says something."""
        return self._runtime.pipes.requests

    def on_kept(self, call: Callable[[], object] | None) -> None:
        """Have `call` called, in any thread, when something came while a write had to wait, and is to be taken in."""
        self._runtime.pipes.on_kept = call

    def leave_if_forked(self) -> None:
        """As Runtime.leave_if_forked."""
        self._runtime.leave_if_forked(None)

    def next_frame(self) -> Frame | End:
        """The next frame, or the end of the stream, as soon as it is there."""
        runtime = self._runtime
        while True:
            with runtime.outbox.lock:
                event = runtime.connection.next_frame()
            if event is not None:
                return event
            data = runtime.guard.wait(runtime.pipes.read)
            with runtime.outbox.lock:
                runtime.connection.receive(data)

    def take_in(self) -> list[Frame | End]:
        """What has come by now. `failure` is set where the pipe or the protocol is broken."""
        runtime, events = self._runtime, []
        try:
            with runtime.outbox.lock:
                if runtime.pipes.ready():
                    runtime.connection.receive(runtime.pipes.read())
                while runtime.pipes.kept:
                    runtime.connection.receive(runtime.pipes.read())
                while (event := runtime.connection.next_frame()) is not None:
                    events.append(event)
        except (ProtocolError, OSError) as error:
            self.failure = error
        return events

    def wait(self, step: Callable[[], object]) -> None:
        """As SignalGuard.wait."""
        self._runtime.guard.wait(step)

    def during(self, step: Callable[[], None]) -> None:
        """As SignalGuard.during."""
        self._runtime.guard.during(step)

    def post(self, kind: int, id: int = 0, metadata: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        """As Outbox.post."""
        self._runtime.outbox.post(kind, id, metadata, payload)

    def credit(self, id: int) -> int:
        """Bytes of its answer's stream that may be sent now."""
        return self._runtime.connection.stream_credit(id)

    def _report_unheard(self, exchange: Incoming, error: BaseException) -> None:
        """Log what the function raised while it was tidying up after a cancellation.

        The init has answered the request already and ignores the outcome. The exceptions that tell the function of the
        cancellation are not logged.
        """
        if exchange.cancelled and not isinstance(error, CallerGone) and type(error).__name__ != "CancelledError":
            tag = Tag(exchange.id, exchange.request["request_id"])
            self._runtime.report("the function", error, " after its request was given up", tag)

    def report(self, what: str, error: BaseException) -> None:
        """What the function's code has raised where no request is to be told."""
        self._runtime.report(what, error)

    def serve_in_thread(self, exchange: Exchange) -> None:
        """Serve one request in a thread of its own, and send its outcome."""
        runtime = self._runtime
        token = runtime.log.enter(_tag(exchange))
        begun, cpu = perf_counter_ns(), thread_time_ns()
        try:
            exchange.context = self._context(exchange)
            self._serve(exchange)
            outcome = exchange.outcome()
        except BaseException as error:  # the function's code may raise anything, SystemExit too
            self._report_unheard(exchange, error)
            outcome = runtime.problem(error)
        runtime.leave_if_forked(None)
        measured = {"duration_us": _microseconds(begun), "cpu_us": max(0, thread_time_ns() - cpu) // 1000}
        self.conclude(exchange, outcome, measured)
        runtime.log.leave(token)

    def refuse(self, exchange: Incoming, error: BaseException) -> None:
        """Send the outcome of a request that the function never gets."""
        self.conclude(exchange, self._runtime.problem(error), {"duration_us": 0})

    async def serve_in_task(
        self, exchange: AsyncExchange, serve_one: Callable[[AsyncExchange], Awaitable[None]]
    ) -> Outcome:
        """Serve one request in a task of its own. Its outcome is for the engine to send, outside of the task."""
        tag, log = _tag(exchange), self._runtime.log
        if self._concurrency > 1:
            log.enter(tag)  # until the task's context ends
        else:
            log.current = tag
        try:
            exchange.context = self._context(exchange)
            if "phase" in exchange.request:
                await self._serve_phase_async(exchange)
            else:
                await serve_one(exchange)
                await exchange.finish()
            outcome = exchange.outcome()
        except BaseException as error:  # SystemExit would end the loop
            self._report_unheard(exchange, error)
            outcome = self._runtime.problem(error)
        self._runtime.leave_if_forked(None)
        if self._runtime.guard.terminated and self.engine.serving:  # type: ignore[union-attr]
            raise SystemExit  # out of the event loop, which ends with it
        return outcome

    def problem(self, error: BaseException) -> Outcome:
        """The outcome of a request that raised `error`."""
        return self._runtime.problem(error)

    def conclude(self, exchange: Incoming, outcome: Outcome, measured: dict[str, int]) -> None:
        """Send a request's outcome, with what it has printed before."""
        log = self._runtime.log
        if self._concurrency > 1:
            log.flush_request(exchange.id)
        else:
            log.flush()
            log.current = NOBODY
            if self._runtime.guard.terminated:
                return  # an outcome tells the init that the worker goes on; the next request would die with it
        kind, metadata, payload = outcome
        measured["peak_memory_bytes"] = self._runtime.peak_memory()
        try:
            self._runtime.conclude(kind, exchange.id, {**metadata, **measured}, payload)
        except OSError as error:
            self._runtime.abandon(error)


def _tag(exchange: Incoming) -> Tag:
    request = exchange.request
    return Tag(exchange.id, request["request_id"], request.get("tenant_id", ""))


def _microseconds(begun: int) -> int:
    return max(0, perf_counter_ns() - begun) // 1000


def preload(found: Callable[..., object], hello: dict[str, Any], code_dir: str) -> None:
    """In a template: load what each worker would to serve `found`. Raises what loading raises; nothing is started."""
    _hooks(hello, code_dir)
    type, engine = _type(found, hello), _engine(found, hello)
    if engine:
        namespace.own(f"serve.{engine}")
        getattr(late, "asyncio" if engine == "tasks" else "threading")
    if type == "event":
        _event_function(found, hello)
    else:
        namespace.own(f"adapters.{type}")


def _type(found: Callable[..., object], hello: dict[str, Any]) -> str:
    wanted = hello.get("type", "auto")
    return wanted if wanted in TYPES else handler.type_of(found)


def _engine(found: Callable[..., object], hello: dict[str, Any]) -> str:
    """The module with the engine for it, "" where the loop serves it."""
    type = _type(found, hello)
    if type == "asgi" or (type == "event" and handler.is_async(found)):
        return "tasks"
    return "threads" if hello.get("concurrency", 1) > 1 else ""


def _hooks(hello: dict[str, Any], code_dir: str) -> dict[str, Hook]:
    fields = (("initialize", "initializer"), ("pre-stop", "pre_stop"), (PRE_FREEZE, "pre_freeze"))
    return {
        phase: namespace.own("serve.hooks").Hook(hello[field], code_dir) for phase, field in fields if hello.get(field)
    }


def _event_function(found: Callable[..., object], hello: dict[str, Any]) -> EventFunction:
    """How an event function wants its event: by its annotation."""
    stream, convert = "", None
    annotation, scope = handler.event_annotation(found)
    if not handler.is_plain_annotation(annotation):
        typed = namespace.own("adapters.typed")
        stream, convert = typed.wants_stream(annotation, scope), typed.converter(annotation, scope)
    return EventFunction(handler.adapt(found), stream, convert, hello.get("platform", ""))
