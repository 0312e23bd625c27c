"""Parse the stacks that a worker has written: faulthandler's text, or its answer to DUMP. Say why there are none.

A stack is a list of calls in the form of ERROR's `stack` (docs/protocol.md), the most recent call last. The worker may
be hostile, so it may write anything. This module knows no process and no policy.
"""

from __future__ import annotations

import os

from pipe_runtime import wire

from ..model import BEFORE_FORK, Stack

OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(wire.__file__)))
"""The folder of the runtime's modules. The runtime's calls at the start of a stack are left out."""

_LINE_DIGITS = 9
"""The most digits of a line number. A function can write longer ones, and int() raises an error at thousands."""

_THREADS = 10
"""The most threads to show, if several threads may serve the request."""

_THREAD_CALLS = 10
"""The most calls to show of each of these threads."""

_Call = tuple[str, int, str]
"""File, line, function."""


def parse_stacks(text: str, own_folder: str = OWN_FOLDER) -> Stack:
    """Return the calls of the function's code from a dump of faulthandler.

    The last thread of a dump is the main thread. If the main thread does not run the function's code, return the calls
    of all threads that serve requests, because the dump does not say which thread serves which request.

    Args:
        text: The dump, as CPython's faulthandler writes it.
        own_folder: The folder of the runtime's modules.
    """
    threads: list[list[_Call]] = []
    for line in text.splitlines():
        if line.endswith("C stack trace (most recent call first):"):
            continue  # CPython 3.14 and newer write this; it is not a thread, and its lines name no Python file
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
    """Return the well-formed stacks from a runtime's answer to DUMP, by the request's id."""
    found: dict[int, Stack] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("stack"), list):
            stack = [call for call in entry["stack"] if isinstance(call, list)]
            if stack:
                found[entry["id"]] = stack
    return found


def no_stack(dump: bytes | bytearray, stage: str, asked: bool, starting: bool, ended: bool = False) -> Stack:
    """Return the reason why there is no stack, in the form of a stack.

    Args:
        dump: The bytes that the worker has written to the dump pipe.
        stage: The stage of the worker's start (model.py).
        asked: Whether the init has asked the worker for its stacks.
        starting: Whether the worker was not ready yet.
        ended: Whether the worker has ended, and not by a signal that the init has sent to end it.
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
    elif ended:
        why = "the worker ended before it wrote one"
    else:
        why = "the worker did not write one; it blocks signals, or sits in the kernel"
    return [["", 0, f"no stack: {why}", ""]]


def _from_the_function(thread: list[_Call], own_folder: str) -> Stack:
    """Return a thread's calls, the most recent one last, beginning with the first call of the function's code."""
    calls = thread[::-1]
    while calls and (calls[0][0].startswith((own_folder, "<frozen importlib")) or _calls_the_function(calls[0][0])):
        del calls[0]
    return [[file, number, function, ""] for file, number, function in calls]


def _calls_the_function(file: str) -> bool:
    """Return whether a file is a standard module that threads or the event loop run before the function's code."""
    folder, name = os.path.split(file)
    return os.path.basename(folder) == "asyncio" or name in ("threading.py", "selectors.py")


def _parse_call(line: str) -> _Call | None:
    file, found, rest = line[len('  File "') :].rpartition('", line ')
    number, _, function = rest.partition(" in ")
    if not found or not number.isdecimal() or len(number) > _LINE_DIGITS:
        return None
    return file, int(number), function
