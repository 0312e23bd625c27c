"""Shorten texts, stacks and described errors until they fit into a frame's head. It drops the least important first.

This module is pure. It knows the form of a described error (docs/protocol.md, ERROR), and no exceptions.
"""

from __future__ import annotations

import msgpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.errors import StackEntry

HEAD_LIMIT = 56 * 1024
"""Bytes that a packed description of an error may take. A head has 64 KiB: the rest is for ids and durations."""

TEXT_LIMIT = 8 * 1024
"""Bytes of UTF-8 that one text may take, marker included."""

CUT = "… [cut]"
"""The marker at the place where a text was cut."""


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text that any peer can decode: lone surrogates escaped, and at most `limit` bytes of UTF-8.

    If the text was cut, it ends with a marker. The result is a plain str.
    """
    # A character takes a byte at least, so the slice bounds the work for a text of any size.
    encoded = text[: limit + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def omitted(count: int) -> StackEntry:
    """Return the entry that stands for `count` calls."""
    return ["", 0, f"… {count} more frames …", ""]


def shorten(stack: list[StackEntry], kept: int) -> list[StackEntry]:
    """Return a stack's first and last `kept` frames. A marker in the middle counts for as many calls as it says."""
    if len(stack) <= 2 * kept + 1:
        return stack
    gone = 0
    for entry in stack[kept : len(stack) - kept]:
        function = str(entry[2])
        marked = entry[0] == "" and function.startswith("… ") and function.endswith(" more frames …")
        gone += int(function.split()[1]) if marked else 1
    return [*stack[:kept], omitted(gone), *stack[len(stack) - kept :]]


_LADDER = (
    *(("inner_frames", kept) for kept in (10, 3)),
    *(("members", kept) for kept in (8, 4, 2, 1, 0)),
    *(("causes", kept) for kept in (4, 2, 1, 0)),
    *(("frames", kept) for kept in (25, 12, 6, 3)),
    *(("text", limit) for limit in (1024, 256)),
)
"""What is limited further in each step, and to how much, until an error fits."""


def fit(described: dict[str, Any], limit: int = HEAD_LIMIT) -> dict[str, object]:
    """Return a described error that packs into `limit` bytes (at least a few hundred).

    In this order it drops frames deep inside causes and members, a group's members, causes, the middle of the stack,
    and the ends of texts.
    """
    limits = {"inner_frames": 1000, "members": 1000, "causes": 1000, "frames": 1000, "text": TEXT_LIMIT}
    fitted = described
    for name, value in _LADDER:
        if len(msgpack.packb(fitted)) <= limit:
            return fitted
        limits[name] = value
        fitted = _limited(fitted, limits, limits["causes"], limits["frames"])
    if len(msgpack.packb(fitted)) <= limit:
        return fitted
    return {
        "error_type": clean(described["error_type"], 128),
        "error_message": clean(described["error_message"], 128),
        "stack": [],
    }


def _limited(described: dict[str, Any], limits: dict[str, int], causes: int, frames: int) -> dict[str, Any]:
    """Return a described error with at most `causes` links to causes and `frames` frames at either end of its stack."""
    text, inner = limits["text"], min(frames, limits["inner_frames"])
    limited: dict[str, Any] = {
        "error_type": clean(described["error_type"], text),
        "error_message": clean(described["error_message"], text),
        "stack": [
            [clean(value, text) if isinstance(value, str) else value for value in entry]
            for entry in shorten(described["stack"], frames)
        ],
    }
    if "cause" in described and causes:
        limited["cause"] = _limited(described["cause"], limits, causes - 1, inner)
    members = described.get("exceptions", [])[: limits["members"]]
    if members:
        limited["exceptions"] = [_limited(member, limits, limits["causes"], inner) for member in members]
    return limited
