"""Serve streams, HTTP requests and hooks in the loop's own thread, one request after another.

The runtime loads this module only for a streamed event or result, an HTTP function, a hook, or a plain function that
returns an iterator. While the function waits for a frame, its thread reads the pipe, and no other thread does. This
module passes the frames that come for a request to its exchange. It must not know what the request means.
"""

from __future__ import annotations

from _thread import RLock, get_ident
from time import monotonic  # imported now, because the function may replace the module's attributes

from .. import namespace
from ..call.exchange import GIVEN_UP, LOOK_SECONDS, CallerGone, Exchange, at_once
from ..log.writer import NO_REQUEST
from ..wire.connection import EndOfStream
from ..wire.messages import CANCEL, CHUNK, CREDIT, DUMP, END, INVOKE
from .concurrent_engine import Requests
from .event_function import answer, send_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Outcome, Process

PATIENCE = 0.05
"""How often, in seconds, a thread that waits for a frame checks whether another thread has read that frame."""


class InlineRequests(Requests):
    """Serve requests in the loop's thread, and collect the frames for them. This class implements Line (exchange.py).

    Args:
        queue: The list for frames that the loop handles itself. At the end of the stream it gets None.

    Attributes:
        lock: The lock that a thread holds while it reads frames, because the function may read its body in a thread of
            its own. The lock is reentrant, because a signal handler may read, too.
    """

    def __init__(self, process: Process, invoker: Invoker, queue: list[Frame | None]) -> None:
        super().__init__(process, invoker)
        self.lock = RLock()
        self._queue = queue
        self._thread = get_ident()
        self._looks_at = 0.0
        self._ended = False  # whether no more frames will come

    def hear(self, frame: Frame | None) -> None:
        """Take a frame that the loop does not handle itself, or a frame that came while the function waited.

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
                self._looks_at = 0.0  # look again at once: the next requests in the queue may be cancelled, too
        elif frame.kind == DUMP and self._process.log.current is not NO_REQUEST:
            self.answer_dump([(self._process.log.current.id, namespace.own("call.stacks").of_thread(self._thread))])
        else:
            if frame.kind == INVOKE:  # the exchange takes the frames that come while the request waits for its turn
                self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self)
            self._queue.append(frame)

    def receive(self) -> None:
        """Take the next frame, if it is complete. Otherwise read from the pipe once."""
        process = self._process
        with self.lock:  # a thread of an earlier request may still wait for its body, and read frames
            if not self._queue:
                event = process.next_frame() or process.next_frame(process.pipes.read())
                if event is not None:
                    self.hear(None if isinstance(event, EndOfStream) else event)

    def refuse_cancelled(self, id: int) -> None:
        """Raise CallerGone if the request was cancelled while it waited for its turn."""
        self.look()
        found = self._exchanges.get(id)
        if found is not None and found.cancelled:
            raise CallerGone(GIVEN_UP)

    def serve(self, frame: Frame) -> Outcome:
        """Call the function for an INVOKE. Raise what the function raises."""
        return self._answer(frame, self._invoker.serve)

    def serve_rest(self, frame: Frame, value: object) -> Outcome:
        """Answer a request with `value`, which its handler has already returned."""
        return self._answer(frame, lambda exchange: answer(exchange, value))

    def serve_large(self, frame: Frame, content_type: str, payload: bytes) -> Outcome:
        """Answer a request with an encoded result that is too large for one frame."""
        return self._answer(frame, lambda exchange: send_whole(exchange, content_type, payload))

    def settle(self, id: int) -> None:
        """Remove a request that has ended."""
        exchange = self._exchanges.pop(id, None)
        if exchange is not None:
            exchange.hang_up()  # a thread that the function started must not wait for the rest of the body

    def _answer(self, frame: Frame, work: Callable[[Exchange], None]) -> Outcome:
        exchange = self._exchanges.get(frame.id)
        if exchange is None:
            exchange = self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self)
        if frame.payload:
            exchange.hear(CHUNK, frame.payload)
            frame.payload = b""  # so that the event is not in memory twice
        try:
            work(exchange)
            return at_once(exchange.outcome())
        except BaseException as error:
            self._invoker.report_unheard(exchange, error)
            raise

    def after_fork(self) -> None:
        """End every wait for frames in a child that the function forked. The init sends none to it."""
        self.lock = RLock()  # another thread of the parent may have held the old lock
        self.hang_up()

    def hang_up(self) -> None:
        """End every request's wait for frames, and stop reading, because no more will come."""
        self._ended = True
        super().hang_up()

    # The methods of Line

    def wait(self, exchange: Exchange, seen: int) -> None:
        """Wait until a frame has come for `exchange`, and read meanwhile.

        Args:
            seen: The value of `exchange.news` before the caller last checked the exchange.
        """
        process = self._process
        while exchange.news == seen:
            if not self.lock.acquire(timeout=PATIENCE):
                continue
            try:
                if exchange.news == seen and process.connection.reader.buffered:
                    process.guard.during(self._take_in)  # the last read may have brought the frame already
                if exchange.news == seen:
                    process.pipes.wait()  # a signal handler of the function may raise here, which ends the wait
                    process.guard.during(self._read)
            finally:
                self.lock.release()
            return

    def look(self) -> None:
        """Read frames while the function does not wait for any, at most once in LOOK_SECONDS.

        If another thread is reading, do nothing: that thread takes the frames.
        """
        now = monotonic()
        if now < self._looks_at or self._ended:
            return
        self._looks_at = now + LOOK_SECONDS
        process = self._process
        if self.lock.acquire(blocking=False):
            try:
                if process.connection.reader.buffered:
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
