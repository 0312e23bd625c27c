"""Tests that frames are sent whole and in order, from any thread and in spite of signals, without child processes."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from pipe_runtime.io.outbox import Outbox
from pipe_runtime.io.pipes import Pipes
from pipe_runtime.io.signal_guard import SignalGuard
from pipe_runtime.serve.process import Process
from pipe_runtime.wire.connection import INIT, RUNTIME, Connection
from pipe_runtime.wire.errors import LocalProtocolError
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import END, ERROR, HELLO, INVOKE, JSON, LOG, READY, RESULT


class Line:
    """An outbox on a pipe, and the frames that have come out of it so far."""

    def __init__(self) -> None:
        self.requests, self.requests_in = os.pipe()
        self.answers_out, self.answers = os.pipe()
        self.connection, self.peer = Connection(RUNTIME), Connection(INIT)
        self.connection.next_frame(self.peer.send(HELLO, 0, {"versions": [1]}))
        self.pipes = Pipes(self.requests, self.answers, 0)
        self.outbox = Outbox(self.connection.send, self.pipes.write)
        self.outbox.post(HELLO, 0, {"versions": [1]})
        assert self.receive().kind == HELLO

    def receive(self) -> Frame:
        while (event := self.peer.next_frame()) is None:
            self.peer.receive(os.read(self.answers_out, 65536))
        assert isinstance(event, Frame)
        return event

    def log(self, text: bytes) -> None:
        self.outbox.post(LOG, 0, {"stream": "stdout"}, text)

    def close(self) -> None:
        for end in (self.requests, self.requests_in, self.answers_out, self.answers):
            os.close(end)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[int, FrameType | None], Any]], None]]:
    """Yield a function that installs a handler for SIGUSR1: `on_signal(handler)`. It is removed at the end."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: (signal.signal(signal.SIGUSR1, handler), None)[1]
    signal.signal(signal.SIGUSR1, before)


def test_what_is_not_allowed_is_not_sent(line: Line) -> None:
    with pytest.raises(LocalProtocolError):
        line.outbox.post(READY, 5)
    line.log(b"after")
    assert line.receive().payload == b"after"


@pytest.mark.parametrize("kind", [RESULT, ERROR])
def test_a_stream_that_has_begun_ends_with_end(line: Line, kind: int) -> None:
    """Check this even if the engine does not know that the stream has begun, because a signal handler has raised."""
    line.outbox.post(READY)
    metadata = {"request_id": "r-1", "content_type": JSON, "accept": JSON}
    line.connection.next_frame(line.peer.send(INVOKE, 1, metadata))
    line.outbox.post(RESULT, 1, {"content_type": JSON, "stream": True})
    fields = {"content_type": JSON} if kind == RESULT else {"error_type": "ValueError", "error_message": "no"}
    process: Any = SimpleNamespace(connection=line.connection, outbox=line.outbox)
    Process.conclude(process, kind, 1, {**fields, "duration_us": 5}, b"")
    frames = [line.receive() for _ in range(3)]
    assert [frame.kind for frame in frames] == [READY, RESULT, END]
    expected = "Function.ResponseSizeTooLarge" if kind == RESULT else "ValueError"
    assert (frames[2].metadata["error_type"], frames[2].metadata["duration_us"]) == (expected, 5)


def test_a_signal_handler_that_posts_at_every_moment(line: Line) -> None:
    """Run the handler after each line of Python in a post: between lock, send and release."""
    import sys

    moments = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal moments
        if frame.f_code.co_filename.endswith(("outbox.py", "pipes.py")) and event in ("line", "return"):
            sys.settrace(None)
            moments += 1
            line.log(b"inner %d" % moments)
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        line.log(b"outer")
    finally:
        sys.settrace(before)
    line.log(b"last")
    received = []
    while (text := line.receive().payload) != b"last":
        received.append(text)
    assert moments > 10
    assert sorted(received) == sorted([b"outer", *(b"inner %d" % n for n in range(1, moments + 1))])


def test_a_signal_handler_posts_while_a_write_waits(line: Line, on_signal: Callable[..., None]) -> None:
    on_signal(lambda number, frame: line.log(b"from the handler"))
    received: list[bytes] = []
    main = threading.main_thread().ident
    assert main is not None

    def drain() -> None:
        first = line.receive()  # the next frames already fill the pipe, and the main thread waits
        received.append(first.payload)
        signal.pthread_kill(main, signal.SIGUSR1)
        while received[-1] != b"end":
            received.append(line.receive().payload)

    reader = threading.Thread(target=drain)
    texts = [b"%d" % n + b"." * 3000 for n in range(60)]
    reader.start()
    for text in texts:
        line.log(text)
    line.log(b"end")
    reader.join()
    assert [text for text in received if text != b"from the handler"] == [*texts, b"end"]


