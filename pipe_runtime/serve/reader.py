"""Read frames in the thread of a function that waits for them.

It is the way to the init for a function that runs in the main thread: no other thread reads meanwhile, so nothing has
to be handed over. Engines (threads.py, tasks.py) have ways of their own. This module must not know what frames mean.
"""

from __future__ import annotations

from _thread import RLock
from time import monotonic  # now: a function may replace the module's

from ..wire.connection import EndOfStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..io.outbox import Outbox
    from ..io.signal_guard import SignalGuard
    from ..io.stdio import Pipes
    from ..wire.connection import Connection
    from ..wire.frames import Frame
    from .exchange import Incoming


PATIENCE = 0.05
"""Seconds that a thread waits while another one reads, before it checks whether that one has read what it needs."""

LOOK_SECONDS = 0.001
"""Seconds between two checks for frames while a function runs without waiting: one system call in a millisecond.
Otherwise each item costs one look at the clock.
"""


class Reader:
    """Read frames in the thread of a function that waits: the Line of exchange.py.

    Args:
        heard: Called with each frame that was read, and with None at the end of the stream.

    Attributes:
        lock: Held while a thread reads frames. The function may read its body in a thread of its own. The lock is
            reentrant, because a signal handler may read, too.
        ended: Whether the init's stream has ended, so that there is nothing more to read.
    """

    def __init__(
        self,
        connection: Connection,
        pipes: Pipes,
        outbox: Outbox,
        guard: SignalGuard,
        heard: Callable[[Frame | None], None],
    ) -> None:
        self.lock = RLock()
        self._connection = connection
        self._pipes = pipes
        self._outbox = outbox
        self._guard = guard
        self._heard = heard
        self._looks_at = 0.0
        self.ended = False

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame. A signal handler of the function that raises does not break it off."""
        self._guard.during(lambda: self._outbox.post(kind, id, metadata, payload))

    def credit(self, id: int) -> int:
        """Return how many bytes of the answer's stream may be sent now."""
        return self._connection.stream_credit(id)

    def wait(self, exchange: Incoming, seen: int) -> None:
        """Read until something has come for `exchange`; `seen` is its news before the caller looked."""
        while exchange.news == seen:
            if not self.lock.acquire(timeout=PATIENCE):
                continue
            try:
                if exchange.news == seen and self._connection.buffered:
                    self._guard.during(self._take_in)  # it may have come together with what was asked for last
                if exchange.news == seen:
                    self._pipes.wait()  # a signal handler of the function may raise here, and end the wait
                    self._guard.during(self._read)
            finally:
                self.lock.release()
            return

    def look(self) -> None:
        """Read the frames that have come, at most every LOOK_SECONDS, while the function does not wait for any.

        If another thread is reading, that thread hears them.
        """
        now = monotonic()
        if now < self._looks_at or self.ended:
            return
        self._looks_at = now + LOOK_SECONDS
        if self.lock.acquire(blocking=False):
            try:
                if self._connection.buffered:
                    self._guard.during(self._take_in)
                while not self.ended and self._pipes.ready():
                    self._guard.during(self._read)
            finally:
                self.lock.release()

    def look_soon(self) -> None:
        """Make the next `look` read without regard to LOOK_SECONDS."""
        self._looks_at = 0.0

    def after_fork(self) -> None:
        """Reset the lock in a forked child: another thread of the parent may have held it."""
        self.lock = RLock()
        self.ended = True

    def _read(self) -> None:
        data = self._pipes.read()
        with self._outbox.lock:
            self._connection.receive(data)
        self._take_in()

    def _take_in(self) -> None:
        with self._outbox.lock:
            while (event := self._connection.next_frame()) is not None:
                self._heard(None if isinstance(event, EndOfStream) else event)
