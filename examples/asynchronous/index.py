"""An async function: what it waits for, it waits for at the same time; so do requests, with --concurrency.

$ pipe-init run index.handler -C examples/asynchronous -e '{"cities": ["Oslo", "Rome"]}'
{"Oslo": 4, "Rome": 4}

$ seq -f '{"cities": ["%g"]}' 3 | pipe-init run index.handler -C examples/asynchronous --events - --concurrency 3 -q
{"1": 1}
{"2": 1}
{"3": 1}
"""

import asyncio


async def look_up(city):
    await asyncio.sleep(0.1)  # a database, say
    return len(city)


async def handler(event, context):
    cities = event["cities"]
    found = await asyncio.gather(*(look_up(city) for city in cities))
    return dict(zip(cities, found, strict=True))
