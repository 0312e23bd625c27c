"""Tests of the link to one process. The link never blocks, grows or raises, whatever the process does."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipe_init.kernel.poller import Poller
from pipe_init.limits.confinement import Confinement
from pipe_init.workers import launch
from pipe_init.workers.child import Child
from pipe_init.workers.link import DUMP_LIMIT, LARGE_PIPE, LAST_WORDS, READ_ROUND, READ_SIZE, Link
from pipe_init.workers.observer import Observer
from pipe_runtime.wire.frames import Frame, FrameWriter
from pipe_runtime.wire.messages import ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP
from pipe_testing import processes
from pipe_testing.environment import unmeasured
from pipe_testing.supervision import within

EVENT = {"request_id": "r", "content_type": "application/json", "accept": "application/json"}
WAIT_FOR_USR1 = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.write(2, b"ready")
signal.sigwait({signal.SIGUSR1})
"""


class Recorder(Observer):
    """An observer that keeps what the link reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.raw = b""
        self.logged = 0

    def hello(self, metadata: object) -> None:
        self.reports.append("hello")

    def ready(self, metadata: object) -> None:
        self.reports.append("ready")

    def outcome(self, frame: Frame) -> None:
        self.reports.append(f"outcome {frame.id} after {self.raw.decode()!r}")

    def lines(self, frame: Frame) -> None:
        self.reports.append("lines")
        self.logged += len(frame.payload)

    def raw_lines(self, data: bytes) -> None:
        self.raw += data

    def dumped(self) -> None:
        self.reports.append("dumped")

    def last_word(self, metadata: object) -> None:
        self.reports.append("last word")

    def closed(self) -> None:
        self.reports.append("closed")

    def violated(self, why: str) -> None:
        self.reports.append("violated")


class Talk:
    """A link and what it has reported."""

    def __init__(self, code: str) -> None:
        self.poller, self.heard = Poller(), Recorder()
        process = launch.start([sys.executable, "-I", "-S", "-c", code], unmeasured())
        self.link = Link(Child(process, Confinement(), None), self.poller, self.heard)
        self.pid = process.pid

    def step(self) -> None:
        """Wait until a pipe of the process is ready, and let the link handle it."""
        for descriptor in reversed(self.poller.wait(None)):
            handle = self.poller.handlers.get(descriptor)
            if handle is not None:
                handle()

    def said(self) -> bytes:
        """Return the next piece of the process's log."""
        self.heard.raw = b""
        while not self.heard.raw:
            self.step()
        return self.heard.raw

    def wait_dead(self) -> None:
        """Wait until the process is dead, without reaping it."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def send_usr1(self) -> None:
        """Send SIGUSR1, after which the process continues."""
        os.kill(self.pid, signal.SIGUSR1)


@contextmanager
def talking(code: str) -> Iterator[Talk]:
    """Yield the Talk with a process that runs `code`."""
    talk = Talk(code)
    try:
        with within():
            yield talk
    finally:
        talk.link.close()
        processes.wait_for_children()


def encoded(kind: int, id: int = 0, metadata: dict[str, object] | None = None, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    return FrameWriter().encode(kind, id, metadata or {}, payload)


GREETING = encoded(HELLO, 0, {"versions": [1]}) + encoded(READY)


def test_what_a_process_does_not_read_waits_here_and_arrives_whole_and_in_order() -> None:
    payload = os.urandom(4 * 2**20)
    digest = "hashlib.sha256(open(0, 'rb').read()).hexdigest().encode()"
    with talking(WAIT_FOR_USR1 + f"import hashlib; os.write(2, {digest})") as talk:
        link = talk.link
        assert talk.said() == b"ready"
        link.send(HELLO, metadata={"versions": [1]})
        assert not link.wants_to_write
        link.send(INVOKE, 1, EVENT, payload, trusted=True)  # it returns although the process does not read
        link.stop()
        assert link.wants_to_write
        talk.send_usr1()
        said = talk.said()  # the process reads to the end of its input, which comes after everything was written
        stream = encoded(HELLO, 0, {"versions": [1]}) + encoded(INVOKE, 1, dict(EVENT), payload) + encoded(STOP)
        assert said.decode() == hashlib.sha256(stream).hexdigest()
        assert not link.wants_to_write


def test_nothing_is_written_before_the_pid_is_known() -> None:
    poller, process = Poller(), launch.ProcessPipes(for_our_runtime=True)
    theirs = os.dup(process.theirs[0])
    process.started()
    link = Link(Child(process, Confinement(), None), poller, Recorder())
    link.send(HELLO, metadata={"versions": [1]})
    poller.hold()
    link.send(INVOKE, 1, EVENT, b"{}", trusted=True)
    poller.look()
    link.stop()
    assert select.select([theirs], [], [], 0)[0] == []
    process.pid = os.getpid()
    link.flush()
    stream = encoded(HELLO, 0, {"versions": [1]}) + encoded(INVOKE, 1, dict(EVENT), b"{}") + encoded(STOP)
    assert os.read(theirs, READ_SIZE) == stream
    assert os.read(theirs, 1) == b""
    os.close(theirs)
    link.close()


def test_a_process_that_closes_its_input_is_deaf() -> None:
    with talking("import os, signal; os.close(0); os.write(2, b'closed'); signal.pause()") as talk:
        talk.said()
        assert not talk.link.deaf
        talk.link.send(HELLO, metadata={"versions": [1]})
        assert talk.link.deaf
        assert talk.heard.reports == ["closed"]
        talk.link.send(INVOKE, 1, EVENT, bytes(2**20), trusted=True)
        assert not talk.link.wants_to_write


def test_a_flood_is_taken_in_rounds() -> None:
    line = encoded(LOG, 0, {"stream": "stdout"}, bytes(1000))
    code = f"import os\nos.write(1, {GREETING!r})\nwhile True: os.write(1, {line!r} * 1000)"
    with talking(code) as talk:
        for _ in range(3):
            before = talk.heard.logged
            talk.step()  # it returns although there is always more to read
            assert talk.heard.logged - before <= READ_ROUND + LARGE_PIPE
        assert talk.link.connection.reader.buffered <= len(line)


def test_what_is_no_frame_is_told_at_once_and_once() -> None:
    with talking("import os\nwhile True: os.write(1, bytes(65536))") as talk:
        talk.step()
        assert talk.heard.reports == ["violated"]
        assert talk.link.connection.reader.buffered <= READ_SIZE
        assert not talk.poller.look(), "the link must not wait for what it ignores"


def test_no_frame_after_a_violation_is_reported() -> None:
    said = GREETING + encoded(RESULT, 7, {"content_type": "a/b"}) + encoded(LOG, 0, {"stream": "stdout"}, b"late")
    with talking(f"import os; os.write(1, {said!r})") as talk:
        talk.wait_dead()
        talk.link.read_last_words()
        assert talk.heard.reports == ["hello", "ready", "violated"]


def test_last_words_in_packets_are_read_to_their_end() -> None:
    said = [encoded(HELLO, 0, {"versions": [1]}), *[encoded(LOG, 0, {"stream": "stdout"}, b"x") for _ in range(9)]]
    code = (
        "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\n"
        f"for frame in {said!r}: os.write(1, frame)"
    )
    with talking(code) as talk:
        talk.wait_dead()
        talk.link.read_last_words()
        assert talk.heard.reports == ["hello", *["lines"] * 9, "closed"]


def test_a_silent_process_does_not_hold_anything_up() -> None:
    with talking("import signal; signal.pause()") as talk:
        pipes = talk.link.pipes
        for descriptor in (pipes.answers, pipes.log, pipes.dump):
            handle = talk.poller.handlers[descriptor]
            assert handle is not None
            handle()
        assert (talk.heard.reports, talk.heard.raw) == ([], b"")
        assert not talk.link.ended


def test_a_pipe_that_is_at_its_end_is_not_waited_for() -> None:
    with talking("import os, signal; os.closerange(0, 10); signal.pause()") as talk:
        while not talk.link.ended or talk.poller.look():
            talk.step()
        assert talk.heard.reports == ["closed"]


def test_what_a_dead_process_wrote_is_reported() -> None:
    said = encoded(HELLO, 0, {"versions": [1]}) + encoded(ERROR, 0, {"error_type": "E", "error_message": "m"})
    stack = b'  File "a.py", line 1 in f\n'
    code = f"import os; os.write(1, {said!r}); os.write(2, b'last words'); os.write(4, {stack!r}); os._exit(1)"
    with talking(code) as talk:
        talk.wait_dead()
        talk.link.read_last_words()
        assert talk.heard.reports == ["dumped", "hello", "last word", "closed"]
        assert talk.heard.raw == b"last words"
        assert bytes(talk.link.child.end.dump) == stack


def test_half_a_frame_is_told_apart_from_a_wrong_one() -> None:
    with talking("import os; os.write(1, bytes([0, 0, 1, 0]))") as talk:
        talk.wait_dead()
        talk.link.read_last_words()
        assert talk.link.ended
        assert talk.heard.reports == ["closed"]


def test_raw_lines_come_before_the_outcome_of_the_only_request() -> None:
    """Check that what a request wrote below Python is read from the log pipe before its outcome."""
    outcome = encoded(RESULT, 1, {"content_type": "a/b"})
    code = WAIT_FOR_USR1 + f"os.write(1, {GREETING!r}); os.write(2, b'raw'); os.write(1, {outcome!r}); signal.pause()"
    with talking(code) as talk:
        talk.said()
        talk.link.send(HELLO, metadata={"versions": [1]})
        talk.link.send(INVOKE, 1, EVENT, b"{}", trusted=True)
        talk.heard.raw = b""
        talk.send_usr1()
        while len(talk.heard.reports) < 3:
            talk.step()
        assert talk.heard.reports == ["hello", "ready", "outcome 1 after 'raw'"]


def test_the_dump_does_not_grow() -> None:
    with talking("import os\nwhile True: os.write(4, bytes(65536))") as talk:
        for _ in range(8):
            talk.step()
        assert len(talk.link.child.end.dump) == DUMP_LIMIT


@pytest.mark.parametrize("size", [4096, 65536, 2**20])
def test_the_last_words_have_a_bound(size: int) -> None:
    """Check that no more is read than the pipe held, although a process that lives on writes for ever."""
    begun = bytes.fromhex("00f00000 00000004")  # the beginning of a frame
    more = "\nif os.fork() == 0:\n while True: os.write(1, bytes(4096))"
    code = f"import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, {size}); os.write(1, {begun!r} + bytes({size - 8}))"
    with talking(code + more) as talk:
        talk.wait_dead()
        talk.link.read_last_words()
        assert size <= talk.link.connection.reader.buffered <= size + READ_SIZE <= LAST_WORDS
        assert talk.heard.reports == []


def test_a_stopped_process_is_woken_by_a_signal() -> None:
    code = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
"""
    with talking(code) as talk:
        os.waitid(os.P_PID, talk.pid, os.WSTOPPED)
        talk.link.child.signal(signal.SIGTERM)
        talk.wait_dead()
        _, status = os.waitpid(talk.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9


def test_stacks_are_asked_for_anew() -> None:
    hello = encoded(HELLO, 0, {"versions": [1], "capabilities": ["dump-signal"]})
    code = f"""
import faulthandler, os, signal
faulthandler.register(signal.SIGRTMAX, file=4)
os.write(4, b"old")
os.write(1, {hello!r})
while True: signal.pause()
"""
    with talking(code) as talk:
        talk.link.ask_for_stacks(by_signal=True)
        assert not talk.link.child.end.asked, "it has not said yet that it can tell"
        while "hello" not in talk.heard.reports or not talk.link.child.end.dump:
            talk.step()
        assert bytes(talk.link.child.end.dump) == b"old"
        talk.link.ask_for_stacks(by_signal=True)
        assert talk.link.child.end.asked
        while b"in <module>" not in talk.link.child.end.dump:
            talk.step()
        assert b"old" not in talk.link.child.end.dump


def test_a_signal_right_after_the_start_is_not_lost() -> None:
    for _ in range(20):
        with talking("import signal; signal.pause()") as talk:
            talk.link.child.signal(signal.SIGKILL)
            talk.wait_dead()


def test_a_collected_process_is_not_signalled() -> None:
    """Check that a reaped pid gets no signal, because the kernel may have given it to another process."""
    with talking("pass") as talk:
        os.waitpid(talk.pid, 0)
        other = os.fork()
        if other == 0:
            signal.pause()
        talk.link.child.pipes.pid = other  # as the kernel may do
        talk.link.close()
        talk.link.child.signal(signal.SIGKILL)
        assert os.waitid(os.P_PID, other, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        os.kill(other, signal.SIGTERM)
