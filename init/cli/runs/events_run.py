"""Run many events: read lines, submit requests to a supervisor, and write one result line for each event.

The run waits in one place only, and only after a turn that found nothing to do. It knows neither options nor terminals
nor how a worker is run.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ...engine.supervisor import Supervisor
from ...kernel import exit_codes
from ...model import MAX_PAYLOAD, Outcome, Piece, Request, problem
from ..results.exit_codes import ENDING_CODES, exit_code
from ..results.output import Output
from ..results.result_lines import Result, ResultLines
from .event_input import LineReader

MAX_HELD = 64 * 1024 * 1024
"""Bytes of results that may wait to be printed. While there are more, no further events are submitted."""

MAX_WAITING = 1024
"""Events that may be in flight or wait for their line to be printed."""


class EventsRun:
    """One run.

    Args:
        supervisor: Runs the requests.
        reader: Reads the events.
        output: Writes the lines.
        lines: Makes a line of a result.
        request: Makes a request of an event.
        counted: Called with each outcome just before its line is printed.
        max_held: Bytes of results that may wait to be printed. Beyond them only the result that is printed next gets
            credit, up to the limit of a line. The others may add what their workers had credit for already.

    Attributes:
        codes: Exit codes of the events so far.
        held: Bytes of results in memory: unfinished streams, results to check, waiting ones, the one being written.
        read: The number of events that were read so far.
        reason: The error that ended the run early; empty if it did not end early, or a signal ended it.
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
        self._collected: dict[str, tuple[bytearray, int]] = {}  # of streamed results: as in Result, data and size
        self._unchecked: deque[tuple[Result, Iterator[None]]] = deque()
        self._withheld: list[Piece] = []
        self._ended = False

    def run(self) -> None:
        """Run until each event that was read has its line."""
        while True:
            if self._turn():
                if self._unchecked:
                    self._supervisor.step(wait=False)  # a large result is being checked: workers do not wait for it
                continue  # another step may have waited for what was just done
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
        if output.pending and supervisor.interrupted_by and not self._order.awaited:
            output.finish()  # only the reader of stdout is waited for: within the grace time
            return
        hungry = not reader.has_line() and not reader.ended and supervisor.has_room()
        watch = {reader.descriptor: select.POLLIN} if hungry else {}
        if output.pending:
            watch[output.descriptor] = select.POLLOUT
        ready = supervisor.step(watch)
        if hungry and reader.descriptor in ready:
            reader.fill()

    # The steps of a turn. Each returns whether it did anything.

    def _take_events(self) -> bool:
        """Submit events while there is room. Once the supervisor takes no more, refuse the events that were read."""
        supervisor, reader, order = self._supervisor, self._reader, self._order
        before = self.read
        while reader.has_line() and not (order.full or self.held >= self._max_held or self._unchecked):
            room = supervisor.has_room()
            if not room and not supervisor.finishing:
                break
            line = reader.next_line()
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
        """Take what came: pieces of streamed results, whose workers get no credit for them yet, and outcomes."""
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
            self.held += len(outcome.payload)  # there is none if the result was streamed
            whole = outcome.payload, len(outcome.payload)
            result = Result(outcome, *self._collected.pop(outcome.request_id, whole))
            outcome.payload = b""
            self._unchecked.append((result, self._lines.check(result)))
        return done

    def _check(self) -> bool:
        """Check whether results can be lines: small ones at once, of a large one a part."""
        done = False
        while self._unchecked:
            result, checks = self._unchecked[0]
            size = len(result.data)
            for _ in checks:
                if not self._supervisor.in_a_hurry:
                    return True  # there is more to check of it
                result.fail("Runtime.Stopped", "pipe-init stopped before it had checked the result", exit_codes.STOPPED)
                break
            self._unchecked.popleft()
            self.held += len(result.data) - size  # a result that failed is dropped
            self._order.put(result)
            self.codes.add(exit_code(result.outcome))
            self._look_for_an_end(result)
            done = True
        return done

    def _look_for_an_end(self, result: Result) -> None:
        """End the run if every further event would fail in the same way. Note why no more events are taken."""
        supervisor, error = self._supervisor, result.outcome.problem
        if error is None or self._ended or supervisor.interrupted_by:
            return
        self._ended = exit_code(result.outcome) in ENDING_CODES
        if self._ended or supervisor.finishing:
            self.reason = error
        if self._ended and not supervisor.finishing:
            supervisor.finish()  # requests in flight may still succeed

    def _print(self) -> bool:
        """Write lines until stdout takes no more without waiting."""
        order, output = self._order, self._output
        done = output.write_some()
        while not output.pending and (following := order.take()) is not None:
            place, result = following
            self._counted(result.outcome)
            output.add(self._lines.pieces(result, place), partial(self._release, len(result.data)))
            output.write_some()
            done = True
        return done

    def _release(self, size: int) -> None:
        self.held -= size

    def _give_credit(self) -> bool:
        """Give workers credit. While too much is held, only the result that is printed next gets any."""
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
    """Return results, each with the place of its event, in the order of the events or in that in which they come.

    Args:
        unordered: Whether results are returned in the order in which they come.
    """

    def __init__(self, unordered: bool = False) -> None:
        self._unordered = unordered
        self._places: dict[str, int] = {}  # of the requests whose results have not come, in their order
        self._came: dict[int, Result] = {}  # by place
        self._announced = self._taken = 0

    def __len__(self) -> int:
        """Return how many events were announced whose results were not taken."""
        return self._announced - self._taken

    @property
    def full(self) -> bool:
        """Return whether results have to be taken before more events are announced."""
        return len(self) >= MAX_WAITING

    @property
    def awaited(self) -> int:
        """Return how many results have not come."""
        return len(self._places)

    @property
    def first(self) -> str | None:
        """Return the id of the first request whose result has not come; None if all have."""
        return next(iter(self._places), None)

    def announce(self, request_id: str) -> None:
        """Note that the result of this request will come."""
        self._places[request_id] = self._announced
        self._announced += 1

    def put(self, result: Result) -> None:
        """Accept a result."""
        self._came[self._places.pop(result.outcome.request_id)] = result

    def take(self) -> tuple[int, Result] | None:
        """Return the next result with its place, counted from 0; None if it has not come yet."""
        place = next(iter(self._came), -1) if self._unordered else self._taken
        if place not in self._came:
            return None
        self._taken += 1
        return place, self._came.pop(place)
