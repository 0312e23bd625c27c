"""Tests of streams in the conversation: CHUNK, END and CREDIT byte by byte, credit, and what an outcome ends.

There are no pipes.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipe_runtime.wire.connection import (
    CHUNK_OVERHEAD,
    END_OF_STREAM,
    INIT,
    MAX_CHUNK,
    MAX_CREDIT,
    MIN_MAX_FRAME,
    RUNTIME,
    SERVING,
    Connection,
)
from pipe_runtime.wire.errors import LocalProtocolError, ProtocolError
from pipe_runtime.wire.frames import MAX_HEAD, Frame
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
from pipe_testing.conversation import METADATA, events, frame, refused, say, snapshot, streams, talking

both = pytest.mark.parametrize("role", [INIT, RUNTIME])
senders = pytest.mark.parametrize("sender", [INIT, RUNTIME])

INIT_BYTES = 100
RUNTIME_BYTES = 200
"""The bytes that each side's HELLO grants to each stream of the other side."""


def streaming(role: str) -> Connection:
    """Return a connection with requests 1 and 2, whose bodies are streams. The answer to 1 has begun as a stream."""
    connection = talking(role, {"stream_bytes": INIT_BYTES}, stream_bytes=RUNTIME_BYTES, window_requests=64)
    say(connection, INIT, INVOKE, 1, stream=True)
    say(connection, INIT, INVOKE, 2, stream=True)
    say(connection, RUNTIME, RESULT, 1, stream=True)
    return connection


def peer(side: str) -> str:
    """Return the other side."""
    return RUNTIME if side == INIT else INIT


# Every case on the wire: whole, byte by byte, and with more data after it.

CASES: list[tuple[int, dict[str, Any], bytes]] = [
    (CHUNK, {}, b"x"),
    (CHUNK, {}, bytes(INIT_BYTES)),
    (CHUNK, {"unknown": [None]}, b"x"),
    (END, {}, b""),
    (END, {"duration_us": 1, "cpu_us": 2, "peak_memory_bytes": 3}, b""),
    (END, {"error_type": "E", "error_message": "m", "stack": [["f", 1, "g", "c"]], "cause": {}, "exceptions": []}, b""),
    (CREDIT, {"bytes": 0}, b""),
    (CREDIT, {"bytes": MAX_CREDIT - RUNTIME_BYTES}, b""),
    (CREDIT, {"bytes": 1, "unknown": True}, b""),
]
cases = pytest.mark.parametrize(
    ("kind", "metadata", "payload"), CASES, ids=[f"{NAMES[kind]}-{number}" for number, (kind, *_) in enumerate(CASES)]
)


@senders
@cases
def test_frame_whole(sender: str, kind: int, metadata: dict[str, Any], payload: bytes) -> None:
    expected = Frame(kind, 1, metadata, payload)
    data = frame(kind, 1, metadata, payload)
    reader, quick, writer = streaming(peer(sender)), streaming(peer(sender)), streaming(sender)
    reader.receive(data)
    assert events(reader) == [expected]
    assert quick.next_frame(data) == expected
    assert writer.send(kind, 1, metadata, payload) == data
    assert streams(reader) == streams(quick) == streams(writer)


@senders
@cases
def test_frame_byte_by_byte(sender: str, kind: int, metadata: dict[str, Any], payload: bytes) -> None:
    reader, quick = streaming(peer(sender)), streaming(peer(sender))
    data = frame(kind, 1, metadata, payload)
    for at in range(len(data)):
        assert reader.next_frame() is None
        reader.receive(data[at : at + 1])
        event = quick.next_frame(data[at : at + 1])
        assert (event is None) == (at < len(data) - 1)
    assert events(reader) == [event] == [Frame(kind, 1, metadata, payload)]
    assert reader.reader.buffered == quick.reader.buffered == 0


