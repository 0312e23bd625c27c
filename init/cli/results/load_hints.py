"""Find a hint for an error of loading: a module or a handler was not found. The hint is one line that says what to do.

This module compares HANDLER with the names of files, and with the names that these files define. It runs nothing and
changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from shlex import quote

from ...kernel.plain_files import read_plain
from ..options.run_options import RunOptions

MAX_FILE = 2**20
"""The most bytes to search of a source file."""

MAX_NAMES, MAX_NAME = 200, 64
"""The most names to compare of a file, and the length of the longest name to compare. The time for comparing two names
grows with the square of their length."""

MAX_ENTRIES = 2000
"""The most folder entries to look at in search of a file."""

USUAL_MODULES = ("index", "lambda_function", "main", "app", "handler", "function")
USUAL_FUNCTIONS = ("handler", "lambda_handler", "main_handler", "main", "handle", "app", "application")
"""Names that platforms and frameworks use, the most frequent first."""

ENVIRONMENTS = (".venv", "venv", "env")
"""Usual names of virtual environments, in the code directory."""

VENDORED = ("package", "packages", "python", "vendor", "lib", "libs", "dependencies")
"""Folders in which deployment packages and layers keep their dependencies."""

_DEFINED = re.compile(rb"^(?:(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(|(app|application|handler)[ \t]*=[^=])", re.M)
_NO_MODULE = re.compile(r"No module named '([A-Za-z_]\w*)[\w.]*'$")


def of_loading(kind: str, message: str, options: RunOptions) -> str:
    """Return a hint on what to do about an error of loading, as one line; "" if there is no hint.

    Args:
        kind: The error's type.
        message: The error's message.
        options: The options of the run.
    """
    if kind == "Runtime.ImportModuleError" and "(looked for" not in message:
        missing = _NO_MODULE.search(message)
        if missing is not None:
            return _of_missing(missing[1], options)
        return _of_relative_import(options) if "attempted relative import" in message else ""
    if kind not in ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName"):
        return ""
    if not _is_about_handler(kind, message, options.handler):
        return _of_hook(message, options)
    found = _find(options)
    if found is None:
        return ""
    folder, module, function = found
    name = f"{module}.{function}"
    if not f"{folder}{name}".isprintable():
        return ""
    place = "" if os.path.normpath(folder) == os.path.normpath(options.code_dir) else f" -C {quote(folder)}"
    if name == options.handler and not place:
        return ""
    what = " (HANDLER is module.function, not a file)" if ".py" in options.handler else ""
    return f"try `pipe-init run {name}{place}`{what}"


def _of_missing(module: str, options: RunOptions) -> str:
    """Return how to make a module importable that the function imports, but that Python did not find."""
    code_dir = options.code_dir
    for name in ENVIRONMENTS:
        path = os.path.normpath(os.path.join(code_dir, name))
        if os.path.isfile(os.path.join(path, "bin", "python")) and path.isprintable():
            return f"`--python {quote(path)}` runs the function with the packages of that environment"
    for name in VENDORED:
        path = os.path.normpath(os.path.join(code_dir, name))
        if _is_module(os.path.join(path, module)) and path.isprintable():
            return f"`--layer {quote(path)}` has {module}"
    beside = _beside(options)
    if beside and _is_module(os.path.join(beside[0], module)):
        return f"{module} is beside the handler; try `pipe-init run {beside[1]} -C {quote(beside[0])}`"
    command = _from_above(options)
    if command and _is_module(os.path.join(options.code_dir, os.pardir, module)):
        return f"{module} is in the folder above; try {command}"
    return (
        f"install {module} into the function's Python, or name the one that has it with --python, or a folder that has "
        "it with --layer"
    )


def _of_relative_import(options: RunOptions) -> str:
    command = _from_above(options)
    return f"a relative import needs the package that it is in; try {command}" if command else ""


def _beside(options: RunOptions) -> tuple[str, str] | None:
    """Return (the folder of the handler's module, HANDLER relative to it); None if it is the code directory."""
    path, colon, function = options.handler.partition(":")
    if not colon:
        path, _, function = path.rpartition(".")
    *folders, module = re.split(r"[./]", path.removeprefix("./"))
    folder = os.path.normpath(os.path.join(options.code_dir, *folders))
    name = f"{module}{colon or '.'}{function}"
    if not folders or not all(folders) or not f"{folder}{name}".isprintable():
        return None
    return folder, name


def _from_above(options: RunOptions) -> str:
    """Return the command that treats the code directory as a package, and runs the handler in it; "" if none can."""
    below = os.path.basename(os.path.abspath(options.code_dir))
    above = os.path.normpath(os.path.join(options.code_dir, os.pardir))
    if not below.isidentifier() or not f"{above}{options.handler}".isprintable() or "/" in options.handler:
        return ""
    return f"`pipe-init run {below}.{options.handler} -C {quote(above)}`"


def _is_module(path: str) -> bool:
    return os.path.isfile(f"{path}.py") or os.path.isdir(path)


def _of_hook(message: str, options: RunOptions) -> str:
    """Return a hint for a hook that was not found: a name in its module that is similar; "" if there is none."""
    found = re.match(r"Handler '(\w+)' missing on module '([\w.]+)'", message)
    if found is None:
        return ""
    names = _functions(os.path.join(options.code_dir, *found[2].split(".")) + ".py")
    close = get_close_matches(found[1][:MAX_NAME], names, 1)
    return f"there is {found[2]}.{close[0]}" if close else ""


def _is_about_handler(kind: str, message: str, handler: str) -> bool:
    """Return whether an error is about HANDLER. If not, it is about the name of a hook."""
    if kind == "Runtime.MalformedHandlerName":
        return message.startswith(f"Bad handler '{handler}'")
    quoted = re.search(r"'([^']*)'", message)
    return quoted is not None and quoted[1].rpartition(".")[2] in re.split(r"[./:]", handler)


def _find(options: RunOptions) -> tuple[str, str, str] | None:
    """Return the (folder, module, function) that HANDLER most likely means; None if no file has a likely function."""
    for place, modules, function in _readings(options):
        chosen = _choose(_functions(os.path.join(place, *modules) + ".py"), function)
        if chosen:
            return os.path.normpath(place), ".".join(modules), chosen
    return None


def _readings(options: RunOptions) -> Iterator[tuple[str, list[str], str]]:
    """Yield each (folder, names of packages and the module, function) that HANDLER may mean, the likely ones first."""
    handler = options.handler.strip()
    if "\0" in handler:
        return
    place, _, last = handler.rstrip("/").rpartition("/")
    folder = os.path.join(options.code_dir, place or ("/" if handler.startswith("/") else ""))
    parts = [part for part in re.split(r"[.:()]+", last) if part]
    if "py" in parts[1:]:
        parts.remove("py")  # HANDLER contains a file's name
    for count in range(len(parts), 0, -1):
        yield folder, parts[:count], "".join(parts[count : count + 1])
    if place and len(parts) == 1:  # HANDLER has a form such as index/handler
        yield os.path.dirname(folder), [os.path.basename(folder)], parts[0]
    for usual in USUAL_MODULES:
        yield os.path.join(folder, last), [usual], ""
    if parts:
        below = list(islice(_folders_with(options.code_dir, f"{parts[0]}.py"), 2))
        if len(below) == 1:  # if there are several, choosing one would be a guess
            yield below[0], parts[:1], "".join(parts[1:2])
    for usual in USUAL_MODULES:
        yield options.code_dir, [usual], ""


def _folders_with(code_dir: str, name: str) -> Iterator[str]:
    """Yield each folder with a file of this name: the code directory, or a folder up to two levels below it."""
    seen, level = 0, [code_dir]
    for _ in range(3):
        below: list[str] = []
        for folder in level:
            if os.path.isfile(os.path.join(folder, name)):
                yield folder
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        seen += 1
                        if seen > MAX_ENTRIES:
                            return
                        if entry.name.isidentifier() and entry.is_dir():
                            below.append(entry.path)
            except OSError:
                continue
        level = sorted(below)


def _functions(path: str) -> list[str]:
    """Return the names that a file defines at its top level and that may be handlers."""
    source = read_plain(path, MAX_FILE)
    found = () if source is None else _DEFINED.finditer(source)
    names = ((match[1] or match[2]).decode("utf-8", "replace") for match in found)
    return [name for name in islice(names, MAX_NAMES) if name.isidentifier() and len(name) <= MAX_NAME]


def _choose(names: list[str], wanted: str) -> str:
    """Return the name that `wanted` most likely means: the same, a similar, a usual or the only name; "" if none."""
    if wanted in names:
        return wanted
    if not names:
        return ""
    close = get_close_matches(wanted, names, 1) if wanted else []
    usual = [name for name in USUAL_FUNCTIONS if name in names]
    return next(iter((*close, *usual)), names[0] if len(names) == 1 else "")
