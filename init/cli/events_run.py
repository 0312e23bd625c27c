"""Run many events: lines in, requests to a supervisor, one result line out for each event that was read.

The run waits in one place, and only after a turn in which it found nothing to do. It knows no options, no terminal and
not how a worker is run.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..answers import problem
from ..request import (
    EXIT_FUNCTION_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_NOT_LOADED,
    EXIT_OUT_OF_MEMORY,
    EXIT_PROTOCOL,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    MAX_PAYLOAD,
    Outcome,
    Piece,
    Request,
)
from .lines import MAX_HELD, AsTheyCome, InOrder, LineReader
from .output import Output
from .result_lines import Result, ResultLines

ENDING_CODES = (EXIT_USAGE, EXIT_NOT_LOADED, EXIT_PROTOCOL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND)
"""Exit codes that end a run: the next event would fare no better."""


class Engine(Protocol):
    """What a run needs of the supervisor (supervisor.py)."""

    outcomes: deque[Outcome]

    @property
    def pieces(self) -> deque[Piece]:
        """Of streamed results."""

    @property
    def finishing(self) -> bool:
        """Whether no further request is taken."""

    @property
    def interrupted_by(self) -> int:
        """The signal that asked for an end, 0 if none did."""

    def has_room(self) -> bool:
        """Return whether another request is worth submitting now."""

    def submit(self, request: Request) -> int:
        """Take a request."""

    def refuse(self, request: Request) -> None:
        """Answer a request that comes too late to be taken."""

    def taken(self, piece: Piece) -> None:
        """Let the worker send as many bytes more."""

    def finish(self) -> None:
        """Take no more requests."""

    def step(self, watch: Mapping[int, int] | None = None) -> Mapping[int, int]:
        """Wait until something happens, and deal with it."""


@dataclass(slots=True)
class _Collected:
    """A streamed result on its way to one line. size: bytes that came; above the limit of a line they are not kept."""

    data: bytearray = field(default_factory=bytearray)
    size: int = 0


class EventsRun:
    """One run.

    Args:
        supervisor: Runs the requests.
        reader: Gives the events.
        output: Takes the lines.
        lines: Makes them.
        request: Makes a request of an event.
        unordered: Lines come as results do, not in the order of their events.
        counted: Called with the outcome of each line that is about to be printed.
        max_held: Bytes of results that may wait to be printed. The first one to be printed may exceed it, to the limit
            of a line; so may the others, by what workers may send without further credit.

    Attributes:
        codes: Exit codes of the events so far.
        read: How many events there were so far.
        reason: The error of an event that tells why the run ended early; empty if it did not, or a signal ended it.
    """

    def __init__(
        self,
        supervisor: Engine,
        reader: LineReader,
        output: Output,
        lines: ResultLines,
        request: Callable[[bytes], Request],
        unordered: bool = False,
        counted: Callable[[Outcome], None] = lambda outcome: None,
        max_held: int = MAX_HELD,
    ) -> None:
        self.codes: set[int] = set()
        self.read = 0
        self.reason: Mapping[str, object] = {}
        self._supervisor = supervisor
        self._reader = reader
        self._output = output
        self._lines = lines
        self._request = request
        self._counted = counted
        self._max_held = max_held
        self._order: InOrder[Result] = AsTheyCome() if unordered else InOrder()
        self._collected: dict[str, _Collected] = {}
        self._collected_size = 0
        self._withheld: list[Piece] = []
        self._printing_size = 0
        self._ended = False

    @property
    def held(self) -> int:
        """Bytes of results in memory: what came of streams, what waits for its turn, and what is being written."""
        return self._collected_size + self._order.size + self._printing_size

    def run(self) -> None:
        """Go on until each event that was read has its line."""
        while True:
            if self._turn():
                continue  # what was done may be what something else was waiting for
            if not self._order and not self._output.pending and (self._reader.exhausted or self._supervisor.finishing):
                return
            self._wait()

    def _turn(self) -> bool:
        """Do all that can be done without waiting. Return whether anything was done."""
        done = self._take_events()
        done |= self._collect()
        done |= self._settle()
        done |= self._print()
        done |= self._give_credit()
        return done

    def _wait(self) -> None:
        """Wait for the workers, for the next event if one can be taken, and for the reader of what is not written."""
        supervisor, reader, output = self._supervisor, self._reader, self._output
        if output.pending and supervisor.interrupted_by and not self._order.awaited:
            output.finish()  # nothing else is missing: the reader's patience counts
            return
        hungry = not reader.has_line() and not reader.ended and supervisor.has_room()
        watch = {reader.descriptor: select.POLLIN} if hungry else {}
        if output.pending:
            watch[output.descriptor] = select.POLLOUT
        ready = supervisor.step(watch)
        if hungry and reader.descriptor in ready:
            reader.fill()

    # What a turn is made of. Each of these returns whether it did anything.

    def _take_events(self) -> bool:
        """Submit events while there is room. When no more are taken, those that were read are answered all the same."""
        supervisor, reader, order = self._supervisor, self._reader, self._order
        before = self.read
        while reader.has_line() and not order.full:
            room = supervisor.has_room()
            if not room and not supervisor.finishing:
                break
            line = reader.next_line()
            request = self._request(line or b"")
            order.announce(request.request_id)
            self.read += 1
            if line is None:
                error = problem("RequestTooLargeException", f"The event has more than {MAX_PAYLOAD} bytes")
                supervisor.outcomes.append(Outcome(request.request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
            elif room:
                supervisor.submit(request)
            else:
                supervisor.refuse(request)
        return self.read > before

    def _collect(self) -> bool:
        """Take the pieces of results that came; the worker gets no credit for them yet."""
        pieces = self._supervisor.pieces
        if not pieces:
            return False
        while pieces:
            piece = pieces.popleft()
            collected = self._collected.setdefault(piece.request_id, _Collected())
            collected.size += len(piece.data)
            self._collected_size -= len(collected.data)
            if collected.size <= self._lines.max_line:
                collected.data += piece.data
            else:
                collected.data = bytearray()
            self._collected_size += len(collected.data)
            self._withheld.append(piece)
        return True

    def _settle(self) -> bool:
        """Take the outcomes that came, each with what was collected of it."""
        outcomes = self._supervisor.outcomes
        if not outcomes:
            return False
        while outcomes:
            outcome = outcomes.popleft()
            collected = self._collected.pop(outcome.request_id, None)
            if collected is None:
                result = Result(outcome, outcome.payload, len(outcome.payload))
            else:
                self._collected_size -= len(collected.data)
                result = Result(outcome, collected.data, collected.size)
            outcome.payload = b""
            self._lines.check(result)
            self._order.put(outcome.request_id, result, len(result.data))
            self.codes.add(result.exit_code)
            self._look_for_an_end(result)
        return True

    def _look_for_an_end(self, result: Result) -> None:
        """End the run if the next event would fare no better. Note why, if no more events are taken."""
        supervisor, problem = self._supervisor, result.outcome.problem
        if problem is None or self._ended or supervisor.interrupted_by:
            return
        if result.exit_code in ENDING_CODES:
            self._ended = True
        if self._ended or supervisor.finishing:
            self.reason = problem
        if not supervisor.finishing and self._ended:
            supervisor.finish()  # what is in flight has done nothing wrong

    def _print(self) -> bool:
        """Write lines as far as the output takes them."""
        order, output = self._order, self._output
        done = output.write_some()
        while not output.pending:
            self._printing_size = 0
            following = order.take()
            if following is None:
                break
            place, result = following
            self._counted(result.outcome)
            self._printing_size = len(result.data)
            output.add(self._lines.pieces(result, place))
            output.write_some()
            done = True
        return done

    def _give_credit(self) -> bool:
        """Let workers send more. While too much is held, only the first result to be printed grows."""
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


def worst(codes: set[int]) -> int:
    """Return the exit code of a run of many events: an ending one, memory, a signal, time, failure, success."""
    for code in (*ENDING_CODES, EXIT_OUT_OF_MEMORY):
        if code in codes:
            return code
    signals = sorted(code for code in codes if code > 128)
    return signals[0] if signals else EXIT_TIMED_OUT if EXIT_TIMED_OUT in codes else max(codes, default=0)
