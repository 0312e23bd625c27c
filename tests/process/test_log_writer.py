"""Tests of what a function prints and logs, as LOG frames of a real runtime."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipe_runtime.wire.messages import LOG, RESULT
from pipe_testing import tools
from pipe_testing.bodies import RECORD, logs
from pipe_testing.patience import HANGS
from pipe_testing.runtime import RuntimeProcess

PREAMBLE = """
import asyncio, contextvars, json, os, sys, threading
from pipe_runtime import namespace
from pipe_runtime.call import faults  # faults: with msgpack, as in a runtime
from pipe_runtime.log import request_tags
from pipe_runtime.log.writer import LogWriter, LoggingHook, Tag
sent = []
log = LogWriter(lambda tag, metadata, text: sent.append([tag.id, metadata, text.decode()]))
log.configure(sys.argv[1], "INFO")
log.open_streams()
LoggingHook(log).install()
log.contexts = request_tags.Contexts(log)
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
    return log.enter(Tag((number, f"r-{number}", "")))

def end(number, token):
    print("the end of", number, end="")
    log.flush(number)
    log.leave(token)

"""


AT_LAST = """
log.flush()
assert not any(stream.partial for stream in log._streams)
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
    """Run a script between PREAMBLE and AT_LAST; return what its log has sent: ids, metadata and texts."""
    command = [sys.executable, "-c", PREAMBLE + script + AT_LAST, style]
    child = subprocess.run(command, capture_output=True, timeout=HANGS)
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
LoggingHook(log).install()
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


@pytest.mark.parametrize("define", ["def", "async def"])
def test_a_line_without_an_end_comes_before_the_outcome_of_its_request(tmp_path: Path, define: str) -> None:
    with RuntimeProcess(tmp_path, f"{define} handler(event, context):\n    print('begun', end='')\n") as runtime:
        runtime.start(concurrency=10)
        for id in (1, 2):
            runtime.call()
            assert [(line.id, line.payload) for line in runtime.lines] == [(id, b"begun")]


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
