"""Several requests at once, each a task of one event loop: for coroutine functions, asynchronous generators and ASGI.

The main thread runs the loop, which also watches the pipe. This file knows asyncio, exchanges and the loop's way to
the init; not what a request means.
"""

from __future__ import annotations

from time import monotonic, perf_counter_ns

from .. import namespace
from ..namespace import late
from ..wire.connection import MAX_CHUNK, End
from ..wire.frames import LARGEST_PAYLOAD
from ..wire.messages import CHUNK, CREDIT, DUMP, INVOKE, RESULT, STOP
from .event_function import end_tasks
from .exchange import GIVEN_UP, MAX_BODY, CallerGone, Incoming
from .reader import LOOK_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from ..wire.frames import Frame
    from .loop import Outcome
    from .service import Service


class AsyncExchange(Incoming):
    """One request, for a task. As Exchange, where what waits is a coroutine."""

    def __init__(self, id: int, request: dict[str, Any], payload: bytes, engine: Tasks) -> None:
        super().__init__(id, request, payload)
        self._engine = engine
        self._heard: asyncio.Event = engine.asyncio.Event()
        self._started = 0
        self._large = b""

    def start(self) -> None:
        """Its time runs from now on."""
        self._started = perf_counter_ns()

    def duration(self) -> int:
        """Microseconds since it started."""
        return max(0, perf_counter_ns() - self._started) // 1000

    def hear(self, frame: Frame) -> None:
        """As Incoming.hear; wakes who waits."""
        super().hear(frame)
        self._heard.set()

    def hang_up(self) -> None:
        """As Incoming.hang_up; wakes who waits."""
        super().hang_up()
        self._heard.set()

    def begin(self, content_type: str, http: dict[str, Any] | None = None) -> None:
        """Begin an answer that comes in pieces."""
        self._engine.post(RESULT, self.id, self._stream_head(content_type, http))
        self.begun = True

    def respond(self, body: bytes, content_type: str, http: dict[str, Any] | None = None) -> None:
        """As Incoming.respond; of a body that is larger than a frame, `finish` sends what is behind the head."""
        if len(body) > LARGEST_PAYLOAD:
            self.begin(content_type, http)
            self._large = body
        else:
            super().respond(body, content_type, http)

    async def finish(self) -> None:
        """The adapter has returned: send what `respond` could not."""
        large, self._large = self._large, b""
        await self.write(large)

    async def write(self, data: bytes) -> None:
        """A piece of the answer, as soon as the other side takes it. CallerGone: nobody wants it any more."""
        start, size = 0, len(data)
        if not size:
            await self.give_way()
        while start < size:
            room = 0 if self.cancelled else min(self._engine.credit(self.id), MAX_CHUNK)
            if room:
                self._engine.post(CHUNK, self.id, {}, data[start : start + room])
                start += room
                await self._engine.asyncio.sleep(0)  # others have their turn, however fast the credit comes
            elif not await self._wait():
                return

    async def give_way(self) -> None:
        """Let the event loop read what has come, at most every LOOK_SECONDS, between steps that do not wait."""
        now = monotonic()
        if now >= self._engine.looks_at:
            self._engine.looks_at = now + LOOK_SECONDS
            await self._engine.asyncio.sleep(0)

    async def read(self) -> bytes:
        """The next piece of the body, as it came; b"" at its end. CallerGone: it will not come."""
        while (piece := self._next_piece()) is None:
            if not await self._wait():
                return b""
        due = self._credit_due()
        if due:
            self._engine.post(CREDIT, self.id, {"bytes": due})
        return piece

    async def whole(self) -> bytes:
        """All of the body. MemoryError: it has more than MAX_BODY bytes."""
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_BODY:
                raise MemoryError(f"the event has more than {MAX_BODY} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def until_cancelled(self) -> None:
        """Return when the caller has given up on the request."""
        while not self.cancelled:
            self._heard.clear()
            await self._heard.wait()

    async def _wait(self) -> bool:
        """For something to come. False: nothing will, and the adapter knows that without an error."""
        if self.cancelled or self.gone:
            if self._engine.cancels:
                raise CallerGone(GIVEN_UP)
            self.cancelled = True  # what it waits for cannot come: it is to hear of that as of a cancellation
            self._heard.set()
            return False
        self._heard.clear()
        await self._heard.wait()
        return True


class Tasks:
    """The engine of a worker that runs up to `concurrency` requests at once on an event loop.

    serve_one: what to do with an exchange. lifespan: of an ASGI application, None for a function.
    cancels: whether a CANCEL cancels the task. An ASGI application hears of it by a message instead.
    serving: requests are served, or will be.
    """

    def __init__(
        self,
        service: Service,
        concurrency: int,
        serve_one: Callable[[AsyncExchange], Awaitable[None]],
        lifespan: Any = None,
        cancels: bool = True,
    ) -> None:
        self.asyncio = late.asyncio
        self._service = service
        self._concurrency = concurrency
        self._serve_one = serve_one
        self._lifespan = lifespan
        self.cancels = cancels
        self._loop: asyncio.AbstractEventLoop = self.asyncio.new_event_loop()
        self.asyncio.set_event_loop(self._loop)
        self._exchanges: dict[int, AsyncExchange] = {}
        self._waiting: list[AsyncExchange] = []
        self._tasks: dict[int, asyncio.Task[Outcome]] = {}
        self._stopping = False
        self.looks_at = 0.0
        self.serving = True
        self.state: dict[str, Any] = {}

    def start(self) -> None:
        """Before READY: an application's lifespan begins. RuntimeError: the function has closed the loop."""
        if self._loop.is_closed():
            raise RuntimeError("the function has closed the event loop on which its requests would run")
        if self._lifespan is not None:
            self.state = self.run(self._lifespan.startup())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What a coroutine returns, on this engine's loop, while no request is served."""
        return self._loop.run_until_complete(work)

    def serve(self) -> None:
        """Serve until STOP or the end of the stream, and until every request that came has its outcome; or until
        `failure` of the service says what is wrong with the pipe.
        """
        self._service.on_kept(lambda: self._loop.call_soon_threadsafe(self._read))
        self._loop.add_reader(self._service.requests_descriptor, self._read)
        self._loop.call_soon(self._read)  # frames that came together with HELLO
        while not self._over():
            self._loop.run_forever()
            self._service.leave_if_forked()  # a task that forked has given way to the others
        self.end_serving()

    def end_serving(self) -> None:
        """Begin no request any more, and send no outcome: all that came have one, or SIGTERM has come."""
        self.serving = False
        self._waiting.clear()
        self._service.on_kept(None)
        self._loop.remove_reader(self._service.requests_descriptor)

    def broken_off(self, error: BaseException) -> None:
        """`serve` has raised what the function left to itself: SystemExit in a task of its own, a signal handler's
        error, perhaps in place of a step of ours. Then it is to be called again.
        """
        self._service.report("a task", error)
        if self._loop.is_closed():
            raise error
        for id, task in self._tasks.items():
            if task.done():
                self._loop.call_soon(self._end, id)

    def after_fork(self) -> None:
        """In a forked child: the other requests are the parent's."""
        for each in self._exchanges.values():
            each.hang_up()
        self._loop.stop()

    def stop(self) -> None:
        """End an application's lifespan, and the tasks that are left, after the last request or SIGTERM."""
        self.end_serving()
        try:
            if self._lifespan is not None:
                self.run(self._lifespan.shutdown())
        finally:
            end_tasks(self._loop)

    # A line

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """As Outbox.post. A frame is never broken off by what a signal handler raises."""
        self._service.during(lambda: self._service.post(kind, id, metadata, payload))

    def credit(self, id: int) -> int:
        """Bytes of its answer's stream that may be sent now."""
        return self._service.credit(id)

    # What the loop calls. Each is one step that no signal handler of the function's breaks off.

    def _read(self) -> None:
        self._service.during(self._take_in)

    def _end(self, id: int) -> None:
        self._service.during(lambda: self._conclude(id))

    def _take_in(self) -> None:
        for event in self._service.take_in():
            self._take(event)
        self._stop_if_over()

    def _take(self, event: Frame | End) -> None:
        if isinstance(event, End):
            self._stopping = True
            self._loop.remove_reader(self._service.requests_descriptor)
            for each in self._exchanges.values():
                each.hang_up()
        elif event.kind == STOP:
            self._stopping = True
        elif event.kind == INVOKE:
            exchange = AsyncExchange(event.id, event.metadata, event.payload, self)
            self._exchanges[exchange.id] = exchange
            self._waiting.append(exchange)
            self._begin_next()
        elif event.kind == DUMP:
            self._service.post(DUMP, metadata={"stacks": self._stacks()})
        elif (found := self._exchanges.get(event.id)) is not None:
            found.hear(event)
            task = self._tasks.get(event.id)
            if found.cancelled and self.cancels and task is not None:
                task.cancel()

    def _begin_next(self) -> None:
        while self._waiting and len(self._tasks) < self._concurrency:
            exchange = self._waiting.pop(0)
            exchange.start()
            work = self._service.serve_in_task(exchange, self._serve_one)
            try:
                task = self._loop.create_task(work)
            except BaseException as error:  # of a task factory of the function's
                work.close()
                self._finish(exchange, self._service.problem(error))
                continue
            self._tasks[exchange.id] = task
            for _ in range(2):  # a signal handler of the function's may raise where the loop is about to call one
                task.add_done_callback(lambda _, id=exchange.id: self._end(id))  # type: ignore[misc]
            if exchange.cancelled and self.cancels:
                task.cancel()

    def _conclude(self, id: int) -> None:
        task = self._tasks.pop(id, None)
        if task is None or not self.serving:
            return
        if task.cancelled():
            outcome = self._service.problem(self.asyncio.CancelledError(GIVEN_UP))
        else:
            error = task.exception()  # a signal handler's, from between the last two steps
            outcome = self._service.problem(error) if error is not None else task.result()
        self._finish(self._exchanges[id], outcome)
        self._begin_next()
        self._stop_if_over()

    def _finish(self, exchange: AsyncExchange, outcome: Outcome) -> None:
        try:
            self._service.conclude(exchange, outcome, {"duration_us": exchange.duration()})
        finally:
            del self._exchanges[exchange.id]
            exchange.hang_up()  # a task that it has left behind may wait for the rest of its body

    def _stop_if_over(self) -> None:
        if self._over() and self.serving:
            self._loop.stop()

    def _over(self) -> bool:
        return self._service.failure is not None or (self._stopping and not self._exchanges)

    def _stacks(self) -> list[dict[str, Any]]:
        stacks = namespace.own("call.stacks")
        coroutines = {id: task.get_coro() for id, task in self._tasks.items()}
        found = [{"name": f"request {id}", "id": id, "stack": stacks.of_coroutine(coroutines[id])} for id in coroutines]
        return list(stacks.fitting(found))


async def result_of(work: Awaitable[Any]) -> Any:
    """A coroutine for any awaitable."""
    return await work
