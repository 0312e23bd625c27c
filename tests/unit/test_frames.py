"""Tests of frames: golden bytes, every way to split them, limits, and hostile heads.

They know nothing of kinds, of the order of frames, or of descriptors.
"""

from __future__ import annotations

import ast
import math
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipe_runtime.wire.errors import LocalProtocolError, ProtocolError
from pipe_runtime.wire.frames import (
    LARGEST_PAYLOAD,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_HEAD,
    MAX_ITEMS,
    MIN_HEAD,
    Frame,
    FrameReader,
    FrameWriter,
    check_plain,
)

GOLDEN = Path(__file__).parents[1] / "data" / "frames.golden"

MIB = 1024 * 1024


class Case(NamedTuple):
    """A golden case.

    Attributes:
        name: The name of the case.
        how: How the bytes read: canonical, valid or refused.
        data: The bytes.
        expected: The frame, or for a refused case a part of the error.
    """

    name: str
    how: str
    data: bytes
    expected: Any


def golden_cases() -> list[Case]:
    """Return the cases of frames.golden. The first lines of that file describe its format."""
    cases = []
    for block in GOLDEN.read_text(encoding="utf-8").split("\ncase ")[1:]:
        title, expected, *lines = block.splitlines()
        name, how = title.split(": ")
        data = bytes.fromhex("".join(line.partition("|")[0] for line in lines if not line.startswith("#")))
        text = expected.removeprefix("gives ")
        cases.append(Case(name, how, data, text if how == "refused" else Frame(*ast.literal_eval(text))))
    return cases


CASES = golden_cases()
READABLE = [case for case in CASES if case.how != "refused"]
REFUSED = [case for case in CASES if case.how == "refused"]
CANONICAL = [case for case in CASES if case.how == "canonical"]


