"""Decide which signal a plain init forwards, and to which processes. Convert names of signals to numbers, and back.

This file knows signal numbers, but no processes, and it sends nothing.
"""

from __future__ import annotations

import re
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

_UNNAMED = {16: "SIGSTKFLT"}
"""The signal that signal(7) names and Python does not know by name before 3.11."""

_REALTIME = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")


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


def signal_number(text: str) -> int:
    """Return the number of a signal. The text may be a number or a name, such as 15, TERM, SIGTERM or RTMIN+3.

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
        named = {**{other: number for number, other in _UNNAMED.items()}, **signal.Signals.__members__}
        number = named.get(f"SIG{name}", 0)
    if number not in signal.valid_signals():
        raise ValueError(f"'{text}' is no signal.")
    return int(number)


def rewriting(text: str) -> tuple[int, int]:
    """Return the two signals of `A:B`: (the signal that the init receives, the signal to forward instead).

    B may be 0, so that the init forwards no signal.

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
    """Return a signal's name in the form of signal(7), such as SIGTERM or SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return _UNNAMED.get(number, f"SIGRTMIN+{number - signal.SIGRTMIN}")
