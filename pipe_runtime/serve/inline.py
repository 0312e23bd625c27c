"""Serve requests that are more than one payload in the loop's own thread, one after another.

Loaded only for a streamed event or result, an HTTP function, a hook, or a plain function that returns an iterator.
This module hands the frames that come for such a request to its exchange. It must not know what the request means.
"""

from __future__ import annotations

from _thread import get_ident

from .. import namespace
from ..log.writer import NO_REQUEST
from ..wire.messages import CANCEL, CHUNK, CREDIT, DUMP, END, INVOKE
from .event_function import answer, send_whole
from .exchange import GIVEN_UP, CallerGone, Exchange
from .reader import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.frames import Frame
    from .invoker import Invoker
    from .process import Outcome, Process


class InlineRequests:
    """The requests that the loop's thread serves, or will, and for which frames may come.

    Args:
        queue: Where frames for the loop itself go, and None at the end of the stream.

    Attributes:
        reader: Reads frames while the function waits for one.
    """

    def __init__(self, process: Process, invoker: Invoker, queue: list[Frame | None]) -> None:
        self._process = process
        self._invoker = invoker
        self._queue = queue
        self._thread = get_ident()
        self._exchanges: dict[int, Exchange] = {}
        self.reader = Reader(process.connection, process.pipes, process.outbox, process.guard, self.hear)
        process.on_fork.append(self._after_fork)

    def hear(self, frame: Frame | None) -> None:
        """Take a frame that the loop does not handle itself, or one that came while the function waited.

        Args:
            frame: None at the end of the stream.
        """
        if frame is None:
            self.reader.ended = True
            for exchange in self._exchanges.values():
                exchange.hang_up()
            self._queue.append(None)
        elif frame.kind in (CHUNK, END, CREDIT, CANCEL):
            found = self._exchanges.get(frame.id)
            if found is not None:
                found.hear(frame)
            if frame.kind == CANCEL:
                self.reader.look_soon()  # the requests that wait after it may be cancelled, too
        elif frame.kind == DUMP and self._process.log.current is not NO_REQUEST:
            self._answer_dump()
        else:
            if frame.kind == INVOKE:  # frames may come for it while it waits for its turn
                self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self.reader)
            self._queue.append(frame)

    def refuse_cancelled(self, id: int) -> None:
        """Raise CallerGone if the request was cancelled while it waited for its turn."""
        self.reader.look()
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
            exchange = self._exchanges[frame.id] = Exchange(frame.id, frame.metadata, b"", self.reader)
        if frame.payload:
            exchange.give(frame.payload)
            frame.payload = b""  # the function need not hold the event twice
        try:
            work(exchange)
        except BaseException as error:
            self._invoker.report_unheard(exchange, error)
            raise
        return exchange.outcome()

    def _answer_dump(self) -> None:
        stacks, id = namespace.own("call.stacks"), self._process.log.current.id
        found = {"name": f"request {id}", "id": id, "stack": stacks.of_thread(self._thread)}
        self._process.outbox.post(DUMP, metadata={"stacks": list(stacks.fitting([found]))})

    def _after_fork(self) -> None:
        """Tell what waits in a child that the function forked that nothing will come."""
        self.reader.after_fork()
        for exchange in self._exchanges.values():
            exchange.hang_up()
