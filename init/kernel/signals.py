"""Collect the signals of this process, and wake up what waits for them.

Signal handlers are in place before the first fork, because PID 1 has no default actions. This module knows no
processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from types import FrameType
from typing import NamedTuple

from .prctl import SET_PDEATHSIG, prctl

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The first of them asks for an orderly end, a second one for an end at once. A third one ends the process itself."""

PATIENCE = 2
"""How many of them the engine handles itself. It may be blocked in a write to a pipe that is not read."""


class Inherited(NamedTuple):
    """What this process has inherited from its parent.

    Attributes:
        mask: The signals that the parent had blocked.
        parent: The pid of the parent.
    """

    mask: set[int]
    parent: int


def block_all(before: Collection[int] | None = None) -> Inherited:
    """Block every signal, to be taken with sigwaitinfo(2), and return what there was before.

    From here on no signal is lost, not even for PID 1. Blocked signals are queued even if they are ignored.

    Args:
        before: The mask before all signals were blocked, if they are blocked already.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    mask: Collection[int] = blocked if before is None else before
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if a parent has set it to be ignored, the kernel would collect
    return Inherited(set(mask), os.getppid())


def ask_for_parents_death(number: int, parent: int) -> bool:
    """Have the kernel send this process a signal when its parent dies. Return False if the kernel refuses.

    The kernel means the thread that started this process: if that ends before its process does, the signal comes then.

    Args:
        number: The signal.
        parent: The parent's pid when this process started. If it has died since, the signal is sent now.
    """
    if not prctl(SET_PDEATHSIG, number):
        return False
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
    return True


class Wakeup:
    """End a wait from elsewhere, and ask the engine to end. Any thread may do so. No signal handler is installed.

    Attributes:
        descriptor: Readable after `wake`, until `drain`.
        endings: The signals that asked for an end, the oldest first. The first one asks for an orderly end, a second
            one for an end at once.
    """

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        self.endings: list[int] = []
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writer, False)

    def ask_to_end(self) -> None:
        """Ask for an end as SIGTERM would."""
        self.endings.append(signal.SIGTERM)
        self.wake()

    def wake(self) -> None:
        """Make the descriptor readable: something is left to be done."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is full, and so readable

    def drain(self) -> None:
        """Make the descriptor unreadable until the next wake-up."""
        try:
            while os.read(self.descriptor, 4096):
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        os.close(self.descriptor)
        os.close(self._writer)


class Signals(Wakeup):
    """A wake-up by the signals of this process, for a program of our own. SIGCHLD wakes too."""

    def install(self) -> None:
        """Start to collect signals.

        A signal that the parent has set to be ignored (SIGINT in a background job) stays ignored. A signal that the
        parent has blocked is unblocked: without SIGCHLD no death would be seen.
        """
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._note)
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, *ENDING})

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.endings.append(number)
        if len(self.endings) > PATIENCE:
            os._exit(128 + number)  # the kernel kills the worker when our end of its alive pipe closes
