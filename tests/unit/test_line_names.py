"""Tests of which request a log line belongs to, from the runtime's frames to the output of the command line.

The runtime's log writer attaches request ids to its lines. The init's journal writes the id before each line.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.log import journal as init_journal
from pipe_runtime.log import request_tags
from pipe_runtime.log import writer as log_writer
from pipe_runtime.log.root_handler import LEVEL_NAME
from pipe_runtime.wire.frames import FrameWriter
from pipe_runtime.wire.messages import LOG

CAP = 1024 * 1024


class Shown:
    """A journal of the init, and the text that it has written."""

    def __init__(self, path: Path, escape: Callable[[bytes], bytes] | None = None, cap: int = CAP) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.journal = init_journal.Journal(self._descriptor, escape, cap)

    def text(self) -> str:
        """Return all text that was written. The journal must not be used any more."""
        os.close(self._descriptor)
        return self._path.read_bytes().decode()


def test_each_line_begins_with_its_request(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "log")
    shown.journal.from_function(b"one\n\ntwo", "stdout", id=1, name="r-1")
    shown.journal.from_function(b"", "stderr", id=2, name="r-2")
    shown.journal.from_function(b"of none", "stdout")
    assert shown.text() == "r-1\tone\nr-1\t\nr-1\ttwo\nr-2\t\nof none\n"


def test_a_line_in_pieces_has_its_request_once(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "log")
    shown.journal.from_function(b"a\nb", "stdout", continues=True, id=1, name="r-1")
    shown.journal.from_function(b"c", "stdout", continues=True, id=1, name="r-1")
    shown.journal.from_function(b"d\ne", "stdout", id=1, name="r-1")
    assert shown.text() == "r-1\ta\nr-1\tbcd\nr-1\te\n"


@pytest.mark.parametrize("between", ["a neighbour", "another stream", "pipe-init"])
def test_what_interrupts_a_line_ends_it_and_the_rest_is_named_again(tmp_path: Path, between: str) -> None:
    shown = Shown(tmp_path / "log")
    shown.journal.from_function(b"half", "stdout", continues=True, id=1, name="r-1")
    if between == "a neighbour":
        shown.journal.from_function(b"x", "stdout", id=2, name="r-2")
    elif between == "another stream":
        shown.journal.from_function(b"x", "stderr", id=1, name="r-2")
    else:
        shown.journal.say("r-2\tx")
    shown.journal.from_function(b"rest", "stdout", id=1, name="r-1")
    assert shown.text() == "r-1\thalf\nr-2\tx\nr-1\trest\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u2028\x85ü", "\\u2028\\x85\\xfc"),
        ("x" * 10_000, "x" * init_journal.NAME),
    ],
)
def test_a_name_is_harmless(tmp_path: Path, name: str, expected: str) -> None:
    shown = Shown(tmp_path / "log")
    shown.journal.from_function(b"x", "stdout", name=name)
    assert shown.text() == f"{expected}\tx\n"


def test_names_count_as_what_the_request_logs(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "log", cap=10_000)
    shown.journal.from_function(b"\n" * 5_000, "stdout", id=1, name="r" * 100)
    shown.journal.request_over(1)
    text = shown.text()
    assert text.startswith("pipe-init: 5001 log lines (510102 bytes) of this request were dropped") and len(text) < 200


# Starting from the runtime's log writer


class Both:
    """The runtime's log writer with two requests on this thread, connected to the init's journal."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.journal = log_writer.LogWriter(self._send)
        self.raw = log_writer.LogStream(self.journal, "stdout", 1)
        self.journal._streams.append(self.raw)
        self.journal.contexts = request_tags.Contexts(self.journal)
        self.contexts: dict[int, Context] = {}
        for id in (1, 2):
            self.contexts[id] = copy_context()
            self.contexts[id].run(self.journal.enter, log_writer.Tag((id, f"r-{id}", "")))

    def _send(self, tag: log_writer.Tag, metadata: dict[str, Any], text: bytes) -> None:
        name = "" if metadata.get("named") else metadata.get("request_id") or tag.request_id
        continues = metadata.get("continues", False)
        self._shown.journal.from_function(text, metadata["stream"], continues, tag.id, name)


def _steps() -> st.SearchStrategy[list[tuple[int, str, str]]]:
    """Return a strategy for the steps of two requests: (request, what it does, text)."""
    text = st.text("ab\n", max_size=6) | st.just("x" * (log_writer.PIECE + 5))
    return st.lists(st.tuples(st.integers(1, 2), st.sampled_from(("write", "flush", "record", "log")), text))


@given(steps=_steps())
def test_every_line_is_named_and_nothing_is_lost(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    shown = Shown(tmp_path_factory.mktemp("shown") / "log")
    both = Both(shown)
    written = {1: "", 2: ""}
    for id, what, text in steps:
        run = both.contexts[id].run
        if what == "write":
            run(both.raw.write, text.encode())
            written[id] += text.replace("\n", "")
        elif what == "flush":
            run(both.raw.flush)
        elif what == "record":
            run(both.journal.record, "INFO", f"r-{id}\trecord".encode())
        else:
            run(both.journal.write, "log")
    for id in (1, 2):
        both.journal.flush(id)
    seen = {1: "", 2: ""}
    for line in shown.text().splitlines():
        name, tab, rest = line.partition("\t")
        assert tab and name in ("r-1", "r-2"), line
        if rest not in ("record", "log"):
            seen[int(name[2:])] += rest
    assert seen == written


def test_threads_of_one_request_do_not_share_a_line(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "log")
    both = Both(shown)

    def half(text: bytes) -> None:
        context = both.contexts[1].copy()
        context.run(both.raw.write, text)
        context.run(both.raw.flush)

    half(b"of the main thread")
    thread = threading.Thread(target=half, args=[b"of another"])
    thread.start()
    thread.join()
    half(b"the rest")
    both.journal.flush()
    assert shown.text() == "r-1\tof the main thread\nr-1\tof another\nr-1\tthe rest\n"


# Across processes


def test_a_frame_with_the_longest_names_is_written_whole_or_not_at_all() -> None:
    sent: list[bytes] = []
    writer = FrameWriter()
    journal = log_writer.LogWriter(lambda tag, metadata, text: sent.append(writer.encode(LOG, tag.id, metadata, text)))
    journal.contexts = request_tags.Contexts(journal)
    context = copy_context()
    context.run(journal.enter, log_writer.Tag((0, "😀" * 1000, "")))
    context.run(journal.record, "L" * LEVEL_NAME, b"x" * 10 * log_writer.PIECE)
    context.run(journal.print, "stdout", log_writer.Tag((0, "😀" * 1000, "")), b"x" * 10 * log_writer.PIECE)
    assert len(sent) == 20 and max(map(len, sent)) <= select.PIPE_BUF
