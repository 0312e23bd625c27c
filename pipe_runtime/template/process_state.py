"""Reset in a template the process settings that the function has changed, and restore them in each worker.

While a module is loaded, it may ignore or collect children, block signals, start timers or adopt orphans. In the
process that forks workers, such a setting would hide a worker's death from the init, or end the template. This module
must not know sockets or frames.
"""

from __future__ import annotations

import sys

# Import the names now: the function may later replace the modules' attributes, as gevent and eventlet do.
from _signal import (
    ITIMER_PROF,
    ITIMER_REAL,
    ITIMER_VIRTUAL,
    SIG_BLOCK,
    SIG_DFL,
    SIG_SETMASK,
    SIGCHLD,
    getsignal,
    pthread_sigmask,
    set_wakeup_fd,
    setitimer,
    signal,
    valid_signals,
)
from faulthandler import register, unregister
from os import fork

from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
"""prctl(2); from <linux/prctl.h>."""

_TIMERS = (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF)
_SIGNALS = tuple(sorted(valid_signals()))
_CALLS_C = ("_ctypes", "_cffi_backend", "_prctl")
"""The modules with which a function can call prctl(2)."""


class ProcessState:
    """This process's signal actions, signal mask and timers, as they were before and after the function was loaded.

    Create it before the function is loaded, in the main thread.

    Args:
        adopts: Whether each worker becomes the parent of its orphaned descendants, even if the function does not ask
            for it.
    """

    def __init__(self, adopts: bool) -> None:
        self._adopts = adopts
        self._prctl: Any = None
        if adopts:
            self._load_prctl()
        actions = [(number, getsignal(number)) for number in _SIGNALS]
        self._own = [(number, action) for number, action in actions if action is not None]
        self._own_mask = pthread_sigmask(SIG_BLOCK, ())

    def set_aside(self) -> None:
        """Save the function's settings and reset them. The template calls it once, after loading the function."""
        timers = [(which, *setitimer(which, 0.0)) for which in _TIMERS]
        self._timers = [timer for timer in timers if timer[1]]
        self._wakeup = set_wakeup_fd(-1)
        self._mask = pthread_sigmask(SIG_BLOCK, (SIGCHLD,))
        if self._prctl is None and any(name in sys.modules for name in _CALLS_C):
            self._load_prctl()
        actions: list[tuple[int, Any, Any]] = [(number, own, getsignal(number)) for number, own in self._own]
        self._actions = [(number, own, action) for number, own, action in actions if action is not own]
        # Code in C may have set an action that Python does not know of. register() keeps it, and unregister() restores
        # it. The handler that register() sets is replaced at once.
        register(SIGCHLD, file=2)
        signal(SIGCHLD, SIG_DFL)
        self.keep()

    def keep(self) -> None:
        """Reset the settings again after a fork, since fork hooks may have changed them."""
        for number, own in self._own:
            if getsignal(number) is not own:
                signal(number, own)
        pthread_sigmask(SIG_SETMASK, self._own_mask)
        if self._prctl is not None:
            self._adopt_none()

    def give_back(self) -> None:
        """Restore the function's settings in a worker, except those that its fork hooks have just changed."""
        if getsignal(SIGCHLD) is SIG_DFL:
            unregister(SIGCHLD)
        for number, own, action in self._actions:
            if getsignal(number) is own:
                signal(number, action)
        if self._adopts:
            self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if self._wakeup >= 0:
            set_wakeup_fd(self._wakeup)
        pthread_sigmask(SIG_SETMASK, self._mask)
        for which, seconds, interval in self._timers:
            setitimer(which, seconds, interval)

    def _load_prctl(self) -> None:
        ctypes = late.ctypes
        self._prctl = ctypes.CDLL(None).prctl
        self._is_set = ctypes.c_int()
        self._reference = ctypes.byref(self._is_set)

    def _adopt_none(self) -> None:
        """Stop adopting orphans, so that the init becomes the parent of workers whose parent ends."""
        if self._prctl(PR_GET_CHILD_SUBREAPER, self._reference, 0, 0, 0) == 0 and self._is_set.value:
            self._prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            self._adopts = True


def fork_process() -> int:
    """Fork without the warning that Python 3.12 and newer issue in processes with threads.

    The function may have turned warnings into exceptions. Such an exception would come after the fork was made.
    """
    if sys.version_info < (3, 12) or "warnings" not in sys.modules:
        return fork()
    warnings = late.warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fork()
