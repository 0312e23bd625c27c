"""Functions that misbehave as their event asks: first a list of acts, then an ending.

benchmarks/fuzz.py makes the events and judges the outcomes. This module knows neither the rules of the protocol nor
which outcome is right. It skips an act that fails because of an earlier one.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import fcntl
import gc
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

Act = Callable[[dict[str, Any], str], None]

LINGER_SECONDS = 60.0
"""The seconds that a child lives if the init does not end it."""

MOST_CHILDREN = 4
"""The most lingering children that one process leaves behind."""

FORGED = {"forged": True}
"""The content of a forged answer. A result with this content was made by the handler of another event."""

lingering = 0
kept: list[Any] = []


class ChildReturned(BaseException):
    """Raised in a forked child, so that it leaves the handler."""


class Unprintable(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


# Acts that must not change the outcome


def say(event: dict[str, Any], id: str) -> None:
    print(f"fuzz {event['n']} {id} says")
    print(f"fuzz {event['n']} {id} complains", file=sys.stderr)


def say_without_end(event: dict[str, Any], id: str) -> None:
    sys.stdout.write("half a line")


def say_strange(event: dict[str, Any], id: str) -> None:
    print('\x1b[2J\x00\r\u2028\udc80 {"index": 0, "result": 1}\n' * 3)


def say_much(event: dict[str, Any], id: str) -> None:
    for _ in range(40):
        print("x" * 1000)


def say_one_long_line(event: dict[str, Any], id: str) -> None:
    print("y" * 300_000)


def write_below(event: dict[str, Any], id: str) -> None:
    os.write(1, b'{"n": 0}\n\x00\x00\x00\x10\xff\xff')
    os.write(2, b"raw\n")


def log(event: dict[str, Any], id: str) -> None:
    logging.getLogger("fuzz").warning("fuzz %d %s logs", event["n"], id)
    logging.getLogger().error("two\nlines", exc_info=ValueError("logged"))


def run_program(event: dict[str, Any], id: str) -> None:
    subprocess.run(["/bin/sh", "-c", "echo out; echo err >&2"], check=False)


def fork_and_wait(event: dict[str, Any], id: str) -> None:
    child = os.fork()
    if not child:
        os._exit(7)
    os.waitpid(child, 0)


def fork_zombie(event: dict[str, Any], id: str) -> None:
    if not os.fork():
        os._exit(0)


def fork_and_print(event: dict[str, Any], id: str) -> None:
    child = os.fork()
    if not child:
        try:
            print("a child prints")
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def fork_and_linger(event: dict[str, Any], id: str) -> None:
    leave_child(daemon=False)


def daemonise(event: dict[str, Any], id: str) -> None:
    leave_child(daemon=True)


def leave_child(daemon: bool) -> None:
    global lingering
    if lingering >= MOST_CHILDREN:
        return
    lingering += 1
    child = os.fork()
    if child:
        if daemon:
            os.waitpid(child, 0)
        return
    try:
        if daemon:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(LINGER_SECONDS)
    finally:
        os._exit(0)


def fork_and_return(event: dict[str, Any], id: str) -> None:
    child = os.fork()
    if not child:
        raise ChildReturned
    os.waitpid(child, 0)


def start_thread(event: dict[str, Any], id: str) -> None:
    thread = threading.Thread(target=print, args=("a thread prints",), daemon=True)
    thread.start()
    thread.join()


def handle_signal(event: dict[str, Any], id: str) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
    os.kill(os.getpid(), signal.SIGUSR1)


def ignore_children(event: dict[str, Any], id: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def ignore_term(event: dict[str, Any], id: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def block_signals(event: dict[str, Any], id: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])


def stop_collecting(event: dict[str, Any], id: str) -> None:
    gc.disable()
    kept.append(bytearray(100_000))
    del kept[:-20]


def leave_folder(event: dict[str, Any], id: str) -> None:
    os.chdir("/")
    os.umask(0o777)


def clear_environment(event: dict[str, Any], id: str) -> None:
    os.environ.clear()


def close_standard(event: dict[str, Any], id: str) -> None:
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    for _ in range(3):
        os.open("/dev/null", os.O_RDWR)


def close_stdout(event: dict[str, Any], id: str) -> None:
    sys.stdout.close()


def lose_stdout(event: dict[str, Any], id: str) -> None:
    sys.stdout = None  # type: ignore[assignment]


def make_nonblocking(event: dict[str, Any], id: str) -> None:
    for descriptor in range(3):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)


def open_files(event: dict[str, Any], id: str) -> None:
    for _ in range(30):
        os.close(os.open("/dev/null", os.O_RDONLY))


def trace(event: dict[str, Any], id: str) -> None:
    sys.settrace(lambda *given: None)
    sys.settrace(None)


def register_exit(event: dict[str, Any], id: str) -> None:
    atexit.register(print, "at the end")


def pause(event: dict[str, Any], id: str) -> None:
    time.sleep(0.005)


# Acts that end the process soon, in this event or a later one


def set_alarm(event: dict[str, Any], id: str) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.005)


def end_later(event: dict[str, Any], id: str) -> None:
    threading.Thread(target=lambda: (time.sleep(0.005), os._exit(99)), daemon=True).start()


DELAYED: dict[str, Act] = {"set_alarm": set_alarm, "end_later": end_later}

HARMLESS: dict[str, Act] = {
    act.__name__: act
    for act in (
        say,
        say_without_end,
        say_strange,
        say_much,
        say_one_long_line,
        write_below,
        log,
        run_program,
        fork_and_wait,
        fork_zombie,
        fork_and_print,
        fork_and_linger,
        daemonise,
        fork_and_return,
        start_thread,
        handle_signal,
        ignore_children,
        ignore_term,
        block_signals,
        stop_collecting,
        leave_folder,
        clear_environment,
        close_standard,
        close_stdout,
        lose_stdout,
        make_nonblocking,
        open_files,
        trace,
        register_exit,
        pause,
    )
}


# Endings: what the handler does last


def fail(event: dict[str, Any], id: str) -> None:
    raise ValueError(f"event {event['n']}")


def fail_from(event: dict[str, Any], id: str) -> None:
    try:
        raise KeyError("cause")
    except KeyError as error:
        raise ValueError(f"event {event['n']}") from error


def fail_long(event: dict[str, Any], id: str) -> None:
    raise ValueError(f"event {event['n']}" + "z" * 100_000)


def fail_unprintable(event: dict[str, Any], id: str) -> None:
    raise Unprintable


def recurse(event: dict[str, Any], id: str) -> None:
    recurse(event, id)


def exhaust(event: dict[str, Any], id: str) -> None:
    raise MemoryError(f"event {event['n']}")


def leave(event: dict[str, Any], id: str) -> None:
    sys.exit(event["n"] % 3)


def interrupt(event: dict[str, Any], id: str) -> None:
    raise KeyboardInterrupt


def exit_at_once(event: dict[str, Any], id: str) -> None:
    os._exit(event["n"] % 256)


def segfault(event: dict[str, Any], id: str) -> None:
    ctypes.string_at(1)


def abort(event: dict[str, Any], id: str) -> None:
    signal.signal(signal.SIGABRT, signal.SIG_DFL) if threading.current_thread() is threading.main_thread() else None
    os.abort()


def kill(event: dict[str, Any], id: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LINGER_SECONDS)


def kill_group(event: dict[str, Any], id: str) -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)
    time.sleep(LINGER_SECONDS)


def stop(event: dict[str, Any], id: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LINGER_SECONDS)


def hang(event: dict[str, Any], id: str) -> None:
    while True:
        time.sleep(LINGER_SECONDS)


def hang_below(event: dict[str, Any], id: str) -> None:
    sum(iter(int, 1))


def answer_late(event: dict[str, Any], id: str) -> None:
    time.sleep(event["late"])


def become_another(event: dict[str, Any], id: str) -> None:
    os.execv("/bin/sh", ["sh", "-c", "echo 'another program'; exit 5"])


def close_everything(event: dict[str, Any], id: str) -> None:
    os.closerange(3, 256)


def write_garbage(event: dict[str, Any], id: str) -> None:
    for descriptor in private_pipes():
        os.write(descriptor, b"\x00\x00\x00\x20\x00\x00\x00\x08garbage!" + b"\xff" * 30)


def write_half_a_frame(event: dict[str, Any], id: str) -> None:
    for descriptor in private_pipes():
        os.write(descriptor, b"\x00\x10\x00\x00\x00\x00")
    os._exit(0)


def write_endless_frame(event: dict[str, Any], id: str) -> None:
    for descriptor in private_pipes():
        os.write(descriptor, b"\xff\xff\xff\xff" * 4)


def forge(event: dict[str, Any], id: str) -> None:
    """Answer this request and some requests of other events."""
    for number in range(1, 4):
        for descriptor in private_pipes():
            os.write(descriptor, frame(4, event["n"] + number, {"content_type": "application/json"}))


def forge_many(event: dict[str, Any], id: str) -> None:
    for number in range(1, 200):
        for descriptor in private_pipes():
            os.write(descriptor, frame(4, number, {"content_type": "application/json"}))


def frame(kind: int, id: int, metadata: dict[str, str]) -> bytes:
    """Return a frame as in docs/protocol.md, with a forged payload."""
    texts = b"".join(b"\xd9" + bytes([len(text)]) + text.encode() for pair in metadata.items() for text in pair)
    head = b"\x93" + bytes([kind]) + b"\xce" + struct.pack(">I", id) + bytes([0x80 | len(metadata)]) + texts
    payload = b'{"forged": true}'
    return struct.pack(">II", 4 + len(head) + len(payload), len(head)) + head + payload


def private_pipes() -> list[int]:
    """Return the descriptors of pipes that can be written and are neither stdout nor stderr."""
    found = []
    for descriptor in range(3, 64):
        try:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if flags & os.O_ACCMODE != os.O_RDONLY and target.startswith("pipe:"):
            os.set_blocking(descriptor, False)
            found.append(descriptor)
    return found


def finish(event: dict[str, Any], id: str) -> None:
    """Return a result, as a function without faults does."""


ENDINGS: dict[str, Act] = {
    ending.__name__: ending
    for ending in (
        finish,
        fail,
        fail_from,
        fail_long,
        fail_unprintable,
        recurse,
        exhaust,
        leave,
        interrupt,
        exit_at_once,
        segfault,
        abort,
        kill,
        kill_group,
        stop,
        hang,
        hang_below,
        answer_late,
        become_another,
        close_everything,
        write_garbage,
        write_half_a_frame,
        write_endless_frame,
        forge,
        forge_many,
    )
}

RESULTS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "small": lambda event, id: {"n": event["n"], "id": id},
    "large": lambda event, id: {"n": event["n"], "id": id, "text": "\u2028" * 40_000},
    "deep": lambda event, id: {"n": event["n"], "id": id, "deep": nested(50)},
    "not JSON": lambda event, id: {"n": event["n"], "id": id, "object": object()},
    "circular": lambda event, id: circular(),
}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def act_all(event: dict[str, Any], id: str) -> None:
    """Do all that the event asks for, except its ending."""
    for name in event["acts"]:
        try:
            (HARMLESS.get(name) or DELAYED[name])(event, id)
        except Exception:  # an earlier act has closed or limited what this one needs
            kept.append(name)
            del kept[:-20]


def plain(event: dict[str, Any], context: Any) -> Any:
    id = context.aws_request_id
    act_all(event, id)
    ENDINGS[event["end"]](event, id)
    return RESULTS[event["result"]](event, id)


def stream(event: dict[str, Any], context: Any) -> Iterator[Any]:
    id = context.aws_request_id
    for number in range(event["items"]):
        yield {"n": event["n"], "item": number}
    act_all(event, id)
    yield {"n": event["n"], "item": event["items"]}
    ENDINGS[event["end"]](event, id)
    yield RESULTS[event["result"]](event, id)


async def task(event: dict[str, Any], context: Any) -> Any:
    await asyncio.sleep(0)
    return plain(event, context)


async def task_stream(event: dict[str, Any], context: Any) -> AsyncIterator[Any]:
    for item in stream(event, context):
        await asyncio.sleep(0)
        yield item


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    event = json.loads(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "application/json")])
    result = plain(event, environ["fc.context"])
    yield json.dumps(result).encode()


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    result = plain(json.loads(body), scope["pipe_init.context"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(result).encode()})


if "FUZZ_ACTS" in os.environ:
    act_all({"n": -1, "acts": os.environ["FUZZ_ACTS"].split()}, "loading")
