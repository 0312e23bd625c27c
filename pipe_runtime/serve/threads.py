"""Several requests at once, each in a thread: for plain functions and WSGI applications.

The main thread reads frames and hands them out; a bounded number of threads, started when needed and used again,
runs the function. Python runs signal handlers in the main thread only, so none interrupts a request here.
"""

from __future__ import annotations

from .. import namespace
from ..namespace import late
from ..wire.connection import End
from ..wire.errors import ProtocolError
from ..wire.messages import DUMP, INVOKE, STOP
from .exchange import GIVEN_UP, CallerGone, Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.frames import Frame
    from .exchange import Incoming
    from .service import Service


class Threads:
    """The engine of a worker that runs up to `concurrency` requests at once. It is the exchanges' Line."""

    def __init__(self, service: Service, concurrency: int) -> None:
        threading = late.threading
        self._thread = threading.Thread
        self._condition = threading.Condition
        self._service = service
        self._concurrency = concurrency
        self._news = threading.Condition()
        self._exchanges: dict[int, Exchange] = {}
        self._waiting: list[Exchange] = []
        self._threads: dict[int, int] = {}  # of each running request, the thread that it runs in
        self._idle = self._started = 0
        self._failure: Exception | None = None

    def start(self) -> None:
        """Nothing: threads start with requests."""

    def serve(self) -> None:
        """Serve until STOP or the end of the stream, and until every request that came has its outcome."""
        while (frame := self._next()) is not None and frame.kind != STOP:
            if frame.kind == INVOKE:
                self._submit(Exchange(frame.id, frame.metadata, frame.payload, self))
            elif frame.kind == DUMP:
                self._service.post(DUMP, metadata={"stacks": self._stacks()})
            else:
                self._hand_on(frame)
        if frame is None:
            self._hang_up()
        else:
            self._keep_hearing()
        self._service.wait(self._all_answered)
        if self._failure is not None:
            raise self._failure

    def after_fork(self) -> None:
        """In a forked child: what the thread that forked waits for will not come."""
        self._news = self._condition()
        self._hang_up()

    def stop(self) -> None:
        """Nothing: idle threads do not keep the process."""

    # A Line

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """As Outbox.post."""
        self._service.post(kind, id, metadata, payload)

    def credit(self, id: int) -> int:
        """Bytes of its answer's stream that may be sent now."""
        return self._service.credit(id)

    def look(self) -> None:
        """Do nothing: the main thread reads frames at any time."""

    def wait(self, exchange: Incoming, seen: int) -> None:
        """Until the main thread has heard something for the exchange."""
        with self._news:
            self._news.wait_for(lambda: exchange.news != seen)

    # The main thread

    def _all_answered(self) -> None:
        with self._news:
            self._news.wait_for(lambda: not self._exchanges)

    def _next(self) -> Frame | None:
        event = self._service.next_frame()
        return None if isinstance(event, End) else event

    def _hand_on(self, frame: Frame) -> None:
        with self._news:
            exchange = self._exchanges.get(frame.id)
            if exchange is not None:
                exchange.hear(frame)
                self._news.notify_all()

    def _hang_up(self) -> None:
        """Nothing more will come: who waits for it must not wait for ever."""
        with self._news:
            for exchange in self._exchanges.values():
                exchange.hang_up()
            self._news.notify_all()

    def _keep_hearing(self) -> None:
        with self._news:
            if not self._exchanges:
                return
        try:
            self._thread(target=self._hear_the_rest, daemon=True).start()
        except (RuntimeError, MemoryError):  # an init that says STOP closes its stream soon
            self._hear_the_rest()

    def _hear_the_rest(self) -> None:
        """After STOP: bodies, credit and cancellations of the requests that are still running."""
        try:
            while (frame := self._next()) is not None:
                self._hand_on(frame)
        except (ProtocolError, OSError) as error:
            self._failure = error
        finally:
            self._hang_up()

    def _submit(self, exchange: Exchange) -> None:
        with self._news:
            self._exchanges[exchange.id] = exchange
            self._waiting.append(exchange)
            self._news.notify_all()
            if self._idle >= len(self._waiting) or self._started >= self._concurrency or self._start_thread():
                return
            self._waiting.remove(exchange)
            del self._exchanges[exchange.id]
        self._service.refuse(exchange, MemoryError("no thread can be started for this request"))

    def _start_thread(self) -> bool:
        """One more. False: there is none to serve a request, and none can be started (a stack counts as memory)."""
        try:
            self._thread(target=self._work, name=f"request-{self._started + 1}", daemon=True).start()
        except (RuntimeError, MemoryError):
            return self._started > 0
        self._started += 1
        return True

    def _stacks(self) -> list[dict[str, Any]]:
        with self._news:
            running = dict(self._threads)
        stacks = namespace.own("call.stacks")
        found = [{"name": f"request {id}", "id": id, "stack": stacks.of_thread(running[id])} for id in running]
        return list(stacks.fitting(found))

    # The other threads

    def _work(self) -> None:
        while True:
            with self._news:
                self._idle += 1
                self._news.wait_for(lambda: self._waiting)
                self._idle -= 1
                exchange = self._waiting.pop(0)
                self._threads[exchange.id] = late.threading.get_ident()
            try:
                if exchange.cancelled:  # while it waited for its turn
                    self._service.refuse(exchange, CallerGone(GIVEN_UP))
                else:
                    self._service.serve_in_thread(exchange)
            finally:
                with self._news:
                    del self._threads[exchange.id], self._exchanges[exchange.id]
                    exchange.hang_up()  # a thread that it has left behind may wait for the rest of its body
                    self._news.notify_all()
            del exchange
