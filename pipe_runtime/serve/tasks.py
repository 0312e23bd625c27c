"""Serve several requests at once, each a task of one event loop: for coroutine functions, async generators and ASGI.

The main thread runs the event loop, which also watches the pipe. This module must not know what a request means.
"""

from __future__ import annotations

from time import monotonic, perf_counter_ns

from .. import namespace
from ..call.exchange import GIVEN_UP, LOOK_SECONDS, Exchange
from ..namespace import late
from ..wire.connection import EndOfStream
from ..wire.errors import ProtocolError
from ..wire.messages import DUMP, INVOKE, STOP
from .engine import Engine, microseconds_since, tag_of
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


class Tasks(Engine):
    """Serves each request in a task. It is the exchanges' Line."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        self.cancels = invoker.lifespan is None
        self._looks_at = 0.0
        self._loop: AbstractEventLoop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._waiting: list[Exchange] = []
        self._tasks: dict[int, Task[Outcome]] = {}
        self._stopping = False
        self._serving = True
        self._failure: Exception | None = None
        invoker.run = self._await
        super().__init__(process, invoker, concurrency)

    def start(self) -> None:
        """Run an application's startup.

        Raises:
            RuntimeError: The function has closed the event loop.
        """
        if self._loop.is_closed():
            raise RuntimeError("the function has closed the event loop on which its requests would run")
        if self._invoker.lifespan is not None:
            self._invoker.state = self._await(self._invoker.lifespan.startup())

    def serve(self) -> None:
        """Serve until STOP or the end of the stream, and until every request that came has its outcome."""
        while not self._process.guard.call(Tasks._run, self, self._broken_off):
            continue
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End an application's lifespan, and the tasks that are left, after the last request or SIGTERM."""
        self._end_serving()
        try:
            if self._invoker.lifespan is not None:
                self._await(self._invoker.lifespan.shutdown())
        finally:
            end_tasks(self._loop)

    def after_fork(self) -> None:
        """Tell what waits in a child that the function forked that nothing will come."""
        self.hang_up()
        self._loop.stop()

    # The exchanges' Line

    def look(self) -> Awaitable[None] | None:
        """Let the event loop read what has come, at most every LOOK_SECONDS, between steps that do not wait."""
        now = monotonic()
        if now < self._looks_at:
            return None
        self._looks_at = now + LOOK_SECONDS
        return asyncio.sleep(0)  # type: ignore[no-any-return]

    def wait(self, exchange: Exchange, seen: int) -> Awaitable[object]:
        """Return what a task awaits until something has come for the exchange."""
        exchange.heard.clear()
        return exchange.heard.wait()

    def tell(self, exchange: Exchange) -> None:
        """Wake the tasks that wait for the exchange."""
        exchange.heard.set()

    # The event loop

    def _await(self, work: Awaitable[Any]) -> Any:
        """Return what an awaitable gives, while no request is served."""
        return self._loop.run_until_complete(result_of(work))

    def _run(self) -> bool:
        pipes = self._process.pipes
        if not self._process.guard.terminated:
            pipes.on_kept = lambda: self._loop.call_soon_threadsafe(self._read)
            self._loop.add_reader(pipes.requests, self._read)
            self._loop.call_soon(self._read)  # frames that came together with HELLO
            while not self._over():
                self._loop.run_forever()
                self._process.leave_if_forked()  # a task that forked has given way to the others
        self._end_serving()
        return True

    def _broken_off(self, error: BaseException) -> bool:
        """Take what the function raised in the event loop itself. Return whether to end.

        It was SystemExit in a task that the function started, or an error of a signal handler, perhaps in place of one
        of the steps below.
        """
        if self._process.guard.terminated:
            self._end_serving()
            return True
        self._process.report("a task", error)
        if self._loop.is_closed():
            raise error
        for id, task in self._tasks.items():
            if task.done():
                self._loop.call_soon(self._end, id)
        return False

    def _end_serving(self) -> None:
        """Begin no further request, and send no outcome: all requests have one, or SIGTERM has come."""
        self._serving = False
        self._waiting.clear()
        self._process.pipes.on_kept = None
        self._loop.remove_reader(self._process.pipes.requests)

    # What the loop calls. No signal handler of the function breaks off one of these steps.

    def _read(self) -> None:
        self._process.guard.during(self._take_in)

    def _end(self, id: int) -> None:
        self._process.guard.during(lambda: self._conclude_task(id))

    def _take_in(self) -> None:
        """Take all frames that have come by now."""
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
            except BaseException as error:  # of a task factory of the function's
                work.close()
                self._finish(exchange, self._process.problem(error))
                continue
            self._tasks[exchange.id] = task
            for _ in range(2):  # a signal handler of the function may raise where the loop is about to call one
                task.add_done_callback(lambda _, id=exchange.id: self._end(id))  # type: ignore[misc]
            if exchange.cancelled and self.cancels:
                task.cancel()

    async def _serve_one(self, exchange: Exchange) -> Outcome:
        """Call the function for a request, in a task of its own. The outcome is sent outside of the task."""
        process = self._process
        process.log.enter(tag_of(exchange))  # until the task's context ends, or until `conclude`
        try:
            await self._invoker.serve_async(exchange)
            outcome = await exchange.outcome()
        except BaseException as error:  # SystemExit would end the loop
            self._invoker.report_unheard(exchange, error)
            outcome = process.problem(error)
        process.leave_if_forked()
        if process.guard.terminated and self._serving:
            raise SystemExit  # out of the event loop, which ends with it
        return outcome

    def _conclude_task(self, id: int) -> None:
        task = self._tasks.pop(id, None)
        if task is None or not self._serving:
            return
        if task.cancelled():
            outcome = self._process.problem(asyncio.CancelledError(GIVEN_UP))
        else:
            error = task.exception()  # a signal handler's, from between the last two steps
            outcome = self._process.problem(error) if error is not None else task.result()
        self._finish(self._exchanges[id], outcome)
        self._begin_next()
        self._stop_if_over()

    def _finish(self, exchange: Exchange, outcome: Outcome) -> None:
        try:
            self.conclude(exchange, outcome, {"duration_us": microseconds_since(exchange.started)})
        finally:
            del self._exchanges[exchange.id]
            exchange.hang_up()  # a task that it left behind may wait for the rest of its body

    def _stop_if_over(self) -> None:
        if self._over() and self._serving:
            self._loop.stop()

    def _over(self) -> bool:
        return self._failure is not None or (self._stopping and not self._exchanges)
