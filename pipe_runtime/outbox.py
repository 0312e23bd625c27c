"""Everything that the runtime says leaves through here: one frame after the other, whole, from any thread.

It knows the connection and the pipes, not what the frames mean.
"""

from __future__ import annotations

import _signal
import sys
from _thread import allocate_lock, get_ident

from .stdio import WRITE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .connection import Connection
    from .stdio import Pipes

    Post = tuple[int, int, Mapping[str, Any], bytes]

_MASKABLE = frozenset(_signal.valid_signals()) - {_signal.SIGKILL, _signal.SIGSTOP}


class Outbox:
    """Sends frames. Safe between threads, and inside a signal handler that interrupts a send."""

    def __init__(self, connection: Connection, pipes: Pipes) -> None:
        self._connection = connection
        self._pipes = pipes
        self._lock = allocate_lock()
        self._owner = 0
        self._deferred: list[Post] = []

    def post(self, kind: int, id: int = 0, metadata: Mapping[str, Any] | None = None, payload: bytes = b"") -> None:
        """Send one frame.

        LocalProtocolError: the protocol does not allow it now, or it is too large; nothing was sent.
        BrokenPipeError: nobody reads any more.
        """
        post = (kind, id, metadata or {}, payload)
        if self._owner == get_ident():
            self._deferred.append(post)  # a signal handler printed while this very thread was inside a frame
            return
        with self._lock:
            self._owner = get_ident()
            try:
                self._send(post)
                while self._deferred:
                    self._send(self._deferred.pop(0))
            finally:
                self._owner = 0

    def _send(self, post: Post) -> None:
        data = self._connection.send(*post)
        if len(data) <= WRITE_SIZE:
            self._pipes.write(data)  # one write, which happens or does not: no exception can leave half a frame
            return
        with SignalsHeld():
            self._pipes.write(data)


class SignalsHeld:
    """Blocks the signals of the calling thread, so that no handler of the function's raises inside the block.

    What a handler raises on the way in is raised on the way out instead.
    """

    def __enter__(self) -> None:
        self._before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        self._raised: BaseException | None = None
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _MASKABLE)
        except BaseException as error:  # raised by the function's own handler, after the mask was set
            self._raised = error

    def __exit__(self, *error: object) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._before)
        if self._raised is not None and error[0] is None:
            raise self._raised


class Quiet:
    """Between requests: blocks the signals for which the function has installed handlers of its own.

    Such a handler may raise (an alarm that was not cancelled), and would do so in the runtime's own code.
    """

    def __init__(self) -> None:
        self._blocked: set[int] = set()

    def begin(self) -> None:
        """The handler has returned. May raise what a signal handler raises in that moment; call again then."""
        if "signal" not in sys.modules:
            return
        for number in range(1, _signal.NSIG):
            action = _signal.getsignal(number)
            if callable(action) and action is not _signal.default_int_handler:
                self._blocked.add(number)
        if self._blocked:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, self._blocked)

    def end(self) -> None:
        """The next handler begins. Signals that came meanwhile are delivered here, and may raise."""
        if self._blocked:
            blocked, self._blocked = self._blocked, set()
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, blocked)
