"""Tests of streams through the whole `pipe-init run`: results as they come, bodies as they are taken, and every end.

The functions are in functions/streams. How pieces and credits may cross is tested in unit tests, without processes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pipe_testing import modes
from pipe_testing.command import PipeInit, popen
from pipe_testing.patience import HANGS
from pipe_testing.processes import wait_for_children

MODES = modes.ON_REQUEST

FUNCTIONS = Path(__file__).parents[1] / "functions" / "streams"
MIB = 1024 * 1024
FLAT = 64 * 1024
"""The KiB that a process may take if it does not hold the body: much less than the bodies here."""

ECHOES = [
    ("echo", ()),
    ("echo_async", ()),
    ("echo_wsgi", ("--type", "wsgi")),
    ("echo_asgi", ("--type", "asgi")),
]


def command(handler: str, *options: str) -> tuple[str, ...]:
    return ("run", f"index.{handler}", "-q", *options)


def the_error(stderr: bytes) -> str:
    return str(json.loads(stderr.splitlines()[-1])["errorType"])


def worker_of(process: subprocess.Popen[bytes]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def peak(pid: int) -> int:
    """Return the highest resident memory of a process so far, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def stalled_reader(pipe_init: PipeInit, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a run whose result is endless. One byte of it was read."""
    with popen(pipe_init, *command("endless", "--raw", *options), cwd=FUNCTIONS) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        yield process


@contextmanager
def stalled_writer(pipe_init: PipeInit, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a run of an echo that has returned all bytes of the body so far and waits for more."""
    with popen(
        pipe_init, *command("echo", "--raw", "-f", "-", *options), cwd=FUNCTIONS, stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"a")
        assert process.stdout.read(1) == b"a"
        yield process


Where = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


def assert_nothing_is_done(process: subprocess.Popen[bytes]) -> None:
    """Check that pipe-init and its worker use almost no CPU time for a second."""
    pids = process.pid, worker_of(process)
    before = [processor_seconds(pid) for pid in pids]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    used = [processor_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    assert max(used) < 0.5, "it looks again and again"


class TestResults:
    @pytest.mark.parametrize("handler", ["steps", "steps_async"])
    def test_items_come_as_they_are_made(self, pipe_init: PipeInit, tmp_path: Path, handler: str) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        event = json.dumps({"first": {"é": 1}, "next": [2], "fifo": str(fifo)})
        with popen(pipe_init, *command(handler, "-e", event), cwd=FUNCTIONS) as process:
            assert process.stdout is not None
            assert os.read(process.stdout.fileno(), 999) == '{"é": 1}\n'.encode()
            for _ in range(2):
                fifo.write_text("go on")
                assert os.read(process.stdout.fileno(), 999) == b"[2]\n"
            fifo.write_text("")
            assert process.stdout.read() == b""
            assert process.wait(HANGS) == 0

    @pytest.mark.parametrize(
        ("handler", "code", "type"),
        [("fails", 1, "ValueError"), ("dies", 137, "Runtime.ExitError"), ("hangs", 124, "Sandbox.Timedout")],
    )
    def test_an_end_in_mid_stream(self, pipe_init: PipeInit, handler: str, code: int, type: str) -> None:
        limit = ("-t", "1") if handler == "hangs" else ()
        finished = pipe_init(*command(handler, *limit), cwd=FUNCTIONS)
        assert (finished.returncode, finished.stdout) == (code, b"1\n")
        assert the_error(finished.stderr) == type

    def test_the_reader_stops_reading(self, pipe_init: PipeInit) -> None:
        with stalled_reader(pipe_init) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(HANGS) == 141

    def test_stdout_is_closed_from_the_start(self, pipe_init: PipeInit) -> None:
        ended = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *pipe_init.command, *command("many", "-e", "2")],
            cwd=FUNCTIONS,
            env=pipe_init.environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=HANGS,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")

    def test_a_reader_that_stalls_costs_nothing(self, pipe_init: PipeInit) -> None:
        with stalled_reader(pipe_init) as process:
            assert_nothing_is_done(process)
            assert max(peak(process.pid), peak(worker_of(process))) < FLAT
            process.kill()
        wait_for_children()

    def test_a_large_result_that_is_no_stream(self, pipe_init: PipeInit) -> None:
        finished = pipe_init(*command("large", "-e", "20000000"), cwd=FUNCTIONS)
        assert (finished.returncode, finished.stderr) == (0, b"")
        assert finished.stdout == b'"' + b"x" * 20_000_000 + b'"\n'


class TestEvents:
    def test_a_streamed_result_is_one_array(self, pipe_init: PipeInit) -> None:
        finished = pipe_init(*command("fails", "--events", "-"), cwd=FUNCTIONS, stdin=b"1\n2\n")
        assert finished.returncode == 1
        assert [json.loads(line)["errorType"] for line in finished.stdout.splitlines()] == ["ValueError"] * 2
        finished = pipe_init(*command("many", "--events", "-"), cwd=FUNCTIONS, stdin=b"0\n1\n2\n")
        assert [len(json.loads(line)) for line in finished.stdout.splitlines()] == [0, 1, 2]

    def test_one_that_is_too_long_for_a_line(self, pipe_init: PipeInit) -> None:
        arguments = command("many", "--events", "-")
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"150\n")
            line = b""
            while not line.endswith(b"\n"):
                line += process.stdout.read(65536)
            assert json.loads(line)["errorType"] == "Function.ResponseSizeTooLarge"
            assert peak(process.pid) < 64 * 1024 + FLAT, "memory follows the result"
            assert peak(worker_of(process)) < FLAT
            process.stdin.write(b"1\n")
            process.stdin.close()
            assert len(json.loads(process.stdout.read())) == 1
            assert process.wait(HANGS) == 1


