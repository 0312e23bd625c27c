"""Dates and times from their text, in every Python as in the newest. It knows nothing of what they are for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIGITS = "0123456789"


def parse(kind: Any, text: str) -> Any:
    """A datetime, date or time from ISO 8601's text (RFC 3339's is a part of it).

    kind: the class to make one of. A fraction of a second has any number of digits; those after the sixth are dropped.
    Raises ValueError.
    """
    return kind.fromisoformat(_plain(text))


def _plain(text: str) -> str:
    """The same in the form that Python 3.10 reads: no Z, and fractions of six digits."""
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    head, _, rest = text.partition(".")
    fraction = rest[: len(rest) - len(rest.lstrip(_DIGITS))]
    if fraction:
        text = f"{head}.{fraction[:6].ljust(6, '0')}{rest[len(fraction) :]}"
    return text
