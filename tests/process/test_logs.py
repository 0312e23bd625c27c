"""What a function prints and logs, as LOG frames of a real runtime; the cutting of lines is tried without one."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipe_runtime.log.logs import NOBODY, PIECE, Journal, LogStream, Tag, log_settings
from pipe_runtime.wire.messages import LOG, RESULT
from pipe_testing import tools
from pipe_testing.bodies import RECORD, logs
from pipe_testing.runtime import RuntimeProcess


class Sent:
    """A journal whose records are kept.

    records: (stream, level, text). ids. named: what the metadata says of the request. output: the lines.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes]] = []
        self.ids: list[int] = []
        self.named: list[str | bool | None] = []
        self.output = b""
        self.journal = Journal(self.take)
        self.raw = LogStream(self.journal, "stdout", 1)
        self.journal._streams.append(self.raw)

    def take(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        self.ids.append(tag.id)
        self.named.append(metadata.get("request_id", metadata.get("named")))
        self.records.append((metadata["stream"], metadata.get("level", ""), text))
        self.output += text if "continues" in metadata else text + b"\n"

    @property
    def waiting(self) -> int:
        """Bytes of lines that are not complete."""
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
    sent.journal.flush()
    sent.journal.flush()
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
    sent.journal.record("INFO", b"\n".join(lines))
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
    sent.journal.flush()
    assert sent.texts == [b"its", b"mine"]


def test_an_endless_line_does_not_grow() -> None:
    sent = Sent()
    for _ in range(10_000):
        sent.raw.write(b"." * 10)
        assert sent.waiting <= PIECE
    assert len(sent.texts) >= 30


def test_lines_belong_to_the_current_request() -> None:
    sent = Sent()
    for current in (Tag(1, "r-1"), NOBODY, Tag(2, "r-2")):
        sent.journal.current = current
        assert sent.journal.tag() is current
        sent.raw.write(b"x\nrest")
        sent.journal.record("INFO", b"y")
        sent.journal.log("z\n")
        sent.journal.flush()
    assert sent.ids == [1] * 4 + [0] * 4 + [2] * 4
    assert sent.texts == [b"x", b"y", b"z", b"rest"] * 3
    assert sent.raw.partial == {}


def test_enter_and_leave_without_contexts() -> None:
    journal = Sent().journal
    tag = Tag(0, "init")
    token = journal.enter(tag)
    assert journal.tag() is journal.current is tag
    journal.leave(token)
    assert journal.current is NOBODY


@pytest.mark.parametrize("per_context", [False, True])
def test_nothing_gets_between_the_pieces_of_a_record(per_context: bool) -> None:
    free: list[bool] = []
    lock = threading.RLock()

    def send(tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        thread = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()

    journal = Journal(send, lock)
    if per_context:
        journal.per_context()
    journal.record("INFO", b"x" * 3 * PIECE)
    journal.printed("stdout", NOBODY, b"x" * 3 * PIECE)
    assert free == [False] * 6
    assert lock.acquire(blocking=False)


# Several requests at once


class Contexts:
    """Requests of one journal, each in a context of its own, on this one thread."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.contexts: dict[int, Context] = {}
        sent.journal.per_context()

    def run(self, id: int, action: Callable[[], object]) -> None:
        """Do something for request `id`, r-1 for 1."""
        if id not in self.contexts:
            self.contexts[id] = copy_context()
            self.contexts[id].run(self.sent.journal.enter, Tag(id, f"r-{id}"))
        self.contexts[id].run(action)

    def write(self, id: int, text: bytes) -> None:
        """Print something for request `id`."""
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
    requests.run(1, lambda: sent.journal.log("x\ny"))
    requests.run(2, lambda: sent.journal.record("INFO", b"a record of r-2"))
    requests.run(2, lambda: sent.journal.record("INFO", b"another one"))
    sent.journal.log("of 2", Tag(2, "r-2"))
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
        requests.run(2, lambda: sent.journal.record("INFO", b"r-2\tbetween"))
    else:
        requests.run(2, lambda: sent.journal.log("between"))
    requests.write(1, b"done\n")
    assert sent.output.replace(b"r-2\t", b"") == b"begun\nbetween\ndone\n"
    assert sent.ids == [1, 1, 2, 1]


def test_the_end_of_a_request_sends_what_it_has_begun_and_no_more() -> None:
    sent = Sent()
    requests = Contexts(sent)
    for id in (1, 2):
        requests.write(id, b"half of %d" % id)
    sent.raw.write(b"half of none")
    sent.journal.flush_request(1)
    assert sent.output == b"half of 1\n"
    requests.write(2, b" is whole\n")
    sent.journal.flush_request(2)
    assert sent.output == b"half of 1\nhalf of 2 is whole\n"
    assert [id for id, _ in sent.raw.partial] == [0]
    sent.journal.flush()
    assert sent.output.endswith(b"half of none\n")
    assert sent.raw.partial == {}


def test_a_line_that_was_flushed_ends_with_its_request() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"flushed")
    requests.run(1, sent.raw.flush)
    sent.journal.flush_request(2)
    assert sent.output == b"flushed"
    sent.journal.flush_request(1)
    assert sent.output == b"flushed\n"
    requests.write(3, b"flushed")
    requests.run(3, sent.raw.flush)
    sent.journal.flush()
    assert sent.output == b"flushed\nflushed\n"


def test_lines_after_the_end_of_their_request_have_no_id() -> None:
    sent = Sent()
    requests = Contexts(sent)
    requests.write(1, b"")
    sent.journal.flush_request(1)
    requests.write(1, b"late ")
    assert set(sent.raw.partial) == {(0, threading.get_ident())}
    requests.write(1, b"line\n")
    sent.journal.log("late, too", Tag(1, "r-1"))
    assert (sent.ids, sent.output) == ([0, 0], b"late line\nlate, too\n")
    assert sent.named == ["r-1", "r-1"]
    assert sent.raw.partial == {}


def test_a_line_that_begins_as_its_request_ends_is_not_kept() -> None:
    sent = Sent()
    requests = Contexts(sent)
    tag = sent.journal.tag

    def tag_and_end() -> Tag:
        found = tag()
        sent.journal.flush_request(1)
        return found

    requests.write(1, b"")
    sent.journal.tag = tag_and_end  # type: ignore[method-assign]
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
    sent.journal.flush_request(1)  # nobody completes that line: its thread has ended
    assert (sent.ids, sent.output) == ([0, 0], b"whole\nhalf\n")
    assert sent.raw.partial == {}


def test_the_initializers_lines_have_its_request_id_and_no_id() -> None:
    sent = Sent()
    sent.journal.per_context()

    def initializer() -> None:
        token = sent.journal.enter(Tag(0, "init"))
        sent.raw.write(b"hello\nhalf")
        sent.journal.flush_request(0)
        sent.journal.leave(token)
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
    assert log_settings(hello, environ) == expected


@pytest.mark.parametrize(
    ("given", "level"),
    [("TRACE", "DEBUG"), ("info", "INFO"), ("Warn", "WARNING"), ("WARNING", "WARNING"), ("FATAL", "CRITICAL")],
)
def test_levels(given: str, level: str) -> None:
    sent = Sent()
    sent.journal.configure("text", given)
    assert (sent.journal.level, sent.texts) == (level, [])


def test_a_level_that_nobody_knows_is_told_of() -> None:
    sent = Sent()
    sent.journal.configure("odd", "loud\n\udc80" * 100)
    assert (sent.journal.level, sent.journal.records) == ("INFO", None)
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
    raw = LogStream(Sent().journal, "stderr", 2)
    assert raw.writable()
    assert not raw.readable() and not raw.seekable() and not raw.isatty()
    assert raw.fileno() == 2
    assert io.TextIOWrapper(raw).name == "<stderr>"


# In a process of its own, with real threads and tasks

PREAMBLE = """
import asyncio, contextvars, json, os, sys, threading
from pipe_runtime import namespace
from pipe_runtime.call import faults  # faults: with msgpack, as in a runtime
from pipe_runtime.log.logs import Journal, LoggingHook, Tag
sent = []
journal = Journal(lambda tag, metadata, text: sent.append([tag.id, metadata, text.decode()]))
journal.configure(sys.argv[1], "INFO")
journal.open_streams()
LoggingHook(journal).install()
journal.per_context()
import logging, warnings
warnings.simplefilter("always")
write = sys.stdout.write  # some loggers take it once, when they are made

def first_half(name):
    print(name, "prints", end=" ")

def second_half(name):
    print(name)
    write(f"{name} has a logger of its own for {name}\\n")
    logging.info("%s logs %s", name, name)
    warnings.warn(f"{name} warns {name}")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("%s fails in %s", name, name)

def begin(number):
    return journal.enter(Tag(number, f"r-{number}"))

def end(number, token):
    print("the end of", number, end="")
    journal.flush_request(number)
    journal.leave(token)

"""
AT_LAST = """
journal.flush()
assert not any(stream.partial for stream in journal._streams)
os.write(1, json.dumps(sent).encode())
os._exit(0)
"""
TASKS = """
async def request(number):
    token = begin(number)
    name = f"<r-{number}>"
    first_half(name)
    await asyncio.sleep(0)
    second_half(name)
    await asyncio.to_thread(print, name, "in", "a", "thread", name)
    end(number, token)

async def main():
    await asyncio.gather(*(request(number) for number in range(1, 1001)))

asyncio.run(main())
"""
THREADS = """
sys.setswitchinterval(1e-5)
together = threading.Barrier(10)

def work(first):
    for number in range(first, 1001, 10):
        together.wait()
        token = begin(number)
        name = f"<r-{number}>"
        first_half(name)
        together.wait()
        second_half(name)
        contextvars.copy_context().run(print, name, "in", "a", "thread", name)
        end(number, token)

threads = [threading.Thread(target=work, args=[first]) for first in range(1, 11)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def sent_by(script: str, style: str = "text") -> list[tuple[int, dict[str, Any], str]]:
    """Run a script between PREAMBLE and AT_LAST; return what its journal has sent: ids, metadata and texts."""
    command = [sys.executable, "-c", PREAMBLE + script + AT_LAST, style]
    child = subprocess.run(command, capture_output=True, timeout=100)
    assert child.returncode == 0, child.stderr.decode()
    return [tuple(record) for record in json.loads(child.stdout)]


@pytest.mark.unmeasured
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("script", [TASKS, THREADS], ids=["tasks", "threads"])
def test_a_thousand_interleaved_requests(script: str, style: str) -> None:
    said: dict[int, list[str]] = {number: [] for number in range(1, 1001)}
    for id, metadata, text in sent_by(script, style):
        assert "continues" not in metadata and "request_id" not in metadata
        assert metadata.get("named", False) == (style == "json" or metadata["stream"] == "log")
        if style == "json":
            for line in text.split("\n"):
                fields = json.loads(line)
                assert fields["requestId"] == f"r-{id}"
                said[id] += fields["message"].split("\n")
        elif metadata["stream"] == "log":
            assert re.match(rf"\[(INFO|ERROR)\]\t[^\t]+\tr-{id}\t", text)
            said[id] += text.split("\t", 3)[3].split("\n")
        else:
            said[id] += text.split("\n")
    for number, lines in said.items():
        name = f"<r-{number}>"
        assert [line for line in lines if name in line] == [
            f"{name} prints {name}",
            f"{name} has a logger of its own for {name}",
            f"{name} logs {name}",
            next(line for line in lines if line.endswith(f"UserWarning: {name} warns {name}")),
            f"{name} fails in {name}",
            f"{name} in a thread {name}",
        ]
        assert lines[-1] == f"the end of {number}"
        assert ("ZeroDivisionError: division by zero" in lines) == (style == "text")


def test_logging_that_the_runtime_itself_has_imported() -> None:
    script = """
for name in [name for name in sys.modules if name.partition(".")[0] in ("asyncio", "logging")]:
    del sys.modules[name]
namespace.after_import.clear()
LoggingHook(journal).install()
namespace._held.clear()
namespace.stdlib("asyncio")
handlers = [*sys.modules["logging"].root.handlers]
namespace.stdlib("json")
import logging
assert logging.root.handlers == handlers and len(handlers) == 1
logging.info("here")
"""
    [(_, metadata, text)] = sent_by(script)
    assert (metadata["stream"], metadata["level"]) == ("log", "INFO") and text.endswith("\t\there")


# In a real runtime


def test_prints(tmp_path: Path) -> None:
    body = """
        print("out", 1, "ü")
        print("err", file=sys.stderr)
        sys.stdout.write("part")
        sys.stdout.buffer.write(b"ial\\n")
        sys.__stdout__.write("two\\nlines\\n")
        print("lone", "\\udc80")
        print("end", end="")
    """
    runtime = logs(tmp_path, body)
    assert [(line.metadata["stream"], line.payload.decode()) for line in runtime.lines] == [
        ("stdout", "out 1 ü"),
        ("stderr", "err"),
        ("stdout", "partial"),
        ("stdout", "two\nlines"),
        ("stdout", "lone \\udc80"),
        ("stdout", "end"),
    ]
    assert runtime.log == b""


def test_what_goes_around_python_goes_to_fd_2(tmp_path: Path) -> None:
    body = """
        os.write(1, b"raw\\n")
        os.system("echo child; echo child >&2")
    """
    runtime = logs(tmp_path, body)
    assert runtime.lines == []
    assert runtime.log == b"raw\nchild\nchild\n"


def test_lines_of_threads_are_whole(tmp_path: Path) -> None:
    body = """
        import threading
        def talk(name):
            for n in range(100):
                print(name, n, name)
        threads = [threading.Thread(target=talk, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """
    assert sorted(logs(tmp_path, body).logged()) == sorted(f"{c} {n} {c}" for c in "abcd" for n in range(100))


def test_lines_while_loading_belong_to_no_request(tmp_path: Path) -> None:
    source = "import logging\nprint('loading')\nlogging.info('x')\ndef handler(event, context):\n    print('running')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        assert [line.id for line in runtime.lines] == [0, 0]
        assert runtime.logged("log")[0].endswith("\t\tx")
        runtime.call()
        assert [(line.id, line.payload) for line in runtime.lines] == [(1, b"running")]


def test_a_wrapper_of_the_functions_own_is_flushed_at_the_end(tmp_path: Path) -> None:
    source = """
    import io, sys
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    def handler(event, context):
        print("kept back")
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        runtime.call()
        assert runtime.stop() == 0
        assert runtime.logged() == ["kept back"]


def test_a_level_that_nobody_knows_is_told_of_once(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, "import logging\ndef handler(event, context):\n    logging.info('x')\n") as runtime:
        runtime.start(log_level="loud")
        assert runtime.logged() == ["pipe_runtime: there is no log level 'loud'; it is INFO"]
        runtime.call()
        assert len(runtime.logged()) == 1


def test_warnings(tmp_path: Path) -> None:
    [text] = [*logs(tmp_path, 'import warnings\nwarnings.warn("careful")\n').logged("stderr")][:1]
    assert "UserWarning: careful" in text


def test_multiprocessing_children(tmp_path: Path) -> None:
    tools.require(os.path.isdir("/dev/shm"), "needs /dev/shm, for multiprocessing")
    source = """
    import logging, multiprocessing
    def work(n):
        print("print", n)
        logging.info("log %d", n)
    def handler(event, context):
        print("half", end="")
        processes = [multiprocessing.get_context("fork").Process(target=work, args=[n]) for n in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call() == [0] * 4
        assert runtime.logged() == ["half"]
        assert runtime.stop() == 0
    lines = runtime.log.decode().splitlines()
    assert sorted(line.rpartition("\t")[2] for line in lines) == sorted(
        [f"print {n}" for n in range(4)] + [f"log {n}" for n in range(4)]
    )


def test_partial_line_of_a_forked_child_is_its_own(tmp_path: Path) -> None:
    body = """
        sys.stdout.write("parent's ")
        pid = os.fork()
        if not pid:
            sys.stdout.write("child's half")
            sys.exit()
        os.waitpid(pid, 0)
        print("line")
    """
    runtime = logs(tmp_path, body)
    assert runtime.logged() == ["parent's line"]
    assert runtime.log == b"child's half"


def test_this_process_is_untouched() -> None:
    assert not isinstance(getattr(sys.stdout, "buffer", None), LogStream)


# Several requests at once, in a real runtime

SEVERAL = """
import asyncio, logging, warnings
warnings.simplefilter("always")
{define} handler(event, context):
    name = f"<{{context.request_id}}>"
    print(name, "prints", end=" ")
    {wait}
    print(name)
    logging.info("logs %s", name)
    warnings.warn(name)
    context.log(name)
    context.logger.info("its logger %s", name)
"""


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("define", "wait"), [("async def", "await asyncio.sleep(0)"), ("import time\ndef", "time.sleep(0)")]
)
def test_a_thousand_requests_ten_at_once(tmp_path: Path, define: str, wait: str) -> None:
    lines: dict[int, list[str]] = {}
    with RuntimeProcess(tmp_path, dedent(SEVERAL).format(define=define, wait=wait)) as runtime:
        runtime.start(concurrency=10)
        answered = 0
        for number in range(1000 + 10):
            if number < 1000:
                lines[runtime.invoke()] = []
            while number >= 10 and answered < number - 9:
                frame = runtime.next()
                if frame.kind == LOG:
                    lines[frame.id] += frame.payload.decode().split("\n")
                else:
                    assert frame.kind == RESULT, frame
                    answered += 1
    for id, said in lines.items():
        name = f"<r-{id}>"
        assert [line for line in said if name in line] == [
            f"{name} prints {name}",
            next(line for line in said if line.endswith(f"\tr-{id}\tlogs {name}")),
            next(line for line in said if line.endswith(f"UserWarning: {name}")),
            name,
            next(line for line in said if line.endswith(f"\tr-{id}\tits logger {name}")),
        ]


@pytest.mark.parametrize("concurrency", [1, 10])
@pytest.mark.parametrize("define", ["def", "async def"])
def test_info_of_a_function_that_has_not_imported_logging_at_first(
    tmp_path: Path, define: str, concurrency: int
) -> None:
    source = f"{define} handler(event, context):\n    import logging\n    logging.info('x')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(concurrency=concurrency)
        runtime.call()
        assert re.fullmatch(RECORD % ("INFO", "x"), runtime.logged("log")[0])


@pytest.mark.parametrize("define", ["def", "async def"])
def test_lines_of_the_initializer_among_several_requests(tmp_path: Path, define: str) -> None:
    source = f"def init(context):\n    print('here')\n{define} handler(event, context):\n    print('there')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(concurrency=10, initializer="index.init", init_request_id="i-1")
        assert [(line.id, line.payload) for line in runtime.lines] == [(0, b"here")]
        assert runtime.lines[0].metadata["request_id"] == "i-1"
        runtime.call()
        assert [(line.id, line.payload) for line in runtime.lines] == [(1, b"there")]
        assert "request_id" not in runtime.lines[0].metadata