def named(cases: list[Case]) -> pytest.MarkDecorator:
    """Parametrize a test over cases, with the names of the cases as ids."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def shown(frame: Frame) -> str:
    """Return a text that is equal for equal frames, even if they hold NaN."""
    return repr((frame.kind, frame.id, frame.metadata, frame.payload))


def read(pieces: list[bytes]) -> list[str]:
    """Return what a reader makes of the pieces: frames, then the rest of a frame or the error."""
    reader = FrameReader()
    found = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (frame := reader.next_frame()) is not None:
                found.append(shown(frame))
    except ProtocolError as error:
        return [*found, f"error: {error}"]
    return [*found, f"left: {reader.buffered}"]


def read_all_ways(data: bytes) -> list[str]:
    """Return what a reader makes of the bytes. Check that it makes the same of any two pieces."""
    whole = read([data])
    assert read([data[at : at + 1] for at in range(len(data))]) == whole
    for cut in range(1, len(data)):
        assert read([data[:cut], data[cut:]]) == whole, f"cut at {cut}"
    return whole


def raw(head: bytes, payload: bytes = b"") -> bytes:
    """Return a frame around any head, valid or not."""
    return struct.pack(">II", 4 + len(head) + len(payload), len(head)) + head + payload


def head_of(value: bytes) -> bytes:
    """Return the head [1, 0, {"a": value}], with the value given as msgpack."""
    return b"\x93\x01\x00\x81\xa1a" + value


def plain(kind: int, metadata: dict[str, Any]) -> bool:
    """Allow every kind and metadata. Return what FrameReader expects of a check: whether the metadata is flat."""
    return all(type(key) is str and type(value) in (int, str) for key, value in metadata.items())


def read_one(data: bytes, *check: Callable[[int, dict[str, Any]], bool]) -> Frame:
    """Return the only frame in these bytes."""
    reader = FrameReader(*check)
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert reader.buffered == 0
    return frame


def refusal(data: bytes, *check: Callable[[int, dict[str, Any]], bool]) -> str:
    """Return the text of the error that these bytes cause at once."""
    reader = FrameReader(*check)
    reader.feed(data)
    with pytest.raises(ProtocolError) as caught:
        reader.next_frame()
    assert type(caught.value) is ProtocolError
    return str(caught.value)


# Golden frames.


def test_the_golden_file_has_cases_of_every_sort() -> None:
    assert len(CANONICAL) >= 12
    assert len(READABLE) > len(CANONICAL)
    assert len(REFUSED) >= 15
    assert len({case.name for case in CASES}) == len(CASES)


@named(READABLE)
def test_golden_frame_reads_as_written_down(case: Case) -> None:
    assert read_all_ways(case.data) == [shown(case.expected), "left: 0"]


@named(CANONICAL)
def test_golden_frame_is_written_as_written_down(case: Case) -> None:
    frame = case.expected
    assert FrameWriter().encode(frame.kind, frame.id, frame.metadata, frame.payload) == case.data


@named(REFUSED)
def test_golden_frame_is_refused(case: Case) -> None:
    (found,) = read_all_ways(case.data)
    assert found.startswith("error: ")
    assert case.expected in found


@named(READABLE)
def test_golden_frame_with_trailing_data(case: Case) -> None:
    first = shown(case.expected)
    stop = raw(b"\x93\x0c\x00\x80")
    assert read_all_ways(case.data + stop) == [first, shown(Frame(12, 0, {})), "left: 0"]
    assert read_all_ways(case.data + stop[:7]) == [first, "left: 7"]
    found = read_all_ways(case.data + b"\xff" * 9)
    assert found[0] == first
    assert found[1].startswith("error: a frame of 4294967295 bytes")


@named(REFUSED)
def test_refused_frame_with_trailing_data_is_the_same_refusal(case: Case) -> None:
    assert read([case.data + b"\x00" * 64]) == read([case.data])
    assert read([CASES[0].data + case.data])[1:] == read([case.data])


# Properties.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats() | texts | st.binary(max_size=300)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
frames = st.builds(
    Frame,
    kind=st.integers(0, 2**64 - 1),
    id=st.integers(0, 2**64 - 1),
    metadata=st.dictionaries(texts, values, max_size=6),
    payload=st.binary(max_size=200),
)


def encoded(frame: Frame) -> bytes:
    """Return the bytes of a frame from a writer of its own."""
    return FrameWriter().encode(frame.kind, frame.id, frame.metadata, frame.payload)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the data in pieces, cut at these places (each modulo the length)."""
    places = sorted({place % len(data) for place in cuts} - {0}) if data else []
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(frames)
def test_round_trip(frame: Frame) -> None:
    assert shown(read_one(encoded(frame))) == shown(frame)


@given(st.lists(frames, min_size=1, max_size=5), st.lists(st.integers(0, 5000), max_size=20))
def test_any_split_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encoded, sent))
    assert read(cut(data, cuts)) == [*map(shown, sent), "left: 0"]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
@example(b"\x00\x00\x00\x08\x00\x00\x00\x04\x93\x01\x00\x80", [4])
def test_garbage_gives_frames_or_one_error_however_split(data: bytes, cuts: list[int]) -> None:
    assert read(cut(data, cuts)) == read([data])


@given(st.binary(min_size=4, max_size=300))
@example(b"\xc1" * 8)
@example(b"\x93\x01\x00\x81\xd6\xff\x00\x00\x00\x00\x01")
def test_a_head_of_garbage_is_a_frame_or_a_protocol_error(head: bytes) -> None:
    reader = FrameReader()
    reader.feed(raw(head))
    try:
        frame = reader.next_frame()
    except ProtocolError as error:
        assert type(error) is ProtocolError
        return
    assert frame is not None
    assert all(type(key) is str for key in frame.metadata)
    assert type(frame.kind) is int
    assert type(frame.id) is int


@given(frames, st.data())
def test_a_head_with_a_changed_byte_is_a_frame_or_a_protocol_error(frame: Frame, data: st.DataObject) -> None:
    wire = bytearray(encoded(frame))
    head_end = 8 + int.from_bytes(wire[4:8], "big")
    at = data.draw(st.integers(8, head_end - 1))
    wire[at] = data.draw(st.integers(0, 255))
    reader = FrameReader()
    reader.feed(bytes(wire))
    try:
        changed = reader.next_frame()
    except ProtocolError:
        return
    assert changed is not None
    assert shown(read_one(encoded(changed))) == shown(changed)


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=40))
def test_no_more_is_buffered_than_a_frame_and_one_piece(pieces: list[bytes]) -> None:
    reader = FrameReader()
    reader.max_frame = 64
    for piece in pieces:
        reader.feed(piece)
        try:
            while reader.next_frame() is not None:
                pass
        except ProtocolError:
            return
        assert reader.buffered < 4 + reader.max_frame


