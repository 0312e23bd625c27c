"""Tests of both streams of an echo at once, over pipes of one page, with the worst choice of which side runs next.

A model of both sides surrounds the real Connection, without processes. It always completes, and neither side ever holds
more than it has promised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_runtime.wire.connection import INIT, MAX_CHUNK, RUNTIME, Connection
from pipe_runtime.wire.frames import MAX_HEAD, Frame
from pipe_runtime.wire.messages import CHUNK, CREDIT, END, HELLO, INVOKE, READY, RESULT
from pipe_testing.conversation import METADATA

PAGE = 4096
"""The capacity of a pipe in bytes: the smallest that Linux allows."""

PIECE = 64 * 1024
"""The most bytes of one read."""

FRAME = 4 + 4 + MAX_HEAD + MAX_CHUNK
"""The bytes of the largest frame in these conversations."""


class Pipe:
    """Bytes on their way, at most a page."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        """Take as many bytes as there is room for, and return their number."""
        taken = data[: PAGE - len(self.data)]
        self.data += taken
        return len(taken)

    def read(self, size: int) -> bytes:
        """Return at most this many bytes."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken


class Side(ABC):
    """One side of the conversation. It handles what it reads at once, and writes one frame at a time.

    Attributes:
        credit: The bytes that it lets the other side send on each stream.
        chunk: The most bytes that it puts into one CHUNK.
        deaf: Whether it breaks the rule, and does not read while it cannot write.
    """

    def __init__(self, role: str, out: Pipe, into: Pipe, credit: int, chunk: int, deaf: bool) -> None:
        self.connection = Connection(role)
        self.out, self.into = out, into
        self.credit, self.chunk, self.deaf = credit, chunk, deaf
        self.unwritten = b""
        self.held: dict[int, bytearray] = {}  # the bytes of each stream that have arrived and are not used yet
        self.ended: set[int] = set()  # the streams of the other side whose END has arrived
        self.taken: dict[int, int] = {}  # the used bytes of each stream for which no credit was given back
        self.largest_held = 0
        self.largest_unwritten = 0
        self.largest_buffered = 0

    def post(self, kind: int, id: int = 0, payload: bytes = b"", **more: object) -> None:
        """Begin to write a frame. No other frame may be unwritten."""
        assert not self.unwritten
        self.unwritten = self.connection.send(kind, id, {**METADATA.get(kind, {}), **more}, payload)
        self.largest_unwritten = max(self.largest_unwritten, len(self.unwritten))

    def write(self, size: int) -> bool:
        """Write at most this many bytes, and tell whether any byte has moved."""
        written = self.out.write(self.unwritten[:size])
        self.unwritten = self.unwritten[written:]
        return written > 0

    def read(self, size: int) -> bool:
        """Read at most this many bytes, handle all frames in them, and tell whether any byte has moved."""
        if self.deaf and self.unwritten:
            return False
        data = self.into.read(min(size, PIECE))
        if not data:
            return False
        self.connection.receive(data)
        while (event := self.connection.next_frame()) is not None:
            assert isinstance(event, Frame)
            self.handle(event)
        self.largest_held = max(self.largest_held, *map(len, self.held.values()), 0)
        self.largest_buffered = max(self.largest_buffered, self.connection.reader.buffered)
        return True

    def handle(self, event: Frame) -> None:
        """Keep the bytes of a stream."""
        if event.kind == CHUNK:
            self.held[event.id] += event.payload
        elif event.kind == END:
            self.ended.add(event.id)

    def use(self, id: int, size: int) -> bytes:
        """Remove bytes of a stream from those that are held, and return them."""
        held = self.held[id]
        data = bytes(held[:size])
        del held[:size]
        self.taken[id] = self.taken.get(id, 0) + len(data)
        return data

    def give_back(self, id: int) -> bool:
        """Give credit back when half of it is used, and tell whether a frame was posted."""
        if self.taken.get(id, 0) * 2 < self.credit or id in self.ended:
            return False
        self.post(CREDIT, id, bytes=self.taken.pop(id))
        return True

    @abstractmethod
    def work(self) -> bool:
        """Post one frame or use bytes that came, and tell whether anything was done."""


