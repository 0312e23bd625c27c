"""Tests of output to a terminal, on real ones: colours, and escaped control characters."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.results.terminal import HarmlessPieces, harmless, is_terminal, wants_colour


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

    @given(text=st.binary() | st.text().map(str.encode), cut=st.integers(0, 100))
    def test_pieces_may_end_within_a_character(self, text: bytes, cut: int) -> None:
        pieces = HarmlessPieces()
        assert pieces.next(text[:cut], is_last=False) + pieces.next(text[cut:], is_last=True) == harmless(text)

    @given(text=st.binary())
    def test_what_is_harmless_stays_as_it_is(self, text: bytes) -> None:
        assert harmless(harmless(text)) == harmless(text)
