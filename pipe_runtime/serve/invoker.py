"""Call a function that needs more than a plain call: hooks, an adapter, or an engine.

The runtime loads this module only if it needs an engine, an HTTP application, a typed or streamed event, a result that
is an iterator, or a hook. This module must not know frames, or which thread or task serves a request.
"""

from __future__ import annotations

import os
import sys

from .. import namespace
from ..call.context import Context
from ..call.exchange import CallerGone
from ..limits import reserve, take_reserve
from ..load import handler
from ..log.writer import NO_REQUEST, Tag
from ..wire.errors import Fault
from ..wire.messages import JSON, PRE_FREEZE
from .event_function import EventFunction, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from ..call.exchange import Exchange
    from .function import Function
    from .process import Process

TYPES = ("event", "wsgi", "asgi")
_PHASES = {"initializer": "initialize", "pre_stop": "pre-stop", "pre_freeze": PRE_FREEZE}

SNAPSHOT_TYPE = "snap-start"
"""The value of AWS_LAMBDA_INITIALIZATION_TYPE if Lambda takes a snapshot of the process after loading the function."""


class Invoker:
    """Call the function for a request, and call its hooks.

    Attributes:
        type: "event", "wsgi" or "asgi".
        engine: The module with the engine, "tasks" or "threads"; "" if the loop serves the requests.
        run: A callable that waits for an awaitable and returns its result. An engine with an event loop replaces it.
        lifespan: The Lifespan of an ASGI application; None for any other function.
        state: The state that an ASGI application's startup has made. Each request gets a copy of it.
    """

    def __init__(self, function: Function, process: Process) -> None:
        configuration = function.configuration
        self._function = function
        self._process = process
        self.type = configuration.type if configuration.type in TYPES else handler.type_of(function.found)
        self.engine = _engine(function, self.type)
        self.run: Callable[[Any], Any] = run
        self.lifespan: Any = None
        self.state: dict[str, Any] = {}
        self._hooks = {_PHASES[field]: _hook(name, function.code_dir) for field, name in configuration.hooks.items()}
        if self.type == "wsgi":
            self._adapter = self._wsgi(configuration.concurrency > 1)
        elif self.type == "asgi":
            self._async_adapter = self._asgi()
        else:
            event_function = EventFunction(function.found, configuration.platform)
            self._adapter, self._async_adapter = event_function.serve, event_function.serve_async

    def initialize(self) -> None:
        """Run the initializer, then the snapshot hooks. Raise what they raise."""
        self.run_hook("initialize")
        snapshot(self.run)

    def run_hook(self, phase: str) -> None:
        """Run the hook for a phase, if there is one. Raise what the hook raises."""
        hook = self._hooks.get(phase)
        if hook is not None:
            log, id = self._process.log, self._function.configuration.init_request_id
            token = log.enter(Tag((0, id, "")))
            try:
                work = hook(self._context({"request_id": id}))
                if work is not None:
                    self.run(work)
            finally:
                log.leave(token)

    def serve(self, exchange: Exchange) -> None:
        """Call the function for one request, and answer the request. Raise what the function raises."""
        self._give_context(exchange)
        if "phase" not in exchange.request:
            self._adapter(exchange)
        elif (work := self._begin_phase(exchange)) is not None:
            self.run(work)

    async def serve_async(self, exchange: Exchange) -> None:
        """Call the function for one request, as `serve` does, in a task of an event loop."""
        self._give_context(exchange)
        if "phase" not in exchange.request:
            await self._async_adapter(exchange)
        elif (work := self._begin_phase(exchange)) is not None:
            await work

    def report_unheard(self, exchange: Exchange, error: BaseException) -> None:
        """Log an exception that the function raised in its clean-up after a cancellation.

        The init has already answered the request, and ignores the outcome. CallerGone and CancelledError are not
        logged, because the runtime itself raises them in the function to cancel the request.
        """
        if exchange.cancelled and not isinstance(error, CallerGone) and type(error).__name__ != "CancelledError":
            tag = Tag((exchange.id, exchange.request["request_id"], ""))
            self._process.report("the function", error, " after its request was given up", tag)

    def _give_context(self, exchange: Exchange) -> None:
        if not reserve:
            take_reserve()
        exchange.context = self._context(exchange.request, lambda: exchange.cancelled)

    def _context(self, request: Mapping[str, Any], cancelled: Callable[[], bool] | bool = False) -> Context:
        function = self._function
        if function.trace_is_set or "trace" in request:
            function.tell_trace(request)
        return Context(request, *function.facts, cancelled)

    def _begin_phase(self, exchange: Exchange) -> Awaitable[Any] | None:
        """Call a hook instead of the function, and set the answer. Return an awaitable if the hook is asynchronous."""
        phase = exchange.request["phase"]
        if phase != PRE_FREEZE:
            raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: unknown phase {phase[:64]!r}")
        exchange.respond(b"null", JSON)
        hook = self._hooks.get(phase)
        return None if hook is None else hook(exchange.context)

    def _wsgi(self, multithread: bool) -> Callable[[Exchange], None]:
        wsgi, found = namespace.own("adapters.wsgi"), self._function.found
        return lambda exchange: wsgi.serve(found, exchange, multithread, self._more_headers(exchange))

    def _asgi(self) -> Callable[[Exchange], Awaitable[None]]:
        asgi, lifespan = namespace.own("adapters.asgi"), namespace.own("adapters.lifespan")
        found, log = self._function.found, self._process.log.write
        self.lifespan = lifespan.Lifespan(found, lambda text: log("pipe_runtime: " + text, NO_REQUEST))
        return lambda exchange: asgi.serve(found, exchange, self.state, self._more_headers(exchange))

    def _more_headers(self, exchange: Exchange) -> list[tuple[str, str]]:
        """Return the headers that the platform adds to an HTTP request."""
        configuration = self._function.configuration
        if configuration.platform != "fc":
            return []
        return namespace.own("call.platforms").fc_headers(exchange.context, configuration.hooks)  # type: ignore[no-any-return]


def _engine(function: Function, type: str) -> str:
    if type == "asgi" or (type == "event" and handler.is_async(function.found)):
        return "tasks"
    return "threads" if function.configuration.concurrency > 1 else ""


def _hook(name: str, code_dir: str) -> Callable[[Context], Awaitable[Any] | None]:
    """Return a callable that takes a context and runs the hook. It returns an awaitable if the hook is asynchronous.

    The hook itself may take (context), (event, context), where the event is None, or no arguments.
    """
    call = handler.find(name, code_dir)
    parameters = handler.positional(call)

    def begin(context: Context) -> Awaitable[Any] | None:
        arguments = (context,) if parameters == 1 else (None, context) if parameters else ()
        value: Any = call(*arguments)
        return value if hasattr(type(value), "__await__") else None

    return begin


def snapshot(run: Callable[[Any], Any]) -> None:
    """Run the hooks that the function registered with snapshot_restore_py, if the initialization type is SNAPSHOT_TYPE.

    First run the hooks for the time before a snapshot, in reverse order of registration. Then run the hooks for the
    time after a restore.
    """
    registry: Any = sys.modules.get("snapshot_restore_py")
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != SNAPSHOT_TYPE or registry is None:
        return
    for function, arguments, named in [*reversed(registry.get_before_snapshot()), *registry.get_after_restore()]:
        value = function(*arguments, **named)
        if hasattr(type(value), "__await__"):
            run(value)
