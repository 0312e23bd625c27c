"""Convert bytes to a part of a line of JSON, piece by piece, so that every reader recognizes it as one line.

JSON allows three characters in strings that some readers treat as line ends: U+0085 (Python's str.splitlines), U+2028
and U+2029 (str.splitlines and Node's readline). This file writes them as escapes. It does not know what a result is.
"""

from __future__ import annotations

import codecs
from binascii import b2a_base64
from collections.abc import Iterator

from ...log.json_lines import LINE_ENDS, one_line, to_line

PIECE = 48 * 1024
"""Bytes to convert at a time: a multiple of three, so that the base64 of the pieces is the base64 of the whole."""

Data = bytes | bytearray


def is_utf8(data: Data) -> bool:
    """Return whether bytes are UTF-8. The memory for this check does not grow with the number of bytes."""
    if data.isascii():
        return True
    try:
        for _ in _texts(data, len(data)):
            continue
    except UnicodeDecodeError:
        return False
    return True


def slices(data: Data, end: int) -> Iterator[memoryview]:
    """Cut the first `end` bytes into pieces, without copying them."""
    view = memoryview(data)
    for start in range(0, end, PIECE):
        yield view[start : min(start + PIECE, end)]


def _texts(data: Data, end: int) -> Iterator[str]:
    """Decode the first `end` bytes piece by piece. A cut may be inside a character."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in slices(data, end):
        yield decoder.decode(piece)
    decoder.decode(b"", final=True)


def value_pieces(data: Data, end: int) -> Iterator[bytes | memoryview]:
    """Return the first `end` bytes, which must be JSON and UTF-8, as pieces of a line."""
    if data.isascii() or not any(character in data for character, _ in LINE_ENDS):
        yield from slices(data, end)
        return
    for text in _texts(data, end):
        yield one_line(text.encode())


def text_pieces(data: Data) -> tuple[Iterator[bytes], bool]:
    """Return bytes as a JSON string for a line: (the string's pieces, whether it is base64). UTF-8 becomes text."""
    return (_string(data), False) if is_utf8(data) else (_base64(data), True)


def _string(data: Data) -> Iterator[bytes]:
    yield b'"'
    for text in _texts(data, len(data)):
        yield to_line(text)[1:-1]
    yield b'"'


def _base64(data: Data) -> Iterator[bytes]:
    yield b'"'
    for piece in slices(data, len(data)):
        yield b2a_base64(piece, newline=False)
    yield b'"'
