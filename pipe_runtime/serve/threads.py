"""Serve several requests at once, each in a thread: for ordinary functions and WSGI applications.

The main thread reads frames and passes them on. A bounded number of other threads call the function. A thread is
started when it is first needed, and then serves one request after another. Python runs signal handlers in the main
thread only, so they do not interrupt a request. This module must not know descriptors.
"""

from __future__ import annotations

from _thread import get_ident
from time import perf_counter_ns, thread_time_ns

from .. import namespace
from ..call.exchange import GIVEN_UP, CallerGone, Exchange, at_once
from ..limits import free_reserve, reserve, take_reserve
from ..namespace import late
from ..wire.connection import EndOfStream
from ..wire.errors import ProtocolError
from ..wire.messages import DUMP, INVOKE, STOP
from .concurrent_engine import Engine, microseconds_since, tag_of
from .process import EXIT_UNANSWERED, complain, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Process

threading = late.threading

ROOM = 384 * 1024
"""How many bytes of memory to leave free, if possible, for sending an error and reading the next request."""


class Threads(Engine):
    """Serve each request in a thread. This class implements Line (exchange.py)."""

    def __init__(self, process: Process, invoker: Invoker, concurrency: int) -> None:
        self._news = threading.Condition()
        self._waiting: list[Exchange] = []
        self._threads: dict[int, int] = {}  # {request id: thread id} of the running requests
        self._idle = self._started = 0
        self._failure: Exception | None = None
        super().__init__(process, invoker, concurrency)

    def serve(self) -> None:
        """Serve until STOP or the end of the stream. Return when every request that came has its outcome."""
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
        """End every wait for frames in a child that the function forked. The init sends none to it."""
        self._news = threading.Condition()
        self.hang_up()

    # The methods of Line

    def look(self) -> None:
        """Do nothing: the main thread reads every frame as soon as it comes."""

    def tell(self, exchange: Exchange) -> None:
        """Wake the threads that wait for frames. The caller holds the lock."""
        self._news.notify_all()

    def wait(self, exchange: Exchange, seen: int) -> None:
        """Wait until the main thread has read a frame for the exchange."""
        with self._news:
            self._news.wait_for(lambda: exchange.news != seen)

    # The main thread

    def _next(self) -> Frame | None:
        """Wait for the next frame and return it; None at the end of the stream."""
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
        """End every request's wait for frames, because no more will come."""
        with self._news:
            super().hang_up()

    def _keep_hearing(self) -> None:
        with self._news:
            if not self._exchanges:
                return
        try:
            threading.Thread(target=self._hear_the_rest, daemon=True).start()
        except (RuntimeError, MemoryError):  # read in this thread: after STOP the init soon closes its stream
            self._hear_the_rest()

    def _hear_the_rest(self) -> None:
        """Read the frames that come after STOP for the requests that still run: bodies, credit and cancellations."""
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
        """Start one more thread. Return False if that fails, and no other thread exists that could serve a request."""
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
        """Send `error` as the outcome of a request for which the function is not called."""
        self.conclude(exchange, self._process.problem(error), {"duration_us": 0})

    # The threads that call the function

    def _work(self) -> None:
        while True:
            with self._news:
                self._idle += 1
                self._news.wait_for(lambda: self._waiting)
                self._idle -= 1
                exchange = self._waiting.pop(0)
                self._threads[exchange.id] = get_ident()
            try:
                if exchange.cancelled:  # the request was cancelled while it waited for a thread
                    self._refuse(exchange, CallerGone(GIVEN_UP))
                else:
                    self._serve_one(exchange)
            except BaseException:  # no outcome was sent, most likely for lack of memory
                try:
                    complain("a request's outcome could not be sent")
                finally:
                    leave(EXIT_UNANSWERED)  # the init answers the worker's requests
            finally:
                with self._news:
                    del self._threads[exchange.id], self._exchanges[exchange.id]
                    exchange.hang_up()  # a thread that the function started may still wait for the rest of the body
            del exchange

    def _serve_one(self, exchange: Exchange) -> None:
        """Call the function for a request, and send its outcome."""
        process = self._process
        token = process.log.enter(tag_of(exchange))
        begun, cpu = perf_counter_ns(), thread_time_ns()
        try:
            self._invoker.serve(exchange)
            outcome = at_once(exchange.outcome())
        except BaseException as error:  # the function's code may raise any exception, also SystemExit
            if issubclass(type(error), MemoryError):
                free_reserve()
            self._invoker.report_unheard(exchange, error)
            outcome = process.problem(error)
            if not reserve:
                take_reserve(ROOM)  # now, before other requests take the memory
        process.leave_if_forked()
        measured = {"duration_us": microseconds_since(begun), "cpu_us": max(0, thread_time_ns() - cpu) // 1000}
        self.conclude(exchange, outcome, measured)
        process.log.leave(token)
