"""Tests that every history of a run of many events comes to an end: the real EventsRun with a simulated supervisor.

The simulated supervisor says what its workers do. An adversary chooses which side is next, how the input comes and how
the output is read. A test fails if a wait can never end, or if an event has no line or two lines. It also fails if more
is kept in memory than the documentation says.
"""

from __future__ import annotations

import json
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_init.cli.results.result_lines import Result, ResultLines
from pipe_init.cli.runs.events_run import EventsRun
from pipe_init.kernel import exit_codes
from pipe_init.model import Outcome, Piece, Request, problem
from pipe_runtime.wire.messages import JSON, JSON_LINES

INPUT, OUTPUT = 0, 1

CREDIT = 40
"""The bytes that a worker may send of each stream before it gets credit."""

MAX_LINE = MAX_HELD = 200


@dataclass(frozen=True)
class Event:
    """The outcome of one event.

    Attributes:
        size: The bytes of its result.
        streamed: The bytes of each piece of the result, or 0 if it does not come in pieces.
        code: The exit code of an error that comes at the end, or 0 for a result.
    """

    size: int
    streamed: int = 0
    code: int = 0

    @property
    def fits(self) -> bool:
        return self.code == 0 and self.size <= MAX_LINE


@dataclass
class Work:
    """A request in a worker.

    Attributes:
        sent: The bytes of its result that were sent.
        credit: The bytes that may be sent.
    """

    id: int
    request: Request
    event: Event
    sent: int = 0
    credit: int = CREDIT
    begun: bool = False


@dataclass
class World:
    """A supervisor, its input and its output, as EventsRun sees them.

    Args:
        choose: A function that returns a number below its argument.
        workers: The number of processes.
        together: The requests that each process handles at once.
        window: The requests that may wait in a process.
    """

    events: list[Event]
    choose: Callable[[int], int]
    workers: int
    together: int
    window: int
    stop_after: int | None = None
    outcomes: deque[Outcome] = field(default_factory=deque)
    pieces: deque[Piece] = field(default_factory=deque)
    interrupted_by: int = 0
    in_a_hurry: bool = False

    def __post_init__(self) -> None:
        self.lanes: list[list[Work]] = [[] for _ in range(self.workers)]
        self.finishing = False
        self.lines: deque[bytes] = deque()  # lines that were read and not taken yet
        self.unread = len(self.events)
        self.ended = False
        self.error = None
        self.descriptor = INPUT
        self.steps = 0
        self.refused = 0
        self.writable = False
        self.ids = count(1)
        self.peak = 0
        self.run: EventsRun | None = None

    # LineReader

    @property
    def exhausted(self) -> bool:
        return self.ended and not self.lines

    def fill(self) -> None:
        came = min(self.unread, 1 + self.choose(5))
        start = len(self.events) - self.unread
        self.lines += [b"%d" % number for number in range(start, start + came)]
        self.unread -= came
        self.ended = not came

    # Supervisor

    def has_room(self) -> bool:
        return not self.finishing and min(map(len, self.lanes)) < self.window

    def submit(self, request: Request) -> int:
        assert self.has_room()
        id = next(self.ids)
        min(self.lanes, key=len).append(Work(id, request, self.events[int(request.payload)]))
        return id

    def refuse(self, request: Request) -> None:
        assert self.finishing
        self.refused += 1
        self._fail(request, exit_codes.STOPPED)

    def taken(self, piece: Piece) -> None:
        for work in self._works():
            if work.id == piece.id:
                work.credit += len(piece.data)

    def finish(self) -> None:
        self.finishing = True

    def hold(self) -> None:
        """Do nothing: the simulated supervisor writes nothing."""

    def step(self, watch: Mapping[int, int] | None = None, wait: bool = True) -> Mapping[int, int]:
        """Let one of the possible events happen. `choose` decides which."""
        watch = watch or {}
        assert not wait or (not self.outcomes and not self.pieces), "it waits for what has come"
        self.steps += 1
        if self.stop_after is not None and self.steps > self.stop_after and not self.interrupted_by:
            self.interrupted_by, self.finishing = signal.SIGTERM, True
            for lane in self.lanes:
                for work in lane[self.together :]:  # the others get the grace time
                    self._fail(work.request, exit_codes.STOPPED)
                del lane[self.together :]
            return {}
        possible: list[Callable[[], Mapping[int, int]]] = []
        for lane in self.lanes:
            for work in lane[: self.together]:
                if self._can_go_on(work):
                    possible.append(partial(self._work, lane, work))
                if self.interrupted_by:
                    possible.append(partial(self._stop, lane, work))
        for descriptor in watch:
            possible.append(partial(dict, [(descriptor, watch[descriptor])]))
        if not wait and not (possible and self.choose(2)):
            return {}
        assert possible, "a wait that nothing can end"
        ready = possible[self.choose(len(possible))]()
        self.writable = OUTPUT in ready
        assert self.run is not None
        coming = sum(len(piece.data) for piece in self.pieces) + sum(len(each.payload) for each in self.outcomes)
        self.peak = max(self.peak, self.run.held + coming)
        return ready

    def _works(self) -> Iterator[Work]:
        return (work for lane in self.lanes for work in lane)

    def _can_go_on(self, work: Work) -> bool:
        return not work.event.streamed or work.sent == work.event.size or work.credit > 0 or not work.begun

    def _work(self, lane: list[Work], work: Work) -> Mapping[int, int]:
        """Continue a request: the start of its stream, a piece of it, or its outcome."""
        event, request = work.event, work.request
        if event.streamed and not work.begun:
            work.begun = True
            self.pieces.append(Piece(work.id, request.request_id, JSON, b""))
        elif event.streamed and work.sent < event.size:
            size = min(event.streamed, work.credit, event.size - work.sent)
            data = self._result(event)[work.sent : work.sent + size]
            work.sent, work.credit = work.sent + size, work.credit - size
            self.pieces.append(Piece(work.id, request.request_id, JSON, data))
        elif event.code:
            lane.remove(work)
            self._fail(request, event.code)
            if event.code == exit_codes.NOT_LOADED:
                self.finishing = True
                for other in self._works():
                    self._fail(other.request, exit_codes.NOT_LOADED)
                self.lanes = [[] for _ in self.lanes]
        else:
            lane.remove(work)
            payload = b"" if event.streamed else self._result(event)
            self.outcomes.append(Outcome(request.request_id, JSON, payload, streamed=bool(event.streamed)))
        return {}

    def _stop(self, lane: list[Work], work: Work) -> Mapping[int, int]:
        """End the grace time of a request."""
        lane.remove(work)
        self._fail(work.request, exit_codes.STOPPED)
        return {}

    def _result(self, event: Event) -> bytes:
        return b'"%s"' % (b"x" * (event.size - 2))

    def _fail(self, request: Request, code: int) -> None:
        self.outcomes.append(Outcome(request.request_id, problem=problem(f"E{code}", ""), exit_code=code))


