"""Write JSON that every reader recognizes as one line. This module does not know where the line goes."""

from __future__ import annotations

import json
import time

LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""Characters, each with its escape, that JSON allows in strings although some readers treat them as line ends."""


def to_line(value: object) -> bytes:
    """Return a value as JSON on one line. A lone surrogate in a text becomes its escape."""
    return one_line(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def one_line(text: bytes) -> bytes:
    """Return JSON text after escaping all characters in it that a reader may treat as a line end."""
    if not text.isascii():
        for character, escape in LINE_ENDS:
            text = text.replace(character, escape)
    return text


def json_line(text: bytes, request_id: str, level: str = "") -> bytes:
    """Return a JSON record with a text as its message. The runtime writes the same form for the function's log lines.

    Args:
        text: A line that came without a frame, or a message of pipe-init.
        request_id: The id of the request that the text belongs to; "" if it belongs to none.
        level: The level of the message; "" if it has none.
    """
    record = {
        "timestamp": timestamp(),
        "level": level,
        "message": text.decode("utf-8", "backslashreplace"),
        "requestId": request_id,
    }
    return to_line({key: value for key, value in record.items() if value or key == "message"})


def timestamp() -> str:
    """Return the current time in the form that log records use: ISO 8601, in UTC, with milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