def test_frames_of_threads_are_whole(line: Line) -> None:
    received: list[bytes] = []

    def post(name: int) -> None:
        for n in range(200):
            line.log(b"%d %d " % (name, n) + b"." * 5000)

    threads = [threading.Thread(target=post, args=[name]) for name in range(4)]
    for thread in threads:
        thread.start()
    while len(received) < 800:
        received.append(line.receive().payload)
    for thread in threads:
        thread.join()
    for name in range(4):
        mine = [text for text in received if text.startswith(b"%d " % name)]
        assert mine == [b"%d %d " % (name, n) + b"." * 5000 for n in range(200)]


class Late(Exception):
    pass


def raise_late(number: int, frame: FrameType | None) -> None:
    raise Late


def type_name(error: BaseException) -> str:
    return type(error).__name__


def guarded() -> tuple[SignalGuard, list[BaseException | None], list[SystemExit]]:
    finished: list[BaseException | None] = []
    left: list[SystemExit] = []
    return SignalGuard(finished.append, left.append, bool), finished, left


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM, which SignalGuard replaces for good."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_guard_keeps_nothing_of_what_failed() -> None:
    guard, _, _ = guarded()
    held: list[weakref.ref[set[int]]] = []

    def fail(argument: int) -> int:
        local = {argument}
        held.append(weakref.ref(local))
        raise ValueError

    gc.disable()
    try:
        assert guard.call(fail, 5, lambda error: 7) == 7
        assert held[0]() is None
    finally:
        gc.enable()


def test_the_guard_contains_what_a_signal_handler_raises(on_signal: Callable[..., None]) -> None:
    guard, finished, _ = guarded()
    assert guard.call(lambda action: on_signal(action) or 1, raise_late, repr) == 1
    signal.raise_signal(signal.SIGUSR1)
    assert [type(error) for error in finished] == [Late]
    assert guard.call(lambda number: signal.raise_signal(number) or "no", signal.SIGUSR1, type_name) == "Late"
    signal.raise_signal(signal.SIGUSR1)
    assert len(finished) == 2


def test_the_functions_own_handler_is_there_during_its_code(on_signal: Callable[..., None]) -> None:
    guard, _, _ = guarded()
    guard.call(lambda action: on_signal(action) or 1, raise_late, repr)
    assert signal.getsignal(signal.SIGUSR1) is not raise_late
    assert guard.call(signal.getsignal, signal.SIGUSR1, repr) is raise_late


def test_an_exit_waits_until_the_runtime_waits(on_signal: Callable[..., None]) -> None:
    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(3)

    guard, finished, left = guarded()
    guard.call(lambda action: on_signal(action) or 1, leave, repr)
    signal.raise_signal(signal.SIGUSR1)
    assert [type(error) for error in finished] == [SystemExit]
    assert left == []
    assert guard.wait(lambda: b"x") == b"x"
    assert [error.code for error in left] == [3]
    guard.wait(lambda: signal.raise_signal(signal.SIGUSR1) or b"")
    assert len(left) == 3


def test_a_handler_that_equals_everything_is_taken_over_too(on_signal: Callable[..., None]) -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        def __call__(self, number: int, frame: FrameType | None) -> None:
            raise Late

    guard, finished, _ = guarded()
    guard.call(lambda action: on_signal(action) or 1, Equal(), repr)
    signal.raise_signal(signal.SIGUSR1)
    assert [type(error) for error in finished] == [Late]


def test_a_signal_at_the_end_of_the_functions_code_loses_no_result(on_signal: Callable[..., None]) -> None:
    guard, _, _ = guarded()
    replace = guard._replace_handlers
    tries: list[int] = []

    def interrupted() -> None:
        tries.append(1)
        replace()
        if len(tries) == 1:
            raise Late

    guard._replace_handlers = interrupted  # type: ignore[method-assign]  # as if a signal came at that moment
    assert guard.call(lambda action: on_signal(action) or "result", raise_late, repr) == "result"
    assert signal.getsignal(signal.SIGUSR1) is not raise_late


def test_interrupts_are_the_functions_only() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    guard, _, _ = guarded()
    signal.raise_signal(signal.SIGINT)
    name = guard.call(lambda number: signal.raise_signal(number) or "", signal.SIGINT, type_name)
    assert name == "KeyboardInterrupt"
    signal.raise_signal(signal.SIGINT)
    guard.call(lambda action: signal.signal(signal.SIGINT, action) or 1, signal.default_int_handler, repr)
    signal.raise_signal(signal.SIGINT)
