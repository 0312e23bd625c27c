"""Decide where a plain init forwards a signal, and what exit code a status means. Pure functions.

This file knows numbers. It sends nothing, and knows no processes.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping

JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""The signals with which a terminal stops a process group. (SIGSTOP cannot be caught, so it cannot be forwarded.)"""

STOPPING = JOB_CONTROL | {signal.SIGSTOP}

FORWARDABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
"""The others: KILL and STOP cannot be caught, and CHLD is about our own children. libc uses 32 and 33 for threads."""

HURRYING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that skip the grace time, if they come while the init ends what the program has left."""

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

_REALTIME = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")


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


def exit_code(status: int) -> int:
    """Return the exit code for a status of waitpid(2): the child's own, or 128 and the number of its signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def signal_number(text: str) -> int:
    """Return the number of a signal that is given by number or name: 15, TERM, SIGTERM, RTMIN+3.

    Raises:
        ValueError: There is no such signal.
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isdecimal() and name.isascii():
        number = int(name)
    elif match := _REALTIME.fullmatch(name):
        up, down = match.groups()
        number = signal.SIGRTMIN + int(up) if up else signal.SIGRTMAX - int(down)
        if not signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            number = 0
    else:
        number = signal.Signals.__members__.get(f"SIG{name}", 0)
    if number not in signal.valid_signals():
        raise ValueError(f"'{text}' is no signal.")
    return int(number)


def rewriting(text: str) -> tuple[int, int]:
    """Return `A:B` as (the signal that comes, the signal to send instead). B may be 0.

    Raises:
        ValueError: The text has another form.
    """
    came, colon, instead = text.partition(":")
    if not colon:
        raise ValueError(f"'{text}' is not of the form A:B, such as TERM:QUIT or 15:3.")
    number = signal_number(came)
    if number not in FORWARDABLE:
        raise ValueError(f"{signal_name(number)} is never forwarded, so it cannot be rewritten.")
    return number, 0 if instead.strip() == "0" else signal_number(instead)


def signal_name(number: int) -> str:
    """Return a signal's name as kill(1) and signal(7) have it: SIGTERM, SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