# Limits.


def test_four_gibibytes_are_refused_by_their_first_four_bytes() -> None:
    reader = FrameReader()
    for byte in b"\xff\xff\xff":
        reader.feed(bytes((byte,)))
        assert reader.next_frame() is None
    reader.feed(b"\xff")
    for _ in range(3):
        with pytest.raises(ProtocolError, match=f"a frame of 4294967295 bytes; the limit is {MAX_FRAME}"):
            reader.next_frame()
    assert reader.buffered == 4


def test_frame_length_at_the_limit() -> None:
    reader = FrameReader()
    payload = bytes(MAX_FRAME - 4 - MIN_HEAD)
    data = raw(b"\x93\x04\x01\x80", payload)
    assert len(data) == 4 + MAX_FRAME
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert frame.payload == payload
    reader.feed(struct.pack(">I", MAX_FRAME + 1))
    with pytest.raises(ProtocolError, match="the limit is"):
        reader.next_frame()


@pytest.mark.parametrize("limit", [8, 100, 1000, 2 * MAX_FRAME])
def test_frame_length_at_another_limit(limit: int) -> None:
    reader, writer = FrameReader(), FrameWriter()
    reader.max_frame = writer.max_frame = limit
    payload = bytes(limit - 4 - MIN_HEAD)
    reader.feed(writer.encode(4, 1, {}, payload))
    frame = reader.next_frame()
    assert frame is not None
    assert len(frame.payload) == len(payload)
    with pytest.raises(LocalProtocolError, match=f"{limit + 1} bytes; the peer's limit is {limit}"):
        writer.encode(4, 1, {}, payload + b"x")
    reader.feed(struct.pack(">I", limit + 1))
    with pytest.raises(ProtocolError, match=f"{limit + 1} bytes; the limit is {limit}"):
        reader.next_frame()


def test_head_at_the_limit() -> None:
    metadata = {"a": "x" * (MAX_HEAD - 9)}
    data = FrameWriter().encode(1, 0, metadata)
    assert int.from_bytes(data[4:8], "big") == MAX_HEAD
    assert read_one(data).metadata == metadata
    with pytest.raises(LocalProtocolError, match=f"{MAX_HEAD + 1} bytes; the limit is {MAX_HEAD}"):
        FrameWriter().encode(1, 0, {"a": "x" * (MAX_HEAD - 8)})


def test_largest_payload_fits_with_the_largest_head() -> None:
    data = FrameWriter().encode(1, 0, {"a": "x" * (MAX_HEAD - 9)}, bytes(LARGEST_PAYLOAD))
    assert int.from_bytes(data[:4], "big") == MAX_FRAME
    assert len(read_one(data).payload) == LARGEST_PAYLOAD


def test_head_above_the_limit_is_refused_by_its_length() -> None:
    for length in (MAX_HEAD + 1, MAX_FRAME - 4, 0xFFFFFFFF):
        assert refusal(struct.pack(">II", MAX_FRAME, length)) == f"a head of {length} bytes; the limit is {MAX_HEAD}"


@pytest.mark.parametrize("length", range(8))
def test_frame_too_short_for_a_head(length: int) -> None:
    assert refusal(struct.pack(">I", length)) == f"a frame of {length} bytes, which cannot hold a head"


@pytest.mark.parametrize(("length", "head"), [(8, 0), (8, 3), (8, 5), (100, 97)])
def test_head_length_that_does_not_fit(length: int, head: int) -> None:
    assert refusal(struct.pack(">II", length, head)) == f"a head of {head} bytes in a frame of {length}"


