"""One function of each kind. Each does what its event names: {"fault": name of a function below}.

With "started" in the event, it first sends the beginning of its answer: items, or the start and a block of an HTTP
response. Without a fault, it returns the event. A comment `# <- name` marks the line that a stack must show.
"""

import asyncio
import collections
import ctypes
import itertools
import json
import os
import signal
import sys
import time


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


def plain():
    raise LookupError("not there")  # <- plain


def chain():
    try:
        {}["inner"]  # <- chain.cause
    except KeyError as error:
        raise RuntimeError("outer") from error  # <- chain


def group():
    raise ExceptionGroup("several", [OSError(5, "one"), ValueError("two")])  # noqa: F821  # <- group


def exits():
    sys.exit(3)  # <- exits


def interrupts():
    raise KeyboardInterrupt  # <- interrupts


def generator_exit():
    raise GeneratorExit  # <- generator_exit


def cancelled():
    raise asyncio.CancelledError("of its own")  # <- cancelled


def broken_pipe():
    raise BrokenPipeError(32, "of its own")  # <- broken_pipe


def memory():
    raise MemoryError("too much")  # <- memory


def allocates():
    return len(bytearray(1 << 46))  # <- allocates


def recurses():
    return recurses()  # <- recurses


def unprintable():
    raise Unprintable  # <- unprintable


def unserialisable():
    return object()


def leaves():
    os._exit(7)


def segfault():
    ctypes.string_at(8)  # <- segfault


def kills():
    os.kill(os.getpid(), signal.SIGKILL)


def stops():
    os.kill(os.getpid(), signal.SIGSTOP)  # <- stops
    time.sleep(1000)


def loop():
    # A loop without calls from C: faulthandler of CPython may crash on a frame that is just being entered.
    {0 for _ in itertools.repeat(0)}  # <- loop


def loop_in_c():
    collections.deque(itertools.repeat(0), maxlen=0)  # <- loop_in_c


def sleep():
    time.sleep(1000)  # <- sleep


def pid():
    return os.getpid()


def naps():
    time.sleep(1.2)
    return os.getpid()


def oversleeps():
    time.sleep(2.8)  # <- oversleeps


async def waits():
    await asyncio.sleep(1000)  # <- waits


async def async_naps():
    await asyncio.sleep(1.2)
    return os.getpid()


async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)  # <- stubborn
        except asyncio.CancelledError:
            continue


def starts_badly(context):
    raise LookupError("no configuration")  # <- starts_badly


async def starts_badly_later(context):
    await asyncio.sleep(0)
    raise LookupError("no configuration")  # <- starts_badly_later


def do(event):
    return globals()[event["fault"]]() if "fault" in event else event


async def do_async(event):
    value = do(event)
    return await value if hasattr(value, "__await__") else value


def handler(event, context):
    return do(event)


async def coroutine(event, context):
    return await do_async(event)


def generator(event, context):
    if "started" in event:
        yield "started"
    yield do(event)


async def async_generator(event, context):
    if "started" in event:
        yield "started"
    yield await do_async(event)


def wsgi(environ, start_response):
    event = json.loads(environ["wsgi.input"].read())
    if "started" in event:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"started ")
        return [json.dumps(do(event)).encode()]
    body = json.dumps(do(event)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("no lifespan")
    event = json.loads((await receive())["body"])
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    if "started" in event:
        await send(start)
        await send({"type": "http.response.body", "body": b"started ", "more_body": True})
        await send({"type": "http.response.body", "body": json.dumps(await do_async(event)).encode()})
        return
    body = json.dumps(await do_async(event)).encode()
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def without_lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no configuration"})


async def leaves_in_lifespan(scope, receive, send):
    sys.exit(4)  # <- leaves_in_lifespan


async def items_of_its_own():
    yield "started"
    await asyncio.sleep(0)
    raise LookupError("not there")  # <- items_of_its_own


def plainly_asynchronous(event, context):
    return items_of_its_own()


def reads_for_ever(environ, start_response):
    return [environ["wsgi.input"].read()]  # <- reads_for_ever
