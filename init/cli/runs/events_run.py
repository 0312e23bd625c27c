"""Run many events: read lines, submit requests to a supervisor, and write one result line for each event.

The run works in turns. It waits in one place only, and only after a turn that found nothing to do. This file knows
neither options nor terminals, and does not know how a worker runs.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from ...engine.supervisor import Supervisor
from ...kernel import exit_codes
from ...model import MAX_PAYLOAD, Outcome, Piece, Request, problem
from ..results.output import Output
from ..results.result_lines import Result, ResultLines
from ..results.run_exit_code import ENDING_CODES, exit_code
from .event_input import LineReader

MAX_HELD = 64 * 1024 * 1024
"""The most bytes of results that may wait to be printed. While there are more, the run submits no further events."""

MAX_WAITING = 1024
"""The most events that may be unfinished, or wait for their line to be printed."""

TOGETHER = 256
"""The most short lines that are joined for one write. A short line is not much longer than json_text.PIECE bytes."""


class EventsRun:
    """Run the events of one command.

    Args:
        supervisor: The object that runs the requests.
        reader: The object that reads the events.
        output: The object that writes the lines.
        lines: The object that makes a line from a result.
        request: A function that makes a request from an event.
        counted: A function to call with each outcome just before its line is printed.
        max_held: The most bytes of results that may wait to be printed. While there are more, only the result that is
            printed next gets credit, up to the limit of a line. Other streams may still send as many bytes as their
            workers had credit for.

    Attributes:
        codes: The exit codes of the events so far.
        held: The bytes of results in memory: unfinished streams, results to check, results that wait to be printed,
            and the result that is being written.
        read: The number of events that were read so far.
        reason: The error that ended the run early. Empty if the run did not end early, or if a signal ended it.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        reader: LineReader,
        output: Output,
        lines: ResultLines,
        request: Callable[[bytes], Request],
        counted: Callable[[Outcome], None] = lambda outcome: None,
        max_held: int = MAX_HELD,
    ) -> None:
        self.codes: set[int] = set()
        self.held = 0
        self.read = 0
        self.reason: Mapping[str, object] = {}
        self._supervisor = supervisor
        self._reader = reader
        self._output = output
        self._lines = lines
        self._request = request
        self._counted = counted
        self._max_held = max_held
        self._order = ResultQueue(lines.unordered)
        self._collected: dict[str, tuple[bytearray, int]] = {}  # {id: (data, size)} of streamed results, as in Result
        self._unchecked: deque[tuple[Result, Iterator[None]]] = deque()
        self._withheld: list[Piece] = []
        self._printing_size = 0  # bytes of the results that are being written
        self._ended = False

    def run(self) -> None:
        """Run until each event that was read has its line."""
        while True:
            if self._turn():
                if self._unchecked:
                    self._supervisor.step(wait=False)  # serve the workers while a large result is being checked
                continue  # one step of this turn may have made work for another
            if not self._order and not self._output.pending and (self._reader.exhausted or self._supervisor.finishing):
                return
            self._wait()

    def _turn(self) -> bool:
        """Do all that can be done without waiting. Return whether anything was done."""
        done = False
        for step in (self._take_events, self._collect, self._check, self._print, self._give_credit):
            done |= step()
        return done

    def _wait(self) -> None:
        """Wait for the workers, for the next event if there is room for one, and for stdout if something is pending."""
        supervisor, reader, output = self._supervisor, self._reader, self._output
        if output.pending and supervisor.interrupted_by and self._order.first is None:
            output.finish()  # the run waits only for the reader of stdout now, and no longer than the grace time
            return
        hungry = not reader.lines and not reader.ended and supervisor.has_room()
        watch = {reader.descriptor: select.POLLIN} if hungry else {}
        if output.pending:
            watch[output.descriptor] = select.POLLOUT
        ready = supervisor.step(watch)
        if hungry and reader.descriptor in ready:
            reader.fill()

    # The steps of a turn. Each returns whether it did anything.

    def _take_events(self) -> bool:
        """Submit events while there is room. If the supervisor accepts no more, refuse the events that were read."""
        supervisor, reader, order = self._supervisor, self._reader, self._order
        before = self.read
        supervisor.hold()
        while reader.lines and not (len(order) >= MAX_WAITING or self.held >= self._max_held or self._unchecked):
            room = supervisor.has_room()
            if not room and not supervisor.finishing:
                break
            line = reader.lines.popleft()
            request = self._request(line or b"")
            order.announce(request.request_id)
            self.read += 1
            if line is None:
                error = problem("RequestTooLargeException", f"The event has more than {MAX_PAYLOAD} bytes")
                outcome = Outcome(request.request_id, problem=error, exit_code=exit_codes.FUNCTION_FAILED)
                supervisor.outcomes.append(outcome)
            elif room:
                supervisor.submit(request)
            else:
                supervisor.refuse(request)
        return self.read > before

    def _collect(self) -> bool:
        """Collect the pieces of streamed results, and the outcomes. Workers get no credit for these pieces yet."""
        pieces, outcomes = self._supervisor.pieces, self._supervisor.outcomes
        done = bool(pieces or outcomes)
        while pieces:
            piece = pieces.popleft()
            data, size = self._collected.get(piece.request_id, (bytearray(), 0))
            size += len(piece.data)
            self.held -= len(data)
            if size <= self._lines.max_line:
                data += piece.data
            else:
                data = bytearray()
            self.held += len(data)
            self._collected[piece.request_id] = data, size
            self._withheld.append(piece)
        while outcomes:
            outcome = outcomes.popleft()
            self.held += len(outcome.payload)  # the payload is empty if the result was streamed
            whole = outcome.payload, len(outcome.payload)
            result = Result(outcome, *self._collected.pop(outcome.request_id, whole))
            outcome.payload = b""
            self._unchecked.append((result, self._lines.check(result)))
        return done

    def _check(self) -> bool:
        """Check whether results can become lines. Check small results at once, and only a part of a large one."""
        done = False
        while self._unchecked:
            result, checks = self._unchecked[0]
            size = len(result.data)
            for _ in checks:
                if not self._supervisor.in_a_hurry:
                    return True  # the next turn checks more of this result
                result.fail("Runtime.Stopped", "pipe-init stopped before it had checked the result", exit_codes.STOPPED)
                break
            self._unchecked.popleft()
            self.held += len(result.data) - size  # a failed check has dropped the data
            self._order.put(result)
            self.codes.add(exit_code(result.outcome))
            self._look_for_an_end(result)
            done = True
        return done

    def _look_for_an_end(self, result: Result) -> None:
        """End the run if every further event would fail in the same way. If the run ends early, set its `reason`."""
        supervisor, error = self._supervisor, result.outcome.problem
        if error is None or self._ended or supervisor.interrupted_by:
            return
        self._ended = exit_code(result.outcome) in ENDING_CODES
        if self._ended or supervisor.finishing:
            self.reason = error
        if self._ended and not supervisor.finishing:
            supervisor.finish()  # submitted requests may still succeed

    def _print(self) -> bool:
        """Write lines until stdout accepts no more without waiting."""
        output = self._output
        done = output.write_some()
        while not output.pending and (pieces := self._next_lines()) is not None:
            output.add(pieces, self._release)
            output.write_some()
            done = True
        return done

    def _next_lines(self) -> Iterable[bytes | memoryview] | None:
        """Return the pieces of the next lines; None if no line is ready. Join short lines, to write them all at once.

        If the log goes to the same file, return only one line, so that log lines can come between result lines.
        """
        short: list[bytes | memoryview] = []
        limit = 1 if self._output.shared else TOGETHER
        while len(short) < limit and (following := self._order.take()) is not None:
            place, result = following
            self._counted(result.outcome)
            self._printing_size += len(result.data)
            pieces = self._lines.pieces(result, place)
            if not isinstance(pieces, tuple):  # a long line
                return chain(short, pieces)
            short += pieces
        return (b"".join(short),) if short else None

    def _release(self) -> None:
        self.held -= self._printing_size
        self._printing_size = 0

    def _give_credit(self) -> bool:
        """Give workers credit for collected pieces. While `held` is too large, credit only the next result to print."""
        if not self._withheld:
            return False
        withheld, self._withheld = self._withheld, []
        full = self.held > self._max_held
        first = None if self._output.pending else self._order.first
        for piece in withheld:
            if full and piece.request_id != first:
                self._withheld.append(piece)
            else:
                self._supervisor.taken(piece)
        return len(self._withheld) < len(withheld)