class TestBodies:
    @pytest.mark.parametrize(("handler", "options"), ECHOES)
    def test_pieces_go_there_and_back_one_by_one(
        self, pipe_init: PipeInit, handler: str, options: tuple[str, ...]
    ) -> None:
        arguments = command(handler, *options, *(() if options else ("--raw",)), "-f", "-")
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            for piece in (b"a", b"b"):
                process.stdin.write(piece)
                assert process.stdout.read(1) == piece
            process.stdin.close()
            assert process.stdout.read() == b""
            assert process.wait(HANGS) == 0

    def test_the_head_comes_with_the_first_piece(self, pipe_init: PipeInit) -> None:
        arguments = command("echo_asgi", "--type", "asgi", "-i", "-f", "-")
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"bo")  # an ASGI server keeps the head until the body begins
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += process.stdout.read(1)
            assert b"x-echo: 1" in head
            assert process.stdout.read(2) == b"bo"
            process.stdin.write(b"dy")
            process.stdin.close()
            assert process.stdout.read() == b"dy"
            assert process.wait(HANGS) == 0

    @pytest.mark.parametrize("handler", ["echo", "echo_async"])
    def test_there_and_back_at_once(self, pipe_init: PipeInit, handler: str) -> None:
        """Check a body larger than either process may hold, in small pipes. Both sides write before either reads."""
        size = 96 * MIB if handler == "echo" else 8 * MIB
        arguments = command(handler, "--raw", "-f", "-")
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None and stdout is not None
            fcntl.fcntl(stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096 if handler == "echo_async" else 65536)
            fcntl.fcntl(stdin.fileno(), fcntl.F_SETPIPE_SZ, 4096 if handler == "echo_async" else 65536)
            block, sent, returned = os.urandom(MIB - 1), hashlib.sha256(), hashlib.sha256()
            nearly_all_is_back = threading.Event()

            def write() -> None:
                left = size
                while left:
                    piece = (bytes([left // MIB % 256]) + block)[:left]
                    if len(piece) == left:
                        nearly_all_is_back.wait(HANGS)
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(stdin.fileno(), view) :]
                    sent.update(piece)
                    left -= len(piece)
                stdin.close()

            writer = threading.Thread(target=write)
            writer.start()
            came = 0
            while data := stdout.read(MIB):
                returned.update(data)
                came += len(data)
                if came >= size - MIB and not nearly_all_is_back.is_set():
                    assert max(peak(process.pid), peak(worker_of(process))) < FLAT
                    nearly_all_is_back.set()
            writer.join()
            assert (came, returned.digest(), process.wait(HANGS)) == (size, sent.digest(), 0)

    @pytest.mark.parametrize(
        ("handler", "result"), [("ignores", b"ignored"), ("half", b"1000000"), ("in_a_thread", b"3000000")]
    )
    @pytest.mark.parametrize("size", [3_000_000])
    def test_a_function_takes_as_much_of_a_body_as_it_wants(
        self, pipe_init: PipeInit, handler: str, result: bytes, size: int
    ) -> None:
        reader, writer = os.pipe()  # subprocess would raise an error for a body that the program does not read
        with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as body:
            with popen(pipe_init, *command(handler, "--raw", "-f", "-"), cwd=FUNCTIONS, stdin=reader) as process:
                source.close()
                try:
                    body.write(b"z" * size)
                    body.close()
                except BrokenPipeError:
                    assert handler != "in_a_thread"
                assert process.stdout is not None
                assert (process.stdout.read(), process.wait(HANGS)) == (result, 0)

    def test_credit_reaches_the_writer_while_a_thread_waits_for_the_body(self, pipe_init: PipeInit) -> None:
        """Check that a thread that waits for the body does not keep the credit that the writing thread needs."""
        arguments = command("writes_while_a_thread_reads", "--raw", "-t", "20", "-f", "-")
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert len(b"".join(iter(lambda: process.stdout.read(65536), b""))) == 5_000_000  # type: ignore[union-attr]
            assert process.wait(HANGS) == 0

    def test_a_body_that_never_ends(self, pipe_init: PipeInit) -> None:
        with stalled_writer(pipe_init, "-t", "1") as process:
            assert process.stderr is not None
            assert process.wait(HANGS) == 124
            assert the_error(process.stderr.read()) == "Sandbox.Timedout"

    def test_a_writer_that_stalls_costs_nothing(self, pipe_init: PipeInit) -> None:
        with stalled_writer(pipe_init) as process:
            assert_nothing_is_done(process)
            process.kill()
        wait_for_children()

    @pytest.mark.parametrize("raw", [True, False])
    def test_a_file_larger_than_a_frame(self, pipe_init: PipeInit, tmp_path: Path, raw: bool) -> None:
        path = tmp_path / "event"
        path.write_bytes(b'"' + b"x" * 20_000_000 + b'"')
        finished = pipe_init(*command("length", *(("--raw",) if raw else ()), "-f", str(path)), cwd=FUNCTIONS)
        assert finished.stdout.strip() == (b"20000002" if raw else b"20000000")
        assert finished.returncode == 0

    def test_a_named_pipe(self, pipe_init: PipeInit, tmp_path: Path) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        with popen(pipe_init, *command("echo", "--raw", "-f", str(path)), cwd=FUNCTIONS) as process:
            assert process.stdout is not None
            path.write_bytes(b"through it")
            assert (process.stdout.read(), process.wait(HANGS)) == (b"through it", 0)


class TestInterrupted:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("where", [stalled_reader, stalled_writer])
    def test_once(self, pipe_init: PipeInit, where: Where, number: int) -> None:
        with where(pipe_init, "--grace", "0.2") as process:
            process.send_signal(number)
            assert process.wait(HANGS) == 128 + number
            assert process.stderr is not None
            assert the_error(process.stderr.read()) == "Runtime.Stopped"

    @pytest.mark.parametrize("where", [stalled_reader, stalled_writer])
    def test_twice(self, pipe_init: PipeInit, where: Where) -> None:
        with where(pipe_init, "--grace", "3600") as process:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)  # another signal, because two pending ones of one kind become one
            assert process.wait(HANGS) in (130, 143)
            assert process.stderr is not None
            assert the_error(process.stderr.read()) == "Runtime.Stopped"

    @pytest.mark.parametrize("events", [True, False])
    def test_while_a_result_is_only_partly_read(self, pipe_init: PipeInit, events: bool) -> None:
        more = ("--events", "-") if events else ("-f", "-")
        arguments = command("large", "--grace", "0.2", *more)
        with popen(pipe_init, *arguments, cwd=FUNCTIONS, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"5000000\n")
            process.stdin.close()
            assert process.stdout.read(1) == b'"'
            process.send_signal(signal.SIGTERM)
            assert process.wait(HANGS) == 143

    def test_what_a_function_still_gives_is_not_lost(self, pipe_init: PipeInit, tmp_path: Path) -> None:
        """Check a result whose end arrives while most of its last item still waits for the reader."""
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        event = json.dumps({"first": 1, "next": "x" * 200_000, "fifo": str(fifo)})
        (tmp_path / "event").write_text(event)
        options = ("--log-style", "fc", "--grace", "20", "-f", str(tmp_path / "event"))
        with popen(pipe_init, "run", "index.steps", *options, cwd=FUNCTIONS) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.read(2) == b"1\n"
            process.send_signal(signal.SIGTERM)
            fifo.write_text("go on")
            rest = process.stdout.read(1)
            fifo.write_text("")
            said = b""
            while b"Invoke End" not in said:
                said += process.stderr.read(4096)
            rest += b"".join(iter(lambda: process.stdout.read(65536), b""))  # type: ignore[union-attr]
            assert rest == b'"' + b"x" * 200_000 + b'"\n'
            assert process.wait(HANGS) == 143
