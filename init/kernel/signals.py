"""Collect the signals of this process, and wake up the code that waits for them.

Install the signal handlers before the first fork, because for PID 1 the kernel drops signals without a handler. This
module knows no processes.
"""

from __future__ import annotations

import _signal as signal  # signal itself imports enum, and this module is loaded before the worker is started
import os

from .prctl import SET_PDEATHSIG, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the engine. The first asks for an orderly end, the second for an end at once. The third ends the
process."""

PATIENCE = 2
"""How many signals of ENDING the engine handles. The next one ends the process at once, because the engine may be
blocked in a write to a pipe that nobody reads."""


class Inherited:
    """The state that this process had when it started.

    Attributes:
        mask: The signals that were blocked, because the parent had blocked them.
        parent: The parent's pid.
    """

    def __init__(self, mask: set[int], parent: int) -> None:
        self.mask = mask
        self.parent = parent


def block_all(before: Collection[int] | None = None) -> Inherited:
    """Block every signal, so that sigwaitinfo(2) can receive it. Return the state that the process had at its start.

    From here on no signal is lost, not even for PID 1. The kernel queues blocked signals, even if they are ignored.

    Args:
        before: The signals that were blocked at the start, if all signals are blocked already; else None.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    mask: Collection[int] = blocked if before is None else before
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if SIGCHLD were ignored, the kernel would collect children
    return Inherited(set(mask), os.getppid())


def ask_for_parents_death(number: int, parent: int) -> bool:
    """Ask the kernel to send this process a signal when its parent dies. Return False if the kernel refuses.

    For the kernel, the parent is the thread that started this process. So the kernel sends the signal when that thread
    ends, even if the rest of the parent goes on.

    Args:
        number: The signal.
        parent: The parent's pid when this process started. If the parent has died since then, send the signal now.
    """
    if not prctl(SET_PDEATHSIG, number):
        return False
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
    return True


class Wakeup:
    """Interrupt the engine's wait, and ask the engine to end. Any thread may do so.

    This class installs no signal handler.

    Attributes:
        descriptor: A descriptor that is readable after `wake`, until `drain` is called.
        endings: The signals that asked for an end, the oldest first. The first asks for an orderly end, the second for
            an end at once.
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
        """Make the descriptor readable, which tells the engine that it has work to do."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # the pipe is full, so the descriptor is readable already

    def drain(self) -> None:
        """Make the descriptor unreadable until the next wake-up."""
        try:
            while os.read(self.descriptor, 4096):
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends of the pipe."""
        os.close(self.descriptor)
        os.close(self._writer)


class Signals(Wakeup):
    """A Wakeup for a process that the engine owns. The signals of this process, including SIGCHLD, wake the engine."""

    def install(self) -> None:
        """Install handlers for SIGCHLD and the signals of ENDING, and unblock these signals.

        A signal that the parent has set to be ignored (SIGINT in a background job) stays ignored. The parent may have
        blocked SIGCHLD, and without it the engine would not learn of deaths.
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
            os._exit(128 + number)  # the init's end of the alive pipe closes, so the kernel kills the worker
