"""An async function that waits for several things at once. With --concurrency, several requests wait at once, too.

$ pipe-init run index.handler -C examples/asynchronous -e '{"cities": ["Oslo", "Rome"]}'
{"Oslo": 4, "Rome": 4}

$ seq -f '{"cities": ["%g"]}' 3 | pipe-init run index.handler -C examples/asynchronous --events - --concurrency 3 -q
{"1": 1}
{"2": 1}
{"3": 1}
"""

import asyncio


async def look_up(city):
    await asyncio.sleep(0.1)  # for example, a database
    return len(city)


async def handler(event, context):
    cities = event["cities"]
    found = await asyncio.gather(*(look_up(city) for city in cities))
    return dict(zip(cities, found, strict=True))
