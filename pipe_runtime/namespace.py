"""Keep two sets of modules in one process: the runtime's own, and the function's, as in a clean interpreter.

A function's folder may hold a ``token.py``, a ``json.py`` or another ``msgpack``. The function gets its own. The
runtime keeps what it has; what it imports later comes from the standard library's own folders. This module must not
know handlers or frames.
"""

from __future__ import annotations

import _thread
import os
import sys
from _frozen_importlib import BuiltinImporter, FrozenImporter, module_from_spec
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType, TracebackType
    from typing import Any

_ModuleType = type(sys)
_import = __import__  # a function may replace the one in builtins
_RUNTIME = __name__.partition(".")[0]
_CALLERS = ("threading", "asyncio", "importlib", "_frozen_importlib", "_frozen_importlib_external")


def _library_path() -> list[str]:
    home = os.path.dirname(os.__file__)
    found = [home, os.path.join(home, "lib-dynload")]
    archive = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    for entry in sys.path:
        # Some systems split lib and lib64. Only folders under the interpreter's own prefixes count.
        ours = entry.startswith((sys.base_prefix + os.sep, sys.base_exec_prefix + os.sep))
        if ours and os.path.basename(entry) in ("lib-dynload", archive) and entry not in found:
            found.append(entry)
    return found


_LIBRARY = _library_path()

_held: dict[str, ModuleType] = {}
"""The modules that `stdlib` has returned: a second call costs a dictionary lookup."""

_private: dict[str, ModuleType] = {}
"""Modules of the runtime that are not in sys.modules, because the function has another module of that name."""


def spec_of(module: object) -> ModuleSpec | None:
    """Return a module's spec, or None, without running a module-level ``__getattr__``."""
    spec: ModuleSpec | None = module.__dict__.get("__spec__") if isinstance(module, _ModuleType) else None
    return spec


def find(name: str, path: Sequence[str]) -> ModuleSpec | None:
    """Return where a clean interpreter with this path finds the module `name`. Nothing is imported."""
    spec = BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name)
    return spec or PathFinder.find_spec(name, path)


def same_origin(one: ModuleSpec | None, other: ModuleSpec | None) -> bool:
    """Return whether both specs stand for one file."""
    if one is None or other is None or not one.origin or not other.origin:
        return False
    if one.origin == other.origin:
        return True
    try:
        return os.path.samefile(one.origin, other.origin)
    except (OSError, ValueError):
        return False


def is_standard(spec: ModuleSpec | None) -> bool:
    """Return whether a top-level module is the standard library's, by where it lies and not by its name."""
    if spec is None:
        return False
    loader: object = spec.loader
    if loader is BuiltinImporter or loader is FrozenImporter:
        return True
    if not spec.has_location or not spec.origin:
        return False
    folder, file = os.path.split(spec.origin)
    if file.partition(".")[0] == "__init__":
        folder = os.path.dirname(folder)
    return folder in _LIBRARY


def _shadowed(name: str, path: Sequence[str]) -> bool:
    # Built-in and frozen modules come before every folder, in a clean interpreter too. A folder without __init__ has no
    # origin, and loses to any module further down the path.
    spec = find(name, path)
    return spec is not None and spec.has_location and not same_origin(spec, spec_of(sys.modules.get(name)))


def _elsewhere(name: str) -> bool:
    # Another interpreter, or a virtual environment, may lack what the init has brought along, or have another version.
    return not same_origin(PathFinder.find_spec(name, sys.path), spec_of(sys.modules[name]))


def _take_out(tops: Collection[str]) -> dict[str, ModuleType]:
    if not tops:
        return {}
    taken = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in tops}
    for name in taken:
        sys.modules.pop(name, None)
    return taken


