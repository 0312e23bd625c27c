"""Waiting for descriptors: a short look while events come fast, then sleep.

Waking a process up on another CPU takes longer than a small function; who looks again at once need not be woken. This
file knows neither workers nor what is written to the descriptors. (pipe_runtime/stdio.py does the same for its one
descriptor: neither package may use the other's.)
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Mapping

FAST_SECONDS = 0.001
"""An event that comes this soon makes it worth looking for the next one."""


class Watch:
    """Descriptors that are waited for together.

    always: one that is waited for in any case. spin_us: microseconds to look before sleeping, 0 for none.
    """

    def __init__(self, always: int, spin_us: int) -> None:
        self._poll = select.poll()
        self._poll.register(always, select.POLLIN)
        self._owners: dict[int, object] = {}
        self._spin = spin_us / 1e6
        self._fast = False

    def add(self, descriptor: int, events: int = select.POLLIN, owner: object = None) -> None:
        """Wait for this one too. events: of poll(2). owner: whose it is."""
        self._owners[descriptor] = owner
        self._poll.register(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Wait for it no longer, if it is waited for. To be called before it is closed."""
        if descriptor in self._owners:
            del self._owners[descriptor]
            self._poll.unregister(descriptor)

    def forget(self, owner: object) -> None:
        """Wait for none of this owner's."""
        for descriptor in [each for each, whose in self._owners.items() if whose is owner]:
            self.remove(descriptor)

    def owners(self, descriptors: Iterable[int]) -> list[object]:
        """Whose these descriptors are, each once; without those that are nobody's."""
        found = dict.fromkeys(self._owners.get(descriptor) for descriptor in descriptors)
        found.pop(None, None)
        return list(found)

    def wait(self, deadline: float | None, also: Mapping[int, int] | None = None) -> dict[int, int]:
        """Wait until something is ready, or until time.monotonic() is at `deadline`: {descriptor: poll(2)'s revents}.

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
                os.sched_yield()  # who will write may wait for this very CPU
        ready = poll(None if deadline is None else max(0.0, (deadline - clock()) * 1000 + 1))
        self._fast = clock() - start < FAST_SECONDS
        return dict(ready)
