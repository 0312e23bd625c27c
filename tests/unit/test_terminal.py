"""Tests of output to a terminal, on real ones: colours, escaped control characters and the progress line."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.results.terminal import Progress, harmless, is_terminal, wants_colour
from pipe_init.log.journal import Journal


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield the program's side of a terminal, and the side of the person who looks at it."""
    person, program = os.openpty()
    yield program, person
    os.close(program)
    os.close(person)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the program's end of a pipe, and the test's end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield writer, reader
    os.close(reader)
    os.close(writer)


@pytest.fixture
def no_colour_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def written(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""


class TestIsTerminal:
    def test_a_terminal(self, terminal: tuple[int, int]) -> None:
        assert is_terminal(terminal[0])

    def test_a_pipe(self, pipe: tuple[int, int]) -> None:
        assert not is_terminal(pipe[0])

    def test_a_closed_descriptor(self) -> None:
        descriptor = os.dup(0)
        os.close(descriptor)
        assert not is_terminal(descriptor)


@pytest.mark.usefixtures("no_colour_variables")
class TestColour:
    def test_on_a_terminal(self, terminal: tuple[int, int]) -> None:
        assert wants_colour(terminal[0])

    def test_not_on_a_pipe(self, pipe: tuple[int, int]) -> None:
        assert not wants_colour(pipe[0])

    def test_no_color(self, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colour(terminal[0])

    def test_force_color(self, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert wants_colour(pipe[0])

    def test_no_color_comes_first(self, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "0")
        assert not wants_colour(terminal[0])

    def test_empty_variables_say_nothing(
        self, pipe: tuple[int, int], terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "")
        monkeypatch.setenv("NO_COLOR", "")
        assert wants_colour(terminal[0])
        assert not wants_colour(pipe[0])


class TestHarmless:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (b"", b""),
            (b"plain\ttext\n", b"plain\ttext\n"),
            ("Ünïcödé ✓ 🎉".encode(), "Ünïcödé ✓ 🎉".encode()),
            (b"\x1b[2J", b"\\x1b[2J"),
            (b"\x1b]0;title\x07", b"\\x1b]0;title\\x07"),
            (b"a\rb", b"a\\x0db"),
            (b"a\x0b\x0cb", b"a\\x0b\\x0cb"),
            (b"\x00\x08\x7f", b"\\x00\\x08\\x7f"),
            ("\x80\x9b31m\x9f".encode(), b"\\x80\\x9b31m\\x9f"),
            (b"\x9b31m", b"\\x9b31m"),
            (b"\xff\xfe", b"\\xff\\xfe"),
            (b"\xed\xa0\x80", b"\\xed\\xa0\\x80"),
            (b"cut \xf0\x9f", b"cut \\xf0\\x9f"),
        ],
    )
    def test_what_is_shown(self, text: bytes, shown: bytes) -> None:
        assert harmless(text) == shown

    @given(text=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
    def test_no_control_character_is_left(self, text: bytes) -> None:
        shown = harmless(text).decode("utf-8")
        assert not [each for each in shown if unicodedata.category(each) == "Cc" and each not in "\n\t"]

    @given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"])))
    def test_the_rest_is_as_it_was(self, text: str) -> None:
        assert harmless(text.encode()) == text.encode()

    @given(text=st.binary())
    def test_what_is_harmless_stays_as_it_is(self, text: bytes) -> None:
        assert harmless(harmless(text)) == harmless(text)


class Clock:
    """Stand in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pipe_init.cli.results.terminal.time", clock)
    return clock


class TestProgress:
    def test_it_is_shown_now_and_then(self, pipe: tuple[int, int], clock: Clock) -> None:
        progress = Progress(Journal(pipe[0]), True)
        shown = []
        for _ in range(8):
            clock.now += 0.0625
            progress.count(failed=False)
            shown.append(written(pipe[1]))
        assert [bool(each) for each in shown] == [False, True] * 4
        assert shown[1] == b"\r\x1b[K2 events done, 0 failed, 16/s"

    def test_it_counts_failures_too(self, pipe: tuple[int, int], clock: Clock) -> None:
        progress = Progress(Journal(pipe[0]), True)
        for number in range(2000):
            progress.count(failed=number < 1234)
        clock.now = 2.0
        progress.count(failed=False)
        assert written(pipe[1]) == b"\r\x1b[K2,001 events done, 1,234 failed, 1,000/s"

    def test_it_makes_room_once(self, pipe: tuple[int, int], clock: Clock) -> None:
        progress = Progress(Journal(pipe[0]), True)
        progress.clear()
        assert written(pipe[1]) == b""
        clock.now = 1.0
        progress.count(failed=False)
        written(pipe[1])
        progress.clear()
        progress.clear()
        assert written(pipe[1]) == b"\r\x1b[K"

    def test_it_is_silent_without_a_terminal(self, pipe: tuple[int, int], clock: Clock) -> None:
        progress = Progress(Journal(pipe[0]), False)
        for _ in range(10):
            clock.now += 1.0
            progress.count(failed=True)
        progress.clear()
        assert written(pipe[1]) == b""
