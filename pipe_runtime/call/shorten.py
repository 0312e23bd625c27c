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


def fit(described: dict[str, object], limit: int = HEAD_LIMIT) -> dict[str, object]:
    """Shorten a described error, in place, until it packs into `limit` bytes (at least a few hundred).

    In this order it drops frames deep inside causes and members, a group's members, causes, the middle of the stack,
    and the ends of texts.
    """
    if _size(described) <= limit:
        return described
    for shrink, measure in _STEPS:
        shrink(described, measure)
        if _size(described) <= limit:
            return described
    return {
        "error_type": clean(str(described["error_type"]), 128),
        "error_message": clean(str(described["error_message"]), 128),
        "stack": [],
    }


def _size(described: dict[str, object]) -> int:
    return len(msgpack.packb(described))


def _related(described: dict[str, Any]) -> list[dict[str, Any]]:
    cause = [described["cause"]] if "cause" in described else []
    return [*cause, *described.get("exceptions", [])]


def _shorten_related_stacks(described: dict[str, Any], kept: int) -> None:
    for related in _related(described):
        _shorten_stacks(related, kept)


def _shorten_stacks(described: dict[str, Any], kept: int) -> None:
    described["stack"] = shorten(described["stack"], kept)
    _shorten_related_stacks(described, kept)


def _drop_members(described: dict[str, Any], kept: int) -> None:
    for related in _related(described):
        _drop_members(related, kept)
    members = described.get("exceptions", [])
    if len(members) > kept:
        del members[kept:]
        if not members:
            del described["exceptions"]


def _drop_causes(described: dict[str, Any], kept: int) -> None:
    for member in described.get("exceptions", []):
        _drop_causes(member, kept)
    if "cause" not in described:
        return
    if kept == 0:
        del described["cause"]
    else:
        _drop_causes(described["cause"], kept - 1)


def _cut_texts(described: dict[str, Any], limit: int) -> None:
    described["error_type"] = clean(described["error_type"], limit)
    described["error_message"] = clean(described["error_message"], limit)
    described["stack"] = [
        [clean(value, limit) if isinstance(value, str) else value for value in entry] for entry in described["stack"]
    ]
    for related in _related(described):
        _cut_texts(related, limit)


_STEPS = (
    (_shorten_related_stacks, 10),
    (_shorten_related_stacks, 3),
    *((_drop_members, kept) for kept in (8, 4, 2, 1, 0)),
    *((_drop_causes, kept) for kept in (4, 2, 1, 0)),
    *((_shorten_stacks, kept) for kept in (25, 12, 6, 3)),
    *((_cut_texts, limit) for limit in (1024, 256)),
)
