"""Manage the worker as a process: its pipes, its log, its signals, its forks, and how it ends.

A child that the function forks must not send frames to the init. In such a child, this module closes the worker's
descriptors. It ends the child when the handler returns in it. It must not know requests, handlers or HELLO.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
from _signal import SIGTERM, SIGXCPU
from os import _exit, getpid, kill  # imported now, because the function may replace the module's attributes

from .. import namespace
from ..call import faults
from ..call.usage import Meter
from ..io.outbox import Outbox
from ..io.pipes import claim, write_all
from ..io.signal_guard import SignalGuard
from ..limits import free_reserve
from ..log.writer import NAME, NO_REQUEST, LogWriter
from ..wire.connection import RUNTIME, STREAM_BYTES, Connection
from ..wire.errors import LocalProtocolError
from ..wire.frames import MAX_HEAD
from ..wire.messages import END, ERROR, LOG, MEASURED, RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Collection
    from typing import Any, NoReturn

    from ..io.pipes import Pipes
    from ..log.writer import Tag
    from ..wire.connection import EndOfStream
    from ..wire.frames import Frame

    Outcome = tuple[int, dict[str, Any], bytes]
    """The kind, the metadata and the payload of the frame that reports an outcome."""

WINDOW_REQUESTS = 64
WINDOW_BYTES = 1024 * 1024
"""The most requests, and the most bytes of their payloads, that may be sent to the runtime and have no outcome yet. So
the runtime has work while an answer is on its way."""

KEPT_BYTES = WINDOW_BYTES + WINDOW_REQUESTS * (8 + MAX_HEAD)
"""The most bytes of these requests, with their heads, that the runtime buffers while it cannot write an answer."""

KEPT_BYTES_OF_ONE = 8 + MAX_HEAD + 2 * STREAM_BYTES
"""The most bytes that the runtime buffers of one streamed request. The factor 2 leaves room for the heads of small
CHUNKs."""

EXIT_STOPPED = 0
EXIT_PIPE_LOST = EXIT_UNANSWERED = 1


class Conversation:
    """What one conversation with the init needs. No other thread holds its locks before it begins.

    Attributes:
        pipes: The descriptors that carry its bytes.
        connection: The order of its frames.
        outbox: What sends its frames.
    """

    def __init__(self, pipes: Pipes) -> None:
        self.pipes = pipes
        self.connection = Connection(RUNTIME)
        self.outbox = Outbox(self.connection.send, pipes.write)


class Process:
    """Represent this process, and hold its side of the conversation with the init.

    Args:
        baseline: The names in sys.modules before the runtime imported any module.

    Attributes:
        pid: The process's id when the conversation began. A child that the function has forked has another one.
        forked: Whether this process is such a child, as far as Python knows.
        forks_workers: Whether the template is forking a worker. A fork at any other time is the function's.
        on_fork: The callables to call in each child that the function forks.
        dump_fd: The descriptor to write stacks to; -1 if stacks are not written.
        control: The socket on which the init asks a template for workers; None in a worker.
    """

    def __init__(self, baseline: Collection[str]) -> None:
        self.baseline = baseline
        self.log = LogWriter(self._send_log)
        self.meter = Meter()
        self.restart(Conversation(claim(KEPT_BYTES)))
        self.guard = SignalGuard(self._signal_handled, lambda error: leave(exit_code(error)), free_reserve)
        self.forks_workers = False
        self.on_fork: list[Callable[[], object]] = []
        self.dump_fd = -1
        self.control: socket | None = None
        self._dump_signal = 0
        self.forked = False
        atexit.register(self.write_last_lines)  # registered first, so that it runs after all others

    def restart(self, conversation: Conversation) -> None:
        """Begin a conversation. A worker that a template has forked calls this again."""
        self.pid = getpid()
        self.pipes, self.connection = conversation.pipes, conversation.connection
        self.outbox = conversation.outbox
        self.pipes.free_memory = free_reserve
        self.log.restart(self.outbox.lock)

    def stand_in(self, conversation: Conversation) -> Process:
        """Return a copy that has this conversation, and its own log. It belongs to the same Unix process."""
        other = object.__new__(Process)
        vars(other).update(vars(self), log=LogWriter(other._send_log))
        other.restart(conversation)
        return other

    def next_frame(self, data: bytes | None = None) -> Frame | EndOfStream | None:
        """Return the result of Connection.next_frame. This is safe while another thread sends a frame."""
        with self.outbox.lock:
            return self.connection.next_frame(data)

    # What the worker sends

    def conclude(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes) -> None:
        """Send a request's outcome. If it cannot be sent, send an error that gives the reason."""
        if kind == ERROR and self.connection.answer_begun(id):
            kind = END
        try:
            self.outbox.post(kind, id, metadata, payload, kind == RESULT and "http" not in metadata)
            return
        except LocalProtocolError as error:
            problem: dict[str, Any] = {
                "error_type": "Function.ResponseSizeTooLarge",
                "error_message": f"The result is too large: {error}",
            }
        except MemoryError as error:  # encoding the frame copies the result
            problem = faults.describe(error)
        measured = {name: metadata[name] for name in MEASURED if name in metadata}
        self.outbox.post(END if self.connection.answer_begun(id) else ERROR, id, {**measured, **problem})

    def problem(self, error: BaseException) -> Outcome:
        """Return the outcome that reports `error`. If this is a child that the function forked, end it instead."""
        self.leave_if_forked(error)
        return ERROR, faults.describe(error), b""

    def last_word(self, problem: dict[str, Any]) -> bool:
        """Send ERROR with id 0. Return False if the init no longer reads, or HELLO was not sent yet."""
        try:
            self.outbox.post(ERROR, 0, problem)
        except (BrokenPipeError, LocalProtocolError):
            return False
        return True

    def report(self, what: str, error: BaseException, when: str = "", tag: Tag = NO_REQUEST) -> None:
        """Log an exception of the function's code that no outcome reports.

        Args:
            what: A name for the code that raised the exception, as in "a signal handler".
            error: The exception.
            when: A phrase that says when the code raised it.
            tag: The request that the exception belongs to, if any.
        """
        self.leave_if_forked(error)
        name, _, rest = faults.in_words(error).partition(":")
        self.log.write(f"pipe_runtime: {what} raised {name}{when}:{rest}", tag)

    def write_last_lines(self) -> None:
        """Write the text that the function has printed but not flushed. The end of the process would discard it."""
        streams: tuple[Any, ...] = (sys.stdout, sys.stderr, self.log)
        for stream in streams:
            try:
                stream.flush()
            except BaseException:  # noqa: S112  # the function may have replaced or closed the stream
                continue

    def _send_log(self, tag: Tag, metadata: dict[str, Any], text: bytes) -> None:
        if getpid() != self.pid:  # C code of the function has forked this process: Python has called no fork hooks
            self._after_fork()
            write_all(2, text if "continues" in metadata else text + b"\n")
            return
        try:
            self.outbox.post(LOG, tag.id, metadata, text)
        except LocalProtocolError:  # the request has its outcome already, or `last_word` has sent the last frame
            try:
                self.outbox.post(LOG, 0, {**metadata, "request_id": tag.request_id[:NAME]}, text)
            except LocalProtocolError:
                write_all(2, text if "continues" in metadata else text + b"\n")

    def _signal_handled(self, error: BaseException | None) -> None:
        """Report an exception that a signal handler of the function raised between requests."""
        self.leave_if_forked(error)
        if error is not None and not isinstance(error, SystemExit):
            self.report("a signal handler", error, " between requests")

    # Stacks

    def dump_to(self, descriptor: int, signal: int) -> None:
        """Make faulthandler write the stacks to `descriptor` on `signal` and on a crash, even while Python hangs."""
        if descriptor < 0:
            return
        os.set_inheritable(descriptor, False)
        self.dump_fd, self._dump_signal = descriptor, signal
        faulthandler.enable(file=descriptor, all_threads=False)
        if signal:
            faulthandler.register(signal, file=descriptor, all_threads=True)
        self.dump_at_cpu_limit()

    def dump_at_cpu_limit(self) -> None:
        """Make faulthandler write the stacks on SIGXCPU, which ends the process at its limit on CPU time."""
        if self.dump_fd >= 0:
            faulthandler.register(SIGXCPU, file=self.dump_fd, all_threads=True, chain=True)

    # Children that the function forks

    def watch_forks(self) -> None:
        """From now on, close the worker's descriptors in each child that the function forks."""
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        """Close the worker's descriptors in a child that the function forked."""
        if self.forked or self.forks_workers:
            return  # they are closed already: in a child of a child, the numbers may belong to the function's files
        self.forked = True
        self.guard.after_fork()
        self.outbox.after_fork()
        self.log.after_fork()
        self.pipes.close()
        for each in self.on_fork:
            each()
        if self.dump_fd >= 0:
            faulthandler.disable()
            if self._dump_signal:
                faulthandler.unregister(self._dump_signal)
            faulthandler.unregister(SIGXCPU)
            os.close(self.dump_fd)
        if self.control is not None:
            self.control.close()

    def leave_if_forked(self, error: BaseException | None = None) -> None:
        """End this process if it is a child that the function forked. It must not go on as a second runtime.

        Args:
            error: The exception that the handler raised in the child.
        """
        if not self.forked and getpid() == self.pid:
            return
        self._after_fork()  # if C code forked the child, Python has not called this hook
        code = 0
        try:
            if isinstance(error, SystemExit):
                code = exit_code(error)
            elif error is not None:
                code = 1
                shown = error.__traceback__
                while shown is not None and namespace.is_own(shown.tb_frame):
                    shown = shown.tb_next
                sys.excepthook(type(error), BaseException.with_traceback(error, shown), shown)
            self.write_last_lines()
        finally:
            _exit(code & 0xFF)


# The end of the process


def leave(code: int, terminated: bool = False) -> NoReturn:
    """End the process. Call what the function registered with atexit, but do not wait for the function's threads.

    Args:
        code: The exit code.
        terminated: Whether SIGTERM has come. The process then ends by SIGTERM, and not with `code`.
    """
    try:
        atexit._run_exitfuncs()
    finally:
        if terminated:
            kill(getpid(), SIGTERM)  # the handler of the first SIGTERM has restored the default action
        _exit(code & 0xFF)


def lost_pipe_code(error: OSError) -> int:
    """Return the exit code of a runtime whose pipe to the init has failed."""
    if isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return EXIT_STOPPED  # the init is gone, so nobody waits for an answer
    complain(f"the pipe to pipe-init is lost (did the function close it?): {error.strerror}")
    return EXIT_PIPE_LOST


def complain(text: str) -> None:
    """Write a line to stderr. Do nothing if stderr is closed."""
    try:
        write_all(2, f"pipe_runtime: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return


def exit_code(error: SystemExit) -> int:
    """Return the exit code that Python would use for this SystemExit."""
    return error.code if isinstance(error.code, int) else int(error.code is not None)
