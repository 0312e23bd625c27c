"""Streams. The items of a generator go out as it yields them, and a function can read its event as it arrives.

$ pipe-init run index.count -C examples/streaming -e '{"to": 3}'
{"n": 1, "square": 1}
{"n": 2, "square": 4}
{"n": 3, "square": 9}

$ seq 10 10 20 | pipe-init run index.number_lines -C examples/streaming --raw -f -
1: 10
2: 20

$ pipe-init run index.ticks -C examples/streaming -e '{"ticks": 3}'
"tick 1"
"tick 2"
"tick 3"

$ printf 'as it comes' | pipe-init run index.shout -C examples/streaming --raw -f -
AS IT COMES
"""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO


def count(event, context):
    for n in range(1, event["to"] + 1):
        yield {"n": n, "square": n * n}


def number_lines(body: BinaryIO, context):
    for number, line in enumerate(body, 1):
        yield b"%d: %s" % (number, line)


async def ticks(event, context):
    for number in range(1, event["ticks"] + 1):
        await asyncio.sleep(0.01)
        yield f"tick {number}"


async def shout(body: AsyncIterator[bytes], context):
    async for piece in body:
        yield piece.upper()