def test_head_fills_the_frame_exactly() -> None:
    assert read_one(struct.pack(">II", 8, 4) + b"\x93\x01\x00\x80") == Frame(1, 0, {}, b"")


# Hostile heads that the golden file does not have.


def nested(levels: int) -> bytes:
    """Return metadata whose value is this many arrays inside one another."""
    return b"\x91" * levels + b"\x00"


@pytest.mark.parametrize("last", [b"\x00", b"\xff"], ids=["shortest form", "looked at closely"])
def test_depth_bomb(last: bytes) -> None:
    for levels in (1024, 5000, 60000):
        assert refusal(raw(head_of(b"\x91" * levels + last))).startswith("a head that is not msgpack")


def test_depth_bomb_of_maps() -> None:
    assert refusal(raw(head_of(b"\x81\xa1a" * 20000 + b"\x00"))).startswith("a head that is not msgpack")


def test_reader_takes_all_the_depth_that_is_allowed() -> None:
    value = read_one(raw(head_of(nested(MAX_DEPTH - 2)))).metadata["a"]
    check_plain(value)
    with pytest.raises(ProtocolError, match=f"more than {MAX_DEPTH} arrays and maps"):
        check_plain([value])


@pytest.mark.parametrize(
    "head",
    [
        pytest.param((head_of(b"\xdc\x04\x00" * 1000)).ljust(MAX_HEAD, b"\x80"), id="nested promises"),
        pytest.param((head_of(b"\xdd\x00\x00\xff\x00" * 1000)).ljust(MAX_HEAD, b"\x80"), id="large promises"),
        pytest.param((head_of(b"\xdd\xff\xff\xff\xff")).ljust(MAX_HEAD, b"\x80"), id="one huge promise"),
        pytest.param((head_of(b"\xdf\xff\xff\xff\xff")).ljust(MAX_HEAD, b"\x80"), id="a huge map"),
        pytest.param((head_of(b"\xdc\xff\x00")).ljust(MAX_HEAD, b"\x80"), id="empty maps"),
        pytest.param((head_of(b"\xdc\x03\xff" + b"\xdc\x00\x3f".ljust(66, b"\x80") * 0x3FF)), id="maps in arrays"),
        pytest.param(b"\x80" * MAX_HEAD, id="trailing empty maps"),
    ],
)
def test_object_bomb_stays_small(head: bytes) -> None:
    data = raw(head[:MAX_HEAD])
    tracemalloc.start()
    try:
        read([data])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB


def test_array_items_at_the_limit() -> None:
    items = [0] * MAX_ITEMS
    assert read_one(FrameWriter().encode(1, 0, {"a": items})).metadata["a"] == items
    check_plain(items)
    assert "1025 exceeds" in refusal(FrameWriter().encode(1, 0, {"a": [*items, 0]}))
    with pytest.raises(ProtocolError, match="an array of 1025 items; the limit is 1024"):
        check_plain([*items, 0])


@pytest.mark.parametrize(
    "stamp",
    [
        "d6ff 00000001",
        "d7ff 0000000100000001",
        "c70cff 00000001 0000000000000001",
        "c704ff 00000001",
        "c70cff ffffffff 0000000000000001",
        "c705ff 0000000001",
        "d4ff 00",
    ],
)
@pytest.mark.parametrize("where", ["value", "key", "in a list", "in a map", "metadata", "kind", "the head"])
def test_timestamp_is_refused_everywhere(stamp: str, where: str) -> None:
    value = bytes.fromhex(stamp)
    head = {
        "value": head_of(value),
        "key": b"\x93\x01\x00\x81" + value + b"\x00",
        "in a list": head_of(b"\x91" + value),
        "in a map": head_of(b"\x81\xa1b" + value),
        "metadata": b"\x93\x01\x00" + value,
        "kind": b"\x93" + value + b"\x00\x80",
        "the head": value,
    }[where]
    assert refusal(raw(head))


