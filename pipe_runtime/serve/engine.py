"""Share code between the engines and inline.py: the way to the init, and the end of a request.

An engine serves several requests at once, in threads or as tasks, in the loop's place. This module must not know how a
request is served.
"""

from __future__ import annotations

from time import perf_counter_ns

from .. import namespace
from ..log.writer import NO_REQUEST, Tag
from ..wire.messages import DUMP
from .process import leave, lost_pipe_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..call.exchange import Exchange
    from .invoker import Invoker
    from .process import Outcome, Process


class Requests:
    """Serves requests for which frames may come while they run. A subclass is the exchanges' Line."""

    cancels = True

    def __init__(self, process: Process, invoker: Invoker) -> None:
        self._process = process
        self._invoker = invoker
        self._exchanges: dict[int, Exchange] = {}
        process.on_fork.append(self.after_fork)

    def after_fork(self) -> None:
        """Tell what waits in a child that the function forked that nothing will come."""
        self.hang_up()

    def hang_up(self) -> None:
        """Tell the requests that nothing more will come, so that none waits for ever."""
        for exchange in self._exchanges.values():
            exchange.hang_up()

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame. A signal handler of the function that raises does not break it off."""
        self._process.guard.during(lambda: self._process.outbox.post(kind, id, metadata, payload))

    def credit(self, id: int) -> int:
        """Return how many bytes of the answer's stream may be sent now."""
        return self._process.connection.stream_credit(id)

    def tell(self, exchange: Exchange) -> None:
        """Wake what waits for the exchange, unless the thread that hears is the one that waits."""

    def answer_dump(self, found: list[tuple[int, list[Any]]]) -> None:
        """Send the stacks of requests, by their ids."""
        named = [{"name": f"request {id}", "id": id, "stack": stack} for id, stack in found]
        self._process.outbox.post(DUMP, metadata={"stacks": list(namespace.own("call.stacks").fitting(named))})


class Engine(Requests):
    """Serves up to `concurrency` requests at once."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        super().__init__(process, invoker)
        self._concurrency = concurrency
        if concurrency > 1:
            process.log.contexts = namespace.own("log.contexts").Contexts(process.log)
        process.pipes.spin(0)  # a thread that spins takes the interpreter from those that work

    def start(self) -> None:
        """Get ready to serve, after the initializer."""

    def serve(self) -> None:
        """Serve until STOP or the end of the stream, and until every request that came has its outcome."""
        raise NotImplementedError

    def stop(self) -> None:
        """End, after the last request or SIGTERM."""

    def conclude(self, exchange: Exchange, outcome: Outcome, measured: dict[str, int]) -> None:
        """Send what a request has printed, then its outcome."""
        process = self._process
        if self._concurrency > 1:
            process.log.flush(exchange.id)
        else:
            process.log.flush()
            process.log.current = NO_REQUEST
            if process.guard.terminated:
                return  # an outcome tells the init that the worker goes on; the next request would die with it
        kind, metadata, payload = outcome
        measured["peak_memory_bytes"] = process.meter.peak_memory()
        try:
            process.conclude(kind, exchange.id, {**metadata, **measured}, payload)
        except OSError as error:
            leave(lost_pipe_code(error))


def tag_of(exchange: Exchange) -> Tag:
    """Return the tag of what a request prints."""
    request = exchange.request
    return Tag(exchange.id, request["request_id"], request.get("tenant_id", ""))


def microseconds_since(begun: int) -> int:
    """Return the time since a perf_counter_ns()."""
    return max(0, perf_counter_ns() - begun) // 1000
