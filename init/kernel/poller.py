"""Wait until a descriptor is ready or a deadline has passed.

To wake a process up on another CPU takes longer than a small function does. So the poller looks again for a short while
after an event that came fast, and sleeps only then. This module knows neither workers nor what is written to the
descriptors. (pipe_runtime/io/pipes.py does the same for its one descriptor: neither package may use the other's.)
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

FAST_SECONDS = 0.001
"""An event that comes this soon makes it worth looking for the next one."""


class Owner(Protocol):
    """What descriptors belong to."""

    def handle(self, ready: Mapping[int, int]) -> None:
        """Deal with those of its descriptors that are in `ready`."""


class Poller:
    """Wait for several descriptors with poll(2).

    One wait costs one system call, whatever was added or removed before. Regular files may be waited for too.

    Args:
        spin_us: Microseconds to look again before sleeping, 0 for none.
    """

    _per_second = 1000.0
    """How many units of the timeout of `poll` make a second."""

    def __init__(self, spin_us: int = 0) -> None:
        self._poll = self._open()
        self._owners: dict[int, Owner | None] = {}
        self._spin = spin_us / 1e6
        self._fast = False

    def _open(self) -> select.poll | select.epoll:
        return select.poll()

    def add(self, descriptor: int, events: int = select.POLLIN, owner: Owner | None = None) -> None:
        """Wait for this descriptor too.

        Args:
            descriptor: The descriptor.
            events: As for poll(2).
            owner: What the descriptor belongs to, for `owners` and `forget`.
        """
        self._owners[descriptor] = owner
        self._poll.register(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Stop waiting for a descriptor, if it was added. Call this before the descriptor is closed."""
        if descriptor in self._owners:
            del self._owners[descriptor]
            self._poll.unregister(descriptor)

    def forget(self, owner: Owner) -> None:
        """Stop waiting for all descriptors of an owner."""
        for descriptor in [each for each, whose in self._owners.items() if whose is owner]:
            self.remove(descriptor)

    def owners(self, descriptors: Iterable[int]) -> list[Owner]:
        """Return the owners of these descriptors, each once."""
        found = dict.fromkeys(self._owners.get(descriptor) for descriptor in descriptors)
        return [owner for owner in found if owner is not None]

    def look(self) -> dict[int, int]:
        """Return what is ready now, without waiting: {descriptor: poll(2)'s revents}."""
        return dict(self._poll.poll(0))

    def wait(self, deadline: float | None, also: Mapping[int, int] | None = None) -> dict[int, int]:
        """Wait until something is ready or the deadline has passed; return {descriptor: poll(2)'s revents}.

        Args:
            deadline: A time of time.monotonic(); None for no limit.
            also: {descriptor: poll(2)'s events} to wait for this once.
        """
        if also:
            for descriptor, events in also.items():
                self._poll.register(descriptor, events)
            try:
                return self.wait(deadline)
            finally:
                for descriptor in also:
                    self._poll.unregister(descriptor)
        poll, clock = self._poll.poll, time.monotonic
        start = clock()
        if self._fast:
            limit = start + self._spin
            while clock() < limit:
                if ready := poll(0):
                    return dict(ready)
                os.sched_yield()  # the process that will write may be waiting for this very CPU
        ready = poll(None if deadline is None else max(0.0, (deadline - clock() + 0.001) * self._per_second))
        self._fast = clock() - start < FAST_SECONDS
        return dict(ready)


class EpollPoller(Poller):
    """Wait for several descriptors with epoll(7), which is itself a descriptor that another event loop can wait for.

    Each `add` and `remove` costs a system call. Regular files cannot be added.
    """

    _per_second = 1.0

    def _open(self) -> select.epoll:
        self._epoll = select.epoll()
        return self._epoll

    def fileno(self) -> int:
        """Return the descriptor that is readable whenever something is ready."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the descriptor."""
        self._epoll.close()