@senders
@cases
def test_frame_with_trailing_data(sender: str, kind: int, metadata: dict[str, Any], payload: bytes) -> None:
    expected = Frame(kind, 1, metadata, payload)
    reader, quick = streaming(peer(sender)), streaming(peer(sender))
    data = frame(kind, 1, metadata, payload) + frame(DUMP) + frame(DUMP)[:7]
    reader.receive(data)
    assert events(reader) == [expected, Frame(DUMP, 0, {})]
    assert [quick.next_frame(data), *events(quick)] == [expected, Frame(DUMP, 0, {})]
    assert reader.reader.buffered == quick.reader.buffered == 7


@senders
@cases
def test_frame_cut_short_by_the_end(sender: str, kind: int, metadata: dict[str, Any], payload: bytes) -> None:
    data = frame(kind, 1, metadata, payload)
    for cut in range(1, len(data)):
        reader = streaming(peer(sender))
        before = streams(reader)
        reader.receive(data[:cut])
        reader.receive(b"")
        with pytest.raises(ProtocolError, match="the stream ended inside a frame"):
            reader.next_frame()
        assert streams(reader) == before


# Sizes and credit.


@both
@senders
@pytest.mark.parametrize("size", [0, MAX_CHUNK + 1])
def test_a_chunk_has_1_to_65536_bytes(role: str, sender: str, size: int) -> None:
    connection = streaming(role)
    assert refused(connection, sender, CHUNK, 1, bytes(size)) == f"CHUNK with {size} bytes instead of 1 to 65536"


@both
@senders
@pytest.mark.parametrize("kind", [END, CREDIT])
def test_end_and_credit_have_no_payload(role: str, sender: str, kind: int) -> None:
    assert refused(streaming(role), sender, kind, 1, b"x") == f"{NAMES[kind]} with a payload"


@both
@senders
def test_credit_is_spent_to_the_last_byte(role: str, sender: str) -> None:
    connection = streaming(role)
    granted = RUNTIME_BYTES if sender == INIT else INIT_BYTES
    say(connection, sender, CHUNK, 1, bytes(granted - 1))
    assert streams(connection)[sender][1] == (True, 1)
    if role == sender:
        assert connection.stream_credit(1) == 1
        assert refused(connection, sender, CHUNK, 1, b"xx") == "CHUNK for id 1 with 2 bytes and a credit of 1"
    say(connection, sender, CHUNK, 1, b"x")
    assert connection.stream_credit(1) == (0 if role == sender else RUNTIME_BYTES + INIT_BYTES - granted)
    assert refused(connection, sender, CHUNK, 1, b"x") == "CHUNK for id 1 with 1 bytes and a credit of 0"


@both
@senders
def test_credit_is_each_streams_own(role: str, sender: str) -> None:
    connection = streaming(role)
    say(connection, RUNTIME, RESULT, 2, stream=True)
    say(connection, sender, CHUNK, 1, bytes(60))
    say(connection, peer(sender), CREDIT, 2, bytes=7)
    left = RUNTIME_BYTES if sender == INIT else INIT_BYTES
    assert streams(connection)[sender] == {1: (True, left - 60), 2: (True, left + 7)}


@both
@senders
def test_credit_gives_back_and_adds_up(role: str, sender: str) -> None:
    connection = streaming(role)
    granted = RUNTIME_BYTES if sender == INIT else INIT_BYTES
    for _ in range(5):
        say(connection, sender, CHUNK, 1, bytes(granted))
        say(connection, peer(sender), CREDIT, 1, bytes=granted - 10)
        say(connection, peer(sender), CREDIT, 1, bytes=10)
    assert streams(connection)[sender][1] == (True, granted)


@both
@senders
def test_credit_at_the_limit(role: str, sender: str) -> None:
    connection = streaming(role)
    granted = INIT_BYTES if sender == INIT else RUNTIME_BYTES  # the grant to the stream of the other side
    say(connection, sender, CREDIT, 1, bytes=MAX_CREDIT - granted)
    assert refused(connection, sender, CREDIT, 1, bytes=1) == f"CREDIT for id 1 beyond {MAX_CREDIT} bytes"
    connection = streaming(role)
    assert refused(connection, sender, CREDIT, 1, bytes=2**64 - 1) == f"CREDIT for id 1 beyond {MAX_CREDIT} bytes"


