"""Let the engine run in a process of its own, or as a guest in another program's process.

A host provides what the engine needs from the process. It collects children, and kills the processes that they leave
behind. In a process of its own, the engine assumes that each child is a worker, or that a worker has left it behind. In
another program's process, the engine must not touch a child that it has not started. This module knows neither workers
nor requests.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection

from . import killing, reaper
from .poller import EpollPoller, Poller
from .signals import Signals, Wakeup

LAST_WAIT = 1.0
"""Seconds to wait, after SIGKILL, until the killed processes have ended."""

COLLECT_AT_ONCE = 4096
"""The most deaths to collect before the next search for children. Processes that keep forking could escape a search if
the number were small."""

LONGEST_SWEEP = 10.0
"""Seconds after which `end_all` gives up, even if children are still dying."""


class Host:
    """Provide what the engine needs from its process: deaths of children, wake-ups and a poller.

    Attributes:
        adopts: Whether a process that another process has forked can become a child of this process.
        wakeup: The object that interrupts a wait of the engine, and that can ask the engine to end.
        poller: The object that waits for descriptors.
    """

    adopts = False
    wakeup: Wakeup
    poller: Poller

    def add(self, pid: int) -> None:
        """Begin to watch a child that the engine has just started.

        Raises:
            OSError: This process has no descriptor left for watching the child.
        """

    def collect(self, leaders: Collection[int]) -> reaper.Reaped:
        """Collect dead children, and return their deaths. Call this after each wake-up.

        Args:
            leaders: See reaper.reap.
        """
        raise NotImplementedError

    def sweep(self, known: Callable[[], Collection[int]], alone: bool) -> bool:
        """Kill the children that dead workers have left behind. Return whether there were any.

        Args:
            known: Returns the pids of the children to keep. The host calls it after it has listed the children.
            alone: Whether all descendants of this process may be killed. See reaper.children.
        """
        return False

    def sweep_below(self, pid: int) -> None:
        """Kill the descendants of the child `pid`. One of them may be the reason why the child does not end."""

    def end_all(self) -> bool:
        """Kill and collect all processes that dead workers have left behind. Return whether all have ended."""
        return True


class SoleHost(Host):
    """The host of an engine that owns its process, as on the command line.

    The engine owns all children of the process, the orphans that it adopts, and its signals. SIGCHLD reports deaths.

    Args:
        signals: The installed signal handlers of this process.
        spin_us: See Poller.
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

        This can take many rounds. Each round may find only the children of the processes that died in the round before.
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

    This host handles no signal, and changes nothing that the whole process shares. It uses a pidfd to watch each child
    that the engine has started. It never waits for other children, and never sends them signals. When a worker dies,
    the host kills the worker's process group. It does not kill orphans outside that group, because they look like
    children of the program itself.

    An event loop can wait until `poller` is readable, and then call Supervisor.step(wait=False).
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.poller: EpollPoller = EpollPoller()
        self._pidfds: dict[int, int] = {}

    def add(self, pid: int) -> None:
        """Watch a child, as Host.add says."""
        self._pidfds[pid] = pidfd = os.pidfd_open(pid)
        self.poller.add(pidfd, self.wakeup.wake)  # a readable pidfd means that its child is dead

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
        """Close all descriptors of this host. Close the supervisor first."""
        for pid in list(self._pidfds):
            self._let_go(pid)
        self.poller.close()
        self.wakeup.close()

    def _let_go(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        self.poller.remove(pidfd)
        os.close(pidfd)
