"""Keep two sets of modules in one process: the runtime's own modules, and those that the function imports.

A function's folder may contain a ``token.py``, a ``json.py`` or another version of ``msgpack``. The function must get
these modules, as in a new interpreter. The runtime must not get them. It keeps the modules that it has loaded, and
imports others only from the standard library's own folders. This module must not know handlers or frames.
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
_import = __import__  # kept here, because the function may replace builtins.__import__
_RUNTIME = __name__.partition(".")[0]
_CALLERS = ("threading", "asyncio", "importlib", "_frozen_importlib", "_frozen_importlib_external")


_HOME = os.path.dirname(os.__file__)
_DYNAMIC = os.path.join(sys.base_exec_prefix, sys.platlibdir, os.path.basename(_HOME), "lib-dynload")
_LIBRARY = (_HOME, os.path.join(_HOME, "lib-dynload"), _DYNAMIC)  # on some systems, lib-dynload is under lib64 only

_held: dict[str, ModuleType] = {}
"""The modules that `stdlib` has returned, so that the next call for one of them only looks it up here."""

_private: dict[str, ModuleType] = {}
"""The runtime's modules that are not in sys.modules, because the function has other modules of the same names."""


def spec_of(module: object) -> ModuleSpec | None:
    """Return a module's spec, or None, without running a module-level ``__getattr__``."""
    spec: ModuleSpec | None = module.__dict__.get("__spec__") if isinstance(module, _ModuleType) else None
    return spec


def find(name: str, path: Sequence[str]) -> ModuleSpec | None:
    """Return the spec of the module `name` as a new interpreter with this path would find it. Import nothing."""
    spec = BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name)
    return spec or PathFinder.find_spec(name, path)


def same_origin(one: ModuleSpec | None, other: ModuleSpec | None) -> bool:
    """Return whether both specs refer to the same file."""
    if one is None or other is None or not one.origin or not other.origin:
        return False
    if one.origin == other.origin:
        return True
    try:
        return os.path.samefile(one.origin, other.origin)
    except (OSError, ValueError):
        return False


def is_standard(spec: ModuleSpec | None) -> bool:
    """Return whether a top-level module belongs to the standard library. Check its place, and not its name."""
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
    # Return whether a new interpreter would find another module of this name than the loaded one. It finds built-in and
    # frozen modules before it searches any folder. A folder without __init__.py counts only if no module is found.
    spec = find(name, path)
    return spec is not None and spec.has_location and not same_origin(spec, spec_of(sys.modules.get(name)))


def _elsewhere(name: str) -> bool:
    # Return whether the function would find another module of this name, or none. The runtime's module comes from the
    # init's installation. The function's interpreter or virtual environment may lack it, or have another version.
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
    """A context manager: inside of it, this thread imports only the standard library and the runtime's own modules.

    sys.path does not change, because other threads may import at the same time. All threads share sys.modules. So
    meanwhile the other threads do not see those modules of the function that have names of the standard library. Use it
    for an import, or for a call into the standard library that imports a module itself. Never run the function's code
    inside of it.
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
        if self in sys.meta_path:  # other code may have replaced sys.meta_path meanwhile
            sys.meta_path.remove(self)
        kept_apart = _tops(_private) | _tops(self._aside)
        leaving = set()
        for name in self._found | kept_apart:
            module = sys.modules.get(name)
            # Another thread may meanwhile have loaded the function's module of this name. That one must stay.
            ours = module is not None and (_private.get(name) is module or is_standard(spec_of(module)))
            if ours and (name in kept_apart or _shadowed(name, sys.path)):
                leaving.add(name)
        _private.update(_take_out(leaving))
        sys.modules.update(self._aside)
        self._aside = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Find a module for the import system. If there is none, raise, so that the import system asks no other finder.

        For other threads, return None, so that the other finders handle their imports.
        """
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
"""Callables to call after `stdlib` has imported a module. Other finders on sys.meta_path do not see that import."""

# A fork waits until no thread is inside of own_library. Otherwise the child would lack modules of the function, and the
# lock would stay locked in it.
os.register_at_fork(
    before=own_library.lock.acquire,
    after_in_parent=own_library.lock.release,
    after_in_child=own_library.lock.release,
)