class Caller(Side):
    """The init. It sends a body of any length with each request, and takes the answer."""

    def __init__(self, bodies: dict[int, bytes], out: Pipe, into: Pipe, credit: int, chunk: int, deaf: bool) -> None:
        super().__init__(INIT, out, into, credit, chunk, deaf)
        self.bodies = bodies
        self.sent = dict.fromkeys(bodies, 0)
        self.answers = {id: bytearray() for id in bodies}
        self.outcomes: list[int] = []
        self.script: list[Callable[[], None]] = [
            lambda: self.post(HELLO, stream_bytes=credit),
            *(lambda id=id: self.post(INVOKE, id, stream=True) for id in bodies),
        ]

    def handle(self, event: Frame) -> None:
        """Handle a frame, and note where an answer begins and what its outcome is."""
        if event.kind == RESULT:
            self.held[event.id] = bytearray()
        super().handle(event)
        if event.kind == END:
            self.outcomes.append(event.id)

    def work(self) -> bool:
        """Take what came of the answers, then send what is next."""
        done = False
        for id, held in self.held.items():
            if held:
                self.answers[id] += self.use(id, len(held))
                done = True
        if self.unwritten:
            return done
        if self.script and self.connection.room_for(0):
            self.script.pop(0)()
            return True
        return any(self.give_back(id) for id in self.held) or any(self.send_on(id) for id in self.bodies) or done

    def send_on(self, id: int) -> bool:
        """Send the next piece of a body, or its end, and tell whether a frame was posted."""
        body, start = self.bodies[id], self.sent[id]
        if id not in self.connection.open_requests or start > len(body):
            return False
        if start == len(body):
            self.sent[id] += 1
            self.post(END, id)
            return True
        room = min(self.connection.stream_credit(id), self.chunk, len(body) - start)
        if room:
            self.sent[id] += room
            self.post(CHUNK, id, body[start : start + room])
        return room > 0


class Echo(Side):
    """The runtime. It sends each byte back as soon as it may."""

    def __init__(self, out: Pipe, into: Pipe, credit: int, chunk: int, deaf: bool) -> None:
        super().__init__(RUNTIME, out, into, credit, chunk, deaf)
        self.begun: set[int] = set()
        self.script: list[Callable[[], None]] = [
            lambda: self.post(HELLO, window_requests=64, stream_bytes=credit),
            lambda: self.post(READY),
        ]

    def handle(self, event: Frame) -> None:
        """Handle a frame, and note a new request."""
        if event.kind == INVOKE:
            self.held[event.id] = bytearray()
        super().handle(event)

    def work(self) -> bool:
        """Send what is next, and tell whether anything was done."""
        if self.unwritten:
            return False
        if self.script:
            self.script.pop(0)()
            return True
        return any(self.give_back(id) or self.answer(id) for id in [*self.held])

    def answer(self, id: int) -> bool:
        """Begin the answer, send on what came, or end it. Tell whether a frame was posted."""
        if id not in self.begun:
            self.begun.add(id)
            self.post(RESULT, id, stream=True)
            return True
        held = self.held[id]
        room = min(self.connection.stream_credit(id), self.chunk, len(held))
        if room:
            self.post(CHUNK, id, self.use(id, room))
        elif not held and id in self.ended:
            del self.held[id]
            self.post(END, id)
        else:
            return False
        return True


