"""Tests of one request and its answer: the body in pieces, credit for it, and an answer within the caller's credit.

The line is an object in memory. It hears the frames of a script whenever the exchange waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipe_runtime.call import exchange as module
from pipe_runtime.call.exchange import CallerGone, Exchange, at_once
from pipe_runtime.wire.connection import STREAM_BYTES
from pipe_runtime.wire.frames import LARGEST_PAYLOAD
from pipe_runtime.wire.messages import CANCEL, CHUNK, CREDIT, END, RESULT


class Line:
    """The line of a thread.

    Args:
        script: What comes, one step for each time that the exchange waits.

    Attributes:
        room: The credit of the answer.
        sent: The frames of the runtime.
    """

    def __init__(self, *script: Callable[[Exchange], object], room: int = 0, cancels: bool = True) -> None:
        self._script = list(script)
        self.room = room
        self.cancels = cancels
        self.sent: list[tuple[Any, ...]] = []

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        self.sent.append((kind, payload or metadata))
        self.room -= len(payload)

    def credit(self, id: int) -> int:
        return self.room

    def look(self) -> None:
        """Do nothing: frames come only when the exchange waits."""

    def wait(self, exchange: Exchange, seen: int) -> None:
        assert exchange.news == seen
        self._script.pop(0)(exchange)

    def tell(self, exchange: Exchange) -> None:
        """Do nothing: no other thread waits."""

    def comes(self, kind: int, payload: bytes = b"", room: int = 0) -> None:
        """Append a frame to the script."""

        def hear(exchange: Exchange) -> None:
            self.room += room
            exchange.hear(kind, payload)

        self._script.append(hear)


def streamed(line: Line) -> Exchange:
    return Exchange(1, {"stream": True, "content_type": "text/plain"}, b"", line)


def test_a_piece_is_read_as_it_comes_or_divided() -> None:
    line = Line()
    for piece in (b"one", b"three"):
        line.comes(CHUNK, piece)
    line.comes(END)
    exchange = streamed(line)
    assert [at_once(exchange.read(size)) for size in (-1, 2, 2, 2, -1, -1)] == [b"one", b"th", b"re", b"e", b"", b""]


def test_credit_is_given_for_what_was_taken_and_not_before() -> None:
    line = Line()
    half = STREAM_BYTES // 2
    for size in (half - 1, half, 1):
        line.comes(CHUNK, b"x" * size)
    line.comes(END)
    exchange = streamed(line)
    assert at_once(exchange.http_map())["method"] == "POST"  # it looks at the beginning, which is taken later
    assert len(at_once(exchange.whole())) == 2 * half
    assert line.sent == [(CREDIT, {"bytes": 2 * half - 1})]


@pytest.mark.parametrize("cancels", [False, True])
def test_what_waits_hears_that_nothing_more_will_come(cancels: bool) -> None:
    exchange = streamed(Line(Exchange.hang_up, cancels=cancels))
    if cancels:
        with pytest.raises(CallerGone):
            at_once(exchange.read())
    else:
        assert at_once(exchange.read()) == b""
        assert exchange.cancelled


def test_a_body_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY", 10)
    line = Line()
    for _ in range(2):
        line.comes(CHUNK, b"123456")
    with pytest.raises(MemoryError, match="more than 10 bytes"):
        at_once(streamed(line).whole())


def test_an_answer_goes_out_as_far_as_the_credit_allows() -> None:
    line = Line(room=2)
    line.comes(CREDIT, room=3)
    line.comes(CREDIT, room=100)
    exchange = streamed(line)
    exchange.begin("text/plain")
    at_once(exchange.write(b"12345678"))
    assert line.sent == [
        (RESULT, {"content_type": "text/plain", "stream": True}),
        *((CHUNK, piece) for piece in (b"12", b"345", b"678")),
    ]
    assert at_once(exchange.outcome()) == (END, {}, b"")


def test_an_answer_that_no_frame_takes_is_sent_in_pieces_at_the_end() -> None:
    line = Line(room=LARGEST_PAYLOAD)
    line.comes(CREDIT, room=1)
    exchange = streamed(line)
    exchange.respond(b"x" * (LARGEST_PAYLOAD + 1), "text/plain", {"status": 200})
    assert [kind for kind, _ in line.sent] == [RESULT]
    assert at_once(exchange.outcome()) == (END, {}, b"")
    assert [len(piece) for kind, piece in line.sent if kind == CHUNK] == [LARGEST_PAYLOAD, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_second_answer_is_refused_in_plain_words(stream: bool) -> None:
    line = Line()
    exchange = Exchange(1, {}, b"", line)
    if stream:
        exchange.begin("text/plain")
    else:
        exchange.respond(b"whole", "text/plain")
    before = list(line.sent)
    with pytest.raises(RuntimeError, match="^the request is answered already$"):
        exchange.begin("text/plain")
    assert line.sent == before


def test_a_cancelled_answer_is_given_up() -> None:
    line = Line()
    line.comes(CANCEL)
    exchange = streamed(line)
    exchange.begin("text/plain")
    with pytest.raises(CallerGone):
        at_once(exchange.write(b"1"))
    with pytest.raises(CallerGone):
        at_once(exchange.check())


def test_a_request_without_an_answer_was_given_up() -> None:
    with pytest.raises(CallerGone):
        at_once(streamed(Line()).outcome())


def test_a_coroutine_that_suspends_has_no_place_in_a_thread() -> None:
    with pytest.raises(RuntimeError, match="suspended"):
        at_once(asyncio.sleep(0))