@both
@senders
@pytest.mark.parametrize("value", [-1, True, 1.0, "1", None])
def test_credit_is_an_unsigned_integer(role: str, sender: str, value: object) -> None:
    assert refused(streaming(role), sender, CREDIT, 1, bytes=value) == "CREDIT whose bytes is not an unsigned integer"


@both
@senders
def test_stream_bytes_of_hello_at_the_limit(role: str, sender: str) -> None:
    say(Connection(role), sender, HELLO, stream_bytes=MAX_CREDIT)
    error = refused(Connection(role), sender, HELLO, 0, stream_bytes=MAX_CREDIT + 1)
    assert error == f"HELLO whose stream_bytes is above {MAX_CREDIT}"


@both
@senders
def test_without_stream_bytes_nothing_may_be_sent_before_credit(role: str, sender: str) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 1, stream=True)
    say(connection, RUNTIME, RESULT, 1, stream=True)
    assert connection.stream_credit(1) == 0
    say(connection, peer(sender), CREDIT, 1, bytes=2)
    say(connection, sender, CHUNK, 1, b"xx")
    assert refused(connection, sender, CHUNK, 1, b"x") == "CHUNK for id 1 with 1 bytes and a credit of 0"


@both
def test_a_stream_that_began_before_the_runtimes_hello_gets_its_credit_then(role: str) -> None:
    connection = Connection(role)
    say(connection, INIT, HELLO)
    say(connection, INIT, INVOKE, 1, stream=True)
    assert streams(connection)[INIT] == {1: (True, 0)}
    say(connection, RUNTIME, HELLO, stream_bytes=RUNTIME_BYTES)
    assert streams(connection)[INIT] == {1: (True, RUNTIME_BYTES)}
    say(connection, INIT, CHUNK, 1, bytes(RUNTIME_BYTES))


@both
def test_no_chunk_before_the_runtimes_hello(role: str) -> None:
    connection = Connection(role)
    say(connection, INIT, HELLO)
    say(connection, INIT, INVOKE, 1, stream=True)
    assert connection.stream_credit(1) == 0
    assert refused(connection, INIT, CHUNK, 1, b"x") == "CHUNK for id 1 with 1 bytes and a credit of 0"


@both
def test_an_empty_body_may_end_before_the_runtimes_hello(role: str) -> None:
    connection = Connection(role)
    say(connection, INIT, HELLO)
    say(connection, INIT, INVOKE, 1, stream=True)
    say(connection, INIT, END, 1)
    say(connection, RUNTIME, HELLO, stream_bytes=RUNTIME_BYTES)
    assert streams(connection)[INIT] == {1: (False, RUNTIME_BYTES)}
    assert connection.stream_credit(1) == 0


@pytest.mark.parametrize("max_frame", [MIN_MAX_FRAME, MAX_CHUNK + CHUNK_OVERHEAD - 1, MAX_CHUNK + CHUNK_OVERHEAD])
def test_stream_credit_is_what_one_chunk_may_have(max_frame: int) -> None:
    id = 2**64 - 1
    init = talking(INIT, stream_bytes=MAX_CREDIT, max_frame=max_frame)
    runtime = talking(RUNTIME, {"stream_bytes": MAX_CREDIT, "max_frame": max_frame})
    for side in (init, runtime):
        assert side.stream_credit(id) == 0
        say(side, INIT, INVOKE, id, stream=True)
        say(side, RUNTIME, RESULT, id, stream=True)
        size = side.stream_credit(id)
        assert size == min(MAX_CHUNK, max_frame - CHUNK_OVERHEAD)
        say(side, side.role, CHUNK, id, bytes(size))
        if size < MAX_CHUNK:
            assert "the peer's limit is" in refused(side, side.role, CHUNK, id, bytes(size + 1))


# Which streams exist.


