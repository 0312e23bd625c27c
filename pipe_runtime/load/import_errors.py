"""Explain why a function's module could not be imported.

The runtime loads this module after an import has failed. This module must not know handlers.
"""

from __future__ import annotations

import os

from .. import namespace
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from ..wire.errors import StackEntry

_NEAR_MISSES = 5  # the most names of files in a message


def of_import(error: Exception, full: str, shown: str, place: str) -> tuple[Fault | None, bool]:
    """Return a Fault for an import that failed, and whether it failed because the module itself does not exist.

    The Fault is None if the module's own code raised an error that has nothing to do with imports or syntax.

    Args:
        error: The exception that the import raised.
        full: The module's name.
        shown: The module's name as a message shows it.
        place: The folder where the module should be.
    """
    calls = namespace.calls_of(error.__traceback__)
    if isinstance(error, SyntaxError) or (isinstance(error, ValueError) and "null bytes" in str(error)):
        # Before Python 3.12, a null byte in a source file raised ValueError.
        return _of_syntax(error, calls, full, shown, place), False
    failed = f"Unable to import module '{shown}'"
    if isinstance(error, ImportError):
        if not calls and isinstance(error, ModuleNotFoundError) and f"{full}.".startswith(f"{error.name}."):
            why = f"{error} ({_looked_for(full, place)})"
            return Fault("Runtime.ImportModuleError", f"{failed}: {why}"), True
        return Fault("Runtime.ImportModuleError", f"{failed}: {error}").with_traceback(error.__traceback__), False
    if isinstance(error, OSError) and not calls:
        return Fault("Runtime.ImportModuleError", f"{failed}: {error}"), False
    return None, False


def _of_syntax(
    error: SyntaxError | ValueError, calls: list[tuple[FrameType, int]], full: str, shown: str, place: str
) -> Fault:
    entry: StackEntry = [_source_of(full, place), 1, "<module>", ""]
    if calls:
        frame, line = calls[-1]
        code = frame.f_code
        entry = [code.co_filename, line, code.co_name, namespace.source_line(code.co_filename, line, frame.f_globals)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        entry = [error.filename, error.lineno or 1, "<module>", (error.text or "").strip()]
    return Fault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{shown}': {error}", entry)


def _source_of(full: str, place: str) -> str:
    """Return the path where the source file of a module should be."""
    path = os.path.join(place, full.rpartition(".")[2])
    return os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"


def _looked_for(full: str, place: str) -> str:
    part = full.rpartition(".")[2]
    text = f"looked for {part}.py and {part}/__init__.py in {place}"
    try:
        there = sorted(file for file in os.listdir(place) if file.endswith(".py"))
    except OSError as error:
        return f"{text}: {error.strerror}"
    if len(there) > _NEAR_MISSES:
        there[_NEAR_MISSES:] = ["…"]
    return f"{text}; there is: {', '.join(there)}" if there else f"{text}, which has no .py file"
