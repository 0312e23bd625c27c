"""Tests of JSON Lines: input lines from real pipes, cut anywhere, and results in the order of their events."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.results.result_lines import Result
from pipe_init.cli.runs.event_input import READ_SIZE, LineReader
from pipe_init.cli.runs.events_run import MAX_WAITING, ResultQueue
from pipe_init.model import Outcome

LIMIT = 8

PIECES = st.lists(st.text("ab \t\r\n{}é", max_size=12).map(lambda text: text.encode()).filter(len), max_size=12)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    try:
        os.close(writer)
    except OSError:
        return  # the test has closed the pipe to end the stream


def lines_of(pieces: list[bytes], limit: int = LIMIT) -> list[bytes | None]:
    """Return what a reader makes of these pieces, each of which arrives in a read of its own, and of the end."""
    reader, writer = os.pipe()
    try:
        lines = LineReader(reader, limit)
        found: list[bytes | None] = []
        for piece in pieces:
            os.write(writer, piece)
            lines.fill()
            assert not lines.ended
            while lines.lines:
                found.append(lines.lines.popleft())
            assert not lines.exhausted
    finally:
        os.close(writer)
    try:
        lines.fill()
        assert lines.ended
        while lines.lines:
            assert not lines.exhausted
            found.append(lines.lines.popleft())
        assert lines.exhausted
    finally:
        os.close(reader)
    return found


def expected(data: bytes, limit: int = LIMIT) -> list[bytes | None]:
    """Return the lines by the rule itself: a line longer than the limit is None, and blank lines are left out."""
    lines = (None if len(line) > limit else line.strip(b" \t\r") for line in data.split(b"\n"))
    return [line for line in lines if line != b""]


@given(pieces=PIECES)
def test_lines_do_not_depend_on_how_they_come(pieces: list[bytes]) -> None:
    assert lines_of(pieces) == expected(b"".join(pieces))


@given(pieces=PIECES)
def test_byte_by_byte(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert lines_of([data[at : at + 1] for at in range(len(data))]) == expected(data)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b"1", [b"1"]),
        (b"1\n", [b"1"]),
        (b"1\n2", [b"1", b"2"]),
        (b"1\r\n2\r\n", [b"1", b"2"]),
        (b"\n\n 1\t\n \n2 \n\n", [b"1", b"2"]),
        (b'{"a": 1}\n', [b'{"a": 1}']),
        (b'{"a": 10}\n3\n', [None, b"3"]),
        (b"123456789", [None]),
        (b"12345678", [b"12345678"]),
        (b"\xff\x00\n", [b"\xff\x00"]),
        ("\u2028\x0b\x0c\n".encode(), ["\u2028\x0b\x0c".encode()]),
    ],
)
def test_what_a_line_is(data: bytes, lines: list[bytes | None]) -> None:
    assert lines_of([data] if data else []) == lines


def test_a_line_of_many_reads() -> None:
    line = b"x" * (3 * READ_SIZE)
    pieces = [line[at : at + READ_SIZE] for at in range(0, len(line), READ_SIZE)]
    assert lines_of([*pieces, b"\n1\n"], len(line)) == [line, b"1"]
    assert lines_of([*pieces, b"\n1\n"], len(line) - 1) == [None, b"1"]


def test_what_is_too_long_is_not_kept() -> None:
    """Check that a line of 8 MiB with a limit of 8 bytes is not kept while it arrives."""
    reader, writer = os.pipe()
    try:
        lines = LineReader(reader, LIMIT)
        for _ in range(128):
            os.write(writer, b"x" * READ_SIZE)
            lines.fill()
            assert not lines._partial
        os.write(writer, b"\n1\n")
        lines.fill()
    finally:
        os.close(writer)
        os.close(reader)
    assert [lines.lines.popleft(), lines.lines.popleft()] == [None, b"1"]


def test_a_descriptor_that_would_block_is_not_its_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(reader, False)
    lines = LineReader(reader, LIMIT)
    os.write(writer, b"1\n2")
    lines.fill()
    lines.fill()
    assert not lines.ended
    assert lines.lines.popleft() == b"1" and not lines.lines
    os.write(writer, b"3\n")
    lines.fill()
    assert lines.lines.popleft() == b"23"


def test_a_regular_file(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "events.jsonl")
    with open(path, "wb") as file:
        file.write(b"1\n2")
    with open(path, "rb") as file:
        lines = LineReader(file.fileno(), LIMIT)
        found = []
        while not lines.exhausted:
            lines.fill()
            while lines.lines:
                found.append(lines.lines.popleft())
    assert found == [b"1", b"2"]


def given_with(results: ResultQueue, request_id: str) -> list[tuple[int, str]]:
    """Return the places and requests of the results that can be taken after the result of one more request has come."""
    results.put(Result(Outcome(request_id), b"", 0))
    taken = []
    while (following := results.take()) is not None:
        place, result = following
        taken.append((place, result.outcome.request_id))
    return taken


class TestInOrder:
    @given(order=st.permutations(range(8)))
    def test_results_come_out_in_the_order_of_their_announcement(self, order: list[int]) -> None:
        results = ResultQueue()
        for number in range(8):
            results.announce(str(number))
        given: list[int] = []
        for at, number in enumerate(order, 1):
            for place, result in given_with(results, str(number)):
                assert place == len(given)
                given.append(int(result))
            arrived = set(order[:at])
            assert given == list(range(next((n for n in range(8) if n not in arrived), 8)))
            assert len(results) == 8 - len(given)

    def test_announcements_and_results_may_alternate(self) -> None:
        results = ResultQueue()
        results.announce("a")
        assert given_with(results, "a") == [(0, "a")]
        results.announce("b")
        results.announce("c")
        assert given_with(results, "c") == []
        results.announce("d")
        assert given_with(results, "b") == [(1, "b"), (2, "c")]
        assert len(results) == 1
        assert given_with(results, "d") == [(3, "d")]
        assert not results

    def test_so_many_may_wait(self) -> None:
        results = ResultQueue()
        for number in range(MAX_WAITING):
            assert len(results) < MAX_WAITING
            results.announce(str(number))
        assert len(results) >= MAX_WAITING
        assert given_with(results, "0") == [(0, "0")]
        assert len(results) < MAX_WAITING


class TestAsTheyCome:
    def test_each_comes_with_its_place(self) -> None:
        results = ResultQueue(unordered=True)
        for key in "abc":
            results.announce(key)
        assert given_with(results, "c") == [(2, "c")]
        assert results.first == "a" and len(results) == 2
        assert given_with(results, "a") == [(0, "a")]
        results.announce("d")
        assert given_with(results, "d") == [(3, "d")]
        assert results.first == "b" and results
        assert given_with(results, "b") == [(1, "b")]
        assert results.first is None and not results

    def test_so_many_may_be_awaited(self) -> None:
        results = ResultQueue(unordered=True)
        for number in range(MAX_WAITING):
            assert len(results) < MAX_WAITING
            results.announce(str(number))
        assert len(results) >= MAX_WAITING
        given_with(results, "7")
        assert len(results) < MAX_WAITING