class ResultQueue:
    """Queue results, and return each with the number of its event.

    Args:
        unordered: Whether `take` returns results in the order in which they come. If not, it returns them in the order
            of their events.
    """

    def __init__(self, unordered: bool = False) -> None:
        self._unordered = unordered
        self._places: dict[str, int] = {}  # {request id: the event's number}, while the result has not come
        self._came: dict[int, Result] = {}  # {the event's number: its result}
        self._announced = self._taken = 0

    def __len__(self) -> int:
        """Return the number of announced events whose results `take` has not returned yet."""
        return self._announced - self._taken

    @property
    def first(self) -> str | None:
        """Return the id of the first request whose result has not come; None if all results have come."""
        return next(iter(self._places), None)

    def announce(self, request_id: str) -> None:
        """Register a request in the order of the events. Its result will come later."""
        self._places[request_id] = self._announced
        self._announced += 1

    def put(self, result: Result) -> None:
        """Add a result of an announced request."""
        self._came[self._places.pop(result.outcome.request_id)] = result

    def take(self) -> tuple[int, Result] | None:
        """Return (the event's number, counted from 0; its result) for the next result; None if it has not come yet."""
        place = next(iter(self._came), -1) if self._unordered else self._taken
        if place not in self._came:
            return None
        self._taken += 1
        return place, self._came.pop(place)
