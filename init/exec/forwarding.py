"""Decide which signal a plain init forwards, and to which processes. The function here is pure.

This file knows signal numbers, but no processes, and it sends nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""The signals with which a terminal stops a process group. (SIGSTOP cannot be caught, so it cannot be forwarded.)"""

STOPPING = JOB_CONTROL | {signal.SIGSTOP}

FORWARDABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
"""The signals that a plain init can forward. SIGKILL and SIGSTOP cannot be caught, and SIGCHLD is about the init's own
children. libc uses the numbers 32 and 33 for threads, so Python does not list them as valid signals."""

HURRYING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that end the grace time early, if they come while the init ends the processes that the program has left."""


def route(came: int, rewrites: Mapping[int, int], group: bool, session: bool) -> tuple[int, bool, bool]:
    """Decide what to do with a signal that the init has received.

    Signals that stop or continue processes always go to the whole group, because job control works on groups. A child
    with a session of its own gets SIGSTOP instead of a signal of JOB_CONTROL that is not rewritten. Its process group
    is orphaned, and there the kernel drops such signals. The init itself stops if the signal that it receives or the
    signal that it forwards stops processes, as dumb-init does.

    Args:
        came: The signal that the init has received, one of FORWARDABLE.
        rewrites: {the signal that the init receives: the signal to forward instead, 0 for none}.
        group: Whether all signals go to the child's whole process group.
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