class Screen:
    """An output whose reader takes everything, or nothing until the run waits for it."""

    descriptor = OUTPUT
    shared = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.written: list[bytes] = []
        self._waiting: list[bytes] = []
        self._when_written: Callable[[], None] = lambda: None

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def add(self, pieces: Iterable[bytes | memoryview], written: Callable[[], None]) -> None:
        assert not self._waiting, "a line was made before the one before it was written"
        self._waiting, self._when_written = b"".join(pieces).splitlines(keepends=True), written

    def write_some(self) -> bool:
        if not self._waiting or not (self.world.writable or self.world.choose(3)):
            return False
        self.finish()
        return True

    def finish(self) -> None:
        self.written += self._waiting
        self._waiting = []
        self._when_written()


class SlowLines(ResultLines):
    """Result lines whose check takes several turns, like that of a large result."""

    def __init__(self, world: World, unordered: bool) -> None:
        super().__init__(False, unordered, "lambda", max_line=MAX_LINE)
        self._world = world

    def check(self, result: Result) -> Iterator[None]:
        for _ in range(self._world.choose(4)):
            yield
        yield from super().check(result)


def play(world: World, unordered: bool, lines: ResultLines | None = None) -> list[object]:
    """Run all events of a world, check what holds in every history, and return the contents of the lines."""
    screen = Screen(world)
    lines = lines or SlowLines(world, unordered)
    numbers = {}

    def request(line: bytes) -> Request:
        numbers[line] = len(numbers)
        return Request(f"r{line.decode()}", line, JSON, JSON, 60.0)

    run = world.run = EventsRun(
        world,
        world,  # type: ignore[arg-type]
        screen,  # type: ignore[arg-type]
        lines,
        request,
        max_held=MAX_HELD,
    )
    run.run()
    found = [json.loads(line) for line in screen.written]
    assert len(found) == run.read == len(numbers), "an event without a line"
    if unordered:
        assert sorted(each["index"] for each in found) == list(range(run.read)), "not one line for each event"
        found.sort(key=lambda each: each["index"])
        found = [each.get("result", each.get("error")) for each in found]
    for number, each in enumerate(found):
        expected = world.events[number]
        if isinstance(each, str):
            assert expected.fits and len(each) + 2 == expected.size, "another event's result"
        else:
            assert each["requestId"] == f"r{number}", "another event's error"
    assert not list(world._works()) and not world.lines
    assert world.finishing or world.unread == 0, "events were not read, without a reason"
    in_flight = world.workers * world.window
    largest = max((event.size for event in world.events if not event.streamed), default=0)
    assert world.peak <= MAX_HELD + MAX_LINE + in_flight * max(CREDIT, largest)
    return found


