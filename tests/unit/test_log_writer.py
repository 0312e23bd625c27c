"""Tests of the lines that a function prints and logs: how they are cut, and which request each belongs to."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import pytest

from pipe_runtime.log import request_tags
from pipe_runtime.log.writer import NO_REQUEST, PIECE, LogStream, LogWriter, Tag
from pipe_runtime.serve.hello import Configuration


class Sent:
    """A log that keeps what it sends.

    Attributes:
        records: The stream, level and text of each record.
        ids: The number of each record's request.
        named: What the metadata says about the request.
        output: The lines.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes]] = []
        self.ids: list[int] = []
        self.named: list[str | bool | None] = []
        self.output = b""
        self.log = LogWriter(self.take)
        self.raw = LogStream(self.log, "stdout", 1)
        self.log._streams.append(self.raw)

    def take(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        self.ids.append(tag.id)
        self.named.append(metadata.get("request_id", metadata.get("named")))
        self.records.append((metadata["stream"], metadata.get("level", ""), text))
        self.output += text if "continues" in metadata else text + b"\n"

    @property
    def waiting(self) -> int:
        """Return the bytes of incomplete lines."""
        return sum(len(text) for _, text in self.raw.partial.values())

    @property
    def texts(self) -> list[bytes]:
        return [text for _, _, text in self.records]


def test_lines_are_sent_when_they_are_complete() -> None:
    sent = Sent()
    assert sent.raw.write(b"on") == 2
    assert sent.texts == []
    assert sent.raw.write(memoryview(b"e\ntwo\nthr")) == 9
    assert sent.texts == [b"one\ntwo"]
    sent.log.flush()
    sent.log.flush()
    assert sent.records[1:] == [("stdout", "", b"thr")]


def test_empty_lines_are_lines() -> None:
    sent = Sent()
    for text in (b"\n", b"a", b"\n", b"\n\n"):
        sent.raw.write(text)
    assert b"\n".join(sent.texts) + b"\n" == b"\na\n\n\n"


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 10 * PIECE])
@pytest.mark.parametrize("together", [True, False])
def test_long_lines_are_cut_without_an_empty_one(length: int, together: bool) -> None:
    sent = Sent()
    for text in [b"x" * length + b"\nnext\n"] if together else [b"x" * length, b"\n", b"next\n"]:
        sent.raw.write(text)
    assert all(len(text) <= PIECE for text in sent.texts)
    lines = b"\n".join(sent.texts).split(b"\n")
    assert lines.pop() == b"next"
    assert all(lines)
    assert b"".join(lines) == b"x" * length
    assert len(lines) == -(-length // PIECE)
    assert sent.output == b"x" * length + b"\nnext\n"


def test_characters_are_not_cut() -> None:
    for shift in range(4):
        sent = Sent()
        sent.raw.write(("." * shift + "😀" * 5000 + "\n").encode())
        assert "".join(text.decode() for text in sent.texts) == "." * shift + "😀" * 5000


def test_what_is_no_text_is_cut_anyhow() -> None:
    sent = Sent()
    sent.raw.write(b"\x80" * 10_000 + b"\n")
    assert b"".join(sent.texts) == b"\x80" * 10_000


def test_records_above_a_piece_are_cut_between_lines() -> None:
    sent = Sent()
    lines = [b"%d" % n + b"." * 100 for n in range(100)]
    sent.log.record("INFO", b"\n".join(lines))
    assert b"\n".join(sent.texts) == b"\n".join(lines)
    assert all(text.count(b".") % 100 == 0 for text in sent.texts)


def test_what_is_flushed_is_sent_and_goes_on() -> None:
    sent = Sent()
    sent.raw.write(b"connecting ...")
    assert sent.texts == []
    sent.raw.flush()
    sent.raw.flush()
    assert sent.texts == [b"connecting ..."]
    sent.raw.write(b" done\nnext\n")
    assert sent.output == b"connecting ... done\nnext\n"


def test_a_flush_is_for_the_line_of_its_own_thread() -> None:
    sent = Sent()
    sent.raw.write(b"mine")
    thread = threading.Thread(target=lambda: (sent.raw.write(b"its"), sent.raw.flush()))
    thread.start()
    thread.join()
    assert sent.texts == [b"its"]
    sent.log.flush()
    assert sent.texts == [b"its", b"mine"]


def test_an_endless_line_does_not_grow() -> None:
    sent = Sent()
    for _ in range(10_000):
        sent.raw.write(b"." * 10)
        assert sent.waiting <= PIECE
    assert len(sent.texts) >= 30


def test_lines_belong_to_the_current_request() -> None:
    sent = Sent()
    for current in (Tag((1, "r-1", "")), NO_REQUEST, Tag((2, "r-2", ""))):
        sent.log.current = current
        assert sent.log.tag() is current
        sent.raw.write(b"x\nrest")
        sent.log.record("INFO", b"y")
        sent.log.write("z\n")
        sent.log.flush()
    assert sent.ids == [1] * 4 + [0] * 4 + [2] * 4
    assert sent.texts == [b"x", b"y", b"z", b"rest"] * 3
    assert sent.raw.partial == {}


def test_enter_and_leave_without_contexts() -> None:
    log = Sent().log
    tag = Tag((0, "init", ""))
    token = log.enter(tag)
    assert log.tag() is log.current is tag
    log.leave(token)
    assert log.current is NO_REQUEST


@pytest.mark.parametrize("per_context", [False, True])
def test_nothing_gets_between_the_pieces_of_a_record(per_context: bool) -> None:
    free: list[bool] = []
    lock = threading.RLock()

    def send(tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        thread = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()

    log = LogWriter(send, lock)
    if per_context:
        log.contexts = request_tags.Contexts(log)
    log.record("INFO", b"x" * 3 * PIECE)
    log.print("stdout", NO_REQUEST, b"x" * 3 * PIECE)
    assert free == [False] * 6
    assert lock.acquire(blocking=False)


# Several requests at once


class Contexts:
    """The requests of one log on this thread, each with a context of its own."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.contexts: dict[int, Context] = {}
        sent.log.contexts = request_tags.Contexts(sent.log)

    def run(self, id: int, action: Callable[[], object]) -> None:
        """Run an action for request `id`."""
        if id not in self.contexts:
            self.contexts[id] = copy_context()
            self.contexts[id].run(self.sent.log.enter, Tag((id, f"r-{id}", "")))
        self.contexts[id].run(action)

    def write(self, id: int, text: bytes) -> None:
        """Print a text for request `id`."""
        self.run(id, lambda: self.sent.raw.write(text))


def test_halves_of_lines_of_two_requests_do_not_mix() -> None:
    sent = Sent()
    requests = Contexts(sent)
    for text in (b"one ", b"half, ", b"whole\n"):
        for id in (1, 2):
            requests.write(id, text)
    assert sent.output == b"one half, whole\n" * 2
    assert sent.ids == [1, 2]
    assert sent.raw.partial == {}


def test_each_line_has_its_request() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"a\n\nb\nc")
    sent.raw.write(b"of nobody\n")
    requests.run(1, lambda: sent.log.write("x\ny"))
    requests.run(2, lambda: sent.log.record("INFO", b"a record of r-2"))
    requests.run(2, lambda: sent.log.record("INFO", b"another one"))
    sent.log.write("of 2", Tag((2, "r-2", "")))
    assert sent.texts == [b"a\n\nb", b"of nobody", b"x\ny", b"a record of r-2", b"another one", b"of 2"]
    assert sent.ids == [1, 0, 1, 2, 2, 2]
    assert sent.named == [None, None, None, True, None, None]


def test_a_line_in_pieces_is_one_line() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"x" * 3 * PIECE)
    assert len(sent.texts) > 1
    requests.write(1, b"y")
    requests.run(1, sent.raw.flush)
    requests.write(1, b"z\n")
    assert sent.output == b"x" * 3 * PIECE + b"yz\n"


@pytest.mark.parametrize("other", ["print", "record", "log"])
def test_a_line_that_another_request_interrupts_goes_on_in_a_new_one(other: str) -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"begun")
    requests.run(1, sent.raw.flush)
    if other == "print":
        requests.write(2, b"between\n")
    elif other == "record":
        requests.run(2, lambda: sent.log.record("INFO", b"r-2\tbetween"))
    else:
        requests.run(2, lambda: sent.log.write("between"))
    requests.write(1, b"done\n")
    assert sent.output.replace(b"r-2\t", b"") == b"begun\nbetween\ndone\n"
    assert sent.ids == [1, 1, 2, 1]


def test_the_end_of_a_request_sends_what_it_has_begun_and_no_more() -> None:
    sent = Sent()
    requests = Contexts(sent)
    for id in (1, 2):
        requests.write(id, b"half of %d" % id)
    sent.raw.write(b"half of none")
    sent.log.flush(1)
    assert sent.output == b"half of 1\n"
    requests.write(2, b" is whole\n")
    sent.log.flush(2)
    assert sent.output == b"half of 1\nhalf of 2 is whole\n"
    assert [id for id, _ in sent.raw.partial] == [0]
    sent.log.flush()
    assert sent.output.endswith(b"half of none\n")
    assert sent.raw.partial == {}


def test_a_line_that_was_flushed_ends_with_its_request() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"flushed")
    requests.run(1, sent.raw.flush)
    sent.log.flush(2)
    assert sent.output == b"flushed"
    sent.log.flush(1)
    assert sent.output == b"flushed\n"
    requests.write(3, b"flushed")
    requests.run(3, sent.raw.flush)
    sent.log.flush()
    assert sent.output == b"flushed\nflushed\n"


def test_lines_after_the_end_of_their_request_have_no_id() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"")
    sent.log.flush(1)
    requests.write(1, b"late ")
    assert set(sent.raw.partial) == {(0, threading.get_ident())}
    requests.write(1, b"line\n")
    sent.log.write("late, too", Tag((1, "r-1", "")))
    assert (sent.ids, sent.output) == ([0, 0], b"late line\nlate, too\n")
    assert sent.named == ["r-1", "r-1"]
    assert sent.raw.partial == {}


def test_a_line_that_begins_as_its_request_ends_is_not_kept() -> None:
    sent = Sent()
    requests = Contexts(sent)
    tag = sent.log.tag

    def tag_and_end() -> Tag:
        found = tag()
        sent.log.flush(1)
        return found

    requests.write(1, b"")
    sent.log.tag = tag_and_end  # type: ignore[method-assign]
    requests.write(1, b"half")
    assert sent.raw.partial == {}
    assert sent.output == b"half\n"


def test_a_thread_of_the_functions_own_belongs_to_no_request() -> None:
    sent = Sent()
    requests = Contexts(sent)

    def other() -> None:
        thread = threading.Thread(target=sent.raw.write, args=[b"whole\nhalf"])
        thread.start()
        thread.join()

    requests.run(1, other)
    assert (sent.ids, sent.output) == ([0], b"whole\n")
    sent.log.flush(1)  # the line stays incomplete: its thread has ended
    assert (sent.ids, sent.output) == ([0, 0], b"whole\nhalf\n")
    assert sent.raw.partial == {}


def test_the_initializers_lines_have_its_request_id_and_no_id() -> None:
    sent = Sent()
    sent.log.contexts = request_tags.Contexts(sent.log)

    def initializer() -> None:
        token = sent.log.enter(Tag((0, "init", "")))
        sent.raw.write(b"hello\nhalf")
        sent.log.flush(0)
        sent.log.leave(token)
        sent.raw.write(b"of nobody\n")

    copy_context().run(initializer)
    assert (sent.ids, sent.output) == ([0, 0, 0], b"hello\nhalf\nof nobody\n")
    assert sent.named == ["init", "init", None]


@pytest.mark.parametrize(
    ("hello", "environ", "expected"),
    [
        ({}, {}, ("text", "INFO")),
        ({"log_format": "json", "log_level": "debug"}, {}, ("json", "debug")),
        ({}, {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "FATAL"}, ("JSON", "FATAL")),
        ({}, {"ALIYUN_FC_LOG_LEVEL": "warn", "LOG_LEVEL": "DEBUG"}, ("text", "warn")),
        ({"log_format": "text", "log_level": "ERROR"}, {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, ("text", "ERROR")),
        ({"log_level": ""}, {"AWS_LAMBDA_LOG_LEVEL": "", "ALIYUN_FC_LOG_LEVEL": "error"}, ("text", "error")),
        ({}, {"AWS_LAMBDA_LOG_LEVEL": "DEBUG", "ALIYUN_FC_LOG_LEVEL": "ERROR"}, ("text", "DEBUG")),
    ],
)
def test_where_the_settings_come_from(
    hello: dict[str, str], environ: dict[str, str], expected: tuple[str, str]
) -> None:
    assert Configuration(hello).log_settings(environ) == expected


@pytest.mark.parametrize(
    ("given", "level"),
    [("TRACE", "DEBUG"), ("info", "INFO"), ("Warn", "WARNING"), ("WARNING", "WARNING"), ("FATAL", "CRITICAL")],
)
def test_levels(given: str, level: str) -> None:
    sent = Sent()
    sent.log.configure("text", given)
    assert (sent.log.level, sent.texts) == (level, [])


def test_a_level_that_nobody_knows_is_told_of() -> None:
    sent = Sent()
    sent.log.configure("odd", "loud\n\udc80" * 100)
    assert (sent.log.level, sent.log.records) == ("INFO", None)
    [text] = sent.texts
    assert text.startswith(b"pipe_runtime: there is no log level 'loud\\n\\udc80") and len(text) < 200


def test_a_stream_takes_bytes_only() -> None:
    with pytest.raises(TypeError):
        Sent().raw.write(5)


def test_a_closed_stream_takes_nothing() -> None:
    raw = Sent().raw
    raw.close()
    with pytest.raises(ValueError, match="closed file"):
        raw.write(b"x")


def test_a_stream_is_a_file() -> None:
    raw = LogStream(Sent().log, "stderr", 2)
    assert raw.writable()
    assert not raw.readable() and not raw.seekable() and not raw.isatty()
    assert raw.fileno() == 2
    assert io.TextIOWrapper(raw).name == "<stderr>"


# In a process of its own, with real threads and tasks


# In a real runtime


def test_this_process_is_untouched() -> None:
    assert not isinstance(getattr(sys.stdout, "buffer", None), LogStream)


# Several requests at once, in a real runtime
