"""Write JSON that every reader takes for one line. This module does not know where the line goes."""

from __future__ import annotations

import json
import time
from typing import Any

LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""Characters that JSON allows in strings and that some readers take for a line end, with their escapes."""


def to_line(value: Any) -> bytes:
    """Return a value of pipe-init's own as JSON on one line. A lone surrogate becomes its escape."""
    return one_line(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def one_line(text: bytes) -> bytes:
    """Return JSON text in which all characters that a reader may take for a line end are escaped."""
    if not text.isascii():
        for character, escape in LINE_ENDS:
            text = text.replace(character, escape)
    return text


def json_line(text: bytes, request_id: str, level: str = "") -> bytes:
    """Return a line of text as a JSON record, as the runtime writes the function's own lines.

    Args:
        text: A line from below Python, or a message of pipe-init's own.
        request_id: The id of its request, "" for none.
        level: The level of a message, "" for a line that has none.
    """
    record = {
        "timestamp": timestamp(),
        "level": level,
        "message": text.decode("utf-8", "backslashreplace"),
        "requestId": request_id,
    }
    return to_line({key: value for key, value in record.items() if value or key == "message"})


def timestamp() -> str:
    """Return the time now as log records have it: ISO 8601, UTC, milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
