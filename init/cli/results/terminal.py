"""Check whether a descriptor is a terminal, and make a function's text harmless for terminals."""

from __future__ import annotations

import codecs
import os

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
"""{code of a control character, except line break and tab: the escape that is written in its place}."""


def is_terminal(descriptor: int) -> bool:
    """Return whether a descriptor is a terminal."""
    return os.isatty(descriptor)


def wants_colour(descriptor: int) -> bool:
    """Return whether text on a descriptor should have colours: on terminals only, unless a variable decides.

    NO_COLOR (no-color.org) forbids colours, and FORCE_COLOR demands them. NO_COLOR is the stronger of the two.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(descriptor)


def red(text: str) -> str:
    """Return text in red, for a descriptor that wants colours."""
    return f"\x1b[31m{text}\x1b[0m"


def harmless(text: bytes) -> bytes:
    """Return UTF-8 text with its control characters replaced by escapes. Keep line breaks and tabs."""
    return HarmlessPieces().next(text, is_last=True)


class HarmlessPieces:
    """Make a text harmless that comes in pieces. A piece may end in the middle of a character."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def next(self, piece: bytes, is_last: bool) -> bytes:
        """Return the piece as `harmless` does. Keep an incomplete character at its end for the next call."""
        shown = self._decode(piece, is_last)
        return shown.translate(_ESCAPES).encode("utf-8")


def for_stderr(text: str) -> str:
    """Return a function's text for stderr. If stderr is a terminal, replace control characters with escapes."""
    return harmless(text.encode("utf-8", "backslashreplace")).decode() if is_terminal(2) else text
