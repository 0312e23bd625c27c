"""The init's own signals: which have come, and a descriptor that becomes readable when one does.

Handlers are in place before the first fork: PID 1 has no default actions. This file knows no processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from types import FrameType
from typing import NamedTuple

from .prctl import SET_PDEATHSIG, prctl

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Each asks for an orderly end; a second one for an end at once; a third one does not wait for anything."""

PATIENCE = 2
"""Signals that are heeded when the program comes to it. It may sit in a write that nobody reads."""


class Held(NamedTuple):
    """What is known of our own start. mask: the signals that were blocked before all were. parent: its pid."""

    mask: set[int]
    parent: int


def hold(before: Collection[int] | None = None) -> Held:
    """Block every signal, for sigwaitinfo(2) to take: as PID 1 too none is lost from here on.

    What is blocked is queued even if it is ignored, so each is heard of, whatever its disposition is.

    Args:
        before: the mask before all were blocked, if they are blocked already.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    mask: Collection[int] = blocked if before is None else before
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent may have had it ignored: the kernel would collect for us
    return Held(set(mask), os.getppid())


def ask_for_parents_death(number: int, parent: int) -> bool:
    """Have the kernel send us a signal when our parent dies. False where it will not.

    parent: its pid when we started. If it died before this was asked, the signal is sent now. The kernel means the
    thread that started us: where that one ends before its process, it is the signal's time.
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
