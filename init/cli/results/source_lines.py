"""Find the source lines of a stack from faulthandler, which gives only files and line numbers.

The file names come from the function's process, which is hostile. So only plain Python files below the function's own
folders are read, and only up to a limit. This file knows no requests.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from typing import Any

from ...kernel.plain_files import read_plain

MAX_BYTES = 1024 * 1024
"""Bytes of a file in which a line is looked up; a longer file is not read."""

MAX_FILES = 16
"""Files that are read for one error."""

MAX_LINE = 1000
"""Characters of a source line that are shown."""


def with_source(problem: Mapping[str, Any], folders: Sequence[str]) -> Mapping[str, Any]:
    """Return an error with source lines added to its stack, where they are missing and can be read.

    Args:
        problem: ERROR's metadata.
        folders: The function's own, as absolute paths: the code directory and layers.
    """
    stack = problem.get("stack")
    if not isinstance(stack, list) or not any(_lacks_source(entry) for entry in stack):
        return problem
    wanted: dict[str, set[int]] = {}
    for file, number, *_ in filter(_lacks_source, stack):
        if file in wanted or len(wanted) < MAX_FILES:
            wanted.setdefault(file, set()).add(number)
    lines = {file: read_lines(file, numbers, folders) for file, numbers in wanted.items()}
    found = []
    for entry in stack:
        if _lacks_source(entry):
            file, number, function, _ = entry
            entry = [file, number, function, lines.get(file, {}).get(number, "")]
        found.append(entry)
    return {**problem, "stack": found}


def _lacks_source(entry: object) -> bool:
    """Return whether this is a call, [file, line, function, source], whose source is missing."""
    if not isinstance(entry, list) or [type(part) for part in entry] != [str, int, str, str]:
        return False
    file, number, _, source = entry
    return file.endswith(".py") and number > 0 and not source


def read_lines(file: str, numbers: Collection[int], folders: Sequence[str]) -> dict[int, str]:
    """Return lines of a plain file below one of `folders`, stripped; no lines if it is anything else.

    Below a folder no symbolic link is followed and nothing from another mount is read. So the init never waits: neither
    for the writer of a FIFO nor for a file system that a process of the function serves.

    Args:
        file: The file's absolute path.
        numbers: The lines to return, from 1 on. Only these are kept, because a file may have a million lines.
        folders: Absolute paths.
    """
    for folder in folders:
        prefix = os.path.join(folder, "")
        if file.startswith(prefix):
            data = _read(folder, file[len(prefix) :].split("/"))
            if data is not None:
                lines = enumerate(StringIO(data.decode("utf-8", "replace"), newline=None), 1)
                return {number: line.strip()[:MAX_LINE] for number, line in lines if number in numbers}
    return {}


def _read(folder: str, names: Sequence[str]) -> bytes | None:
    """Return the content of the file to which `names` lead from `folder`; None if it must not be read."""
    if not all(names) or "." in names or ".." in names:
        return None
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        mount = _mount(opened[0])
        for name in names:
            # O_PATH does not contact the file's own file system, so a foreign one is detected before it could block.
            opened.append(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[-1]))
            if not mount or _mount(opened[-1]) != mount:
                return None
        # By descriptor, because the name may stand for another file by now.
        data = read_plain(f"/proc/self/fd/{opened[-1]}", MAX_BYTES + 1)
        return data if data is not None and len(data) <= MAX_BYTES else None
    except (OSError, ValueError):
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _mount(descriptor: int) -> str:
    """Return the number of the mount in which an open file lies; "" where proc(5) does not tell."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as info:
            _, _, rest = info.read(4096).partition("mnt_id:")
            return rest.split(None, 1)[0] if rest else ""
    except OSError:
        return ""