@both
@pytest.mark.parametrize("more", [{}, {"stream": False}])
@senders
@pytest.mark.parametrize("kind", [CHUNK, END, CREDIT])
def test_a_stream_is_asked_for(role: str, sender: str, kind: int, more: dict[str, Any]) -> None:
    connection = talking(role, {"stream_bytes": INIT_BYTES}, stream_bytes=RUNTIME_BYTES, window_requests=2)
    say(connection, INIT, INVOKE, 1, **more)
    say(connection, INIT, INVOKE, 2, **more)
    say(connection, RUNTIME, RESULT, 2, b"x", **more)
    assert connection.open_requests == {1: 0}
    assert streams(connection) == {INIT: {}, RUNTIME: {}}
    assert connection.stream_credit(1) == 0
    error = refused(connection, sender, kind, 1)
    assert error == f"{NAMES[kind]} from the {sender} for id 1, where it has no stream"


@both
@pytest.mark.parametrize("kind", [CHUNK, END])
def test_nothing_follows_the_end_of_a_body(role: str, kind: int) -> None:
    connection = streaming(role)
    say(connection, INIT, END, 1)
    assert refused(connection, INIT, kind, 1) == f"{NAMES[kind]} from the init for id 1, where it has no stream"


@both
def test_credit_may_cross_with_the_end_of_a_body(role: str) -> None:
    connection = streaming(role)
    say(connection, INIT, CHUNK, 1, b"xyz")
    say(connection, INIT, END, 1)
    say(connection, RUNTIME, CREDIT, 1, bytes=3)
    assert connection.open_requests.keys() == {1, 2}
    assert streams(connection)[INIT][1] == (False, RUNTIME_BYTES)
    assert connection.stream_credit(1) == (0 if role == INIT else INIT_BYTES)


@both
@pytest.mark.parametrize("kind", [CHUNK, END])
def test_no_answer_in_pieces_before_its_result(role: str, kind: int) -> None:
    assert (
        refused(streaming(role), RUNTIME, kind, 2) == f"{NAMES[kind]} from the runtime for id 2, where it has no stream"
    )
    error = refused(streaming(role), INIT, CREDIT, 2)
    assert error == "CREDIT from the init for id 2, where it has no stream"


@both
@pytest.mark.parametrize("kind", [RESULT, ERROR])
@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_streamed_result_has_no_other_outcome_than_its_end(role: str, kind: int, more: dict[str, Any]) -> None:
    assert refused(streaming(role), RUNTIME, kind, 1, **more) == f"{NAMES[kind]} for id 1, whose RESULT has a stream"


@both
def test_a_stream_comes_instead_of_a_payload(role: str) -> None:
    connection = streaming(role)
    assert refused(connection, RUNTIME, RESULT, 2, b"x", stream=True) == "RESULT with a stream and a payload"
    connection = streaming(role)
    assert refused(connection, INIT, INVOKE, 3, b"x", stream=True) == "INVOKE with a stream and a payload"


@both
def test_logs_may_come_between_the_pieces(role: str) -> None:
    connection = streaming(role)
    for _ in range(2):
        say(connection, RUNTIME, LOG, 1, b"line")
        say(connection, RUNTIME, CHUNK, 1, b"x")
    say(connection, RUNTIME, END, 1)
    assert "not waiting for an outcome" in refused(connection, RUNTIME, LOG, 1)


@both
@senders
@pytest.mark.parametrize("kind", [CHUNK, END, CREDIT])
@pytest.mark.parametrize("id", [0, 3, 2**64 - 1])
def test_streams_of_requests_that_were_never_made(role: str, sender: str, kind: int, id: int) -> None:
    error = refused(streaming(role), sender, kind, id)
    assert error == f"{NAMES[kind]} for id {id}, which is not waiting for an outcome"


# Outcomes.


@both
def test_end_is_the_outcome_of_a_streamed_result(role: str) -> None:
    connection = streaming(role)
    say(connection, RUNTIME, CHUNK, 1, b"x")
    assert connection.open_requests == {1: 0, 2: 0}
    say(connection, RUNTIME, END, 1, duration_us=1)
    assert connection.open_requests == {2: 0}
    assert connection.stream_credit(1) == 0
    assert streams(connection) == {INIT: {2: (True, RUNTIME_BYTES)}, RUNTIME: {}}


