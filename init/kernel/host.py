"""Set up the engine in its process: as its owner, or as a guest in another program.

This module puts together what the two ways need. It knows neither workers nor requests.
"""

from __future__ import annotations

from .children import Children, SharedChildren, SoleChildren
from .poller import EpollPoller, Poller
from .signals import Signals, Wakeup


class Host:
    """What the engine uses of its process.

    Attributes:
        children: The children that the engine answers for.
        wakeup: Ends a wait of the engine, and asks it to end.
        poller: Waits for descriptors.
    """

    children: Children
    wakeup: Wakeup
    poller: Poller


class SoleHost(Host):
    """The engine owns the process, as on the command line: all its children, and the signals that `signals` collects.

    Args:
        signals: The signals of this process, installed.
        spin_us: As for Poller.
    """

    def __init__(self, signals: Signals, spin_us: int = 0) -> None:
        self.wakeup = signals
        self.children = SoleChildren(signals)
        self.poller = Poller(spin_us)


class SharedHost(Host):
    """The engine is a guest in another program's process.

    It handles no signal, waits for no child but its own, and changes nothing that the whole process shares. An event
    loop can wait until `poller` is readable, and then call Supervisor.step(wait=False).
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.poller: EpollPoller = EpollPoller()
        self.children: SharedChildren = SharedChildren(self.wakeup, self.poller)

    def close(self) -> None:
        """Close all descriptors. Call this after the supervisor was closed."""
        self.children.close()
        self.poller.close()
        self.wakeup.close()