def _tops(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


class _OwnLibrary:
    """While it is entered, this thread's imports find the standard library and the runtime's own modules only.

    sys.path stays as it is, because other threads import at the same time. Meanwhile they see sys.modules without the
    function's modules of the same names; that cannot be avoided, since all threads share one sys.modules. Enter it
    around an import, or around a call into the standard library that imports late by itself. Never enter it around the
    function's code.
    """

    def __init__(self) -> None:
        self.lock = _thread.RLock()
        self._depth = 0
        self._thread = 0
        self._found: set[str] = set()
        self._aside: dict[str, ModuleType] = {}

    def __enter__(self) -> None:
        self.lock.acquire()
        self._depth += 1
        if self._depth > 1:
            return
        self._thread = _thread.get_ident()
        self._found = set()
        library = sys.stdlib_module_names
        named = [(name, module) for name, module in list(sys.modules.items()) if name in library]
        foreign = {name for name, module in named if not is_standard(spec_of(module))}
        self._aside = _take_out(foreign | _tops(_private))
        sys.modules.update(_private)
        sys.meta_path.insert(0, self)

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._depth == 1:
                self._leave()
        finally:
            self._depth -= 1
            self.lock.release()

    def _leave(self) -> None:
        self._thread = 0
        if self in sys.meta_path:  # code that the import ran may have put another list in its place
            sys.meta_path.remove(self)
        kept_apart = _tops(_private) | _tops(self._aside)
        leaving = set()
        for name in self._found | kept_apart:
            module = sys.modules.get(name)
            # Another thread may have loaded the function's module of this name meanwhile, which must stay.
            ours = module is not None and (_private.get(name) is module or is_standard(spec_of(module)))
            if ours and (name in kept_apart or _shadowed(name, sys.path)):
                leaving.add(name)
        _private.update(_take_out(leaving))
        sys.modules.update(self._aside)
        self._aside = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Find a module for the import system. Raise instead of returning None, so that no other finder is asked."""
        if _thread.get_ident() != self._thread:
            return None
        top = name.partition(".")[0]
        if path is None or top in sys.stdlib_module_names or top in _private or top == _RUNTIME:
            spec = find(name, _LIBRARY if path is None else path)
            if spec is not None and (spec.origin or path is not None):
                self._found.add(top)
                return spec
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


own_library = _OwnLibrary()
after_import: list[Callable[[], None]] = []
"""Called after each import of `stdlib`, which asks no finder on sys.meta_path."""

# A fork during another thread's import would leave the child without the function's modules, and with a lock that stays
# held.
os.register_at_fork(
    before=own_library.lock.acquire,
    after_in_parent=own_library.lock.release,
    after_in_child=own_library.lock.release,
)


def stdlib(name: str) -> ModuleType:
    """Import a module of the standard library for the runtime's own use, at any time, in any thread.

    Args:
        name: Its dotted name. The module itself is returned, not its top-level package.

    Raises:
        ImportError: The standard library has no such module, whatever the function's folder holds.
    """
    module = _held.get(name)
    if module is None:
        with own_library:
            _import(name)
            module = sys.modules[name]
            # With those of ours that it has imported: a forked worker that looked for one would touch every module.
            _held.update((each, found) for each, found in sys.modules.items() if each.startswith(_RUNTIME + "."))
            _held[name] = module
        for each in after_import:
            each()
    return module


class _Late:
    """Import modules of the standard library at their first use: `late.json` is the module json.

    To import all of them before the handler is loaded would add 33 ms to each start (14.6 ms without asyncio).
    """

    def __getattr__(self, name: str) -> ModuleType:
        if name not in LATE_MODULES:
            raise AttributeError(name)  # a function may look at every object that there is
        module = self.__dict__[name] = stdlib(LATE_MODULES[name])
        return module


LATE_MODULES = {name.replace(".", "_"): name for name in (
    "_collections_abc", "_contextvars", "asyncio", "base64", "binascii", "collections", "copy", "ctypes", "dataclasses",
    "datetime", "gc", "inspect", "json", "linecache", "re", "threading", "traceback", "types", "typing", "urllib.parse",
    "uuid", "warnings",
)}  # fmt: skip
"""The modules that the runtime imports late: {attribute of `late`: module}."""

late: Any = _Late()


def source_line(file: str, line: int, variables: dict[str, object] | None) -> str:
    """Return a line of source code without its indentation; "" where there is none.

    CPython 3.14's linecache imports tokenize only when it reads a file, and that must not be the function's.

    Args:
        file: A path, or the name that a module's loader knows.
        line: Its number, from 1 on.
        variables: The module's, whose loader is asked if there is no such file.

    Raises:
        BaseException: What the loader raises, which is the function's code.
    """
    linecache = late.linecache
    linecache.checkcache(file)
    if file not in linecache.cache:
        with own_library:
            linecache.getlines(file)
    found: str = linecache.getline(file, line) or linecache.getline(file, line, variables)
    return found.strip()


def own(name: str) -> ModuleType:
    """Import a module of the runtime that only some functions need, such as ``adapters.wsgi``, as `stdlib` does."""
    return stdlib(f"{_RUNTIME}.{name}")


def own_alone(name: str) -> ModuleType:
    """Execute one of the runtime's own modules that imports nothing but built-in modules, such as ``log.root_handler``.

    Unlike `own` it takes no lock, so it works while any other import goes on.
    """
    folder = os.path.join(os.path.dirname(__file__), *name.split(".")[:-1])
    spec = PathFinder.find_spec(f"{_RUNTIME}.{name}", [folder])
    assert spec is not None and spec.loader is not None, f"{name} is no module of ours"
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_own(frame: FrameType) -> bool:
    """Return whether a frame runs the runtime's own code."""
    return f"{frame.f_globals.get('__package__')}.".startswith(f"{_RUNTIME}.")


def calls_of(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    """Return a traceback's calls in the function's code, as without_own() does. There are none if only ours ran."""
    calls = []
    while traceback is not None:
        calls.append((traceback.tb_frame, traceback.tb_lineno or 0))  # None for an instruction that belongs to no line
        traceback = traceback.tb_next
    return without_own(calls)


def without_own(calls: list[tuple[FrameType, int]]) -> list[tuple[FrameType, int]]:
    """Return calls, as (frame, line) with the most recent last, without the runtime's own, and without what lies below.

    What lies below the function's first call is the runtime's, or calls it: threading, asyncio, the import system.
    """
    start = 0
    while start < len(calls) and (is_own(calls[start][0]) or _is_caller(calls[start][0])):
        start += 1
    return [call for call in calls[start:] if not is_own(call[0])]


def _is_caller(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _CALLERS


def _folders(layer: str) -> list[str]:
    python = os.path.join(layer, "python")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = os.path.join(python, "lib", version, "site-packages")
    return [folder for folder in (packages, python) if os.path.isdir(folder)] or [layer]


def prepare(code_dir: str, layers: Sequence[str], baseline: Collection[str], handler: str) -> None:
    """Make sys.path, sys.argv, ``__main__`` and sys.modules the function's own, once, before its handler is loaded.

    Args:
        code_dir: The function's folder, which comes first on sys.path.
        layers: Folders that come next. Of a layer these are python/lib/pythonX.Y/site-packages and python, or the layer
            itself if it has neither. Their .pth files are not read.
        baseline: The names that were in sys.modules when the interpreter had started. They are never touched.
        handler: The handler's name, as given; it becomes sys.argv[0].
    """
    path = [os.path.abspath(code_dir), *(folder for layer in layers for folder in _folders(os.path.abspath(layer)))]
    sys.path[0:0] = path
    sys.argv = [handler]
    _held["__main__"] = sys.modules["__main__"]
    # Without __file__ and __spec__: multiprocessing's spawn would run them again in each child.
    main = _ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    ours = {name for name in sys.modules if "." not in name and name not in baseline and name != "__main__"}
    foreign = {name for name in ours - sys.stdlib_module_names - {_RUNTIME} if _elsewhere(name)}
    before = path + _before_library(sys.path[len(path) :])
    _private.update(_take_out(foreign | {name for name in ours if _shadowed(name, before)}))


def _before_library(path: Sequence[str]) -> list[str]:
    # The folders of PYTHONPATH, which the runtime's own imports have passed over.
    for index, entry in enumerate(path):
        if entry in _LIBRARY:
            return list(path[:index])
    return []