sizes = st.sampled_from([2, 10, 39, 40, 41, 90, 150, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE])
codes = st.sampled_from([0] * 12 + [1, 1, 124, exit_codes.PROTOCOL, exit_codes.NOT_LOADED])
events = st.builds(Event, sizes, st.sampled_from([0, 7, 30, 40, 100]), codes)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(events, max_size=12),
    st.randoms(use_true_random=False),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.booleans(),
    st.none() | st.integers(0, 30),
)
def test_every_history_ends_with_a_line_for_each_event(
    given_events: list[Event],
    random: object,
    workers: int,
    together: int,
    window: int,
    unordered: bool,
    stop_after: int | None,
) -> None:
    choose: Callable[[int], int] = random.randrange  # type: ignore[attr-defined]
    play(World(given_events, choose, workers, together, max(window, together), stop_after), unordered)


def last(number: int) -> int:
    """Always choose the last possibility."""
    return number - 1


def first(number: int) -> int:
    """Always choose the first possibility."""
    return 0


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("choose", [first, last])
def test_streams_that_are_larger_together_than_what_is_held(unordered: bool, choose: Callable[[int], int]) -> None:
    world = World([Event(MAX_LINE, 30)] * 6, choose, workers=1, together=6, window=6)
    assert play(world, unordered) == ["x" * (MAX_LINE - 2)] * 6


@pytest.mark.parametrize("unordered", [False, True])
def test_a_result_that_is_too_large_is_an_error(unordered: bool) -> None:
    world = World([Event(MAX_LINE + 1, 30), Event(5)], last, workers=1, together=1, window=1)
    too_large, result = play(world, unordered)
    assert isinstance(too_large, dict) and too_large["errorType"] == "Function.ResponseSizeTooLarge"
    assert result == "xxx"


@pytest.mark.parametrize("code", [exit_codes.NOT_LOADED, exit_codes.PROTOCOL])
def test_events_that_were_read_before_an_early_end_have_lines(code: int) -> None:
    world = World([Event(2, code=code), *[Event(5)] * 20], lambda number: number - 1, 1, 1, 1)
    found = play(world, unordered=False)
    assert len(found) == world.run.read  # type: ignore[union-attr]
    assert world.refused > 0 and world.unread > 0


def test_workers_go_on_while_a_large_result_is_checked() -> None:
    world = World([Event(150, streamed=7), Event(10)], lambda number: number - 1, 2, 1, 1)
    left: list[int] = []

    class Endless(ResultLines):
        def check(self, result: Result) -> Iterator[None]:
            while result.size == 10 and (works := [*world._works()]):
                left.append(150 - works[0].sent)
                yield
            yield from super().check(result)

    assert len(play(world, False, Endless(False, False, "lambda"))) == 2
    assert left[0] > left[-1] == 0


def test_in_a_hurry_a_large_result_is_not_checked_to_its_end() -> None:
    world = World([Event(10)], first, 1, 1, 1)

    class Endless(ResultLines):
        def check(self, result: Result) -> Iterator[None]:
            while True:
                world.in_a_hurry = world.steps > 5
                yield

    [found] = play(world, False, Endless(False, False, "lambda"))
    assert isinstance(found, dict) and found["errorType"] == "Runtime.Stopped"
    assert world.run is not None and world.run.codes == {exit_codes.STOPPED}


def test_no_events() -> None:
    assert play(World([], first, 1, 1, 1), unordered=False) == []


def test_items_become_an_array() -> None:
    lines = ResultLines(False, False, "lambda")
    for data, line in ((b"", b"[]\n"), (b"1\n", b"[1]\n"), (b'1\n{"a": 2}\n', b'[1, {"a": 2}]\n')):
        result = Result(Outcome("r", JSON_LINES, streamed=True), bytearray(data), len(data))
        assert list(lines.check(result)) == []
        assert b"".join(lines.pieces(result, 0)) == line
