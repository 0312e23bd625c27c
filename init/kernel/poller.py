"""Wait until a descriptor is ready or a deadline has passed.

The kernel may take longer to wake up a sleeping process than a small function takes to run. So, where that pays, the
poller polls repeatedly for a while before it sleeps; pipe_runtime/wire/spin.py decides for how long. This module knows
neither workers nor what is written to the descriptors.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping

from pipe_runtime.wire.spin import EVERY, Spin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Writer(Protocol):
        """An object that can hold back data before it writes them.

        Attributes:
            wants_to_write: Whether it holds back data now.
        """

        @property
        def wants_to_write(self) -> bool: ...

        def flush(self) -> None:
            """Write the data that were held back."""


class Poller:
    """Wait for several descriptors with poll(2).

    One wait costs one system call, however many descriptors were added or removed before it. Regular files are allowed.

    Args:
        spin_us: The longest time to poll repeatedly before sleeping, in microseconds; 0 to sleep at once.

    Attributes:
        handlers: What to call when a descriptor is ready: {descriptor: callable without arguments}. Some have none.
        held: After `hold`: the writers that hold back data. None: writers write at once.
    """

    _per_second = 1000.0
    """The number of units in a second, for the timeout of `poll`."""

    def __init__(self, spin_us: int = 0) -> None:
        self._poll = self._open()
        self.handlers: dict[int, Callable[[], object] | None] = {}
        self.held: list[Writer] | None = None
        self._spin = Spin(spin_us / 1e6) if spin_us else None

    def _open(self) -> select.poll | select.epoll:
        return select.poll()

    def add(self, descriptor: int, handler: Callable[[], object] | None = None, events: int = select.POLLIN) -> None:
        """Add a descriptor to those that `wait` and `look` poll.

        Args:
            descriptor: The descriptor.
            handler: For `handlers`. It must accept that the descriptor is not ready after all.
            events: The events to wait for, as for poll(2).
        """
        self._poll.register(descriptor, events)
        self.handlers[descriptor] = handler

    def remove(self, descriptor: int) -> None:
        """Stop waiting for a descriptor, if it was added. Call this before the descriptor is closed."""
        if descriptor in self.handlers:
            del self.handlers[descriptor]
            self._poll.unregister(descriptor)

    def hold(self) -> None:
        """Let writers hold back their data until the next wait or look. Then each writes all its data in one call."""
        self.held = self.held or []

    def _release(self) -> None:
        held, self.held = self.held, None
        for writer in held or ():
            if writer.wants_to_write:
                writer.flush()

    def look(self) -> dict[int, int]:
        """Return the descriptors that are ready now, without waiting. See `wait`."""
        self._release()
        return dict(self._poll.poll(0))

    def wait(self, deadline: float | None, also: Mapping[int, int] | None = None) -> dict[int, int]:
        """Wait until a descriptor is ready or the deadline has passed.

        Args:
            deadline: The time.monotonic() at which to stop; None for no limit.
            also: Further descriptors to wait for in this call only: {descriptor: poll(2)'s events}.

        Returns:
            The ready descriptors, in the order in which they were added: {descriptor: poll(2)'s revents}. Nothing is
            called: that is the caller's task.
        """
        if self.held is not None:
            self._release()
        if also:
            for descriptor, events in also.items():
                self._poll.register(descriptor, events)
            try:
                return self.wait(deadline)
            finally:
                for descriptor in also:
                    self._poll.unregister(descriptor)
        poll, clock, spin = self._poll.poll, time.monotonic, self._spin
        start = clock()
        if spin is not None and spin.limit:
            limit = start + spin.limit
            while clock() < limit:
                if ready := poll(0):
                    spin.unlearned += 1
                    if spin.unlearned >= EVERY:
                        spin.learn(clock() - start)
                    return dict(ready)
                os.sched_yield()  # the process that will write may need this CPU
        ready = poll(None if deadline is None else max(0.0, (deadline - clock() + 0.001) * self._per_second))
        if spin is not None:
            spin.learn(clock() - start)
        return dict(ready)


class EpollPoller(Poller):
    """Wait for several descriptors with epoll(7). Another event loop can wait for the epoll descriptor itself.

    Each `add` and `remove` costs a system call. Regular files are not allowed.
    """

    _per_second = 1.0

    def _open(self) -> select.epoll:
        self._epoll = select.epoll()
        return self._epoll

    def look(self) -> dict[int, int]:
        """Return the descriptors that are ready now, as Poller.look says."""
        return self._in_order(super().look())

    def wait(self, deadline: float | None, also: Mapping[int, int] | None = None) -> dict[int, int]:
        """Wait until a descriptor is ready, as Poller.wait says."""
        return self._in_order(super().wait(deadline, also))

    def _in_order(self, ready: dict[int, int]) -> dict[int, int]:
        return {**{each: ready[each] for each in self.handlers if each in ready}, **ready}

    def fileno(self) -> int:
        """Return the epoll descriptor, which is readable while any of the added descriptors is ready."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
