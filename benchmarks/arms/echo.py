"""Functions that give their body back while it comes: of every way that a function can take a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO


def iterator(body: Iterator[bytes]) -> Iterator[bytes]:
    """Piece by piece, as they come."""
    yield from body


def file(body: BinaryIO) -> Iterator[bytes]:
    """As a file, of which a read gives what is there."""
    while piece := body.read1(65536):  # type: ignore[attr-defined]  # it is a BufferedReader
        yield piece


async def asynchronous(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """On an event loop."""
    async for piece in body:
        yield piece