@both
def test_end_with_half_an_error(role: str) -> None:
    halves: list[dict[str, Any]] = [{"error_type": "E"}, {"error_message": "m"}]
    for more in halves:
        error = refused(streaming(role), RUNTIME, END, 1, **more)
        assert error == "END with one of error_type and error_message, without the other"
    say(streaming(role), INIT, END, 1, error_type="E")  # the field has no meaning from the init


@both
@pytest.mark.parametrize("kind", [RESULT, ERROR])
def test_any_outcome_ends_the_body(role: str, kind: int) -> None:
    connection = streaming(role)
    say(connection, INIT, CHUNK, 2, b"x")
    say(connection, RUNTIME, kind, 2)
    assert connection.open_requests == {1: 0}
    assert streams(connection)[INIT].keys() == {1}


@both
def test_an_outcome_gives_its_room_back_once(role: str) -> None:
    connection = talking(role, window_requests=2, window_bytes=10)
    say(connection, INIT, INVOKE, 1, b"x" * 6)
    say(connection, INIT, INVOKE, 2, stream=True)
    say(connection, RUNTIME, RESULT, 1, stream=True)
    assert not connection.room_for(0)
    say(connection, RUNTIME, END, 1)
    assert connection.room_for(10)
    assert not connection.room_for(11)
    say(connection, RUNTIME, RESULT, 2)
    assert (connection._open_bytes, connection.open_requests) == (0, {})


@pytest.mark.parametrize("kind", [RESULT, ERROR, END])
@pytest.mark.parametrize("late", [CHUNK, END, CREDIT, CANCEL])
def test_what_crosses_with_the_outcome_is_dropped(kind: int, late: int) -> None:
    id = 1 if kind == END else 2
    for at_once in (False, True):
        connection = streaming(RUNTIME)
        say(connection, RUNTIME, kind, id)
        before = snapshot(connection)
        data = frame(late, id, payload=bytes(MAX_CHUNK) if late == CHUNK else None)
        for _ in range(3):
            if at_once:
                assert connection.next_frame(data) is None
            else:
                connection.receive(data)
                assert connection.next_frame() is None
        assert snapshot(connection) == before
        connection.receive(data + frame(INVOKE, 5) + data + data + frame(DUMP))
        kinds = [event.kind for event in events(connection) if isinstance(event, Frame)]
        assert kinds == [INVOKE, DUMP]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(CHUNK, 2, payload=b""), "CHUNK with 0 bytes"),
        (frame(CHUNK, 2, payload=bytes(MAX_CHUNK + 1)), "CHUNK with 65537 bytes"),
        (frame(END, 2, {"duration_us": -1}), "END whose duration_us"),
        (frame(END, 2, payload=b"x"), "END with a payload"),
        (frame(CREDIT, 2, {}), "CREDIT without bytes"),
    ],
)
def test_what_is_dropped_is_checked_as_a_frame(data: bytes, why: str) -> None:
    connection = streaming(RUNTIME)
    say(connection, RUNTIME, ERROR, 2)
    connection.receive(data)
    with pytest.raises(ProtocolError, match=why):
        connection.next_frame()


@pytest.mark.parametrize("kind", [CHUNK, END, CREDIT])
def test_the_init_sends_nothing_after_an_outcome_that_it_has_read(kind: int) -> None:
    connection = streaming(INIT)
    say(connection, RUNTIME, END, 1)
    assert refused(connection, INIT, kind, 1) == f"{NAMES[kind]} for id 1, which is not waiting for an outcome"


@both
@pytest.mark.parametrize("outcome", [RESULT, ERROR, END])
@pytest.mark.parametrize("kind", [CHUNK, END, CREDIT, RESULT, ERROR, LOG])
def test_the_runtime_sends_nothing_after_its_own_outcome(role: str, outcome: int, kind: int) -> None:
    id = 1 if outcome == END else 2
    connection = streaming(role)
    say(connection, RUNTIME, outcome, id)
    assert refused(connection, RUNTIME, kind, id) == f"{NAMES[kind]} for id {id}, which is not waiting for an outcome"


