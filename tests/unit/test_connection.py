"""Tests of the conversation from both sides: every state with every kind, windows, ids and hostile bytes.

There are no pipes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_runtime.wire.connection import (
    BASE_WINDOW_BYTES,
    CLOSED,
    END_OF_STREAM,
    EOF,
    FAILED,
    FATAL,
    INIT,
    MIN_MAX_FRAME,
    NEW,
    OPEN,
    RUNTIME,
    SERVING,
    STARTING,
    STOPPING,
    TRANSITIONS,
    Connection,
)
from pipe_runtime.wire.errors import LocalProtocolError, ProtocolError
from pipe_runtime.wire.frames import MAX_FRAME, Frame
from pipe_runtime.wire.messages import (
    CANCEL,
    CHUNK,
    CREDIT,
    DUMP,
    END,
    ERROR,
    FIELDS,
    HELLO,
    INVOKE,
    LOG,
    NAMES,
    READY,
    RESULT,
    STOP,
)
from pipe_testing.conversation import (
    METADATA,
    PAYLOAD,
    WINDOW,
    assert_poisoned,
    events,
    frame,
    refused,
    say,
    snapshot,
    streams,
    talking,
    turns,
)

CONVERSATIONS = {name: Path(__file__).parents[1] / "data" / f"{name}.golden" for name in ("conversation", "streams")}


def outcome(role: str, prefix: list[tuple[str, int, int]], pieces: list[bytes], at_once: bool = False) -> list[str]:
    """Return what a connection makes of the pieces: its frames, then the error if there was one.

    Args:
        role: The connection's role.
        prefix: The messages before the pieces.
        pieces: The bytes that the connection receives.
        at_once: Whether it receives each piece by `next_frame`.
    """
    connection = Connection(role)
    for sender, kind, id in prefix:
        say(connection, sender, kind, id, **MORE.get(kind, {}))
    found: list[str] = []
    try:
        for piece in pieces:
            if at_once:
                event = connection.next_frame(piece)
            else:
                connection.receive(piece)
                event = connection.next_frame()
            while event is not None:
                found.append(repr(event))
                event = connection.next_frame()
    except ProtocolError as error:
        assert not isinstance(error, LocalProtocolError)
        found.append(f"error: {error}")
        assert_poisoned(connection, error)
    return found


# Every state of both sides, every kind, from both points of view.

PATHS: dict[str, dict[str, list[int]]] = {
    INIT: {
        NEW: [],
        OPEN: [HELLO, INVOKE],
        STOPPING: [HELLO, INVOKE, STOP],
        CLOSED: [HELLO, INVOKE, EOF],
    },
    RUNTIME: {
        NEW: [],
        STARTING: [HELLO],
        SERVING: [HELLO, READY],
        FAILED: [HELLO, FATAL],
        CLOSED: [HELLO, READY, EOF],
    },
}
STEPS = [EOF, FATAL, *NAMES, 0, 13, 2**63]
KNOWN = {INVOKE: 2, CANCEL: 1, RESULT: 1, ERROR: 1, CHUNK: 1, END: 1, CREDIT: 1}
MORE: dict[int, dict[str, Any]] = {HELLO: {"stream_bytes": 10}, INVOKE: {"stream": True}}
"""With this metadata, request 1 has a stream, and each side lets the other send some bytes of one."""


def test_paths_reach_every_state_of_the_table() -> None:
    for role, states in TRANSITIONS.items():
        assert set(PATHS[role]) == set(states)
        for state, path in PATHS[role].items():
            reached = NEW
            for step in path:
                reached = states[reached][step]
            assert reached == state


def take(connection: Connection, sender: str, step: int, id: int, **more: Any) -> object:
    """Let `sender` do the step, and return what send() or next_frame() returns."""
    kind = ERROR if step == FATAL else step
    metadata = {**METADATA.get(kind, {}), **MORE.get(kind, {}), **more}
    if sender == connection.role:
        return connection.send(kind, id, metadata, PAYLOAD.get(kind, b""))
    connection.receive(b"" if step == EOF else frame(kind, id, metadata))
    return connection.next_frame()


def arrived(role: str, init_state: str, runtime_state: str, answering: bool) -> Connection:
    """Return a connection in these states, as `role` sees it. `role` cannot have closed its own stream.

    Args:
        role: The connection's role.
        init_state: The state of the init.
        runtime_state: The state of the runtime.
        answering: Whether the runtime has begun to answer request 1 with a stream, as early as it may.
    """
    connection = Connection(role)
    for sender, state in ((INIT, init_state), (RUNTIME, runtime_state)):
        for step in PATHS[sender][state]:
            take(connection, sender, step, 1 if step == INVOKE else 0)
            if answering and step == READY:
                take(connection, RUNTIME, RESULT, 1, stream=True)
    assert connection.states == {INIT: init_state, RUNTIME: runtime_state}
    return connection


def allowed(sender: str, states: dict[str, str], step: int, answering: bool) -> bool:
    """Tell whether the table allows the step, and the request and the stream that it needs exist."""
    if step not in TRANSITIONS[sender][states[sender]]:
        return False
    asked, greeted = states[INIT] != NEW, states[RUNTIME] != NEW
    if step in (RESULT, ERROR):
        return asked and not answering
    if step == INVOKE:
        return greeted  # request 1 is open, so a second request needs the larger window of HELLO
    if step == CREDIT:
        return answering if sender == INIT else asked
    if step in (CHUNK, END) and sender == RUNTIME:
        return answering
    return step != CHUNK or greeted  # HELLO gives the credit


@pytest.mark.parametrize("answering", [False, True])
@pytest.mark.parametrize("sender", [INIT, RUNTIME])
@pytest.mark.parametrize("role", [INIT, RUNTIME])
@pytest.mark.parametrize("runtime_state", TRANSITIONS[RUNTIME])
@pytest.mark.parametrize("init_state", TRANSITIONS[INIT])
def test_every_state_and_every_step(
    role: str, sender: str, init_state: str, runtime_state: str, answering: bool
) -> None:
    states = {INIT: init_state, RUNTIME: runtime_state}
    if states[role] == CLOSED:
        return  # a side does not tell its own Connection that it has closed the stream
    if answering and (READY not in PATHS[RUNTIME][runtime_state] or init_state == NEW):
        return  # there is no request to answer yet
    for step in STEPS:
        if step == EOF and sender == role:
            continue
        connection = arrived(role, init_state, runtime_state, answering)
        before = snapshot(connection)
        id = KNOWN.get(step, 0)
        if allowed(sender, states, step, answering):
            done = take(connection, sender, step, id)
            assert connection.states == {**states, sender: TRANSITIONS[sender][states[sender]][step]}
            assert (done is END_OF_STREAM) == (step == EOF)
        elif step == EOF:
            assert take(connection, sender, step, id) is None  # the end of the stream is reported once
            assert connection.states == states
        elif sender == role:
            with pytest.raises(LocalProtocolError):
                take(connection, sender, step, id)
            assert snapshot(connection) == before
        else:
            with pytest.raises(ProtocolError) as caught:
                take(connection, sender, step, id)
            assert type(caught.value) is ProtocolError
            assert connection.states == states
            assert_poisoned(connection, caught.value)


# What belongs to a request.


both = pytest.mark.parametrize("role", [INIT, RUNTIME])


@both
@pytest.mark.parametrize("id", [0, 1, 4, 5])
def test_ids_of_invokes_rise(role: str, id: int) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 3)
    say(connection, INIT, INVOKE, 5)
    assert "not above the last one, 5" in refused(connection, INIT, INVOKE, id)


@both
def test_ids_may_skip_up_to_the_last(role: str) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 7)
    say(connection, INIT, INVOKE, 2**64 - 1)
    assert list(connection.open_requests) == [7, 2**64 - 1]
    assert refused(connection, INIT, INVOKE, 2**64 - 1)


@both
@pytest.mark.parametrize("kind", [RESULT, ERROR])
def test_exactly_one_outcome(role: str, kind: int) -> None:
    for second in (RESULT, ERROR, LOG):
        connection = talking(role)
        say(connection, INIT, INVOKE, 1)
        say(connection, INIT, INVOKE, 2)
        say(connection, RUNTIME, kind, 1)
        assert connection.open_requests == {2: 0}
        assert "id 1, which is not waiting for an outcome" in refused(connection, RUNTIME, second, 1)


@both
@pytest.mark.parametrize("kind", [RESULT, ERROR, LOG])
def test_nothing_about_a_request_that_was_not_made(role: str, kind: int) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 2)
    assert "not waiting for an outcome" in refused(connection, RUNTIME, kind, 1)


@both
def test_result_needs_a_request(role: str) -> None:
    assert refused(talking(role), RUNTIME, RESULT, 0) == "RESULT with id 0"


@both
def test_outcomes_in_any_order(role: str) -> None:
    connection = talking(role)
    for id in (1, 2, 3):
        say(connection, INIT, INVOKE, id, payload=b"x" * id)
    say(connection, RUNTIME, RESULT, 2)
    assert connection.open_requests == {1: 1, 3: 3}
    say(connection, RUNTIME, LOG, 3)
    say(connection, RUNTIME, ERROR, 3)
    say(connection, RUNTIME, RESULT, 1)
    assert connection.open_requests == {}


@both
@pytest.mark.parametrize(
    ("sender", "kind"),
    [(INIT, DUMP), (INIT, STOP), (RUNTIME, DUMP), (INIT, HELLO), (RUNTIME, HELLO), (RUNTIME, READY)],
)
def test_frames_of_the_connection_have_id_0(role: str, sender: str, kind: int) -> None:
    connection = talking(role) if kind in (DUMP, STOP) else Connection(role)
    if kind == READY:
        say(connection, RUNTIME, HELLO)
    assert refused(connection, sender, kind, 1) == f"{NAMES[kind]} with id 1 instead of 0"


@both
@pytest.mark.parametrize(
    ("sender", "kind"), [(INIT, DUMP), (INIT, STOP), (INIT, CANCEL), (RUNTIME, DUMP), (RUNTIME, ERROR)]
)
def test_only_invoke_result_and_log_have_a_payload(role: str, sender: str, kind: int) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 1)
    id = 1 if kind in (CANCEL, ERROR) else 0
    assert refused(connection, sender, kind, id, b"x") == f"{NAMES[kind]} with a payload"


@both
@pytest.mark.parametrize("sender", [INIT, RUNTIME])
def test_hello_has_no_payload(role: str, sender: str) -> None:
    assert refused(Connection(role), sender, HELLO, 0, b"x") == "HELLO with a payload"


@both
def test_metadata_is_checked_in_both_directions(role: str) -> None:
    assert "INVOKE whose timeout_ms" in refused(talking(role), INIT, INVOKE, 1, timeout_ms=-1)
    assert "LOG whose stream" in refused(talking(role), RUNTIME, LOG, 0, stream=1)


@both
@pytest.mark.parametrize("kind", [READY, RESULT, ERROR, LOG])
def test_init_says_nothing_that_is_the_runtimes(role: str, kind: int) -> None:
    assert f"{NAMES[kind]} (id 0) from the init" in refused(talking(role), INIT, kind, 0)


# CANCEL.


@both
def test_cancel_is_no_outcome(role: str) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 1)
    say(connection, INIT, CANCEL, 1)
    say(connection, INIT, CANCEL, 1)
    assert connection.open_requests == {1: 0}
    say(connection, RUNTIME, ERROR, 1)


def test_late_cancel_is_not_delivered() -> None:
    connection = talking(RUNTIME)
    say(connection, INIT, INVOKE, 1)
    say(connection, RUNTIME, RESULT, 1)
    connection.receive(frame(CANCEL, 1) + frame(CANCEL, 1) + frame(INVOKE, 2) + frame(CANCEL, 1))
    assert [event.kind for event in events(connection) if isinstance(event, Frame)] == [INVOKE]


def test_late_cancel_may_be_sent() -> None:
    connection = talking(INIT)
    say(connection, INIT, INVOKE, 1)
    say(connection, RUNTIME, RESULT, 1)
    assert connection.send(CANCEL, 1) == frame(CANCEL, 1)


@both
@pytest.mark.parametrize("id", [0, 2, 2**64 - 1])
def test_cancel_of_what_was_never_invoked(role: str, id: int) -> None:
    connection = talking(role)
    say(connection, INIT, INVOKE, 1)
    assert refused(connection, INIT, CANCEL, id) == f"CANCEL of id {id}, which was never invoked"


# Windows.


@both
def test_one_request_before_the_runtimes_hello(role: str) -> None:
    connection = Connection(role)
    say(connection, INIT, HELLO, window_requests=64)
    assert connection.room_for(2**40)
    say(connection, INIT, INVOKE, 1, payload=bytes(BASE_WINDOW_BYTES + 1))
    assert not connection.room_for(0)
    assert "beyond the window of 1 requests" in refused(connection, INIT, INVOKE, 2)


@both
@pytest.mark.parametrize("requests", [1, 2, 5])
def test_window_of_requests_exactly(role: str, requests: int) -> None:
    connection = talking(role, window_requests=requests)
    for id in range(1, requests + 1):
        assert connection.room_for(0)
        say(connection, INIT, INVOKE, id)
    assert not connection.room_for(0)
    assert f"beyond the window of {requests} requests" in refused(connection, INIT, INVOKE, 99)


@both
def test_an_outcome_gives_its_room_back(role: str) -> None:
    connection = talking(role, window_requests=2, window_bytes=10)
    say(connection, INIT, INVOKE, 1, payload=b"x" * 6)
    say(connection, INIT, INVOKE, 2, payload=b"x" * 4)
    say(connection, RUNTIME, ERROR, 1)
    assert connection.room_for(6)
    assert not connection.room_for(7)
    say(connection, INIT, INVOKE, 3, payload=b"x" * 6)
    assert not connection.room_for(0)


@both
def test_window_of_bytes_exactly(role: str) -> None:
    connection = talking(role, window_bytes=100)
    say(connection, INIT, INVOKE, 1, payload=b"x" * 60)
    assert connection.room_for(40)
    assert not connection.room_for(41)
    say(connection, INIT, INVOKE, 2, payload=b"x" * 40)
    assert connection.room_for(0)
    say(connection, INIT, INVOKE, 3)
    assert "100 bytes" in refused(connection, INIT, INVOKE, 4, b"x")


@both
@pytest.mark.parametrize("window", [0, 1, 100])
def test_one_request_always_fits(role: str, window: int) -> None:
    connection = talking(role, window_requests=1, window_bytes=window)
    for id in (1, 2):
        assert connection.room_for(101)
        say(connection, INIT, INVOKE, id, payload=b"x" * 101)
        say(connection, RUNTIME, RESULT, id)


def test_the_window_is_the_runtimes_to_give() -> None:
    connection = Connection(INIT)
    say(connection, INIT, HELLO, window_requests=64, window_bytes=2**30)
    connection.receive(frame(HELLO, 0, {"versions": [1]}))
    connection.next_frame()
    say(connection, INIT, INVOKE, 1)
    assert not connection.room_for(0)


# HELLO: versions and limits.


@both
@pytest.mark.parametrize(
    ("init", "runtime"), [([1], [1]), ([1, 2], [1]), ([1], [3, 2, 1]), ([3, 1, 2], [1, 2, 9]), ([1, 1], [1])]
)
def test_one_version_in_common_is_enough(role: str, init: list[int], runtime: list[int]) -> None:
    connection = Connection(role)
    say(connection, INIT, HELLO, versions=init)
    say(connection, RUNTIME, HELLO, versions=runtime)
    assert connection.states == {INIT: OPEN, RUNTIME: STARTING}


@both
@pytest.mark.parametrize("versions", [[], ["1"], [1, None], [True], [1.0], [-1, 1], [[1]]])
@pytest.mark.parametrize("sender", [INIT, RUNTIME])
def test_versions_are_unsigned_integers(role: str, sender: str, versions: list[Any]) -> None:
    assert refused(Connection(role), sender, HELLO, 0, versions=versions) == (
        "HELLO whose versions are not unsigned integers"
    )


@both
def test_no_version_in_common(role: str) -> None:
    assert "init speaks protocol versions [2]" in refused(Connection(role), INIT, HELLO, 0, versions=[2])
    connection = Connection(role)
    say(connection, INIT, HELLO, versions=[1, 2])
    assert refused(connection, RUNTIME, HELLO, 0, versions=[3]) == (
        "the runtime speaks protocol versions [3]; the other side [1, 2]"
    )


def test_a_version_error_is_short_enough_to_be_sent() -> None:
    connection = Connection(RUNTIME)
    connection.receive(frame(HELLO, 0, {"versions": list(range(2**40, 2**40 + 1000))}))
    with pytest.raises(ProtocolError) as caught:
        connection.next_frame()
    assert len(str(caught.value)) < 300


def test_a_runtime_can_say_its_last_word_after_a_protocol_error() -> None:
    connection = Connection(RUNTIME)
    connection.receive(frame(HELLO, 0, {"versions": [2]}))
    with pytest.raises(ProtocolError):
        connection.next_frame()
    connection.send(HELLO, 0, WINDOW)
    connection.send(ERROR, 0, METADATA[ERROR])
    assert connection.states[RUNTIME] == FAILED


@both
@pytest.mark.parametrize("sender", [INIT, RUNTIME])
def test_limits_in_hello(role: str, sender: str) -> None:
    for size in (0, MIN_MAX_FRAME - 1, 2**32):
        assert "max_frame is not between 65540 and 4294967295" in refused(
            Connection(role), sender, HELLO, 0, max_frame=size
        )
    for size in (MIN_MAX_FRAME, 2**32 - 1):
        say(Connection(role), sender, HELLO, max_frame=size)
    assert "window_requests is 0" in refused(Connection(role), sender, HELLO, 0, window_requests=0)


def sized(kind: int, id: int, length: int) -> bytes:
    """Return a frame of exactly this length."""
    return frame(kind, id, payload=bytes(length - len(frame(kind, id)) + 4))


@pytest.mark.parametrize("limit", [MIN_MAX_FRAME, 10**6, MAX_FRAME + 1000])
def test_init_limits_what_it_reads(limit: int) -> None:
    connection = Connection(INIT)
    say(connection, INIT, HELLO, max_frame=limit)
    say(connection, RUNTIME, HELLO)
    say(connection, INIT, INVOKE, 1)
    connection.receive(sized(LOG, 1, limit))
    assert len(events(connection)) == 1
    connection.receive(sized(LOG, 1, limit + 1)[:8])
    with pytest.raises(ProtocolError, match=f"the limit is {limit}"):
        connection.next_frame()


@pytest.mark.parametrize("limit", [MIN_MAX_FRAME, 10**6, MAX_FRAME + 1000])
def test_runtime_limits_what_it_reads_after_the_first_invoke(limit: int) -> None:
    connection = Connection(RUNTIME)
    say(connection, INIT, HELLO)
    say(connection, RUNTIME, HELLO, max_frame=limit, window_bytes=2**32)
    connection.receive(sized(INVOKE, 1, max(limit, MAX_FRAME)))
    assert len(events(connection)) == 1
    connection.receive(sized(INVOKE, 2, limit))
    assert len(events(connection)) == 1
    connection.receive(sized(INVOKE, 3, limit + 1)[:8])
    with pytest.raises(ProtocolError, match=f"the limit is {limit}"):
        connection.next_frame()


def test_first_invoke_under_way_while_the_runtime_lowers_its_limit() -> None:
    init, runtime = Connection(INIT), Connection(RUNTIME)
    data = init.send(HELLO, 0, WINDOW) + init.send(INVOKE, 1, METADATA[INVOKE], bytes(10**6))
    lower = runtime.send(HELLO, 0, {**WINDOW, "max_frame": MIN_MAX_FRAME, "window_bytes": 2**32})
    runtime.receive(data)
    assert len(events(runtime)) == 2
    init.receive(lower)
    assert len(events(init)) == 1
    with pytest.raises(LocalProtocolError, match="the peer's limit is 65540"):
        init.send(INVOKE, 2, METADATA[INVOKE], bytes(10**6))


def test_first_invoke_read_before_the_runtime_lowers_its_limit() -> None:
    connection = Connection(RUNTIME)
    say(connection, INIT, HELLO)
    say(connection, INIT, INVOKE, 1)
    say(connection, RUNTIME, HELLO, max_frame=MIN_MAX_FRAME)
    connection.receive(struct.pack(">I", MIN_MAX_FRAME + 1))
    with pytest.raises(ProtocolError, match="the limit is 65540"):
        connection.next_frame()


def test_runtime_sends_nothing_large_before_it_has_read_hello() -> None:
    connection = Connection(RUNTIME)
    say(connection, RUNTIME, HELLO)
    with pytest.raises(LocalProtocolError, match="the peer's limit is 65540"):
        connection.send(LOG, 0, METADATA[LOG], bytes(MIN_MAX_FRAME))
    say(connection, INIT, HELLO)
    connection.send(LOG, 0, METADATA[LOG], bytes(MIN_MAX_FRAME))


# The end of the stream.


@both
def test_end_between_frames_is_told_once(role: str) -> None:
    connection = talking(role)
    connection.receive(frame(DUMP))
    connection.receive(b"")
    first, second = events(connection)
    assert isinstance(first, Frame)
    assert second is END_OF_STREAM
    connection.receive(b"")
    assert connection.next_frame() is None
    assert connection.states[connection.peer] == CLOSED


@both
def test_end_inside_a_frame_is_an_error_at_every_byte(role: str) -> None:
    data = frame(DUMP, 0, {"x": "y"})
    for cut in range(1, len(data)):
        connection = talking(role)
        connection.receive(data + data[:cut])
        connection.receive(b"")
        assert isinstance(connection.next_frame(), Frame)
        with pytest.raises(ProtocolError, match="the stream ended inside a frame") as caught:
            connection.next_frame()
        assert_poisoned(connection, caught.value)


@both
def test_frame_after_the_end_is_an_error(role: str) -> None:
    connection = talking(role)
    connection.receive(b"")
    assert events(connection) == [END_OF_STREAM]
    connection.receive(frame(DUMP))
    with pytest.raises(ProtocolError, match="in state CLOSED"):
        connection.next_frame()


def test_runtime_may_answer_after_the_end_of_its_input() -> None:
    connection = talking(RUNTIME)
    say(connection, INIT, INVOKE, 1)
    connection.receive(b"")
    assert events(connection) == [END_OF_STREAM]
    assert connection.send(RESULT, 1, METADATA[RESULT], b"x") == frame(RESULT, 1, payload=b"x")


# Hostile bytes.

GREETED = {INIT: [(INIT, HELLO, 0), (INIT, INVOKE, 1)], RUNTIME: [(RUNTIME, HELLO, 0)]}


@both
@given(pieces=st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_gives_events_or_one_error(role: str, pieces: list[bytes]) -> None:
    pieces = [piece for piece in pieces if piece]
    whole = outcome(role, GREETED[role], [b"".join(pieces), b""])
    for at_once in (False, True):
        assert outcome(role, GREETED[role], [*pieces, b""], at_once) == whole


any_metadata: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(sorted({key for fields in FIELDS.values() for key in fields})),
    st.sampled_from([0, 1, 2**64 - 1, -1, "x", "", [], [1], {}, None, True, b"x", 0.5, [["f", 1, "g", "c"]]]),
    max_size=4,
)
any_frame = st.builds(
    frame,
    st.sampled_from([*NAMES, *NAMES, 0, 13]),
    st.sampled_from([0, 0, 0, 1, 2, 3, 2**64 - 1]),
    st.none() | any_metadata,
    st.sampled_from([b"", b"", b"{}", b"\x00" * 70_000]),
)


@both
@given(sent=st.lists(any_frame, max_size=8), cuts=st.lists(st.integers(0, 10**6), max_size=8))
def test_frames_in_any_order_give_events_or_one_error(role: str, sent: list[bytes], cuts: list[int]) -> None:
    hello = frame(HELLO)
    data = hello + b"".join(sent)
    places = sorted({cut % len(data) for cut in cuts} - {0})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    whole = outcome(role, GREETED[role], [data, b""])
    for at_once in (False, True):
        assert outcome(role, GREETED[role], [*pieces, b""], at_once) == whole
    assert outcome(role, GREETED[role], [hello, *sent, b""], at_once=True) == whole
    assert len(whole) >= 2


recordings = pytest.mark.parametrize("name", CONVERSATIONS)


@recordings
@both
@given(data=st.data())
def test_a_changed_byte_in_a_real_conversation(role: str, name: str, data: st.DataObject) -> None:
    wire = bytearray(b"".join(data for who, _, data in conversation(name) if who != role))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] = data.draw(st.integers(0, 255))
    prefix = GREETED[role]
    cut = data.draw(st.integers(1, len(wire) - 1))
    whole = outcome(role, prefix, [bytes(wire), b""])
    for at_once in (False, True):
        assert outcome(role, prefix, [bytes(wire[:cut]), bytes(wire[cut:]), b""], at_once) == whole


@recordings
@both
@given(data=st.data())
def test_a_changed_byte_in_a_frame_that_comes_alone(role: str, name: str, data: st.DataObject) -> None:
    frames = [data for who, _, data in conversation(name) if who != role and data]
    number = data.draw(st.integers(0, len(frames) - 1))
    changed = bytearray(frames[number])
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    frames[number] = bytes(changed)
    prefix = GREETED[role]
    expected = outcome(role, prefix, [*frames, b""])
    assert outcome(role, prefix, [*frames, b""], at_once=True) == expected


@both
def test_four_gibibytes_are_refused_before_they_are_buffered(role: str) -> None:
    connection = talking(role)
    connection.receive(b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError, match="a frame of 4294967295 bytes") as caught:
        connection.next_frame()
    assert_poisoned(connection, caught.value)
    assert connection.reader.buffered == 4


def test_buffer_never_holds_more_than_a_frame_and_a_piece() -> None:
    connection = Connection(INIT)
    say(connection, INIT, HELLO, max_frame=MIN_MAX_FRAME)
    say(connection, RUNTIME, HELLO)
    data = sized(LOG, 0, MIN_MAX_FRAME) * 3 + frame(READY)
    piece = 8192
    for start in range(0, len(data), piece):
        connection.receive(data[start : start + piece])
        events(connection)
        assert connection.reader.buffered < 4 + MIN_MAX_FRAME
    assert connection.reader.buffered == 0
    assert connection.states[RUNTIME] == SERVING


def test_an_error_does_not_grow_when_it_is_asked_for_again() -> None:
    connection = talking(INIT)
    connection.receive(b"\xff" * 4)
    depths = []
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            connection.next_frame()
        depths.append(len(caught.traceback))
    assert depths[1] == depths[2]


def test_depth_bomb_is_refused_before_it_is_printed() -> None:
    head = b"\x93\x0b\x00\x81\xa6stacks" + b"\x91" * 900 + b"\x00"
    connection = talking(INIT)
    connection.receive(struct.pack(">II", 4 + len(head), len(head)) + head)
    with pytest.raises(ProtocolError) as caught:
        connection.next_frame()
    assert_poisoned(connection, caught.value)


# Whatever send() accepts, the peer accepts.

odd_values = st.recursive(
    st.sampled_from(
        [0, 1, -1, 2**64, 1.5, "x", "\ud800", b"x", bytearray(b"x"), None, True, object(), 1 + 2j]
        + [msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x")]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.sampled_from(["a", "b", 1, b"a", None]), inner, max_size=2)
    ),
    max_leaves=4,
)


def listed(value: Any) -> Any:
    """Return the value with lists instead of tuples, as the other side receives it."""
    if isinstance(value, (list, tuple)):
        return [listed(item) for item in value]
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return value


@both
@given(
    kind=st.sampled_from([*NAMES, True, 3.0, -1, 13]),
    id=st.sampled_from([0, 0, 1, 2, 2, True, 1.0, -1, 2**64]),
    metadata=st.dictionaries(
        st.sampled_from(["client_context", "stack", "stacks", "environment", "unknown", "timeout_ms", 1, b"k", None]),
        odd_values,
        max_size=2,
    ),
    payload=st.sampled_from([b"", b"x"]),
)
def test_what_send_accepts_the_peer_accepts(
    role: str, kind: Any, id: Any, metadata: dict[Any, Any], payload: bytes
) -> None:
    sides = {INIT: talking(INIT), RUNTIME: talking(RUNTIME)}
    for side in sides.values():
        say(side, INIT, INVOKE, 1)
    sender = sides[role]
    whole = {**METADATA.get(kind, {}), **metadata}
    before = snapshot(sender)
    try:
        data = sender.send(kind, id, whole, payload)
    except LocalProtocolError:
        assert snapshot(sender) == before
        return
    receiver = sides[sender.peer]
    receiver.receive(data)
    assert events(receiver) == [Frame(kind, id, listed(whole), payload)]
    assert receiver.states == sender.states
    assert receiver.open_requests == sender.open_requests


# Whole conversations.


def conversation(name: str) -> list[tuple[str, str, bytes]]:
    """Return the turns of a golden conversation: sender, name of the kind, and bytes (none at the end)."""
    return turns(CONVERSATIONS[name].read_text(encoding="utf-8"))


@recordings
@pytest.mark.parametrize("size", [1, 7, 64, 2**20])
def test_golden_conversation_in_pieces(name: str, size: int) -> None:
    sides = {INIT: Connection(INIT), RUNTIME: Connection(RUNTIME)}
    for sender, said, data in conversation(name):
        reader = sides[sides[sender].peer]
        if said == "EOF":
            reader.receive(b"")
            assert events(reader) == [END_OF_STREAM]
            continue
        for start in range(0, len(data), size):
            assert events(reader) == []
            reader.receive(data[start : start + size])
        (event,) = events(reader)
        assert isinstance(event, Frame)
        assert NAMES[event.kind] == said
        assert sides[sender].send(event.kind, event.id, event.metadata, event.payload) == data
    for side in sides.values():
        assert side.open_requests == {}
        assert streams(side) == {INIT: {}, RUNTIME: {}}
