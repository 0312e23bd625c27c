"""Share code between the two engines and inline.py: how a request's frames are sent, and how the request ends.

An engine takes the place of the loop (loop.py) and serves several requests at once, in threads or in asyncio tasks.
This module must not know how a request is served.
"""

from __future__ import annotations

from time import perf_counter_ns

from .. import namespace
from ..limits import take_reserve
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
    """Serve requests for which the init may send frames while they run. Subclasses implement Line (exchange.py)."""

    cancels = True

    def __init__(self, process: Process, invoker: Invoker) -> None:
        self._process = process
        self._invoker = invoker
        self._exchanges: dict[int, Exchange] = {}
        process.on_fork.append(self.after_fork)

    def after_fork(self) -> None:
        """End every wait for frames in a child that the function forked. The init sends none to it."""
        self.hang_up()

    def hang_up(self) -> None:
        """End every request's wait for frames, because no more will come."""
        for exchange in self._exchanges.values():
            exchange.hang_up()

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """Send a whole frame, even if one of the function's signal handlers raises meanwhile."""
        self._process.guard.during(lambda: self._process.outbox.post(kind, id, metadata, payload))

    def credit(self, id: int) -> int:
        """Return how many bytes of the streamed answer may be sent now."""
        return self._process.connection.stream_credit(id)

    def tell(self, exchange: Exchange) -> None:
        """Wake the thread or task that waits for the exchange. Do nothing if the waiting thread itself reads frames."""

    def answer_dump(self, found: list[tuple[int, list[Any]]]) -> None:
        """Answer a DUMP with the stacks of running requests, given as (id, stack)."""
        named = [{"name": f"request {id}", "id": id, "stack": stack} for id, stack in found]
        self._process.outbox.post(DUMP, metadata={"stacks": list(namespace.own("call.stacks").fitting(named))})


class Engine(Requests):
    """Serve up to `concurrency` requests at once."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        super().__init__(process, invoker)
        self._concurrency = concurrency
        if concurrency > 1:
            process.log.contexts = namespace.own("log.request_tags").Contexts(process.log)
        take_reserve()  # here in the main thread, because memory that one thread frees is not always usable by another
        process.pipes.spin(0)  # a thread that spins would take the interpreter's lock from the threads that work

    def start(self) -> None:
        """Prepare the engine to serve. It is called after the initializer."""

    def serve(self) -> None:
        """Serve until STOP or the end of the stream. Return when every request that came has its outcome."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the engine. It is called after the last request, or after SIGTERM."""

    def conclude(self, exchange: Exchange, outcome: Outcome, measured: dict[str, int]) -> None:
        """Send the text that a request has printed, then its outcome."""
        process = self._process
        if self._concurrency > 1:
            process.log.flush(exchange.id)
        else:
            process.log.flush()
            process.log.current = NO_REQUEST
            if process.guard.terminated:
                return  # after an outcome, the init would send the next request to this worker, which is about to end
        kind, metadata, payload = outcome
        measured["peak_memory_bytes"] = process.meter.peak_memory()
        try:
            process.conclude(kind, exchange.id, {**metadata, **measured}, payload)
        except OSError as error:
            leave(lost_pipe_code(error))


def tag_of(exchange: Exchange) -> Tag:
    """Return the tag of the lines that a request prints."""
    request = exchange.request
    return Tag((exchange.id, request["request_id"], request.get("tenant_id", "")))


def microseconds_since(begun: int) -> int:
    """Return the microseconds since `begun`, a value of perf_counter_ns()."""
    return max(0, perf_counter_ns() - begun) // 1000
