"""Tests of writing to shared descriptors without waiting: pipes, files and terminals, whether they are read or not."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipe_init.kernel.outlet import Outlet, Patience
from pipe_init.kernel.signals import Signals
from pipe_testing.supervision import installed_signals, within


@pytest.fixture
def signals() -> Iterator[Signals]:
    with installed_signals() as signals:
        yield signals


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield the user's side of a terminal, and the program's side."""
    person, program = os.openpty()
    os.set_blocking(person, False)
    yield person, program
    os.close(program)
    os.close(person)


def drained(person: int) -> bytes:
    """Return what the user sees until nothing more comes."""
    found = b""
    while select.select([person], [], [], 0.05)[0]:
        found += os.read(person, 65536)
    return found


class TestPipe:
    def test_what_is_not_taken_is_told(self, page: tuple[int, int]) -> None:
        outlet = Outlet(page[1])
        with within():
            assert outlet.write(b"a" * 5000) == 4096
            assert outlet.write(b"a" * 904) == 0
            assert os.read(page[0], 9999) == b"a" * 4096
            assert outlet.write(b"a" * 904) == 904
        assert os.get_blocking(page[1]), "it was made non-blocking for all who share it"

    def test_a_line_that_fits_is_not_cut(self, page: tuple[int, int]) -> None:
        line = b"x" * 999 + b"\n"
        assert Outlet(page[1]).write(line * 5) == 4000
        assert os.read(page[0], 9999) == line * 4

    def test_a_line_that_does_not_fit_is(self, page: tuple[int, int]) -> None:
        assert Outlet(page[1]).write(b"x" * 5000 + b"\n") == 4096

    def test_a_large_pipe_is_filled_as_far_as_it_goes(self) -> None:
        reader, writer = os.pipe()
        try:
            with within():
                written = Outlet(writer).write(bytes(10_000_000))
            assert written == fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
        finally:
            os.close(reader)
            os.close(writer)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_bytes_can_be_written(self, page: tuple[int, int], kind: type) -> None:
        data = kind(b"data")
        assert Outlet(page[1]).write(data) == 4
        if isinstance(data, bytearray):
            del data[:4]  # the outlet does not keep a view of it

    def test_its_reader_is_gone(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            with pytest.raises(BrokenPipeError):
                Outlet(writer).write(b"x")
        finally:
            os.close(writer)

    def test_it_is_closed(self) -> None:
        descriptor = os.dup(0)
        os.close(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            Outlet(descriptor).write(b"x")


class TestFile:
    def test_it_is_written_in_one_go(self, tmp_path: Path) -> None:
        data = os.urandom(300_000)
        with open(tmp_path / "log", "wb") as file:
            assert Outlet(file.fileno()).write(data) == len(data)
        assert (tmp_path / "log").read_bytes() == data


class TestTerminal:
    """Check terminals. poll(2) calls one writable when it takes a byte; a longer write would wait for the user."""

    def test_one_that_is_not_read_does_not_block(self, terminal: tuple[int, int]) -> None:
        person, program = terminal
        data, outlet = b"".join(b"%06d\n" % number for number in range(30_000)), Outlet(program)
        try:
            with within():
                written, seen = outlet.write(data), b""
                assert 0 < written < len(data)
                assert outlet.write(data[written:]) == 0
                while written < len(data):
                    seen += drained(person)
                    written += outlet.write(data[written:])
                seen += drained(person)
            assert os.get_blocking(program)
        finally:
            outlet.close()
        assert seen.replace(b"\r\n", b"\n") == data

    def test_one_that_was_stopped_takes_nothing_until_it_goes_on(self, terminal: tuple[int, int]) -> None:
        person, program = terminal
        outlet = Outlet(program)
        try:
            os.write(person, b"\x13")  # Ctrl-S
            with within():
                while outlet.write(b"."):
                    drained(person)
                drained(person)
                assert outlet.write(b"later\n") == 0 and drained(person) == b""
                os.write(person, b"\x11")  # Ctrl-Q
                while not outlet.write(b"later\n"):
                    select.select([], [outlet.descriptor], [])
            assert drained(person) == b"later\r\n"
        finally:
            outlet.close()

    def test_what_was_opened_for_it_is_closed(self, terminal: tuple[int, int]) -> None:
        outlet = Outlet(terminal[1])
        assert outlet.descriptor != terminal[1]
        outlet.close()
        outlet.close()
        with pytest.raises(OSError):
            os.fstat(outlet.descriptor)
        os.fstat(terminal[1])


class TestPatience:
    def test_it_lasts_until_the_reader_reads(self, page: tuple[int, int], signals: Signals) -> None:
        assert Patience(signals, 0.0).wait(page[1])
        assert Patience(None, 0.0).wait(page[1])

    def test_a_signal_is_no_reason_to_end_at_once(self, page: tuple[int, int], signals: Signals) -> None:
        os.write(page[1], bytes(4096))
        patience = Patience(signals, 0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        start = time.monotonic()
        with within():
            while patience.wait(page[1]):
                continue
        assert time.monotonic() - start >= 0.2
        assert not select.select([signals.descriptor], [], [], 0)[0]
        patience.over()
        assert select.select([signals.descriptor], [], [], 0)[0], "the wake-up for the signal was lost"

    def test_a_second_one_is(self, page: tuple[int, int], signals: Signals) -> None:
        os.write(page[1], bytes(4096))
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert not Patience(signals, 3600.0).wait(page[1])

    def test_one_that_comes_meanwhile_is_heard(self, page: tuple[int, int], signals: Signals) -> None:
        os.write(page[1], bytes(4096))
        patience = Patience(signals, 3600.0)
        signals.wake()
        with within():
            assert patience.wait(page[1])
            for number in (signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
            while patience.wait(page[1]):
                continue
