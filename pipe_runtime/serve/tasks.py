"""Serve several requests at once, each in an asyncio task: for coroutine functions, async generators and ASGI.

The main thread runs the event loop, which also reads the frames. This module must not know what a request means.
"""

from __future__ import annotations

from time import monotonic, perf_counter_ns

from .. import namespace
from ..call.exchange import GIVEN_UP, LOOK_SECONDS, Exchange
from ..limits import free_reserve
from ..namespace import late
from ..wire.connection import EndOfStream
from ..wire.errors import ProtocolError
from ..wire.messages import DUMP, INVOKE, STOP
from .concurrent_engine import Engine, microseconds_since, tag_of
from .event_function import end_tasks, result_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Awaitable
    from typing import Any

    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Outcome, Process

asyncio = late.asyncio

MOST_BREAKS = 10
"""How often in a row the event loop may stop without having called anything. After that it counts as broken."""


class Tasks(Engine):
    """Serve each request in a task. This class implements Line (exchange.py)."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        self.cancels = invoker.lifespan is None
        self._looks_at = 0.0
        self._loop: AbstractEventLoop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._waiting: list[Exchange] = []
        self._tasks: dict[int, Task[Outcome]] = {}
        self._stopping = False
        self._serving = True
        self._breaks = 0  # how often the event loop has stopped since it last called `_read`
        self._failure: Exception | None = None
        invoker.run = self._await
        super().__init__(process, invoker, concurrency)

    def start(self) -> None:
        """Run the startup of an ASGI application.

        Raises:
            RuntimeError: The function has closed the event loop.
        """
        if self._loop.is_closed():
            raise RuntimeError("the function has closed the event loop on which its requests would run")
        if self._invoker.lifespan is not None:
            self._invoker.state = self._await(self._invoker.lifespan.startup())

    def serve(self) -> None:
        """Serve until STOP or the end of the stream. Return when every request that came has its outcome."""
        while not self._process.guard.call(Tasks._run, self, self._broken_off):
            continue
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the lifespan of an ASGI application and the tasks that still run, after the last request or SIGTERM."""
        self._end_serving()
        try:
            if self._invoker.lifespan is not None:
                self._await(self._invoker.lifespan.shutdown())
        finally:
            end_tasks(self._loop)

    def after_fork(self) -> None:
        """Stop the event loop and end every wait for frames, in a child that the function forked."""
        self.hang_up()
        self._loop.stop()

    # The methods of Line

    def look(self) -> Awaitable[None] | None:
        """Let the event loop read frames while a task does not wait for any, at most once in LOOK_SECONDS."""
        now = monotonic()
        if now < self._looks_at:
            return None
        self._looks_at = now + LOOK_SECONDS
        return asyncio.sleep(0)  # type: ignore[no-any-return]

    def wait(self, exchange: Exchange, seen: int) -> Awaitable[object]:
        """Return an awaitable that is done when a frame has come for the exchange."""
        exchange.heard.clear()
        return exchange.heard.wait()

    def tell(self, exchange: Exchange) -> None:
        """Wake the tasks that wait for the exchange."""
        exchange.heard.set()

    # The event loop

    def _await(self, work: Awaitable[Any]) -> Any:
        """Run the event loop until an awaitable is done, and return its result. No request may run meanwhile."""
        return self._loop.run_until_complete(result_of(work))

    def _run(self) -> bool:
        pipes = self._process.pipes
        if not self._process.guard.terminated:
            pipes.on_kept = lambda: self._loop.call_soon_threadsafe(self._read)
            self._loop.add_reader(pipes.requests, self._read)
            self._loop.call_soon(self._read)  # take the frames that came together with HELLO
            while not self._over():
                self._loop.run_forever()
                self._process.leave_if_forked()  # a child that a task forked ends here when its loop has stopped
        self._end_serving()
        return True

    def _broken_off(self, error: BaseException) -> bool:
        """Handle an exception that has stopped the event loop. Return whether to end.

        A task that the function started has raised SystemExit, or a signal handler of the function has raised an
        exception. In the second case, the event loop may have lost a call of `_end`.
        """
        if self._process.guard.terminated:
            self._end_serving()
            return True
        self._process.report("a task", error)
        self._breaks += 1
        if self._loop.is_closed() or isinstance(error, MemoryError) or self._breaks > MOST_BREAKS:
            raise RuntimeError("the event loop does not run any more") from error  # this ends the worker
        for id, task in self._tasks.items():
            if task.done():
                self._loop.call_soon(self._end, id)
        return False

    def _end_serving(self) -> None:
        """Begin no further request and send no outcome, because all requests have one or SIGTERM has come."""
        self._serving = False
        self._waiting.clear()
        self._process.pipes.on_kept = None
        self._loop.remove_reader(self._process.pipes.requests)

    # The callbacks of the event loop. They run to their end even if a signal handler of the function raises.

    def _read(self) -> None:
        self._breaks = 0
        self._process.guard.during(self._take_in)

    def _end(self, id: int) -> None:
        self._process.guard.during(lambda: self._conclude_task(id))

    def _take_in(self) -> None:
        """Read and handle all frames that have come."""
        connection, pipes = self._process.connection, self._process.pipes
        events = []
        try:
            with self._process.outbox.lock:
                if pipes.ready():
                    connection.receive(pipes.read())
                while pipes.kept:
                    connection.receive(pipes.read())
                while (event := connection.next_frame()) is not None:
                    events.append(event)
        except (ProtocolError, OSError) as error:
            self._failure = error
        for event in events:
            self._take(event)
        self._stop_if_over()

    def _take(self, event: Frame | EndOfStream) -> None:
        if isinstance(event, EndOfStream):
            self._stopping = True
            self._loop.remove_reader(self._process.pipes.requests)
            self.hang_up()
        elif event.kind == STOP:
            self._stopping = True
        elif event.kind == INVOKE:
            exchange = Exchange(event.id, event.metadata, event.payload, self)
            exchange.heard = asyncio.Event()
            self._exchanges[exchange.id] = exchange
            self._waiting.append(exchange)
            self._begin_next()
        elif event.kind == DUMP:
            stacks = namespace.own("call.stacks")
            self.answer_dump([(id, stacks.of_coroutine(task.get_coro())) for id, task in self._tasks.items()])
        elif (found := self._exchanges.get(event.id)) is not None:
            found.hear(event.kind, event.payload)
            task = self._tasks.get(event.id)
            if found.cancelled and self.cancels and task is not None:
                task.cancel()

    def _begin_next(self) -> None:
        while self._waiting and len(self._tasks) < self._concurrency:
            exchange = self._waiting.pop(0)
            exchange.started = perf_counter_ns()
            work = self._serve_one(exchange)
            try:
                task = self._loop.create_task(work)
            except BaseException as error:  # the function may have set a task factory, which raised
                work.close()
                self._finish(exchange, self._process.problem(error))
                continue
            self._tasks[exchange.id] = task
            # Add two callbacks. If a signal handler raises just before the loop calls the first one, that call is lost.
            for _ in range(2):
                task.add_done_callback(lambda _, id=exchange.id: self._end(id))  # type: ignore[misc]
            if exchange.cancelled and self.cancels:
                task.cancel()

    async def _serve_one(self, exchange: Exchange) -> Outcome:
        """Call the function for a request, in a task of its own. Code outside of the task sends the outcome."""
        process = self._process
        process.log.enter(tag_of(exchange))  # the tag holds until the task's context ends, or until `conclude`
        try:
            await self._invoker.serve_async(exchange)
            outcome = await exchange.outcome()
        except BaseException as error:  # also SystemExit, which would stop the event loop
            if issubclass(type(error), MemoryError):
                free_reserve()
            self._invoker.report_unheard(exchange, error)
            outcome = process.problem(error)
        process.leave_if_forked()
        if process.guard.terminated and self._serving:
            raise SystemExit  # this stops the event loop
        return outcome

    def _conclude_task(self, id: int) -> None:
        task = self._tasks.pop(id, None)
        if task is None or not self._serving:
            return
        if task.cancelled():
            why = GIVEN_UP if self._exchanges[id].cancelled else "the function has cancelled the task of this request"
            outcome = self._process.problem(asyncio.CancelledError(why))
        else:
            error = task.exception()  # only if a signal handler raised outside of the `try` of `_serve_one`
            outcome = self._process.problem(error) if error is not None else task.result()
        self._finish(self._exchanges[id], outcome)
        self._begin_next()
        self._stop_if_over()

    def _finish(self, exchange: Exchange, outcome: Outcome) -> None:
        try:
            self.conclude(exchange, outcome, {"duration_us": microseconds_since(exchange.started)})
        finally:
            del self._exchanges[exchange.id]
            exchange.hang_up()  # a task that the function started may still wait for the rest of the body

    def _stop_if_over(self) -> None:
        if self._over() and self._serving:
            self._loop.stop()

    def _over(self) -> bool:
        return self._failure is not None or (self._stopping and not self._exchanges)
