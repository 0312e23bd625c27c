"""Which signal goes where, and what a status means: the decisions of a plain init, as pure functions.

This file knows numbers. It sends nothing, and knows no processes.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from typing import NamedTuple

JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""What a terminal stops a process group with. (SIGSTOP cannot be caught, and so not be forwarded.)"""

STOPPING = JOB_CONTROL | {signal.SIGSTOP}

FORWARDABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
"""KILL and STOP never reach a program; CHLD tells of our own children. libc keeps 32 and 33 for its threads."""

HURRYING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Whoever sends one of these while the rest is being ended does not want to wait."""

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

_REALTIME = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")


class Decision(NamedTuple):
    """What a signal leads to. number: the signal to send, 0 for none. group: to the child's whole process group, else
    to the child alone. stop: whether the init stops itself afterwards."""

    number: int
    group: bool = False
    stop: bool = False


class Rules(NamedTuple):
    """rewrites: {the signal that came: the one to send, 0 for none}. group: send to the child's group. session: the
    child has a session of its own."""

    rewrites: Mapping[int, int]
    group: bool
    session: bool

    def decide(self, came: int) -> Decision:
        """Decide what to do about the FORWARDABLE signal `came`.

        Signals that stop or wake always go to the group, because job control knows nothing smaller. The group of a
        session's leader is orphaned, and there the kernel drops all stops except SIGSTOP, so it gets that one. A stop
        that comes also stops the init if the program gets another signal instead, or none, as with dumb-init.
        """
        number = self.rewrites.get(came, came)
        if number in JOB_CONTROL and self.session and came not in self.rewrites:
            number = signal.SIGSTOP
        stop = came in JOB_CONTROL or number in STOPPING
        if not number:
            return Decision(0, stop=stop)
        return Decision(number, self.group or number in STOPPING or number == signal.SIGCONT, stop)


def exit_code(status: int) -> int:
    """The exit code that stands for a status of waitpid(2): the child's own, or 128 and its signal's number."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def signal_number(text: str) -> int:
    """A signal by number or by name: 15, TERM, SIGTERM, RTMIN+3. ValueError: there is none."""
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
    """`A:B` as (the signal that comes, the one to send instead); B may be 0. ValueError: it is not that."""
    came, colon, instead = text.partition(":")
    if not colon:
        raise ValueError(f"'{text}' is not of the form A:B, such as TERM:QUIT or 15:3.")
    number = signal_number(came)
    if number not in FORWARDABLE:
        raise ValueError(f"{signal_name(number)} is never forwarded, so it cannot be rewritten.")
    return number, 0 if instead.strip() == "0" else signal_number(instead)


def signal_name(number: int) -> str:
    """As kill(1) and signal(7) call it: SIGTERM, SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
