"""Tell whether a descriptor is a terminal, and make a function's text harmless for one."""

from __future__ import annotations

import os
import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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
