"""Tell the user about failed outcomes: show the error, the source lines of its stack, and a hint on what to do.

This file knows terminals, and the options for errors. It does not know workers. The texts of an error, and the file
names in its stack, come from a process that may be hostile. So this file reads only plain Python files in the
function's own folders, and only up to a limit.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from io import StringIO

from ...kernel.plain_files import read_plain
from ...log.error_formats import calls_of, error_object, error_text, logged
from ...log.journal import ERROR, INFO, Journal
from ...log.json_lines import to_line
from ...model import Function, Metadata, Outcome
from ..options.run_options import RunOptions
from .terminal import for_stderr, is_terminal, red, wants_colour

MAX_HINTED = 100
"""How many failed events of a run the init searches for hints. Later events most likely fail for the same reasons."""

MAX_BYTES = 1024 * 1024
"""The largest file in bytes from which to show source lines. A longer file is not read."""

MAX_FILES = 16
"""The most files to read for one error."""

MAX_LINE = 1000
"""The most characters to show of a source line."""


class Failures:
    """Tell the user about the failed outcomes of one run.

    Args:
        options: The options of the run.
        function: The function that runs.
        journal: The log, on stderr.
    """

    def __init__(self, options: RunOptions, function: Function, journal: Journal) -> None:
        self._options = options
        self._journal = journal
        self._is_json = function.hello.get("log_format") == "json"
        self._folders = [function.hello["code_dir"], *function.hello.get("layers", [])]
        self._hints: set[str] = set()
        self._hinted = 0

    def find_source(self, outcome: Outcome) -> None:
        """Add source lines to the stack of an outcome's error, for calls that have only a file and a line number."""
        if outcome.problem is not None:
            outcome.problem = with_source(outcome.problem, [os.path.abspath(folder) for folder in self._folders])

    def show(self, outcome: Outcome) -> None:
        """Write the error of an outcome to the log, in the style that the options ask for."""
        self.find_source(outcome)
        style, failure = self._options.error_style, outcome.problem or {}
        if style == "text" or (style == "auto" and is_terminal(2) and not self._is_json):
            text = error_text(failure).rstrip("\n")
        else:
            error = error_object("fc" if style == "fc" else "lambda", failure, outcome.request_id)
            text = to_line(logged(error) if self._is_json else error).decode()
        text = for_stderr(text)
        if text.startswith("{"):
            self._journal.say(text)
        else:
            coloured = wants_colour(2) and not self._is_json
            self._journal.tell(red(text) if coloured else text, ERROR, outcome.request_id)

    def hint(self, outcome: Outcome) -> None:
        """Write a hint on what to do about an outcome's error, if there is one. Write each hint only once in a run."""
        options, problem = self._options, outcome.problem
        if problem is None or options.quiet or self._hinted >= MAX_HINTED:
            return
        self._hinted += 1
        from .hints import hint  # imported late, because a run without errors does not need it

        text = hint(problem, options)
        if text and text not in self._hints:
            self._hints.add(text)
            self._journal.tell(for_stderr(f"pipe-init: hint: {text}"), INFO)


def with_source(problem: Metadata, folders: Sequence[str]) -> Metadata:
    """Return an error with a source line for each call of its stack that had none, as far as files can be read.

    Args:
        problem: The metadata of an ERROR frame.
        folders: The function's own folders, as absolute paths: the code directory and the layers.
    """
    calls = calls_of(problem)
    wanted: dict[str, set[int]] = {}
    for file, number, _, source in calls:
        if file.endswith(".py") and number > 0 and not source and (file in wanted or len(wanted) < MAX_FILES):
            wanted.setdefault(file, set()).add(number)
    if not wanted:
        return problem
    lines = {file: read_lines(file, numbers, folders) for file, numbers in wanted.items()}
    found = [
        [file, number, function, source or lines.get(file, {}).get(number, "")]
        for file, number, function, source in calls
    ]
    return {**problem, "stack": found}


def read_lines(file: str, numbers: Collection[int], folders: Sequence[str]) -> dict[int, str]:
    """Return {number: line without blanks around it} for a plain file in one of `folders`; {} for any other file.

    Within a folder, follow no symbolic link, and read nothing from another mount. So the init never waits for the
    writer of a FIFO, or for a file system that a process of the function serves.

    Args:
        file: The file's absolute path.
        numbers: The numbers of the lines to return, counted from 1. Other lines are not kept in memory, because a file
            may have a million.
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
    """Return the content of the file at the path `names` in `folder`; None if the init must not or cannot read it."""
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
        # Open the file by its descriptor, because the name may already mean another file.
        data = read_plain(f"/proc/self/fd/{opened[-1]}", MAX_BYTES + 1)
        return data if data is not None and len(data) <= MAX_BYTES else None
    except (OSError, ValueError):
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _mount(descriptor: int) -> str:
    """Return the number of the mount that an open file is on; "" if proc(5) does not have it."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as info:
            _, _, rest = info.read(4096).partition("mnt_id:")
            return rest.split(None, 1)[0] if rest else ""
    except OSError:
        return ""
