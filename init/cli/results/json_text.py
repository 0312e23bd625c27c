"""Write bytes into a line of JSON, piece by piece, so that every reader takes it for one line.

JSON allows three characters in strings that some readers take for line ends: U+0085 (Python's str.splitlines), U+2028
and U+2029 (str.splitlines and Node's readline). They are written as escapes. This file does not know what a result is.
"""

from __future__ import annotations

import codecs
from binascii import b2a_base64
from collections.abc import Iterator

from ...log.json_lines import LINE_ENDS, one_line, to_line

PIECE = 48 * 1024
"""Bytes that are handled at a time: a multiple of three, so that the base64 of pieces is the base64 of the whole."""

Data = bytes | bytearray


def is_utf8(data: Data) -> bool:
    """Return whether bytes are UTF-8. The memory that it takes does not grow with them."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in slices(data, len(data)):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def slices(data: Data, end: int) -> Iterator[memoryview]:
    """Cut the first `end` bytes into pieces, without copying them."""
    view = memoryview(data)
    for start in range(0, end, PIECE):
        yield view[start : min(start + PIECE, end)]


def value_pieces(data: Data, end: int) -> Iterator[bytes | memoryview]:
    """Return the first `end` bytes, which are JSON and UTF-8, as pieces for a line."""
    if data.isascii() or not any(character in data for character, _ in LINE_ENDS):
        yield from slices(data, end)
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in slices(data, end):
        yield one_line(decoder.decode(piece).encode())  # decoded first, because a cut may be inside a character


def text_pieces(data: Data) -> tuple[Iterator[bytes], bool]:
    """Return bytes as a JSON string for a line: (its pieces, whether it is base64 because the bytes are not UTF-8)."""
    return (_string(data), False) if is_utf8(data) else (_base64(data), True)


def _string(data: Data) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    yield b'"'
    for piece in slices(data, len(data)):
        yield to_line(decoder.decode(piece))[1:-1]
    yield b'"'


def _base64(data: Data) -> Iterator[bytes]:
    yield b'"'
    for piece in slices(data, len(data)):
        yield b2a_base64(piece, newline=False)
    yield b'"'
