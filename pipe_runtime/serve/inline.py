"""Serve requests that are more than one payload in the loop's own thread, one after another.

Loaded only for a streamed event or result, an HTTP function, a hook, or a plain function that returns an iterator.
A function that waits for a frame reads it itself: no other thread reads meanwhile, so nothing has to be handed over.
This module hands the frames that come for such a request to its exchange. It must not know what the request means.
"""

from __future__ import annotations

from _thread import RLock, get_ident
from time import monotonic  # now: a function may replace the module's

from .. import namespace
from ..call.exchange import GIVEN_UP, LOOK_SECONDS, CallerGone, Exchange, at_once
from ..log.writer import NO_REQUEST
from ..wire.connection import EndOfStream
from ..wire.messages import CANCEL, CHUNK, CREDIT, DUMP, END, INVOKE
from .engine import Requests
from .event_function import answer, send_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Outcome, Process

PATIENCE = 0.05
"""Seconds that a thread waits while another one reads, before it checks whether that one has read what it needs."""


class InlineRequests(Requests):
    """The requests that the loop's thread serves, or will, and for which frames may come. It is the exchanges' Line.

    Args:
        queue: Where frames for the loop itself go, and None at the end of the stream.

    Attributes:
        lock: Held while a thread reads frames. The function may read its body in a thread of its own. The lock is
            reentrant, because a signal handler may read, too.
    """

    def __init__(self, process: Process, invoker: Invoker, queue: list[Frame | None]) -> None:
        super().__init__(process, invoker)
        self.lock = RLock()
        self._queue = queue
        self._thread = get_ident()
        self._looks_at = 0.0
        self._ended = False  # whether there is nothing more to read

    def hear(self, frame: Frame | None) -> None:
        """Take a frame that the loop does not handle itself, or one that came while the function waited.

        Args:
            frame: None at the end of the stream.
        """
        if frame is None:
            self.hang_up()
            self._queue.append(None)
        elif frame.kind in (CHUNK, END, CREDIT, CANCEL):
            found = self._exchanges.get(frame.id)
            if found is not None:
                found.hear(frame.kind, frame.payload)
            if frame.kind == CANCEL:
                self._looks_at = 0.0  # the requests that wait after it may be cancelled, too
        elif frame.kind == DUMP and self._process.log.current is not NO_REQUEST:
            self.answer_dump([(self._process.log.current.id, namespace.own("call.stacks").of_thread(self._thread))])
        else:
            if frame.kind == INVOKE:  # frames may come for it while it waits for its turn
                self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self)
            self._queue.append(frame)

    def refuse_cancelled(self, id: int) -> None:
        """Raise CallerGone if the request was cancelled while it waited for its turn."""
        self.look()
        found = self._exchanges.get(id)
        if found is not None and found.cancelled:
            raise CallerGone(GIVEN_UP)

    def serve(self, frame: Frame) -> Outcome:
        """Call the function for an INVOKE. Raises what the function raises."""
        return self._answer(frame, self._invoker.serve)

    def serve_rest(self, frame: Frame, value: object) -> Outcome:
        """Answer a request whose handler has returned `value` already."""
        return self._answer(frame, lambda exchange: answer(exchange, value))

    def serve_large(self, frame: Frame, content_type: str, payload: bytes) -> Outcome:
        """Answer a request with an encoded result that is too large for one frame."""
        return self._answer(frame, lambda exchange: send_whole(exchange, content_type, payload))

    def settle(self, id: int) -> None:
        """Forget a request that is over."""
        exchange = self._exchanges.pop(id, None)
        if exchange is not None:
            exchange.hang_up()  # a thread that it left behind must not wait for the rest of its body

    def _answer(self, frame: Frame, work: Callable[[Exchange], None]) -> Outcome:
        exchange = self._exchanges.get(frame.id)
        if exchange is None:
            exchange = self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self)
        if frame.payload:
            exchange.hear(CHUNK, frame.payload)
            frame.payload = b""  # the function need not hold the event twice
        try:
            work(exchange)
            return at_once(exchange.outcome())
        except BaseException as error:
            self._invoker.report_unheard(exchange, error)
            raise

    def after_fork(self) -> None:
        """Tell what waits in a child that the function forked that nothing will come."""
        self.lock = RLock()  # another thread of the parent may have held it
        self.hang_up()

    def hang_up(self) -> None:
        """Tell the requests that nothing more will come, and read no further."""
        self._ended = True
        super().hang_up()

    # The exchanges' Line

    def wait(self, exchange: Exchange, seen: int) -> None:
        """Read until something has come for `exchange`; `seen` is its news before the caller looked."""
        process = self._process
        while exchange.news == seen:
            if not self.lock.acquire(timeout=PATIENCE):
                continue
            try:
                if exchange.news == seen and process.connection.buffered:
                    process.guard.during(self._take_in)  # it may have come together with what was asked for last
                if exchange.news == seen:
                    process.pipes.wait()  # a signal handler of the function may raise here, and end the wait
                    process.guard.during(self._read)
            finally:
                self.lock.release()
            return

    def look(self) -> None:
        """Read the frames that have come, at most every LOOK_SECONDS, while the function does not wait for any.

        If another thread is reading, that thread hears them.
        """
        now = monotonic()
        if now < self._looks_at or self._ended:
            return
        self._looks_at = now + LOOK_SECONDS
        process = self._process
        if self.lock.acquire(blocking=False):
            try:
                if process.connection.buffered:
                    process.guard.during(self._take_in)
                while not self._ended and process.pipes.ready():
                    process.guard.during(self._read)
            finally:
                self.lock.release()

    def _read(self) -> None:
        self._take_in(self._process.pipes.read())

    def _take_in(self, data: bytes | None = None) -> None:
        event = self._process.next_frame(data)
        while event is not None:
            self.hear(None if isinstance(event, EndOfStream) else event)
            event = self._process.next_frame()
