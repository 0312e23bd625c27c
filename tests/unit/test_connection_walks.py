"""Tests of two connections that talk to each other: long random conversations, read in random pieces.

Both sides are compared with a ledger of all credit. The parameter of a walk is its seed. Half of what a walk tries is
not allowed.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from pipe_runtime.wire.connection import (
    INIT,
    MAX_CREDIT,
    MIN_MAX_FRAME,
    OPEN,
    RUNTIME,
    SERVING,
    TRANSITIONS,
    Connection,
)
from pipe_runtime.wire.errors import LocalProtocolError
from pipe_runtime.wire.frames import MAX_FRAME, Frame, FrameReader
from pipe_runtime.wire.messages import (
    CANCEL,
    CHUNK,
    CREDIT,
    DUMP,
    END,
    ERROR,
    HELLO,
    INVOKE,
    LOG,
    NAMES,
    READY,
    RESULT,
    STOP,
)
from pipe_testing.conversation import METADATA, PAYLOAD, streams

WALKS = 100
STEPS = 400
ALL = 2**40
"""More bytes than any walk sends."""

CROSSING = (CANCEL, CHUNK, END, CREDIT)
"""The kinds that the runtime drops if they arrive after the request's outcome."""


class Walk:
    """One conversation. Most attributes have a value for each side, which is the side that sends.

    Attributes:
        sent: The frames that have not arrived yet.
        wire: A reader of the same bytes that knows nothing of the conversation.
        granted: The bytes for each stream that the side's HELLO grants.
        given: The bytes that the side's CREDITs have granted, by request.
        spent: The bytes that the side's CHUNKs have cost, by request.
        tried: How often each (side, kind, whether it was allowed) came up.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.sides = {INIT: Connection(INIT), RUNTIME: Connection(RUNTIME)}
        self.bytes: dict[str, bytes] = {INIT: b"", RUNTIME: b""}
        self.sent: dict[str, list[Frame]] = {INIT: [], RUNTIME: []}
        self.wire = {INIT: FrameReader(), RUNTIME: FrameReader()}
        self.granted = {INIT: 0, RUNTIME: 0}
        self.given: dict[str, Counter[int]] = {INIT: Counter(), RUNTIME: Counter()}
        self.spent: dict[str, Counter[int]] = {INIT: Counter(), RUNTIME: Counter()}
        self.ended: set[tuple[str, int]] = set()
        self.next_id = 1
        self.dropped = 0
        self.tried: Counter[tuple[str, int, bool]] = Counter()

    def offer(self, role: str, kind: int, id: int = 0, payload: bytes | None = None, **more: Any) -> None:
        """Try to send a message, and check that the connection refuses it only for a reason."""
        side = self.sides[role]
        metadata = {**METADATA.get(kind, {}), **more}
        said = PAYLOAD.get(kind, b"") if payload is None else payload
        room = side.stream_credit(id)
        try:
            data = side.send(kind, id, metadata, said)
        except LocalProtocolError:
            assert kind != CHUNK or not 0 < len(said) <= room
            self.tried[role, kind, False] += 1
            return
        self.tried[role, kind, True] += 1
        self.bytes[role] += data
        self.sent[role].append(Frame(kind, id, metadata, said))
        if kind == INVOKE:
            self.next_id = id + 1
        elif kind in (CHUNK, END):
            assert (role, id) not in self.ended
            if kind == END:
                self.ended.add((role, id))
            else:
                assert 0 < len(said) <= room
                self.spent[role][id] += len(said)

    def deliver(self, role: str, size: int) -> None:
        """Let the other side read `size` bytes of what `role` has sent, and check what it makes of them."""
        data, self.bytes[role] = self.bytes[role][:size], self.bytes[role][size:]
        if not data:
            return
        reader = self.sides[self.sides[role].peer]
        self.wire[role].feed(data)
        reader.receive(data)
        while (frame := self.wire[role].next_frame()) is not None:
            assert frame == self.sent[role].pop(0)
            if frame.kind == HELLO:
                self.granted[role] = frame.metadata.get("stream_bytes", 0)
            elif frame.kind == CREDIT:
                self.given[role][frame.id] += frame.metadata["bytes"]
            if role == INIT and frame.kind in CROSSING and frame.id not in reader.open_requests:
                self.dropped += 1
            else:
                assert reader.next_frame() == frame
        assert reader.next_frame() is None

    def some(self, role: str) -> int:
        """Return the id of an open request, or sometimes an id that may not be open."""
        waiting = [*self.sides[role].open_requests]
        if waiting and self.random.random() < 0.9:
            return self.random.choice(waiting)
        return self.random.randrange(self.next_id + 2)

    def step(self) -> None:
        """Send or read something at random."""
        choose = self.random.choice
        role = choose([INIT, RUNTIME])
        what = choose([*NAMES, INVOKE, RESULT, *[CHUNK] * 5, *[CREDIT] * 2, *[0] * 8])
        if what == 0:
            self.deliver(role, choose([1, 3, 20, 100, 65536, ALL, ALL]))
        elif what == INVOKE:
            more = choose([{}, {"stream": True}, {"stream": True}, {"stream": False}])
            size = choose([0, 0, 0, 0, 10, 90, 70_000, 1_100_000])
            self.offer(INIT, INVOKE, self.next_id + choose([0, 0, 0, 1, 3, -1]), bytes(size), **more)
        elif what == RESULT:
            more = choose([{}, {"stream": True}, {"stream": True}, {"stream": False}])
            self.offer(RUNTIME, RESULT, self.some(RUNTIME), bytes(choose([0, 0, 9, 70_000])), **more)
        elif what == CHUNK:
            self.offer(role, CHUNK, self.some(role), bytes(choose([0, 1, 1, 50, 100, 5000, 65_536, 65_537])))
        elif what == CREDIT:
            self.offer(role, CREDIT, self.some(role), bytes=choose([0, 1, 100, 70_000, MAX_CREDIT, MAX_CREDIT + 1]))
        elif what == END:
            self.offer(
                role, END, self.some(role), **choose([{}, {"duration_us": 1}, METADATA[ERROR], {"error_type": "E"}])
            )
        elif what in (CANCEL, LOG):
            self.offer(INIT if what == CANCEL else RUNTIME, what, self.some(role))
        elif what == ERROR:
            last_word = self.random.random() < 0.02
            self.offer(RUNTIME, ERROR, 0 if last_word else self.some(RUNTIME) or self.next_id)
        elif what == HELLO:
            self.hello(role)
        elif what != STOP or self.random.random() < 0.05:
            self.offer(choose([INIT, RUNTIME]), what)

    def hello(self, role: str) -> None:
        """Send HELLO with random limits."""
        limits = {
            "max_frame": [MIN_MAX_FRAME, 10**6, MAX_FRAME * 2],
            "window_requests": [1, 2, 3, 4],
            "window_bytes": [0, 100, 10**6],
            "stream_bytes": [1, 100, 100, 70_000, MAX_CREDIT],
        }
        chosen: dict[str, Any] = {"window_requests": 1}
        for name, values in limits.items():
            if self.random.random() < 0.7:
                chosen[name] = self.random.choice(values)
        self.offer(role, HELLO, **chosen)

    def check(self) -> None:
        """Check what must hold at any moment."""
        init, runtime = self.sides[INIT], self.sides[RUNTIME]
        assert runtime.open_requests.keys() <= init.open_requests.keys()
        for role, side in self.sides.items():
            found = streams(side)
            for bodies in found.values():
                assert bodies.keys() <= side.open_requests.keys()
                assert all(0 <= credit <= MAX_CREDIT for _, credit in bodies.values())
            for id, (going_on, credit) in found[role].items():
                if going_on:
                    assert credit == self.granted[side.peer] + self.given[side.peer][id] - self.spent[role][id]
        if not self.bytes[INIT] and not self.bytes[RUNTIME]:
            assert init.states == runtime.states
            assert init.open_requests == runtime.open_requests
            assert streams(init) == streams(runtime)

    def go(self) -> None:
        """Take all steps of the walk and deliver the last byte. Most walks start with HELLO."""
        for role, kind in ((INIT, HELLO), (RUNTIME, HELLO), (RUNTIME, READY)):
            if self.random.random() < 0.95:
                self.hello(role) if kind == HELLO else self.offer(role, kind)
        for _ in range(STEPS):
            self.step()
            self.check()
        for role in (INIT, RUNTIME):
            self.deliver(role, ALL)
            assert self.sent[role] == []
        self.check()


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_random_conversation(seed: int) -> None:
    Walk(seed).go()


def test_the_walks_lead_everywhere() -> None:
    tried: Counter[tuple[str, int, bool]] = Counter()
    dropped = 0
    for seed in range(WALKS):
        walk = Walk(seed)
        walk.go()
        tried += walk.tried
        dropped += walk.dropped
    often = [(INIT, HELLO), (RUNTIME, HELLO), (RUNTIME, READY)]
    often += [(INIT, kind) for kind in TRANSITIONS[INIT][OPEN] if kind in NAMES]
    often += [(RUNTIME, kind) for kind in TRANSITIONS[RUNTIME][SERVING] if kind in NAMES]
    for role, kind in often:
        assert tried[role, kind, True] >= (10 if kind == STOP else 50), (role, NAMES[kind])
        assert tried[role, kind, False] >= 50 or kind in (DUMP, STOP), (role, NAMES[kind])
    assert dropped >= 100
