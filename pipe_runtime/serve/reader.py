"""The way to the init for a function that runs in the thread that also reads frames: whoever waits, reads.

It knows frames only as something to hand on. Threads and event loops have ways of their own (threads.py, tasks.py).
"""

from __future__ import annotations

from _thread import RLock
from time import monotonic  # now: a function may replace the module's

from ..wire.connection import End

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..io.outbox import Outbox
    from ..io.signal_guard import Quiet
    from ..io.stdio import Pipes
    from ..wire.connection import Connection
    from ..wire.frames import Frame
    from .exchange import Incoming


PATIENCE = 0.05
"""Seconds that one thread waits for another's turn to end before it looks whether its own news have come by it."""

LOOK_SECONDS = 0.001
"""Seconds between two checks for frames while a function runs without waiting: one system call in a millisecond.
Otherwise each item costs one look at the clock.
"""


class Turns:
    """A reentrant lock that goes to whoever waits for it, and not back to who has just let go of it.

    Else one who reads again and again would keep everybody from what was read for them.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._next = RLock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for it, at most so many seconds if that is not negative. False: somebody else has it still."""
        # By a signal handler: who stands in line now may wait for this very thread.
        again = self._is_mine()
        try:
            if again:
                return self._lock.acquire()
            if not self._next.acquire(True, timeout):
                return False
            try:
                return self._lock.acquire(True, timeout)
            finally:
                self._next.release()
        except BaseException:  # a signal handler's
            if not again and self._is_mine():
                self._lock.release()
            raise

    def release(self) -> None:
        """Let whoever waits have it."""
        self._lock.release()

    def _is_mine(self) -> bool:
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # threading.Condition relies on it too


class Pump:
    """Read frames in the thread of a function that waits: the Line of exchange.py.

    Args:
        heard: Called with each frame that was read, and with None at the end of the stream.

    Attributes:
        lock: Held while a thread reads frames. The function may read its body in a thread of its own.
        ended: Whether the init's stream has ended, so that there is nothing more to read.
    """

    def __init__(
        self,
        connection: Connection,
        pipes: Pipes,
        outbox: Outbox,
        quiet: Quiet,
        heard: Callable[[Frame | None], None],
    ) -> None:
        self.lock = Turns()
        self._connection = connection
        self._pipes = pipes
        self._outbox = outbox
        self._quiet = quiet
        self._heard = heard
        self._looks_at = 0.0
        self.ended = False

    def post(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        """As Outbox.post. A frame is never broken off by what a signal handler raises."""
        self._quiet.during(lambda: self._outbox.post(kind, id, metadata, payload))

    def credit(self, id: int) -> int:
        """Bytes of its answer's stream that may be sent now."""
        return self._connection.stream_credit(id)

    def wait(self, exchange: Incoming, seen: int) -> None:
        """Read until something has come for `exchange`; `seen` is its news before the caller looked."""
        while exchange.news == seen:
            # Another thread may have read it just now, and have the lock again while it waits for more.
            if not self.lock.acquire(PATIENCE):
                continue
            try:
                if exchange.news == seen and self._connection.buffered:
                    self._quiet.during(self._take_in)  # it may have come together with what was asked for last
                if exchange.news == seen:
                    self._pipes.wait()  # a signal handler of the function's may raise here, and end the wait
                    self._quiet.during(self._read)
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
        if self.lock.acquire(0):
            try:
                if self._connection.buffered:
                    self._quiet.during(self._take_in)
                while not self.ended and self._pipes.ready():
                    self._quiet.during(self._read)
            finally:
                self.lock.release()

    def look_soon(self) -> None:
        """Make the next `look` read without regard to LOOK_SECONDS."""
        self._looks_at = 0.0

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent's may have been reading."""
        self.lock = Turns()
        self.ended = True

    def _read(self) -> None:
        data = self._pipes.read()
        with self._outbox.lock:
            self._connection.receive(data)
        self._take_in()

    def _take_in(self) -> None:
        with self._outbox.lock:
            while (event := self._connection.next_frame()) is not None:
                self._heard(None if isinstance(event, End) else event)
