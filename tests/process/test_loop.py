"""Tests of the runtime as a process on two pipes: the conversation, every kind of answer, and harmful handlers.

The test plays the init; there is no supervisor. test_log_writer.py tests what a handler prints.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tty
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipe_runtime.wire.connection import INIT, Connection
from pipe_runtime.wire.frames import FrameWriter
from pipe_runtime.wire.messages import ANY, DUMP, ERROR, HELLO, INVOKE, JSON, LOG, READY, RESULT, STOP
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS
from pipe_testing.runtime import RuntimeProcess, script

ECHO = "def handler(event, context):\n    return event\n"


# The conversation


@pytest.mark.parametrize("arguments", [[script()], ["-m", "pipe_runtime"]], ids=["script", "module"])
def test_conversation(tmp_path: Path, arguments: list[str]) -> None:
    with RuntimeProcess(tmp_path, ECHO, arguments=arguments) as runtime:
        runtime.hello()
        hello, ready = runtime.next(), runtime.next()
        assert (hello.kind, ready.kind) == (HELLO, READY)
        assert hello.metadata["versions"] == [1]
        assert hello.metadata["window_requests"] > 1
        assert "dump-signal" in hello.metadata["capabilities"]
        assert ready.metadata["init_us"] > 0
        assert ready.metadata["peak_memory_bytes"] > 1024 * 1024
        assert runtime.call({"a": [1, "ü"]}) == {"a": [1, "ü"]}
        assert runtime.call(None) is None
        assert runtime.stop() == 0
    assert runtime.log == b""


def test_first_request_may_come_with_hello(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.hello()
        id = runtime.invoke("early")
        assert [runtime.next().kind for _ in range(2)] == [HELLO, READY]
        assert runtime.outcome(id).payload == b'"early"'
        assert runtime.stop() == 0


def test_outcomes_say_what_was_measured(tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        block = bytearray(event["bytes"])
        block[::4096] = b"x" * len(block[::4096])
        sum(range(event["turns"]))
        if event["fail"]:
            raise ValueError
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        light = runtime.outcome(runtime.invoke({"bytes": 0, "turns": 0, "fail": False})).metadata
        for fail in (False, True):
            heavy = runtime.outcome(runtime.invoke({"bytes": 64 << 20, "turns": 2_000_000, "fail": fail})).metadata
            assert heavy["peak_memory_bytes"] >= light["peak_memory_bytes"] + (60 << 20)
            assert heavy["cpu_us"] > 1000
            assert heavy["duration_us"] > 1000


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        ids = [runtime.invoke(n) for n in range(60)]
        assert [json.loads(runtime.outcome(id).payload) for id in ids] == list(range(60))


def test_requests_before_the_end_of_input_are_answered(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        ids = [runtime.invoke(n) for n in range(3)]
        runtime.close_input()
        assert [json.loads(runtime.outcome(id).payload) for id in ids] == [0, 1, 2]
        assert runtime.exit_code() == 0


def test_requests_before_stop_are_answered(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        ids = [runtime.invoke(n) for n in range(3)]
        runtime.send(STOP)
        assert [json.loads(runtime.outcome(id).payload) for id in ids] == [0, 1, 2]
        assert runtime.exit_code() == 0


def test_cancel_of_an_answered_request_is_ignored(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        sent = [runtime.connection.send(INVOKE, 1, {"request_id": "r", "content_type": JSON, "accept": JSON}, b"1")]
        sent.append(runtime.connection.send(10, 1))
        runtime._next_id = 2
        runtime.write(b"".join(sent))
        assert runtime.outcome(1).payload == b"1"
        assert runtime.call(2) == 2


def test_end_of_input_before_hello(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.close_input()
        assert runtime.exit_code() == 0
    assert runtime.log == b""


def test_end_of_input_inside_a_frame(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        runtime.write(b"\0\0\0\x20\0\0")
        runtime.close_input()
        last = runtime.next()
        assert (last.kind, last.id) == (ERROR, 0)
        assert last.metadata["error_type"] == "Runtime.ProtocolError"
        assert "inside a frame" in last.metadata["error_message"]
        assert runtime.exit_code() == 4


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\0\0\0\x04\x93\x63\0\x80"])
def test_garbage_is_a_protocol_error(tmp_path: Path, garbage: bytes) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        runtime.write(garbage)
        assert runtime.next().metadata["error_type"] == "Runtime.ProtocolError"
        assert runtime.exit_code() == 4


def test_garbage_instead_of_hello_gets_no_word(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.write(b"GET / HTTP/1.1\r\n\r\n")
        assert runtime.exit_code() == 4


def test_nobody_reads_the_answers(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        assert runtime.process.stdout
        runtime.process.stdout.close()
        runtime.invoke(1)
        assert runtime.ended() == 0
    assert runtime.log == b""


# Answers


@pytest.mark.parametrize(
    ("statement", "name", "message"),
    [
        ("raise ValueError('no')", "ValueError", "no"),
        ("import sys; sys.exit(3)", "SystemExit", "3"),
        ("import sys; sys.exit()", "SystemExit", "None"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT); input()", "KeyboardInterrupt", ""),
        ("raise MemoryError", "MemoryError", ""),
        ("handler(event, context)", "RecursionError", "maximum recursion depth exceeded"),
        ("raise GeneratorExit", "GeneratorExit", ""),
        ("raise Mute", "Mute", "its text could not be read: __str__ raised RuntimeError"),
        ("input()", "EOFError", "EOF when reading a line"),
        ("return object()", "Runtime.MarshalError", "Unable to marshal response: Object of type object"),
        ("return Exits()", "Runtime.MarshalError", "Unable to marshal response: "),
    ],
)
def test_errors_are_answers_and_the_runtime_lives_on(tmp_path: Path, statement: str, name: str, message: str) -> None:
    source = f"""
    class Mute(BaseException):
        def __str__(self):
            raise RuntimeError
    class Exits:
        def to_json(self):
            raise SystemExit(9)
    def handler(event, context):
        if event:
            return event
        {statement}
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        problem = runtime.fail()
        assert problem["error_type"] == name
        assert problem["error_message"].startswith(message)
        assert {"duration_us", "cpu_us", "peak_memory_bytes"} <= set(problem)
        if not name.startswith("Runtime.") and name != "RecursionError":
            assert all(entry[0] == str(tmp_path / "index.py") for entry in problem["stack"])
            assert problem["stack"][-1][2] in ("handler", "__str__")
        assert runtime.call("next") == "next"
        assert runtime.stop() == 0


