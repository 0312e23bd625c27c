"""Convert the names of signals in the options and messages of `exec` to numbers, and back. All functions are pure."""

from __future__ import annotations

import re
import signal

from .forwarding import FORWARDABLE

_UNNAMED = {16: "SIGSTKFLT"}
"""The signal that signal(7) names and Python does not know by name before 3.11."""

_REALTIME = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")


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
