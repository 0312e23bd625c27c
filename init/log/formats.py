"""Read the calls of the function's code out of a dump of stacks."""

from __future__ import annotations

import os

_LINE_DIGITS = 9
"""Digits of a line number, at most: int() refuses thousands of them, and who knows who wrote them."""

_THREADS = 10
"""Threads shown of those that may serve a request, at most."""

_THREAD_CALLS = 10
"""Calls shown of each."""

_Call = tuple[str, int, str]
"""File, line, function."""


def parse_stacks(text: str, own_folder: str) -> list[list[object]]:
    """The calls of the function's code in a faulthandler dump, most recent last.

    Those of the last thread, which is the main one; where that is at nothing of the function's, of the threads that
    serve requests: of all of them, as it is not known whose each is.

    text: as CPython's faulthandler writes it. own_folder: of the runtime's modules, whose calls are cut at the start.
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
    found: list[list[object]] = []
    for number, calls in enumerate(serving[:_THREADS], 1):
        found.append(["", 0, f"thread {number} of {len(serving)}, of which one serves this request:", ""])
        found += calls[-_THREAD_CALLS:]
    return found


def _from_the_function(thread: list[_Call], own_folder: str) -> list[list[object]]:
    """A thread's calls, most recent last, from the first one of the function's code on."""
    calls = thread[::-1]
    while calls and (calls[0][0].startswith((own_folder, "<frozen importlib")) or _calls_the_function(calls[0][0])):
        del calls[0]
    return [[file, number, function, ""] for file, number, function in calls]


def _calls_the_function(file: str) -> bool:
    """Whether it is threading's or the event loop's. By its name: no handler's module may have that of such a one."""
    folder, name = os.path.split(file)
    return os.path.basename(folder) == "asyncio" or name in ("threading.py", "selectors.py")


def _parse_call(line: str) -> _Call | None:
    file, found, rest = line[len('  File "') :].rpartition('", line ')
    number, _, function = rest.partition(" in ")
    if not found or not number.isdecimal() or len(number) > _LINE_DIGITS:
        return None
    return file, int(number), function
