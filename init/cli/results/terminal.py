"""Write to a terminal: make a function's text harmless for it, and show how far a long run is."""

from __future__ import annotations

import os
import re
import time

from ...log.journal import EMPTY, Journal

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CLEAR_LINE = b"\r\x1b[K"
_REFRESH_SECONDS = 0.1


def is_terminal(descriptor: int) -> bool:
    """Return whether a descriptor is a terminal."""
    return os.isatty(descriptor)


def wants_colour(descriptor: int) -> bool:
    """Return whether text may have colours. NO_COLOR (no-color.org) and FORCE_COLOR come before the descriptor."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(descriptor)


def harmless(text: bytes) -> bytes:
    """Return UTF-8 text with its control characters, except line break and tab, written as escapes."""
    shown = text.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", shown).encode("utf-8")


def for_stderr(text: str) -> str:
    """Return text from a function as it may be written to stderr: if that is a terminal, without control characters."""
    return harmless(text.encode("utf-8", "backslashreplace")).decode() if is_terminal(2) else text


class Progress:
    """Keep one line on a terminal that says how many events are done.

    While the terminal accepts no output, for example after Ctrl-S, the line stays as it is.

    Args:
        journal: What writes to the terminal.
        active: Whether the line is shown.
    """

    def __init__(self, journal: Journal, active: bool) -> None:
        self._journal = journal
        self._active = active
        self._shown = False
        self._start = self._last = time.monotonic()
        self._done = self._failed = 0

    def count(self, failed: bool) -> None:
        """Count one more event that has its outcome."""
        self._done += 1
        self._failed += failed
        if self._active and time.monotonic() - self._last >= _REFRESH_SECONDS:
            self._show()

    def clear(self) -> None:
        """Remove the line, so that another one can be written."""
        if self._shown:
            self._journal.put(_CLEAR_LINE)
            self._shown = False

    def _show(self) -> None:
        self._last = time.monotonic()
        if self._journal.level != EMPTY:
            return
        rate = self._done / max(self._last - self._start, 1e-9)
        text = f"{self._done:,} event{'' if self._done == 1 else 's'} done, {self._failed:,} failed, {rate:,.0f}/s"
        self._journal.put(_CLEAR_LINE + text.encode())
        self._shown = True
