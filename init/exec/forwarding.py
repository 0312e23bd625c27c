"""Decide where a plain init forwards a signal. A pure function.

This file knows numbers. It sends nothing, and knows no processes.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""The signals with which a terminal stops a process group. (SIGSTOP cannot be caught, so it cannot be forwarded.)"""

STOPPING = JOB_CONTROL | {signal.SIGSTOP}

FORWARDABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
"""The others: KILL and STOP cannot be caught, and CHLD is about our own children. libc uses 32 and 33 for threads."""

HURRYING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that skip the grace time, if they come while the init ends what the program has left."""


def route(came: int, rewrites: Mapping[int, int], group: bool, session: bool) -> tuple[int, bool, bool]:
    """Decide what to do about the FORWARDABLE signal `came`.

    Signals that stop or wake always go to the group, because job control works on groups. The group of a session's
    leader is orphaned, and there the kernel drops all stops except SIGSTOP, so the leader gets that one. A stop also
    stops the init if the program gets another signal instead, or none, as with dumb-init.

    Args:
        came: The signal.
        rewrites: {the signal that comes: the signal to send instead, 0 for none}.
        group: Whether signals go to the child's whole process group.
        session: Whether the child has a session of its own.

    Returns:
        The signal to send, 0 for none; whether to send it to the child's whole process group, not to the child alone;
        and whether the init stops itself afterwards.
    """
    number = rewrites.get(came, came)
    if number in JOB_CONTROL and session and came not in rewrites:
        number = signal.SIGSTOP
    stop = came in JOB_CONTROL or number in STOPPING
    if not number:
        return 0, False, stop
    return number, group or number in STOPPING or number == signal.SIGCONT, stop
