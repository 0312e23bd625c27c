"""Set up the engine in its process: as its owner, or as a guest in another program.

A host provides what the engine needs from the process. It collects children, and kills the processes that they leave
behind. In a process of its own, the engine assumes that each child is a worker, or was left behind by a worker. In
another program's process it must not touch a child that it has not started. This module knows neither workers nor
requests.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection, Mapping

from . import killing, reaper
from .poller import EpollPoller, Poller
from .signals import Signals, Wakeup

LAST_WAIT = 1.0
"""Seconds to wait for the end of processes that were sent SIGKILL."""

COLLECT_AT_ONCE = 4096
"""Deaths to collect before the next search for children. Otherwise processes that keep forking could escape it."""

LONGEST_SWEEP = 10.0
"""Seconds after which `end_all` gives up, even if more children die all the time."""


class Host:
    """What the engine needs from its process: the children that it collects, wake-ups and a poller.

    Attributes:
        adopts: Whether a process that another process has forked can become a child of this one.
        wakeup: Interrupts a wait of the engine, and asks the engine to end.
        poller: Waits for descriptors.
    """

    adopts = False
    wakeup: Wakeup
    poller: Poller

    def add(self, pid: int) -> None:
        """Take charge of a child that was just started.

        Raises:
            OSError: No descriptor is left to watch the child with.
        """

    def collect(self, leaders: Collection[int]) -> reaper.Reaped:
        """Collect the children that are dead, as reaper.reap does. Call this after each wake-up."""
        raise NotImplementedError

    def sweep(self, known: Callable[[], Collection[int]], alone: bool) -> bool:
        """Kill the children that dead workers left behind. Return whether there were any.

        Args:
            known: Returns the pids to keep. The host calls it after it has listed the children.
            alone: Whether every child may be killed.
        """
        return False

    def sweep_below(self, pid: int) -> None:
        """Kill the descendants of the child `pid`, because the child does not end."""

    def end_all(self) -> bool:
        """Kill and collect all processes that dead workers have left behind. Return whether all have ended."""
        return True


class SoleHost(Host):
    """The host of an engine that owns its process, as on the command line.

    The engine owns all children, the orphans that become children, and the signals. SIGCHLD reports each death.

    Args:
        signals: The installed signal handlers of this process.
        spin_us: As for Poller.
    """

    adopts = True

    def __init__(self, signals: Signals, spin_us: int = 0) -> None:
        self.wakeup = signals
        self.poller = Poller(spin_us)

    def collect(self, leaders: Collection[int]) -> reaper.Reaped:
        """Collect dead children, as Host.collect says."""
        return reaper.reap(leaders)

    def sweep(self, known: Callable[[], Collection[int]], alone: bool) -> bool:
        """Kill the processes that dead workers left behind, as Host.sweep says."""
        children = reaper.children(alone)
        keep = known()
        return killing.kill((pid for pid in children if pid not in keep), keep=keep)

    def sweep_below(self, pid: int) -> None:
        """Kill the descendants of a process, as Host.sweep_below says."""
        killing.sweep_below(pid)

    def end_all(self) -> bool:
        """Kill and collect all remaining processes, as Host.end_all says.

        This can take many rounds, because each round finds only children of the processes that died before it.
        """
        now = time.monotonic()
        limit, last = now + LAST_WAIT, now + LONGEST_SWEEP
        while (reaped := reaper.reap(limit=COLLECT_AT_ONCE)).left:
            killing.kill(reaper.children(alone=True))
            now = time.monotonic()
            if reaped.deaths:
                limit = min(now + LAST_WAIT, last)
            if now >= limit:
                break
            if not reaped.more:
                waiting = select.poll()
                waiting.register(self.wakeup.descriptor, select.POLLIN)
                waiting.poll((limit - now) * 1000)
                self.wakeup.drain()
        return not reaped.left


class SharedHost(Host):
    """The host of an engine that is a guest in another program's process.

    It handles no signal, and changes nothing that the whole process shares. It watches each child that the engine has
    started with a pidfd. It never waits for another child, or signals one. When it kills a worker, it kills the
    worker's process group. It does not kill the worker's orphans outside of that group, because they look like the
    program's own children.

    An event loop can wait until `poller` is readable, and then call Supervisor.step(wait=False).
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.poller: EpollPoller = EpollPoller()
        self._pidfds: dict[int, int] = {}

    def add(self, pid: int) -> None:
        """Watch a child, as Host.add says."""
        self._pidfds[pid] = pidfd = os.pidfd_open(pid)
        self.poller.add(pidfd, owner=self)

    def handle(self, ready: Mapping[int, int]) -> None:
        """Wake the engine up to call `collect`, because a child is dead."""
        self.wakeup.wake()

    def collect(self, leaders: Collection[int]) -> reaper.Reaped:
        """Collect dead children, as Host.collect says."""
        deaths = []
        for pid, pidfd in list(self._pidfds.items()):
            death = reaper.reap_one(pid, pidfd)
            if death is not None:
                deaths.append(death)
                self._let_go(pid)
        return reaper.Reaped(deaths, bool(self._pidfds))

    def close(self) -> None:
        """Close all descriptors. Call this after the supervisor was closed."""
        for pid in list(self._pidfds):
            self._let_go(pid)
        self.poller.close()
        self.wakeup.close()

    def _let_go(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        self.poller.remove(pidfd)
        os.close(pidfd)
