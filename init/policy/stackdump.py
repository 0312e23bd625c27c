"""Read the stacks that a worker gives of itself: faulthandler's text, or its answer to DUMP. Say why there are none.

A stack is a list of calls in the form of ERROR's `stack` (docs/protocol.md), most recent last. The process that wrote
the text is hostile, so anything may come. This module knows no process and no policy.
"""

from __future__ import annotations

import os

from pipe_runtime import wire

from ..model import BEFORE_FORK, Stack

OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(wire.__file__)))
"""The folder of the runtime's modules. Their calls at the start of a stack say nothing about the function."""

_LINE_DIGITS = 9
"""The most digits of a line number: int() refuses thousands of them, and a function can write what it likes."""

_THREADS = 10
"""The most threads shown of those that may serve a request."""

_THREAD_CALLS = 10
"""The most calls shown of each of them."""

_Call = tuple[str, int, str]
"""File, line, function."""


def parse_stacks(text: str, own_folder: str = OWN_FOLDER) -> Stack:
    """Return the calls of the function's code in a dump of faulthandler's.

    The last thread of a dump is the main thread. If it runs nothing of the function's, the calls are those of all
    threads that serve requests. The dump does not say which thread serves which request.

    Args:
        text: The dump, as CPython's faulthandler writes it.
        own_folder: The folder of the runtime's modules.
    """
    threads: list[list[_Call]] = []
    for line in text.splitlines():
        if line.endswith("C stack trace (most recent call first):"):
            continue  # CPython 3.14 and newer; its lines name no Python file, and the last thread stays the last
        if line.endswith("(most recent call first):"):
            threads.append([])
        elif threads and line.startswith('  File "'):
            call = _parse_call(line)
            if call:
                threads[-1].append(call)
    own_folder = os.path.join(own_folder, "")
    if not threads:
        return []
    calls = _from_the_function(threads[-1], own_folder)
    if calls:
        return calls
    server = os.path.join(own_folder, "serve", "threads.py")
    servers = (thread for thread in threads if any(file == server for file, _, _ in thread))
    serving = [calls for calls in (_from_the_function(thread, own_folder) for thread in servers) if calls]
    if len(serving) == 1:
        return serving[0]
    found: Stack = []
    for number, calls in enumerate(serving[:_THREADS], 1):
        found.append(["", 0, f"thread {number} of {len(serving)}, of which one serves this request:", ""])
        found += calls[-_THREAD_CALLS:]
    return found


def stacks_by_request(entries: object) -> dict[int, Stack]:
    """Return the stacks in a runtime's answer to DUMP by the request's id, without those in a wrong form."""
    found: dict[int, Stack] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("stack"), list):
            stack = [call for call in entry["stack"] if isinstance(call, list)]
            if stack:
                found[entry["id"]] = stack
    return found


def no_stack(dump: bytes | bytearray, stage: str, asked: bool, starting: bool) -> Stack:
    """Return the reason why there is no stack, in the form of a stack.

    Args:
        dump: What the worker wrote to the dump pipe.
        stage: The stage of its start.
        asked: Whether it was asked for its stacks.
        starting: Whether it was not ready yet.
    """
    if not asked:
        why = "the runtime has not said that it can write one"
    elif b"Fatal Python error" in dump:
        why = "the interpreter crashed while it wrote one"
    elif b" in _wait_for\n" in dump and stage == BEFORE_FORK:
        why = "the template was forking the worker; a fork hook of the function's (os.register_at_fork) may hang"
    elif dump.strip() and starting:
        why = "the worker was not in the function's code"
    elif b"/asyncio/" in dump:
        why = "the worker's event loop was waiting, and does not say for what"
    elif dump.strip():
        why = "the worker was not in the function's code, but decoding the event, or encoding or sending the result"
    else:
        why = "the worker did not write one; it blocks signals, or sits in the kernel"
    return [["", 0, f"no stack: {why}", ""]]


def _from_the_function(thread: list[_Call], own_folder: str) -> Stack:
    """Return a thread's calls from the first one of the function's code on."""
    calls = thread[::-1]
    while calls and (calls[0][0].startswith((own_folder, "<frozen importlib")) or _calls_the_function(calls[0][0])):
        del calls[0]
    return [[file, number, function, ""] for file, number, function in calls]


def _calls_the_function(file: str) -> bool:
    """Return whether a file is a module of threading's or of the event loop's. No handler's module can be one."""
    folder, name = os.path.split(file)
    return os.path.basename(folder) == "asyncio" or name in ("threading.py", "selectors.py")


def _parse_call(line: str) -> _Call | None:
    file, found, rest = line[len('  File "') :].rpartition('", line ')
    number, _, function = rest.partition(" in ")
    if not found or not number.isdecimal() or len(number) > _LINE_DIGITS:
        return None
    return file, int(number), function
