"""Tests of events that are sent in pieces, from memory, from files and pipes, and from sources that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.runs.event_input import READ_SIZE, Body, check_json


@given(data=st.binary(max_size=50), rooms=st.lists(st.integers(1, 20), min_size=50, max_size=50))
def test_from_memory(data: bytes, rooms: list[int]) -> None:
    body, pieces = Body(data), []
    for room in rooms:
        assert body.waits_for == -1
        if body.ended:
            break
        piece = body.take(room)
        assert 0 < len(piece) <= room
        pieces.append(piece)
    assert body.ended and b"".join(pieces) == data


def test_memory_first_then_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"f" * (READ_SIZE + 1))
    descriptor = os.open(path, os.O_RDONLY)
    body = Body(b"mem", descriptor)
    assert (body.waits_for, body.take(2), body.waits_for, body.take(2)) == (-1, b"me", -1, b"m")
    sizes = []
    while not body.ended:
        assert body.waits_for == descriptor
        body.read_ahead()
        sizes.append(len(body.take(2**30)))
    assert sizes == [READ_SIZE, 1, 0]
    assert body.waits_for == -1 and body.error is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_descriptor_that_would_block_is_not_its_end() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        body = Body(b"", reader)
        body.read_ahead()
        assert (body.waits_for, body.ended) == (reader, False)
        os.write(writer, b"now")
        body.read_ahead()
        assert (body.waits_for, body.take(10)) == (-1, b"now")
    finally:
        os.close(writer)
    body.read_ahead()
    assert body.ended  # the body has closed it


def test_what_cannot_be_read_ends_it(tmp_path: Path) -> None:
    body = Body(b"", os.open(tmp_path, os.O_RDONLY))
    body.read_ahead()
    assert body.ended and isinstance(body.error, IsADirectoryError)


DEEP = b"[" * 10**6


@pytest.mark.parametrize(
    "data", [b"{}", b' {"a": [1, 2.5e3, null, true, "\xc3\xa9"]}\n', b"\xef\xbb\xbf1", b"NaN", b"-Infinity", b"[[[]]]"]
)
def test_what_json_reads_is_json(data: bytes) -> None:
    check_json(data)
    json.loads(data.decode("utf-8-sig"))


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"{}{}", b"1 2", b"'a'", b"\xff", b"\xef\xbb\xbf" * 2, b"9" * 5000, DEEP],
    ids=lambda data: repr(data[:9]),
)
def test_what_json_refuses_is_refused_in_the_same_words(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)) as expected:
        json.loads(data.decode("utf-8-sig"))
    with pytest.raises(expected.type) as found:
        check_json(data)
    assert str(found.value) == str(expected.value)
