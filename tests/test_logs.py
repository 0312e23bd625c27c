"""What a function prints and logs, as LOG frames of a real runtime; the cutting of lines is tried without one."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from pipe_runtime.logs import PIECE, Journal, LogStream
from pipe_testing import tools
from pipe_testing.runtime import RuntimeProcess


class Sent:
    """A journal whose records are kept: `texts` of (stream, level, text), and `output`, as they would be shown."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes]] = []
        self.output = b""
        self.journal = Journal(self.take)
        self.raw = LogStream(self.journal, "stdout", 1)
        self.journal._streams.append(self.raw)

    def take(self, stream: str, level: str, text: bytes, continues: bool) -> None:
        self.records.append((stream, level, text))
        self.output += text if continues else text + b"\n"

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
    sent.journal.record("log", "INFO", b"\n".join(lines))
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
        assert sum(map(len, sent.raw.partial.values())) <= PIECE
    assert len(sent.texts) >= 30


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


# In a real runtime


def logs(folder: Path, body: str, event: object = None) -> RuntimeProcess:
    """Run a handler with this body once, to the end of the runtime; its LOG frames are in `lines`."""
    source = "import os, sys\ndef handler(event, context):\n" + indent(body)
    with RuntimeProcess(folder, source) as runtime:
        runtime.start()
        assert runtime.lines == []
        runtime.call(event)
        lines = runtime.lines
        assert runtime.stop() == 0
        assert runtime.lines == []
        runtime.lines = lines
    assert all(line.id == 1 for line in lines)
    return runtime


def indent(body: str) -> str:
    return "".join("    " + line for line in dedent(body).strip("\n").splitlines(keepends=True)) + "\n"


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


RECORD = r"\[%s\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tr-1\t%s"


def test_logging_without_configuration(tmp_path: Path) -> None:
    body = """
        import logging
        logging.debug("hidden")
        logging.info("info")
        logging.getLogger("some.name").warning("two\\nlines")
        logging.getLogger().error("%s", "\\udc80")
        logging.addLevelName(35, "ÄRGER" * 100)
        logging.log(35, "odd")
    """
    runtime = logs(tmp_path, body)
    assert [line.metadata["stream"] for line in runtime.lines] == ["log"] * 4
    assert [line.metadata["level"] for line in runtime.lines][:3] == ["INFO", "WARNING", "ERROR"]
    expected = [("INFO", "info"), ("WARNING", "two\nlines"), ("ERROR", r"\\udc80"), ("(?:ÄRGER)+", "odd")]
    for text, (level, message) in zip(runtime.logged(), expected, strict=True):
        assert re.fullmatch(RECORD % (level, message), text), text


def test_an_exception_is_one_record(tmp_path: Path) -> None:
    body = """
        import logging
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("failed")
    """
    [text] = logs(tmp_path, body).logged()
    assert "failed\nTraceback (most recent call last):" in text
    assert text.endswith("ZeroDivisionError: division by zero")


def test_a_record_that_cannot_be_formatted_is_reported(tmp_path: Path) -> None:
    runtime = logs(tmp_path, 'import logging\nlogging.info("%d", "x")\n')
    assert runtime.logged("log") == []
    assert "--- Logging error ---" in runtime.logged("stderr")


@pytest.mark.parametrize(
    ("configure", "expected"),
    [
        ("logging.basicConfig()", ["INFO:root:i", "WARNING:named:w"]),
        ("logging.basicConfig(format='%(message)s!')", ["i!", "w!"]),
        ("logging.basicConfig(level='WARNING')", ["WARNING:named:w"]),
        ("logging.basicConfig(level=10, stream=sys.stdout)", ["DEBUG:root:d", "INFO:root:i", "WARNING:named:w"]),
        ("logging.info('first'); logging.basicConfig(format='%(message)s!')", ["i!", "w!"]),
        ("logging.basicConfig(); logging.basicConfig(format='never')", ["INFO:root:i", "WARNING:named:w"]),
        ("logging.getLogger().addHandler(logging.StreamHandler())", ["i", "w"]),
        ("logging.getLogger('named').addHandler(logging.StreamHandler())", ["w"]),
        ("import logging.config; logging.config.dictConfig(CONFIG)", ["<i>", "<w>"]),
    ],
)
def test_a_configuration_of_the_functions_own_is_what_counts(
    tmp_path: Path, configure: str, expected: list[str]
) -> None:
    body = f"""
        import logging
        CONFIG = {{
            "version": 1,
            "formatters": {{"f": {{"format": "<%(message)s>"}}}},
            "handlers": {{"h": {{"class": "logging.StreamHandler", "formatter": "f"}}}},
            "root": {{"handlers": ["h"], "level": "INFO"}},
        }}
        {configure}
        logging.debug("d")
        logging.info("i")
        logging.getLogger("named").warning("w")
    """
    runtime = logs(tmp_path, body)
    assert [text for text in runtime.logged() if "\t" not in text] == expected
    # Ours only shows what reaches no handler of the function's.
    ours = [text.rpartition("\t")[2] for text in runtime.logged("log")]
    assert ours == (["first"] if "first" in configure else ["i"] if "('named')" in configure else [])


def test_context_log_and_logger(tmp_path: Path) -> None:
    runtime = logs(tmp_path, 'context.log("by hand\\n")\ncontext.logger.info("by logger")\n')
    assert runtime.logged("log")[0] == "by hand"
    assert re.fullmatch(RECORD % ("INFO", "by logger"), runtime.logged("log")[1])


def test_a_logging_module_of_the_functions_own(tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("def info(text):\n    print('mine', text)\n")
    assert logs(tmp_path, 'import logging\nlogging.info("x")\n').logged() == ["mine x"]


def test_function_that_replaces_the_import_systems_list(tmp_path: Path) -> None:
    body = """
        sys.meta_path = [finder for finder in sys.meta_path]
        import logging
        logging.info("x")
    """
    assert re.fullmatch(RECORD % ("INFO", "x"), logs(tmp_path, body).logged()[0])


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
