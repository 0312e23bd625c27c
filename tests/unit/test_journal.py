"""Tests of the init's log: lines through a real pipe, the cap for each request, and descriptors that are closed."""

from __future__ import annotations

import fcntl
import os
import random
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.kernel.outlet import Patience
from pipe_init.log.journal import EMPTY, FULL, LOG_CAP, PARTIAL_LIMIT, WAITING, Journal
from pipe_testing.supervision import installed_signals, within

Log = Callable[[], bytes]


@pytest.fixture
def pipe() -> Iterator[tuple[int, Log]]:
    """Yield the descriptor to write to, and a function that returns what was written since the last call."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def written() -> bytes:
        try:
            return os.read(reader, 1 << 20)
        except BlockingIOError:
            return b""

    yield writer, written
    os.close(reader)
    os.close(writer)


class Reader:
    """Collect in a thread all that comes through a pipe until it is closed.

    Attributes:
        descriptor: The descriptor to write to.
    """

    def __init__(self) -> None:
        self._source, self.descriptor = os.pipe()
        self._pieces: list[bytes] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._source, 4096):
            self._pieces.append(data)
        os.close(self._source)

    def all(self) -> bytes:
        os.close(self.descriptor)
        self._thread.join()
        return b"".join(self._pieces)


def logged(
    write: Callable[[Journal], None], cap: int = LOG_CAP, json_line: Callable[[bytes, str, str], bytes] | None = None
) -> bytes:
    """Return what a journal has written after `write` was called with it."""
    reader = Reader()
    try:
        journal = Journal(reader.descriptor, cap=cap, json_line=json_line)
        write(journal)
        journal.finish(Patience(None, 0.0))
    finally:
        data = reader.all()
    return data


class TestLines:
    def test_our_own(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.say("pipe-init: ü \udc80")
        journal.say("")
        assert pipe[1]() == "pipe-init: ü \\udc80\n".encode()

    def test_a_functions(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.from_function(b"one\ntwo \xff")
        journal.from_function(b"")
        assert pipe[1]() == b"one\ntwo \xff\n\n"

    def test_only_a_functions_lines_are_escaped(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], lambda text: text.replace(b"\x1b", b"ESC"))
        journal.from_function(b"\x1b[2J")
        journal.raw(b"\x1b[3J\n")
        journal.say("\x1b[31mred\x1b[0m")
        assert pipe[1]() == b"ESC[2J\nESC[3J\n\x1b[31mred\x1b[0m\n"

    def test_the_callback_runs_before_each_line(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        seen: list[bytes] = []
        journal.before_line = lambda: seen.append(pipe[1]())
        journal.say("one")
        journal.from_function(b"two\nthree")
        journal.raw(b"fo")
        journal.raw(b"ur\n")
        assert seen == [b"", b"one\n", b"two\nthree\n"]


class TestRaw:
    def test_a_line_is_passed_on_when_it_is_whole(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        passed = []
        for piece in (b"on", b"e", b"\n", b"two\nth", b"ree\nfour\n"):
            journal.raw(piece)
            passed.append(pipe[1]())
        assert passed == [b"", b"", b"one\n", b"two\n", b"three\nfour\n"]

    def test_a_piece_is_completed_by_its_own_stream_only(self, pipe: tuple[int, Log]) -> None:
        descriptor, written = pipe
        journal = Journal(descriptor)
        journal.from_function(b"half", "stdout", continues=True)
        journal.from_function(b" of a line", "stdout")
        assert written() == b"half of a line\n"
        journal.from_function(b"half", "stdout", continues=True)
        journal.from_function(b"other", "log")
        journal.from_function(b"rest", "stdout", continues=True)
        journal.say("ours")
        assert written() == b"half\nother\nrest\nours\n"
        journal.from_function(b"half", "stdout", continues=True)
        journal.request_over()
        assert written() == b"half\n"

    def test_what_is_not_whole_comes_before_the_end_of_its_request(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.raw(b"no line break")
        journal.request_over()
        journal.say("END")
        journal.raw(b"next\n")
        assert pipe[1]() == b"no line break\nEND\nnext\n"

    def test_a_line_without_an_end_goes_on_in_pieces(self) -> None:
        def write(journal: Journal) -> None:
            for _ in range(PARTIAL_LIMIT // 1024 * 2 + 2):
                journal.raw(b"x" * 1024)
            journal.raw(b"y\n")

        assert logged(write) == b"x" * (2 * PARTIAL_LIMIT + 2048) + b"y\n"

    @given(text=st.text("ab\n", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=8))
    def test_how_it_is_cut_does_not_matter(self, text: str, cuts: list[int]) -> None:
        data, ends = text.encode(), sorted({*cuts, 0, 60})

        def write(journal: Journal) -> None:
            for start, end in zip(ends, ends[1:], strict=False):
                journal.raw(data[start:end])
            journal.request_over()

        assert logged(write) == data + (b"\n" if data and not data.endswith(b"\n") else b"")

    def test_each_line_is_made_into_another_form(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], json_line=lambda line, name, level: b"<%s:%s>" % (name.encode(), line))
        journal.request_id = str
        journal.raw(b"one\ntwo\nth", 7)
        assert pipe[1]() == b"<7:one>\n<7:two>\n"
        journal.request_over(7)
        assert pipe[1]() == b"<7:th>\n"

    def test_in_another_form_as_many_lines_are_kept_as_fit(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=100, json_line=lambda line, name, level: b"<%s>" % (line * 8))
        journal.raw(b"x\n" * 50 + b"half")
        assert pipe[1]() == b"<xxxxxxxx>\n" * 9
        journal.request_over()
        told = b"pipe-init: 42 log lines (96 bytes) of this request were dropped; a request may log 100 bytes"
        assert pipe[1]() == b"<%s>\n" % (told * 8)

    def test_in_another_form_a_line_without_an_end_becomes_several(self) -> None:
        def write(journal: Journal) -> None:
            journal.raw(b"x" * (PARTIAL_LIMIT + 1))
            journal.raw(b"y\n")

        assert (
            logged(write, json_line=lambda line, name, level: b"<%s>" % line)
            == b"<" + b"x" * (PARTIAL_LIMIT + 1) + b">\n<y>\n"
        )


class TestSeveralRequests:
    def test_open_lines_of_two_do_not_mix(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.from_function(b"one", "stdout", continues=True, id=1)
        journal.from_function(b"two", "stdout", continues=True, id=2)
        journal.from_function(b"more", "stdout", id=1)
        assert pipe[1]() == b"one\ntwo\nmore\n"

    def test_each_has_its_own_cap(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=5)
        journal.from_function(b"1111", id=1)
        journal.from_function(b"x", id=1)
        journal.from_function(b"2222", id=2)
        assert pipe[1]() == b"1111\n2222\n"
        journal.request_over(2)
        assert pipe[1]() == b""
        journal.request_over(1)
        assert pipe[1]().startswith(b"pipe-init: 1 log lines (2 bytes)")

    def test_a_raw_rest_stays_with_its_request(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.raw(b"of one", 1)
        journal.request_over(2)
        assert pipe[1]() == b""
        journal.request_over(1)
        assert pipe[1]() == b"of one\n"

    def test_nothing_grows(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        for id in range(1, 200):
            journal.from_function(b"a", id=id)
            journal.from_function(b"b")
            journal.raw(b"c", id)
            journal.request_over(id)
        assert not journal.usage and not journal.partial
        assert pipe[1]() == b"a\nb\nc\n" * 199

    def test_with_the_worker_all_of_them_are_over(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=3)
        for id in (1, 2, 3):
            journal.from_function(b"long", id=id)
        journal.all_over([1, 2, 3])
        assert pipe[1]().count(b"were dropped") == 3
        assert not journal.usage

    def test_each_source_has_its_own_line(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0])
        journal.raw(b"one, ", 1, source=1)
        journal.raw(b"two, ", 2, source=2)
        journal.raw(b"whole\n", 1, source=1)
        assert pipe[1]() == b"one, whole\n"
        journal.request_over(1, source=1)
        assert pipe[1]() == b""
        journal.all_over([2], source=2)
        assert pipe[1]() == b"two, \n"
        assert not journal.usage and not journal.partial


class TestCap:
    def test_what_is_more_is_counted_and_dropped(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=10)
        journal.from_function(b"1234")
        journal.from_function(b"5678")
        journal.from_function(b"x")
        journal.from_function(b"y\nz")
        assert pipe[1]() == b"1234\n5678\n"
        journal.request_over()
        assert pipe[1]() == (
            b"pipe-init: 3 log lines (6 bytes) of this request were dropped; a request may log 10 bytes\n"
        )

    def test_after_a_gap_nothing_more_comes(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=10)
        journal.from_function(b"12345678901234")
        journal.from_function(b"1")
        assert pipe[1]() == b""

    def test_each_request_has_its_own(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=5)
        for _ in range(3):
            journal.from_function(b"1234")
            journal.request_over()
        assert pipe[1]() == b"1234\n" * 3

    def test_nothing_dropped_nothing_said(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=5)
        journal.request_over()
        assert pipe[1]() == b""

    def test_raw_lines_and_their_unfinished_rest_count_too(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=6)
        journal.raw(b"12345\n67")
        journal.request_over()
        assert pipe[1]() == (
            b"12345\npipe-init: 1 log lines (3 bytes) of this request were dropped; a request may log 6 bytes\n"
        )
        journal.raw(b"8\n")
        assert pipe[1]() == b"8\n"

    def test_our_own_lines_do_not_count(self, pipe: tuple[int, Log]) -> None:
        journal = Journal(pipe[0], cap=2)
        journal.from_function(b"abc")
        journal.say("START of something long")
        assert pipe[1]() == b"START of something long\n"

    def test_a_flood_stays_within_it(self) -> None:
        def write(journal: Journal) -> None:
            for _ in range(5000):
                journal.from_function(b"x" * 999)

        assert len(logged(write)) == LOG_CAP // 1000 * 1000


def drained(journal: Journal, reader: int) -> list[str]:
    """Read all that a journal has to write to this pipe, and return the lines."""
    data = b""
    with within():
        while select.select([reader], [], [], 0)[0] or journal.level != EMPTY:
            data += os.read(reader, 4096)
            journal.flush()
    return data.decode().splitlines()


class TestDescriptors:
    def test_the_reader_is_gone(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            journal = Journal(writer)
            journal.say("lost")
            journal.from_function(b"lost")
        finally:
            os.close(writer)

    def test_it_is_closed(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        Journal(writer).say("lost")

    def test_a_full_disk_is_not_passed_over_in_silence(self) -> None:
        reader, descriptor = Reader(), os.open("/dev/full", os.O_WRONLY)
        try:
            journal = Journal(descriptor)
            journal.say("lost")
            journal.say("too")
            os.dup2(reader.descriptor, descriptor)
            journal.say("seen")
            journal.say("and goes on")
        finally:
            os.close(descriptor)
        note = "pipe-init: 9 bytes of the log could not be written: No space left on device"
        assert reader.all().decode() == f"{note}\nseen\nand goes on\n"


class TestBuffer:
    """Check a log that is not read. The buffer has a bound, and no lane may begin a request while it is full."""

    def test_it_has_levels(self, page: tuple[int, int]) -> None:
        journal, levels = Journal(page[1], cap=1000), []
        with within():
            for id in range(1, 5):
                journal.from_function(b"x" * 799, id=id)
                levels.append(journal.level)
            assert levels == [EMPTY, WAITING, FULL, FULL]  # the pipe's only page takes the first line
            assert os.read(page[0], 9999) == b"x" * 799 + b"\n"
            journal.flush()
            assert journal.level == EMPTY

    def test_lines_keep_their_order(self, page: tuple[int, int], seed: int) -> None:
        source, journal, sent, found = random.Random(seed), Journal(page[1]), [], b""
        with within():
            for number in range(3000):
                line = b"%d " % number + b"x" * source.choice((0, 10, 5000))
                if number % 3:
                    journal.say(line.decode())
                else:
                    journal.from_function(line, id=number)
                sent.append(line)
                if source.random() < 0.5:
                    found += os.read(page[0], source.choice((1, 100, 4096)))
                    journal.flush()
            while journal.level != EMPTY:
                found += os.read(page[0], 4096)
                journal.flush()
            os.set_blocking(page[0], False)
            found += os.read(page[0], 4096)
        assert found.split(b"\n") == [*sent, b""]

    def test_what_runs_can_log_to_its_cap(self, page: tuple[int, int]) -> None:
        journal = Journal(page[1], cap=10_000)
        for id in range(1, 5):
            for _ in range(2000):
                journal.from_function(b"123456789", id=id)
        assert 36_000 - 4096 * 2 < len(journal._buffer) <= 40_000

    def test_lines_of_no_request_cannot_fill_it_for_ever(self, page: tuple[int, int]) -> None:
        journal = Journal(page[1], cap=10_000)
        for _ in range(100):
            for _ in range(2000):
                journal.from_function(b"123456789")
            journal.all_over()
        assert len(journal._buffer) < 50_000

    def test_at_the_end_it_is_waited_for(self, page: tuple[int, int]) -> None:
        with installed_signals() as signals, within():
            journal, found = Journal(page[1]), []
            for number in range(5000):
                journal.say(f"line {number}")
            reader = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(page[0], 999)[-5:], b"4999\n")))
            reader.start()
            journal.finish(Patience(signals, 0.0))
            reader.join()
            assert journal.level == EMPTY

    def test_but_not_for_ever(self, page: tuple[int, int]) -> None:
        with installed_signals() as signals, within():
            journal = Journal(page[1])
            journal.say("x" * 9999)
            os.kill(os.getpid(), signal.SIGTERM)
            start = time.monotonic()
            journal.finish(Patience(signals, 0.2))
            assert time.monotonic() - start >= 0.2 and journal.level == EMPTY
            os.kill(os.getpid(), signal.SIGTERM)
            journal.say("y" * 9999)
            journal.finish(Patience(signals, 3600.0))
            assert journal.level == EMPTY

    def test_one_that_drops_holds_its_cap_and_counts_the_rest(self, page: tuple[int, int]) -> None:
        journal = Journal(page[1], cap=10_000, drops=True)
        for number in range(2000):
            journal.from_function(b"%09d" % number, id=number + 1)
        assert journal.level == FULL and len(journal._buffer) == 10_000
        lines = drained(journal, page[0])
        journal.say("seen")
        journal.say("and goes on")
        note = f"pipe-init: {20_000 - 10 * len(lines)} bytes of the log could not be written: its reader does not read"
        assert lines == [f"{number:09}" for number in range(len(lines))]
        assert drained(journal, page[0]) == [note, "seen", "and goes on"]

    def test_one_that_drops_ends_the_line_whose_rest_it_drops(self, page: tuple[int, int]) -> None:
        journal = Journal(page[1], cap=100, drops=True)
        journal.say("taken by the pipe")
        journal.from_function(b"a" * 50, continues=True, id=1)
        journal.from_function(b"b" * 60, id=1)
        journal.say("next")
        assert drained(journal, page[0]) == ["taken by the pipe", "a" * 50, "next"]

    def test_one_that_drops_counts_each_byte_once(self, page: tuple[int, int], seed: int) -> None:
        source, journal, lines, written = random.Random(seed), Journal(page[1], cap=10_000, drops=True), [], 0
        for _ in range(30):
            for number in range(source.choice((10, 100, 300))):
                journal.say(f"{number:099}")
                written += 100
            if source.random() < 0.5:
                lines += drained(journal, page[0])
        lines += drained(journal, page[0])
        journal.say("end")
        lines += drained(journal, page[0])
        told = re.findall(r"pipe-init: (\d+) bytes of the log could not", "\n".join(lines))
        kept = sum(len(line) == 99 and line.isdigit() for line in lines)
        assert len(told) > 1 and lines[-1] == "end"
        assert kept * 100 + sum(map(int, told)) == written

    def test_what_was_dropped_is_told_where_it_goes_on(self) -> None:
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        other = Reader()
        try:
            journal = Journal(writer)
            journal.say("x" * 4999)
            os.close(reader)
            journal.say("y")  # it is dropped with the lines that waited
            journal.say("z")
            os.dup2(other.descriptor, writer)
            journal.say("seen")
        finally:
            os.close(writer)
        note = f"pipe-init: {5000 - 4096 + 2 + 2} bytes of the log could not be written: Broken pipe"
        assert other.all().decode() == f"{note}\nseen\n"