@both
def test_cancel_leaves_the_streams_to_the_outcome(role: str) -> None:
    connection = streaming(role)
    before = streams(connection)
    say(connection, INIT, CANCEL, 1)
    assert streams(connection) == before
    say(connection, INIT, CHUNK, 1)
    say(connection, INIT, CREDIT, 1)
    say(connection, RUNTIME, CHUNK, 1)
    say(connection, RUNTIME, END, 1, **METADATA[ERROR])


# The end.


@both
def test_streams_go_on_after_stop(role: str) -> None:
    connection = streaming(role)
    say(connection, INIT, STOP)
    say(connection, INIT, CHUNK, 1)
    say(connection, RUNTIME, CREDIT, 1)
    say(connection, RUNTIME, CHUNK, 1)
    say(connection, INIT, CREDIT, 1)
    say(connection, INIT, END, 1)
    say(connection, RUNTIME, END, 1)
    say(connection, RUNTIME, RESULT, 2, stream=True)


def test_the_runtime_may_spend_its_credit_after_the_end_of_its_input() -> None:
    connection = streaming(RUNTIME)
    connection.receive(b"")
    assert events(connection) == [END_OF_STREAM]
    assert connection.stream_credit(1) == INIT_BYTES
    say(connection, RUNTIME, CHUNK, 1, bytes(INIT_BYTES))
    say(connection, RUNTIME, END, 1)
    say(connection, RUNTIME, RESULT, 2)
    assert connection.open_requests == {}


def test_the_last_word_ends_the_runtimes_streams() -> None:
    for role in (INIT, RUNTIME):
        connection = streaming(role)
        say(connection, RUNTIME, ERROR, 0)
        assert connection.stream_credit(1) == (0 if role == RUNTIME else RUNTIME_BYTES)
        assert "in state FAILED" in refused(connection, RUNTIME, CHUNK, 1)


# The fields of HELLO and READY that are numbers.


@both
def test_concurrency_is_at_least_1(role: str) -> None:
    for sender in (INIT, RUNTIME):
        assert refused(Connection(role), sender, HELLO, 0, concurrency=0) == "HELLO whose concurrency is 0"
    connection = Connection(role)
    say(connection, INIT, HELLO, concurrency=1)
    say(connection, RUNTIME, HELLO)
    assert (
        refused(connection, RUNTIME, READY, 0, concurrency=0)
        == "READY whose concurrency is not between 1 and HELLO's 1"
    )
    connection = Connection(role)
    say(connection, RUNTIME, HELLO)
    say(connection, RUNTIME, READY, concurrency=1)
    assert connection.states[RUNTIME] == SERVING


# Hostile bytes.


def test_streams_cost_no_more_than_the_requests_that_are_open() -> None:
    connection = talking(INIT, {"stream_bytes": INIT_BYTES}, window_requests=3)
    for id in range(1, 500):
        say(connection, INIT, INVOKE, id, stream=True)
        say(connection, RUNTIME, RESULT, id, stream=True)
        say(connection, RUNTIME, END, id)
    assert streams(connection) == {INIT: {}, RUNTIME: {}}
    assert connection.open_requests == {}


@both
def test_a_head_of_any_size_around_a_chunk_is_read_and_not_kept(role: str) -> None:
    connection = streaming(role)
    sender = peer(role)
    for _ in range(20):
        say(connection, sender, CHUNK, 1, b"x", unknown="x" * (MAX_HEAD - 20))
    assert connection.reader.buffered == 0
    assert streams(connection)[sender][1][1] == (RUNTIME_BYTES if sender == INIT else INIT_BYTES) - 20


def test_a_refused_send_takes_no_credit() -> None:
    connection = streaming(INIT)
    with pytest.raises(LocalProtocolError, match="cannot be packed"):
        connection.send(CHUNK, 1, {"unknown": "\ud800"}, b"x")
    assert connection.stream_credit(1) == RUNTIME_BYTES