def test_event_that_is_not_json(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        metadata = {"request_id": "r", "content_type": JSON, "accept": JSON}
        runtime.send(INVOKE, 1, metadata, b"{")
        runtime._next_id = 2
        assert runtime.outcome(1).metadata["error_type"] == "Runtime.UnmarshalError"
        assert runtime.call(1) == 1


def test_result_above_the_callers_limit(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, "def handler(event, context):\n    return 'x' * event\n") as runtime:
        runtime.start(max_frame=100_000)
        problem = runtime.fail(100_000)
        assert problem["error_type"] == "Function.ResponseSizeTooLarge"
        assert "100000" in problem["error_message"]
        assert problem["duration_us"] >= 0
        assert len(runtime.call(99_000)) == 99_000


def test_raw_bytes_both_ways(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, "def handler(event, context):\n    return event[::-1]\n") as runtime:
        runtime.start()
        metadata = {"request_id": "r", "content_type": "application/octet-stream", "accept": ANY}
        runtime.send(INVOKE, 1, metadata, bytes(range(256)))
        answer = runtime.outcome(1)
        assert answer.metadata["content_type"] == "application/octet-stream"
        assert answer.payload == bytes(range(256))[::-1]


def test_a_function_that_stops_the_clocks(tmp_path: Path) -> None:
    source = """
    import time
    def handler(event, context):
        time.perf_counter_ns = time.process_time_ns = lambda: 0
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call() is None
        assert runtime.call() is None


def test_request_comes_with_its_context(tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        remaining = context.get_remaining_time_in_millis()
        return [context.aws_request_id, context.function_name, 0 < remaining <= 5000, context.client_context.custom]
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start(function={"name": "f"})
        answer = runtime.call(timeout_ms=5000, client_context={"custom": {"k": "v"}})
        assert answer == ["r-1", "f", True, {"k": "v"}]


# Not loaded


@pytest.mark.parametrize(
    ("source", "handler", "name"),
    [
        (ECHO, "index.nothing", "Runtime.HandlerNotFound"),
        (ECHO, "nowhere.handler", "Runtime.ImportModuleError"),
        (ECHO, "handler", "Runtime.MalformedHandlerName"),
        ("def handler(:\n", "index.handler", "Runtime.UserCodeSyntaxError"),
        ("import sys\nsys.exit(7)\n", "index.handler", "SystemExit"),
        ("raise KeyboardInterrupt\n", "index.handler", "KeyboardInterrupt"),
        ("1 / 0\n", "index.handler", "ZeroDivisionError"),
    ],
)
def test_handler_that_cannot_be_loaded(tmp_path: Path, source: str, handler: str, name: str) -> None:
    with RuntimeProcess(tmp_path, "print('loading', end='')\n" + source) as runtime:
        runtime.hello(handler)
        runtime.invoke(1)
        frames = []
        while frame := runtime.next_or_end():
            frames.append(frame)
        assert frames[-1].kind == ERROR and frames[-1].id == 0
        assert frames[-1].metadata["error_type"] == name
        assert {frame.kind for frame in frames[1:-1]} <= {LOG}
        assert runtime.ended() == 1


def test_code_directory_that_does_not_exist(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.hello(code_dir=str(tmp_path / "missing"))
        assert runtime.next().kind == HELLO
        problem = runtime.next().metadata
        assert problem["error_type"] == "Runtime.ImportModuleError"
        assert "missing" in problem["error_message"]
        assert runtime.exit_code() == 1


def test_last_lines_of_a_function_that_could_not_be_loaded(tmp_path: Path) -> None:
    source = "import atexit\natexit.register(print, 'bye')\nprint('half', end='')\nraise ValueError\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.hello()
        assert runtime.next().kind == HELLO
        assert runtime.next().payload == b"half"
        assert runtime.next().kind == ERROR
        assert runtime.exit_code() == 1
    assert runtime.log == b"bye\n"  # after its last message the runtime may write no more to the pipe


def test_what_atexit_prints(tmp_path: Path) -> None:
    source = "import atexit\natexit.register(print, 'bye', end='')\n" + ECHO
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start()
        assert runtime.stop() == 0
        assert runtime.logged() == ["bye"]


# DUMP


def test_dump_of_an_idle_runtime(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        runtime.send(DUMP)
        answer = runtime.next()
        assert (answer.kind, answer.metadata["stacks"]) == (DUMP, [])
        assert runtime.call(1) == 1


def test_dump_signal_of_a_busy_handler(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = """
    import os, signal
    def handler(event, context):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        print("busy")
        return signal.sigwait([signal.SIGUSR1])
    """
    with RuntimeProcess(tmp_path, dedent(source), keep=[pipe[1]]) as runtime:
        runtime.start(dump_fd=pipe[1], dump_signal=int(signal.SIGRTMAX))
        id = runtime.invoke()
        assert runtime.next().payload == b"busy"
        readable = select.poll()
        readable.register(pipe[0], select.POLLIN)
        stacks = []
        while not stacks or b"line 5 in handler" in stacks[-1]:  # until print() waits for the signal
            os.kill(runtime.process.pid, signal.SIGRTMAX)
            text = b""
            while b"__main__.py" not in text:
                assert readable.poll(HANGS * 1000)
                text += os.read(pipe[0], 65536)
            stacks.append(text)
        assert b'index.py", line 6 in handler' in stacks[-1]
        os.kill(runtime.process.pid, signal.SIGUSR1)
        assert runtime.outcome(id).payload == b"%d" % signal.SIGUSR1


def test_dump_of_a_crash(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = "import os\ndef handler(event, context):\n    os.abort()\n"
    with RuntimeProcess(tmp_path, source, keep=[pipe[1]]) as runtime:
        runtime.start(dump_fd=pipe[1], dump_signal=int(signal.SIGRTMAX))
        runtime.invoke()
        assert runtime.ended() == -signal.SIGABRT
    assert b"in handler" in os.read(pipe[0], 65536)


# Neither side waits for the other


@pytest.mark.parametrize("nonblocking", ["nobody", "the test", "the handler"])
def test_large_payloads_both_ways_while_the_test_does_not_read(tmp_path: Path, nonblocking: str) -> None:
    source = """
    import os
    def handler(event, context):
        if event == "nonblocking":
            for fd in map(int, os.listdir("/proc/self/fd")):
                try:
                    os.set_blocking(fd, False)
                except OSError:
                    continue
            return None
        return event * 50
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        if nonblocking == "the test":
            # The two ends share one description, so this is as if the runtime had set it.
            for name in ("0", "1"):
                os.set_blocking(runtime.requests if name == "0" else runtime.answers, False)
        elif nonblocking == "the handler":
            runtime.call("nonblocking")
        # 12 MB of answers wait, and the runtime is blocked after the first 64 KiB. It must read these all the same.
        ids = [runtime.invoke("x" * 16_000) for _ in range(16)]
        ids += [runtime.invoke("y" * 16_000) for _ in range(20)]
        for number, id in enumerate(ids):
            assert runtime.outcome(id).payload == b'"%s"' % ((b"x" if number < 16 else b"y") * 800_000)
        assert runtime.stop() == 0


def test_a_window_of_large_heads(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, "def handler(event, context):\n    return 'x' * 1000000\n") as runtime:
        runtime.start()
        ids = [runtime.invoke(1, future="f" * 60_000) for _ in range(64)]
        for id in ids:
            assert len(runtime.outcome(id).payload) == 1_000_002


def test_requests_byte_by_byte(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, ECHO) as runtime:
        runtime.start()
        metadata = {"request_id": "r", "content_type": JSON, "accept": JSON}
        for byte in runtime.connection.send(INVOKE, 1, metadata, b"[1]"):
            runtime.write(bytes([byte]))
        assert runtime.outcome(1).payload == b"[1]"


def test_threads_that_print_while_nobody_reads_take_no_request_away(tmp_path: Path) -> None:
    # A thread that cannot write reads in the main thread's place. The main thread must get what the thread has read.
    source = """
    import threading
    def flood():
        for n in range(3000):
            print("flood", n, "." * 100)
    def handler(event, context):
        if event == "flood":
            threading.Thread(target=flood).start()
        return event
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call("flood") == "flood"
        ids = [runtime.invoke(["x" * 10_000, n]) for n in range(60)]  # all are written before any answer is read
        for n, id in enumerate(ids):
            assert json.loads(runtime.outcome(id).payload)[1] == n
        assert runtime.stop() == 0


def test_threads_that_print_after_the_outcome(tmp_path: Path) -> None:
    source = """
    import threading
    stop = threading.Event()
    failures = []
    def chatter():
        try:
            while not stop.is_set():
                print("chatter")
        except BaseException as error:
            failures.append(repr(error))
    def handler(event, context):
        if event == "start":
            for _ in range(2):
                threading.Thread(target=chatter).start()
        if event == "stop":
            stop.set()
        return failures
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.call("start") == []
        for _ in range(10):
            assert runtime.call() == []
        assert runtime.call("stop") == []
        assert runtime.stop() == 0
    assert runtime.log == b""


def test_threads_that_print_during_the_end(tmp_path: Path) -> None:
    source = """
    import threading
    def chatter():
        while True:
            print("chatter")
    def handler(event, context):
        threading.Thread(target=chatter).start()
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        runtime.call()
        assert runtime.stop() == 0


# Other things than pipes on fds 0 and 1


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_refused(redirection: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f'"$0" "$1" {redirection}', sys.executable, script()],
        stdin=subprocess.PIPE,
        capture_output=True,
        env=unmeasured(),
    )
    assert ended.returncode == 2
    assert ended.stdout == b""
    expected = b"" if "2>" in redirection else b"pipe_runtime: stdin and stdout must be pipes: Bad file descriptor\n"
    assert ended.stderr == expected


def test_input_that_is_empty() -> None:
    with open(os.devnull) as nothing:
        ended = subprocess.run([sys.executable, script()], stdin=nothing, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"versions": [99]}, "the init speaks protocol versions [99]; the other side [1]"),
        ({"versions": [1], "max_frame": 1}, "HELLO whose max_frame is not between 65540 and 4294967295"),
    ],
)
def test_who_cannot_be_told_in_a_frame_is_told_on_stderr(hello: dict[str, Any], why: str) -> None:
    sent = FrameWriter().encode(HELLO, 0, hello)
    ended = subprocess.run([sys.executable, script()], input=sent, capture_output=True, env=unmeasured())
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, b"", f"pipe_runtime: {why}\n".encode())


def test_conversation_over_a_raw_terminal(tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(ECHO)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with subprocess.Popen([sys.executable, script()], stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        connection = Connection(INIT)
        sent = connection.send(HELLO, 0, {"versions": [1], "handler": "index.handler", "code_dir": str(tmp_path)})
        metadata = {"request_id": "r", "content_type": JSON, "accept": JSON}
        os.write(ours, sent + connection.send(INVOKE, 1, metadata, b"[0]") + connection.send(STOP))
        kinds = []
        while len(kinds) < 3:
            connection.receive(os.read(ours, 65536))
            while frame := connection.next_frame():
                kinds.append(getattr(frame, "kind", None))
        assert kinds == [HELLO, READY, RESULT]
        assert process.wait(HANGS) == 0
    os.close(ours)
