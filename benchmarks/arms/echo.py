"""Functions that stream their body back while it arrives, one for each way in which a function can read a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO


def iterator(body: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the body piece by piece."""
    yield from body


def file(body: BinaryIO) -> Iterator[bytes]:
    """Yield the body from a file. Each read returns the bytes that are there."""
    while piece := body.read1(65536):  # type: ignore[attr-defined]  # it is a BufferedReader
        yield piece


async def asynchronous(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the body piece by piece on an event loop."""
    async for piece in body:
        yield piece