@pytest.mark.parametrize("code", [0, 1, 0x7F, 0x80, 0xFE])
@pytest.mark.parametrize("form", ["d4%02x00", "c700%02x", "c8 0001 %02x 00", "c9 00000001 %02x 00"])
def test_extension_types_are_refused(code: int, form: str) -> None:
    assert refusal(raw(head_of(bytes.fromhex(form % code)))) == "a head with an extension type"


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65000])
def test_binary_key_is_refused_whatever_its_size(size: int) -> None:
    key = msgpack.packb(b"k" * size)
    assert refusal(raw(b"\x93\x01\x00\x81" + key + b"\x00")) == "a head with a map key that is not a string"
    assert read_one(raw(head_of(key))).metadata == {"a": b"k" * size}


@pytest.mark.parametrize(
    "key", ["00", "ff", "cb 3ff0000000000000", "c0", "c3", "90", "80", "cd 0100", "d3 8000000000000000"]
)
def test_key_that_is_not_a_string_is_refused(key: str) -> None:
    assert refusal(raw(b"\x93\x01\x00\x81" + bytes.fromhex(key) + b"\x00"))
    assert refusal(raw(head_of(b"\x81" + bytes.fromhex(key) + b"\x00")))


def test_duplicate_key_is_refused_however_it_is_spelt() -> None:
    for other in ("a161", "d90161", "da000161", "db0000000161"):
        pair = b"\x82\xa1a\x01" + bytes.fromhex(other) + b"\x01"
        assert refusal(raw(b"\x93\x01\x00" + pair)) == "a head with a duplicate key"
        assert refusal(raw(head_of(pair))) == "a head with a duplicate key"
        assert refusal(raw(head_of(b"\x91" + pair))) == "a head with a duplicate key"


ARRAYS = ("93", "dc0003", "dd00000003")
KINDS = ("03", "cc03", "cd0003", "ce00000003", "cf0000000000000003", "d003", "d30000000000000003")
IDS = ("05", "cc05", "ccff", "cd0105", "ce00010005", "cf0000000100000005", "d005", "d10105", "d200010005")
MAPS = {2: ("82", "de0002", "df00000002"), 18: ("de0012", "df00000012")}


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_duplicate_key_is_refused_however_the_rest_is_spelt(array: str, kind: str) -> None:
    for id in IDS:
        for size, spellings in MAPS.items():
            for spelling in spellings:
                head = bytes.fromhex(array + kind + id + spelling)
                entries = [bytes((0xA1, 0x61 + number, number)) for number in range(size)]
                frame = read_one(raw(head + b"".join(entries)), plain)
                assert (frame.kind, len(frame.metadata)) == (3, size)
                again = [*entries[:-1], entries[0]]
                assert refusal(raw(head + b"".join(again)), plain) == "a head with a duplicate key"


