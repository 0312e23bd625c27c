"""One worker's pipes: nothing that the process does with its ends makes ours block, grow or raise."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipe_init.workers import launch
from pipe_init.workers.link import DUMP_LIMIT, LAST_WORDS, READ_SIZE, Worker, unread
from pipe_runtime.wire.connection import End
from pipe_runtime.wire.errors import ProtocolError, TruncatedStream
from pipe_runtime.wire.frames import Frame, FrameWriter
from pipe_runtime.wire.messages import HELLO, INVOKE, LOG
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


@contextmanager
def working(code: str) -> Iterator[Worker]:
    """A worker that runs `code`."""
    command = [sys.executable, "-I", "-S", "-c", code]
    worker = Worker(launch.start(command, unmeasured()))
    try:
        with within(30):
            yield worker
    finally:
        worker.close()
        processes.wait_for_children()


def wait(descriptor: int, events: int = select.POLLIN) -> None:
    """Wait until something can be done with the descriptor."""
    waiting = select.poll()
    waiting.register(descriptor, events)
    waiting.poll()


def said(worker: Worker) -> bytes:
    """The next piece of the worker's log."""
    wait(worker.process.log)
    data = worker.read_log()
    assert data is not None
    return data


def wait_dead(worker: Worker) -> None:
    """Wait until it is dead, without collecting it."""
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


def test_what_a_worker_does_not_read_waits_here_and_arrives_whole() -> None:
    payload = os.urandom(4 * 2**20)
    digest = "hashlib.sha256(open(0, 'rb').read()).hexdigest().encode()"
    code = WAIT_FOR_USR1 + f"import hashlib; os.write(2, {digest})"
    with working(code) as worker:
        assert said(worker) == b"ready"
        assert worker.send(HELLO, metadata={"versions": [1]}) is True
        assert not worker.wants_to_write
        assert worker.send(INVOKE, 1, EVENT, payload) is False  # returns although nobody reads
        assert worker.wants_to_write
        worker.flush()
        assert worker.wants_to_write
        os.kill(worker.pid, signal.SIGUSR1)
        while worker.wants_to_write:
            wait(worker.process.requests, select.POLLOUT)
            worker.flush()
        worker.process.close_requests()
        writer = FrameWriter()
        stream = writer.encode(HELLO, 0, {"versions": [1]}) + writer.encode(INVOKE, 1, EVENT, payload)
        assert said(worker).decode() == hashlib.sha256(stream).hexdigest()


def test_frames_behind_one_that_waits_keep_their_order() -> None:
    code = WAIT_FOR_USR1 + "os.write(2, b'%d' % len(open(0, 'rb').read()))"
    with working(code) as worker:
        said(worker)
        sizes = 0
        for kind, id, metadata, payload in ((HELLO, 0, {"versions": [1]}, b""), (INVOKE, 1, EVENT, bytes(2**20))):
            worker.send(kind, id, metadata, payload)
            sizes += len(FrameWriter().encode(kind, id, metadata, payload))
        waiting_before = worker.wants_to_write
        os.kill(worker.pid, signal.SIGUSR1)
        while worker.wants_to_write:
            wait(worker.process.requests, select.POLLOUT)
            worker.flush()
        worker.end_input()
        assert waiting_before
        assert int(said(worker)) == sizes


def test_a_worker_that_closes_its_input_is_deaf() -> None:
    with working("import os, signal; os.close(0); os.write(2, b'closed'); signal.pause()") as worker:
        said(worker)
        assert not worker.deaf
        worker.send(HELLO, metadata={"versions": [1]})
        assert worker.deaf
        assert not worker.wants_to_write
        worker.send(INVOKE, 1, EVENT, bytes(2**20))
        assert not worker.wants_to_write


def test_a_flood_is_taken_in_rounds() -> None:
    hello = FrameWriter().encode(HELLO, 0, {"versions": [1]})
    line = FrameWriter().encode(LOG, 0, {"stream": "stdout"}, bytes(1000))
    code = f"import os\nos.write(1, {hello!r} + {line!r})\nwhile True: os.write(1, {line!r} * 1000)"
    with working(code) as worker:
        wait(worker.process.answers)
        taken = 0
        for event in worker.events(3 * READ_SIZE, to_the_end=True):
            assert isinstance(event, Frame)
            taken += len(event.payload)
            assert taken <= 3 * READ_SIZE + READ_SIZE
            wait(worker.process.answers)  # there is always more
        assert taken
        assert worker.connection.buffered <= len(line)


