"""Say in one line what to do if a function's module, its handler or a module that it imports was not found.

This module compares HANDLER with the names of files and of what they define. It runs nothing and changes nothing.
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
"""Bytes of a source file that are looked at."""

MAX_NAMES, MAX_NAME = 200, 64
"""Names of a file that are looked at, and their length. To compare names costs the square of it."""

MAX_ENTRIES = 2000
"""Entries of folders that are looked at in search of a file."""

USUAL_MODULES = ("index", "lambda_function", "main", "app", "handler", "function")
USUAL_FUNCTIONS = ("handler", "lambda_handler", "main_handler", "main", "handle", "app", "application")
"""Names that platforms and frameworks use, the most frequent first."""

ENVIRONMENTS = (".venv", "venv", "env")
"""Folders of virtual environments, beside a function's code."""

VENDORED = ("package", "packages", "python", "vendor", "lib", "libs", "dependencies")
"""Folders in which deployment packages and layers keep their dependencies."""

_DEFINED = re.compile(rb"^(?:(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(|(app|application|handler)[ \t]*=[^=])", re.M)
_NO_MODULE = re.compile(r"No module named '([A-Za-z_]\w*)[\w.]*'$")


def of_loading(kind: str, message: str, options: RunOptions) -> str:
    """Return what to do about an error of the runtime, as one line; "" if nothing is known.

    Args:
        kind: Its type.
        message: Its text.
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
    """Return how to make a module importable that the function imports and Python did not find."""
    code_dir = str(options.code_dir)
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
    """Return the folder of the handler's module, and HANDLER as named from there; None if it is the code directory."""
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
    """Return the command that runs the handler as part of the package that its code directory is; "" if it is none."""
    below = os.path.basename(os.path.abspath(options.code_dir))
    above = os.path.normpath(os.path.join(options.code_dir, os.pardir))
    if not below.isidentifier() or not f"{above}{options.handler}".isprintable() or "/" in options.handler:
        return ""
    return f"`pipe-init run {below}.{options.handler} -C {quote(above)}`"


def _is_module(path: str) -> bool:
    return os.path.isfile(f"{path}.py") or os.path.isdir(path)


def _of_hook(message: str, options: RunOptions) -> str:
    """Return the defined name that resembles the name of a hook that was not found."""
    found = re.match(r"Handler '(\w+)' missing on module '([\w.]+)'", message)
    if found is None:
        return ""
    names = _functions(os.path.join(options.code_dir, *found[2].split(".")) + ".py")
    close = get_close_matches(found[1][:MAX_NAME], names, 1)
    return f"there is {found[2]}.{close[0]}" if close else ""


def _is_about_handler(kind: str, message: str, handler: str) -> bool:
    """Return whether HANDLER was not found, and not a hook."""
    if kind == "Runtime.MalformedHandlerName":
        return message.startswith(f"Bad handler '{handler}'")
    quoted = re.search(r"'([^']*)'", message)
    return quoted is not None and quoted[1].rpartition(".")[2] in re.split(r"[./:]", handler)


def _find(options: RunOptions) -> tuple[str, str, str] | None:
    """Return (folder, module, function) of what HANDLER most likely means."""
    for place, modules, function in _readings(options):
        chosen = _choose(_functions(os.path.join(place, *modules) + ".py"), function)
        if chosen:
            return os.path.normpath(place), ".".join(modules), chosen
    return None


def _readings(options: RunOptions) -> Iterator[tuple[str, list[str], str]]:
    """Yield each (folder, modules, function) that HANDLER may mean, however it is spelled, likely ones first."""
    handler = options.handler.strip()
    if "\0" in handler:
        return
    place, _, last = handler.rstrip("/").rpartition("/")
    folder = os.path.join(options.code_dir, place or ("/" if handler.startswith("/") else ""))
    parts = [part for part in re.split(r"[.:()]+", last) if part]
    if "py" in parts[1:]:
        parts.remove("py")  # it is a file's name
    for count in range(len(parts), 0, -1):
        yield folder, parts[:count], "".join(parts[count : count + 1])
    if place and len(parts) == 1:  # index/handler
        yield os.path.dirname(folder), [os.path.basename(folder)], parts[0]
    for usual in USUAL_MODULES:
        yield os.path.join(folder, last), [usual], ""
    if parts:
        below = list(islice(_folders_with(str(options.code_dir), f"{parts[0]}.py"), 2))
        if len(below) == 1:  # one of several would be a guess
            yield below[0], parts[:1], "".join(parts[1:2])
    for usual in USUAL_MODULES:
        yield str(options.code_dir), [usual], ""


def _folders_with(code_dir: str, name: str) -> Iterator[str]:
    """Yield the folders, up to two below the code directory, that have a file of this name."""
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
    """Return the names that a file defines at its top and that may be handlers."""
    source = read_plain(path, MAX_FILE)
    found = () if source is None else _DEFINED.finditer(source)
    names = ((match[1] or match[2]).decode("utf-8", "replace") for match in found)
    return [name for name in islice(names, MAX_NAMES) if name.isidentifier() and len(name) <= MAX_NAME]


def _choose(names: list[str], wanted: str) -> str:
    """Return the name that is most likely meant: the same, a similar, a usual or the only name; "" if none is."""
    if wanted in names:
        return wanted
    if not names:
        return ""
    close = get_close_matches(wanted, names, 1) if wanted else []
    usual = [name for name in USUAL_FUNCTIONS if name in names]
    return next(iter((*close, *usual)), names[0] if len(names) == 1 else "")