@given(st.one_of(st.binary(min_size=4, max_size=40), st.builds(lambda frame: encoded(frame)[8:], frames)), st.data())
def test_a_check_that_spares_the_second_look_changes_nothing(head: bytes, data: st.DataObject) -> None:
    changed = bytearray(head)
    changed[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    wire = raw(bytes(changed))
    try:
        expected = shown(read_one(wire))
    except ProtocolError as error:
        assert refusal(wire, plain) == str(error)
    else:
        assert shown(read_one(wire, plain)) == expected


def test_same_key_in_different_maps_is_no_duplicate() -> None:
    assert read_one(raw(head_of(b"\x81\xa1a\xff"))).metadata == {"a": {"a": -1}}


@pytest.mark.parametrize("text", ["ff", "c3", "eda080", "c080", "f4908080", "80"])
def test_text_that_is_not_utf8_is_refused(text: str) -> None:
    value = msgpack.packb(bytes.fromhex(text).decode("latin-1"))  # a valid text, whose bytes are replaced below
    assert read_one(raw(head_of(value)))
    wrong = bytes((0xA0 + len(bytes.fromhex(text)),)) + bytes.fromhex(text)
    assert refusal(raw(head_of(wrong))).startswith("a head that is not msgpack")
    assert refusal(raw(b"\x93\x01\x00\x81" + wrong + b"\x00")).startswith("a head that is not msgpack")


@pytest.mark.parametrize(
    ("encoding", "value"),
    [
        ("cc01", 1),
        ("cd0001", 1),
        ("ce00000001", 1),
        ("cf0000000000000001", 1),
        ("d001", 1),
        ("d3ffffffffffffffff", -1),
        ("cfffffffffffffffff", 2**64 - 1),
        ("d38000000000000000", -(2**63)),
        ("ca3fc00000", 1.5),
        ("cb7ff0000000000000", math.inf),
        ("d90178", "x"),
        ("da000178", "x"),
        ("c5000178", b"x"),
        ("c600000001ff", b"\xff"),
        ("dc000101", [1]),
        ("dd00000000", []),
        ("de0001a16201", {"b": 1}),
        ("df00000000", {}),
    ],
)
def test_any_encoding_of_a_plain_value_is_read(encoding: str, value: object) -> None:
    assert read_one(raw(head_of(bytes.fromhex(encoding)))).metadata == {"a": value}


@pytest.mark.parametrize("encoding", ["cb7ff8000000000000", "cbfff8000000000001", "ca7fc00000"])
def test_not_a_number_is_a_number(encoding: str) -> None:
    assert math.isnan(read_one(raw(head_of(bytes.fromhex(encoding)))).metadata["a"])


def test_non_minimal_head_itself_is_read() -> None:
    head = bytes.fromhex("dd00000003 cf0000000000000003 ce00000007 df00000000")
    assert read_one(raw(head, b"p")) == Frame(3, 7, {}, b"p")


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])
def test_every_size_of_kind_and_id(number: int) -> None:
    assert read_one(FrameWriter().encode(number, number, {})) == Frame(number, number, {})


# The writer.


@pytest.mark.parametrize(
    ("kind", "id"),
    [(-1, 0), (0, -1), (True, 0), (1, False), (1.0, 0), (1, 2.0), ("1", 0), (1, None), (1, 2**64)],
)
def test_writer_refuses_what_is_no_unsigned_integer(kind: Any, id: Any) -> None:
    with pytest.raises(LocalProtocolError):
        FrameWriter().encode(kind, id, {})


def endless() -> dict[str, Any]:
    """Return a map that contains itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 1 + 2j, 2**64, -(2**63) - 1, "\ud800", endless()],
    ids=lambda value: type(value).__name__,
)
def test_writer_refuses_what_msgpack_cannot_say_and_goes_on(value: object) -> None:
    writer = FrameWriter()
    with pytest.raises(LocalProtocolError, match="the head cannot be packed"):
        writer.encode(1, 0, {"first": "x" * 100, "value": value})
    assert writer.encode(1, 0, {}) == raw(b"\x93\x01\x00\x80")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        msgpack.Timestamp(0),
        msgpack.ExtType(1, b""),
        {1: 2},
        {b"a": 1},
        [{None: 1}],
        bytearray(b"x"),
        endless(),
    ],
)
def test_check_plain_refuses_what_a_reader_would(value: object) -> None:
    with pytest.raises(ProtocolError):
        check_plain(value)


@given(values)
def test_check_plain_takes_what_a_reader_takes(value: object) -> None:
    check_plain(value)
    check_plain((value,))


# The frame as a value.


def test_frames_compare_by_all_four_parts() -> None:
    frame = Frame(3, 7, {"a": 1}, b"p")
    assert frame == Frame(3, 7, {"a": 1}, b"p")
    for other in (
        Frame(4, 7, {"a": 1}, b"p"),
        Frame(3, 8, {"a": 1}, b"p"),
        Frame(3, 7, {}, b"p"),
        Frame(3, 7, {"a": 1}),
    ):
        assert frame != other
    assert frame != (3, 7, {"a": 1}, b"p")
    with pytest.raises(TypeError):
        hash(frame)


def test_a_frame_prints_itself_without_a_large_payload() -> None:
    assert repr(Frame(3, 7, {"a": 1}, b"p")) == "Frame(kind=3, id=7, metadata={'a': 1}, payload=b'p')"
    text = repr(Frame(3, 7, {}, b"p" * MIB))
    assert len(text) < 120
    assert "(1048576 bytes)" in text
