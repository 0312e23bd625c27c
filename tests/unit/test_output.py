"""Tests of results on their way to stdout, through real pipes that are read, not read, read too late, or closed."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipe_init.cli.options.usage_errors import CommandError
from pipe_init.cli.results.output import Output, OutputError
from pipe_init.kernel.outlet import Patience
from pipe_init.kernel.signals import Signals
from pipe_init.log.journal import Journal
from pipe_testing.supervision import installed_signals, within


def write(output: Output, data: bytes) -> None:
    """Append data, and write everything that waits."""
    output.add((data,))
    output.finish()


@pytest.fixture
def signals() -> Iterator[Signals]:
    with installed_signals() as signals:
        yield signals


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


class TestInTurns:
    def test_what_goes_is_written_and_told(self, page: tuple[int, int], signals: Signals) -> None:
        output, told = Output(page[1], signals, 2.0), list[str]()
        output.add((b"a" * 5000,), lambda: told.append("first"))
        output.add((b"b",), lambda: told.append("second"))
        with within():
            output.write_some()
        assert output.pending and not told
        assert os.read(page[0], 9999) == b"a" * 4096
        output.write_some()
        assert (output.pending, told) == (True, ["first"]) or (output.pending, told) == (False, ["first", "second"])
        found = os.read(page[0], 9999)
        output.write_some()
        found += os.read(page[0], 9999) if is_readable(page[0]) else b""
        assert (found, told, output.pending) == (b"a" * 904 + b"b", ["first", "second"], False)

    @pytest.mark.parametrize("blocking", [True, False])
    def test_all_comes_in_order(self, page: tuple[int, int], signals: Signals, blocking: bool) -> None:
        os.set_blocking(page[1], blocking)
        pieces, found = [os.urandom(size) for size in (1, 4095, 4096, 4097, 20000, 3)], []
        thread = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(page[0], 1000), b"")))
        thread.start()
        try:
            output = Output(page[1], signals, 2.0)
            for piece in pieces[:3]:
                output.add((piece,), lambda: None)
            with within():
                write(output, pieces[3])  # it follows the pieces that wait
                for piece in pieces[4:]:
                    write(output, piece)
            assert os.get_blocking(page[1]) is blocking
        finally:
            os.close(page[1])
            thread.join()
        assert b"".join(found) == b"".join(pieces)

    def test_pieces_are_made_when_it_is_their_turn(self, page: tuple[int, int], signals: Signals) -> None:
        output, made = Output(page[1], signals, 2.0), list[int]()

        def pieces() -> Iterator[bytes]:
            for number in range(5):
                made.append(number)
                yield b"%d" % number * 3000
                yield b""

        output.add(pieces())
        assert made == []
        with within():
            assert output.write_some()
            assert made == [0, 1] and not output.write_some()
            found = b""
            while output.pending:
                found += os.read(page[0], 1000)
                output.write_some()
                assert len(made) <= len(found) // 3000 + 3
            os.close(page[1])
            found += b"".join(iter(lambda: os.read(page[0], 9999), b""))
        assert found == b"".join(b"%d" % number * 3000 for number in range(5))

    def test_a_file(self, tmp_path: Path, signals: Signals) -> None:
        path = tmp_path / "results"
        with open(path, "wb") as file:
            output = Output(file.fileno(), signals, 2.0)
            output.add((b"one",), lambda: None)
            write(output, b"two")
            write(output, b"three" * 100_000)
        assert path.read_bytes() == b"onetwo" + b"three" * 100_000


class TestNobodyReads:
    def test_any_more(self, page: tuple[int, int], signals: Signals) -> None:
        os.close(page[0])
        output = Output(page[1], signals, 2.0)
        with pytest.raises(BrokenPipeError):
            write(output, b"x")

    def test_closed_from_the_start(self, page: tuple[int, int], signals: Signals) -> None:
        """Check that results are dropped where stdout was plugged with the reading end of a pipe."""
        os.close(page[1])
        output, told = Output(page[0], signals, 2.0), list[int]()
        output.add((b"x" * 5000,), lambda: told.append(1))
        with within():
            output.finish()
            write(output, b"x")
        assert told == [1] and not output.pending

    def test_a_full_disk(self, signals: Signals) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            with pytest.raises(CommandError, match="cannot be written to stdout: No space left"):
                write(Output(full, signals, 2.0), b"x")
        finally:
            os.close(full)

    def test_not_open_for_writing(self, tmp_path: Path, signals: Signals) -> None:
        (tmp_path / "results").touch()
        with open(tmp_path / "results") as file, pytest.raises(OutputError, match="Bad file descriptor"):
            write(Output(file.fileno(), signals, 2.0), b"x")

    def test_a_second_signal_ends_the_wait_at_once(self, page: tuple[int, int], signals: Signals) -> None:
        output = Output(page[1], signals, 3600.0)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with within():
            write(output, b"x" * 10_000)
            write(output, b"later")
        assert not output.pending
        assert os.read(page[0], 9999) == b"x" * 4096
        assert not is_readable(page[0]), "something was written after a gap"
        assert is_readable(signals.descriptor), "the wake-up for the signals was lost"

    def test_after_one_a_reader_has_its_time(self, page: tuple[int, int], signals: Signals) -> None:
        output = Output(page[1], signals, 0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        start = time.monotonic()
        with within():
            write(output, b"x" * 10_000)
        assert time.monotonic() - start >= 0.2
        assert not output.pending

    def test_after_one_a_slow_reader_gets_all(self, page: tuple[int, int], signals: Signals) -> None:
        output, found = Output(page[1], signals, 3600.0), []
        thread = threading.Thread(target=lambda: found.extend(iter(lambda: os.read(page[0], 100), b"")))
        os.kill(os.getpid(), signal.SIGTERM)
        thread.start()
        try:
            with within():
                write(output, b"x" * 10_000)
        finally:
            os.close(page[1])
            thread.join()
        assert len(b"".join(found)) == 10_000

    def test_a_childs_death_is_no_end(self, page: tuple[int, int], signals: Signals) -> None:
        output = Output(page[1], signals, 0.0)
        signals.wake()
        thread = threading.Thread(target=lambda: [os.read(page[0], 4096) for _ in range(3)])
        thread.start()
        with within():
            write(output, b"x" * 10_000)
        thread.join()
        assert not output.pending
        assert is_readable(signals.descriptor)


class TestBesideTheLog:
    """Check results and log lines on one pipe: neither interrupts a line of the other."""

    @pytest.fixture
    def both(self, page: tuple[int, int], signals: Signals) -> tuple[Output, Journal]:
        output, journal = Output(page[1], signals, 2.0), Journal(page[1])
        output.share(journal)
        return output, journal

    def drained(self, page: tuple[int, int], both: tuple[Output, Journal]) -> bytes:
        output, journal = both
        found = b""
        with within():
            while output.pending or journal.level or is_readable(page[0]):
                found += os.read(page[0], 999) if is_readable(page[0]) else b""
                journal.flush()
                output.write_some()
        return found

    def test_a_result_waits_for_the_end_of_a_line(self, page: tuple[int, int], both: tuple[Output, Journal]) -> None:
        output, journal = both
        journal.say("x" * 9000)
        journal.say("z" * 9000)
        output.add([b"y" * 9000, b"\n"])
        output.write_some()
        lines = self.drained(page, both).split(b"\n")
        assert sorted(lines) == [b"", b"x" * 9000, b"y" * 9000, b"z" * 9000]

    def test_a_line_waits_for_the_end_of_a_result(self, page: tuple[int, int], both: tuple[Output, Journal]) -> None:
        output, journal = both
        output.add([b"y" * 9000, b"y\n"])
        output.write_some()
        journal.say("x" * 9000)
        assert self.drained(page, both) == b"y" * 9001 + b"\n" + b"x" * 9000 + b"\n"

    def test_a_line_that_may_never_end_is_ended(self, page: tuple[int, int], both: tuple[Output, Journal]) -> None:
        output, journal = both
        journal.from_function(b"no end", "stdout", continues=True)
        output.add([b"result\n"])
        assert self.drained(page, both) == b"no end\nresult\n"

    def test_at_the_end_the_log_is_written_whatever_became_of_a_result(
        self, page: tuple[int, int], both: tuple[Output, Journal], signals: Signals
    ) -> None:
        output, journal = both
        output.add([b"y" * 9000])
        output.write_some()
        journal.say("x")
        assert os.read(page[0], 9999) == b"y" * 4096
        journal.finish(Patience(signals, 0.0))
        assert os.read(page[0], 9999) == b"x\n"
