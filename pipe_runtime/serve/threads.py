"""Serve several requests at once, each in a thread: for plain functions and WSGI applications.

The main thread reads frames and hands them out. A bounded number of threads runs the function; they are started when
they are needed, and used again. Python runs signal handlers in the main thread only, so none interrupts a request
here. This module must not know descriptors.
"""

from __future__ import annotations

from _thread import get_ident
from time import perf_counter_ns, thread_time_ns

from .. import namespace
from ..call.exchange import GIVEN_UP, CallerGone, Exchange, at_once
from ..namespace import late
from ..wire.connection import EndOfStream
from ..wire.errors import ProtocolError
from ..wire.messages import DUMP, INVOKE, STOP
from .engine import Engine, microseconds_since, tag_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Process

threading = late.threading


class Threads(Engine):
    """Serves each request in a thread. It is the exchanges' Line."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        self._news = threading.Condition()
        self._waiting: list[Exchange] = []
        self._threads: dict[int, int] = {}  # the thread of each running request
        self._idle = self._started = 0
        self._failure: Exception | None = None
        super().__init__(process, invoker, concurrency)

    def serve(self) -> None:
        """Serve until STOP or the end of the stream, and until every request that came has its outcome."""
        while (frame := self._next()) is not None and frame.kind != STOP:
            if frame.kind == INVOKE:
                self._submit(Exchange(frame.id, frame.metadata, frame.payload, self))
            elif frame.kind == DUMP:
                self._answer_dump()
            else:
                self._hand_on(frame)
        if frame is None:
            self.hang_up()
        else:
            self._keep_hearing()
        with self._news:
            self._process.guard.wait(lambda: self._news.wait_for(lambda: not self._exchanges))
        if self._failure is not None:
            raise self._failure

    def after_fork(self) -> None:
        """Tell what waits in a child that the function forked that nothing will come."""
        self._news = threading.Condition()
        self.hang_up()

    # The exchanges' Line

    def look(self) -> None:
        """Do nothing: the main thread reads frames at any time."""

    def tell(self, exchange: Exchange) -> None:
        """Wake the threads that wait for frames. The caller holds the lock."""
        self._news.notify_all()

    def wait(self, exchange: Exchange, seen: int) -> None:
        """Wait until the main thread has heard something for the exchange."""
        with self._news:
            self._news.wait_for(lambda: exchange.news != seen)

    # The main thread

    def _next(self) -> Frame | None:
        """Return the next frame as soon as it is there, None at the end of the stream."""
        process = self._process
        event = process.next_frame()
        while event is None:
            event = process.next_frame(process.guard.wait(process.pipes.read))
        return None if isinstance(event, EndOfStream) else event

    def _hand_on(self, frame: Frame) -> None:
        with self._news:
            exchange = self._exchanges.get(frame.id)
            if exchange is not None:
                exchange.hear(frame.kind, frame.payload)

    def hang_up(self) -> None:
        """Tell the requests that nothing more will come, so that none waits for ever."""
        with self._news:
            super().hang_up()

    def _keep_hearing(self) -> None:
        with self._news:
            if not self._exchanges:
                return
        try:
            threading.Thread(target=self._hear_the_rest, daemon=True).start()
        except (RuntimeError, MemoryError):  # an init that says STOP closes its stream soon
            self._hear_the_rest()

    def _hear_the_rest(self) -> None:
        """Read, after STOP, the bodies, credit and cancellations of the requests that are still running."""
        try:
            while (frame := self._next()) is not None:
                self._hand_on(frame)
        except (ProtocolError, OSError) as error:
            self._failure = error
        finally:
            self.hang_up()

    def _submit(self, exchange: Exchange) -> None:
        with self._news:
            self._exchanges[exchange.id] = exchange
            self._waiting.append(exchange)
            self._news.notify_all()
            if self._idle >= len(self._waiting) or self._started >= self._concurrency or self._start_thread():
                return
            self._waiting.remove(exchange)
            del self._exchanges[exchange.id]
        self._refuse(exchange, MemoryError("no thread can be started for this request"))

    def _start_thread(self) -> bool:
        """Start one more thread. Return False if there is none at all to serve a request."""
        try:
            threading.Thread(target=self._work, name=f"request-{self._started + 1}", daemon=True).start()
        except (RuntimeError, MemoryError):  # a thread's stack counts as memory
            return self._started > 0
        self._started += 1
        return True

    def _answer_dump(self) -> None:
        with self._news:
            running = dict(self._threads)
        stacks = namespace.own("call.stacks")
        self.answer_dump([(id, stacks.of_thread(running[id])) for id in running])

    def _refuse(self, exchange: Exchange, error: BaseException) -> None:
        """Send the outcome of a request that the function never gets."""
        self.conclude(exchange, self._process.problem(error), {"duration_us": 0})

    # The other threads

    def _work(self) -> None:
        while True:
            with self._news:
                self._idle += 1
                self._news.wait_for(lambda: self._waiting)
                self._idle -= 1
                exchange = self._waiting.pop(0)
                self._threads[exchange.id] = get_ident()
            try:
                if exchange.cancelled:  # while it waited for its turn
                    self._refuse(exchange, CallerGone(GIVEN_UP))
                else:
                    self._serve_one(exchange)
            finally:
                with self._news:
                    del self._threads[exchange.id], self._exchanges[exchange.id]
                    exchange.hang_up()  # a thread that it left behind may wait for the rest of its body
            del exchange

    def _serve_one(self, exchange: Exchange) -> None:
        """Call the function for a request, and send its outcome."""
        process = self._process
        token = process.log.enter(tag_of(exchange))
        begun, cpu = perf_counter_ns(), thread_time_ns()
        try:
            self._invoker.serve(exchange)
            outcome = at_once(exchange.outcome())
        except BaseException as error:  # the function's code may raise anything, SystemExit too
            self._invoker.report_unheard(exchange, error)
            outcome = process.problem(error)
        process.leave_if_forked()
        measured = {"duration_us": microseconds_since(begun), "cpu_us": max(0, thread_time_ns() - cpu) // 1000}
        self.conclude(exchange, outcome, measured)
        process.log.leave(token)