class Echoed:
    """Both sides and the pipes between them."""

    def __init__(
        self, bodies: dict[int, bytes], credits: tuple[int, int], chunks: tuple[int, int], deaf: bool = False
    ) -> None:
        there, back = Pipe(), Pipe()
        self.caller = Caller(bodies, there, back, credits[0], chunks[0], deaf)
        self.echo = Echo(back, there, credits[1], chunks[1], deaf)
        self.sides: list[Side] = [self.caller, self.echo]

    def step(self, side: int, action: int, size: int) -> bool:
        """Let one side work, write or read, and tell whether anything has moved."""
        chosen = self.sides[side]
        if action == 0:
            return chosen.work()
        return chosen.write(size) if action == 1 else chosen.read(size)

    def exhaust(self, side: int) -> bool:
        """Let one side run alone until it can do nothing more, and tell whether anything has moved."""
        moved = False
        while sum(self.step(side, action, 2**20) for action in range(3)):
            moved = True
        return moved

    def run(self) -> bool:
        """Let both sides run in turns until nothing moves. Tell whether each request was answered exactly once."""
        while any([self.exhaust(0), self.exhaust(1)]):
            self.check_bounds()
        return sorted(self.caller.outcomes) == sorted(self.caller.bodies)

    def check_bounds(self) -> None:
        """Check that each stream stays within its credit, and that the buffers hold at most a frame and a piece."""
        for side in self.sides:
            assert side.largest_held <= side.credit
            assert side.largest_unwritten <= FRAME
            assert side.largest_buffered < FRAME

    def check_answers(self) -> None:
        """Check that each body has come back and that nothing is left."""
        assert self.caller.answers == self.caller.bodies
        for side in self.sides:
            assert (side.connection.open_requests, side.connection.reader.buffered, side.unwritten) == ({}, 0, b"")


def body(size: int, id: int) -> bytes:
    """Return bytes that differ between requests and between places."""
    return bytes((id * 7 + at * 31 + at // 251) % 256 for at in range(size))


sizes = st.sampled_from([0, 1, PAGE - 1, PAGE, 3 * PAGE + 5, 10 * PAGE])
credits = st.sampled_from([1000, PAGE - 17, PAGE, PAGE + 1, 5 * PAGE, MAX_CHUNK])
chunks = st.sampled_from([100, PAGE - 16, PAGE, MAX_CHUNK])
moves = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1, 1, 2, 2]),
    st.sampled_from([1, 2, 7, 8, 9, 100, PAGE - 1, PAGE, 2**20]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(sizes, min_size=1, max_size=3),
    st.tuples(credits, credits),
    st.tuples(chunks, chunks),
    st.lists(moves, max_size=150),
)
def test_an_echo_of_streams_always_completes(
    lengths: list[int],
    credit: tuple[int, int],
    chunk: tuple[int, int],
    schedule: list[tuple[int, int, int]],
) -> None:
    both = Echoed({id: body(length, id) for id, length in enumerate(lengths, 1)}, credit, chunk)
    for move in schedule:
        both.step(*move)
        both.check_bounds()
    assert both.run()
    both.check_answers()


@settings(max_examples=20, deadline=None)
@given(st.lists(moves, min_size=3, max_size=12), st.tuples(credits, credits), st.tuples(chunks, chunks))
def test_an_echo_completes_under_a_schedule_that_repeats(
    schedule: list[tuple[int, int, int]], credit: tuple[int, int], chunk: tuple[int, int]
) -> None:
    both = Echoed({1: body(3 * PAGE, 1), 2: body(2 * PAGE, 2)}, credit, chunk)
    while sum(both.step(*move) for move in schedule):
        both.check_bounds()
    assert both.run()
    both.check_answers()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("greedy", [0, 1, None])
def test_a_long_echo_needs_no_more_than_its_credit(first: int, greedy: int | None) -> None:
    both = Echoed({1: body(1_000_000, 1)}, (MAX_CHUNK, MAX_CHUNK), (MAX_CHUNK, MAX_CHUNK))
    both.exhaust(first)
    while greedy is not None and any([both.exhaust(greedy), both.step(1 - greedy, 2, 1), both.step(1 - greedy, 1, 1)]):
        both.check_bounds()
        if len(both.caller.answers[1]) > 3 * MAX_CHUNK:
            break
    assert both.run()
    both.check_answers()
    assert max(side.largest_held for side in both.sides) <= MAX_CHUNK


def test_sides_that_do_not_read_while_they_cannot_write_block_each_other() -> None:
    both = Echoed({1: body(20 * PAGE, 1)}, (MAX_CHUNK, MAX_CHUNK), (10 * PAGE, 10 * PAGE), deaf=True)
    assert not both.run()
    assert all(side.unwritten and len(side.out.data) == PAGE for side in both.sides)