def stdlib(name: str) -> ModuleType:
    """Return a module of the standard library for the runtime's own use. Any thread may call this at any time.

    Args:
        name: The module's dotted name. The function returns this module, not its top-level package.

    Raises:
        ImportError: The standard library has no such module. Modules in the function's folder do not count.
    """
    module = _held.get(name)
    if module is None:
        with own_library:
            _import(name)
            module = sys.modules[name]
            # Also keep the runtime's modules that this import has loaded. Otherwise a forked worker would enter
            # own_library for each. That looks at every module, and so copies its memory.
            _held.update((each, found) for each, found in sys.modules.items() if each.startswith(_RUNTIME + "."))
            _held[name] = module
        for each in after_import:
            each()
    return module


class _Late:
    """Import modules of the standard library at their first use: `late.json` is the module json.

    To import all of them at each start would take 33 ms (14.6 ms without asyncio).
    """

    def __getattr__(self, name: str) -> ModuleType:
        if name not in LATE_MODULES:
            raise AttributeError(name)  # not KeyError: code that finds this object through gc may ask for any name
        module = self.__dict__[name] = stdlib(LATE_MODULES[name])
        return module


LATE_MODULES = {name.replace(".", "_"): name for name in (
    "_collections_abc", "_contextvars", "_json", "asyncio", "base64", "binascii", "collections", "copy", "ctypes",
    "dataclasses", "datetime", "gc", "inspect", "json", "linecache", "re", "threading", "traceback", "types", "typing",
    "urllib.parse", "uuid", "warnings",
)}  # fmt: skip
"""The modules that the runtime imports late: {attribute of `late`: module}."""

late: Any = _Late()


def source_line(file: str, line: int, variables: dict[str, object] | None) -> str:
    """Return a line of source code without its indentation; "" if the line does not exist.

    In CPython 3.14, linecache imports tokenize when it first reads a file. It must not get the function's tokenize.py.

    Args:
        file: A path, or a name that a module's loader knows.
        line: The number of the line, from 1 on.
        variables: The globals of the module. If the file does not exist, linecache asks the loader that they name.

    Raises:
        BaseException: An exception of the loader, which may be the function's code.
    """
    linecache = late.linecache
    linecache.checkcache(file)
    if file not in linecache.cache:
        with own_library:
            linecache.getlines(file)
    found: str = linecache.getline(file, line) or linecache.getline(file, line, variables)
    return found.strip()


def own(name: str) -> ModuleType:
    """Import, as `stdlib` does, a module of the runtime that only some functions need, such as ``adapters.wsgi``."""
    return stdlib(f"{_RUNTIME}.{name}")


def own_alone(name: str) -> ModuleType:
    """Execute a module of the runtime that imports only built-in modules, such as ``log.root_handler``, and return it.

    Unlike `own`, this takes no lock, so it works while any thread imports any other module.
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
    """Return a traceback's calls as without_own() does. The list is empty if only the runtime's own code ran."""
    calls = []
    while traceback is not None:
        calls.append((traceback.tb_frame, traceback.tb_lineno or 0))  # tb_lineno is None if the code belongs to no line
        traceback = traceback.tb_next
    return without_own(calls)


def without_own(calls: list[tuple[FrameType, int]]) -> list[tuple[FrameType, int]]:
    """Return the calls of a stack that belong to the function, as (frame, line) with the most recent call last.

    Leave out the runtime's calls. Also leave out threading, asyncio and the import system before the function's first.
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
    """Set sys.path, sys.argv, ``__main__`` and sys.modules for the function. Call this once, before it is loaded.

    Args:
        code_dir: The function's folder, which comes first on sys.path.
        layers: Folders that come next on sys.path. From each layer, python/lib/pythonX.Y/site-packages and python are
            used, or the layer itself if it has neither. .pth files in them are not read.
        baseline: The names in sys.modules before the runtime imported any module. These modules stay in sys.modules.
        handler: The handler's name, as given. It becomes sys.argv[0].
    """
    path = [os.path.abspath(code_dir), *(folder for layer in layers for folder in _folders(os.path.abspath(layer)))]
    sys.path[0:0] = path
    sys.argv = [handler]
    _held["__main__"] = sys.modules["__main__"]
    # The new __main__ has no __file__ and no __spec__: multiprocessing's spawn would run that file in each child.
    main = _ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    ours = {name for name in sys.modules if "." not in name and name not in baseline and name != "__main__"}
    foreign = {name for name in ours - sys.stdlib_module_names - {_RUNTIME} if _elsewhere(name)}
    before = path + _before_library(sys.path[len(path) :])
    _private.update(_take_out(foreign | {name for name in ours if _shadowed(name, before)}))


def _before_library(path: Sequence[str]) -> list[str]:
    # Return the folders of PYTHONPATH. The runtime's own imports did not search these folders first.
    for index, entry in enumerate(path):
        if entry in _LIBRARY:
            return list(path[:index])
    return []