def test_what_is_no_frame_is_told_at_once() -> None:
    with working("import os\nwhile True: os.write(1, bytes(65536))") as worker:
        wait(worker.process.answers)
        with pytest.raises(ProtocolError):
            list(worker.events())
        assert worker.connection.buffered <= READ_SIZE


def test_last_words_in_packets_are_read_to_their_end() -> None:
    said = [FrameWriter().encode(HELLO, 0, {"versions": [1]})]
    said += [FrameWriter().encode(LOG, 0, {"stream": "stdout"}, b"%d" % number) for number in range(9)]
    code = (
        "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\n"
        f"for frame in {said!r}: os.write(1, frame)"
    )
    with working(code) as worker:
        wait_dead(worker)
        events = list(worker.events(unread(worker.process.answers), to_the_end=True))
        assert [type(event) for event in events] == [Frame] * 10 + [End]


def test_a_silent_worker_does_not_hold_anything_up() -> None:
    with working("import signal; signal.pause()") as worker:
        assert list(worker.events()) == []
        assert not worker.ended
        assert worker.read_log() is None
        assert worker.read_dump() is None


def test_the_ends_of_its_pipes_are_told() -> None:
    with working("import os, signal; os.closerange(0, 10); signal.pause()") as worker:
        for descriptor in (worker.process.answers, worker.process.log, worker.process.dump):
            wait(descriptor)
        assert [type(event) for event in worker.events()] == [End]
        assert worker.ended
        assert worker.read_log() == b""
        assert worker.read_dump() is False


def test_what_a_dead_worker_wrote_can_be_read() -> None:
    frame = FrameWriter().encode(HELLO, 0, {"versions": [1]})
    code = f"import os; os.write(1, {frame!r}); os.write(2, b'last words'); os.write(4, b'stack'); os._exit(1)"
    with working(code) as worker:
        wait_dead(worker)
        assert list(worker.events()) == [Frame(HELLO, 0, {"versions": [1]})]
        assert not worker.ended  # a short read: all that there was
        assert [type(event) for event in worker.events()] == [End]
        assert worker.ended
        assert worker.read_log() == b"last words"
        assert worker.read_dump() is True
        assert bytes(worker.dump) == b"stack"


def test_half_a_frame_is_told_apart_from_a_wrong_one() -> None:
    with working("import os; os.write(1, bytes([0, 0, 1, 0]))") as worker:
        wait_dead(worker)
        assert list(worker.events()) == []
        with pytest.raises(TruncatedStream):
            list(worker.events())
        assert worker.ended


def test_the_dump_does_not_grow() -> None:
    with working("import os\nwhile True: os.write(4, bytes(65536))") as worker:
        for _ in range(8):
            wait(worker.process.dump)
            assert worker.read_dump() is True
        assert len(worker.dump) == DUMP_LIMIT


@pytest.mark.parametrize("size", [4096, 65536, 2**20])
def test_the_last_words_have_a_bound(size: int) -> None:
    begun = bytes.fromhex("00f00000 00000004")  # a frame that is still to come
    code = f"import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, {size}); os.write(1, {begun!r} + bytes({size - 8}))"
    with working(code) as worker:
        wait_dead(worker)
        assert unread(worker.process.answers) == size <= LAST_WORDS
        assert list(worker.events(unread(worker.process.answers))) == []
        assert worker.connection.buffered == size


def test_a_stopped_worker_is_woken_by_a_signal() -> None:
    code = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
"""
    with working(code) as worker:
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
        worker.signal(signal.SIGTERM)
        wait_dead(worker)
        _, status = os.waitpid(worker.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9


def test_stacks_are_asked_for_anew() -> None:
    code = """
import faulthandler, os, signal
faulthandler.register(signal.SIGRTMAX, file=4)
os.write(4, b"old")
os.write(2, b"ready")
while True: signal.pause()
"""
    with working(code) as worker:
        said(worker)
        worker.read_dump()
        assert bytes(worker.dump) == b"old"
        worker.ask_for_stacks(launch.DUMP_SIGNAL)
        while b"in <module>" not in worker.dump:
            wait(worker.process.dump)
            worker.read_dump()
        assert b"old" not in worker.dump


def test_a_signal_right_after_the_start_is_not_lost() -> None:
    for _ in range(20):
        with working("import signal; signal.pause()") as worker:
            worker.signal(signal.SIGKILL)
            wait_dead(worker)
