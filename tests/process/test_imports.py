"""Tests of which module may import which, and of what a runtime process imports before it is ready.

The first half reads the sources, so it also sees late imports inside functions. The second half runs a fresh
interpreter. Those imports are the cost of a cold start, and a function could have modules of the same names.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from pipe_testing.environment import unmeasured
from pipe_testing.runtime import RuntimeProcess

# What `import` may name in pipe_runtime, late or not: modules that are built in, frozen, or loaded before the
# function's path is set. Anything else comes from namespace.stdlib(), where a function's json.py cannot take its place.
RUNTIME_IMPORTS = {
    "__future__",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_signal",
    "_socket",
    "_thread",
    "atexit",
    "builtins",
    "errno",
    "faulthandler",
    "fcntl",
    "io",
    "msgpack",
    "os",
    "pipe_runtime",
    "resource",
    "select",
    "struct",
    "sys",
    "time",
}
# What is imported as the function would import it. context.logger belongs to the function's own logging, and a library
# of the function's environment makes typed events.
IMPORTS_OF = {"pipe_runtime.call.context": {"logging"}, "pipe_runtime.adapters.typed": {"msgspec", "pydantic"}}

# All that `import pipe_runtime.main` may load into an interpreter started with -I -S. More would make starts slower.
BEFORE_READY = {
    "pipe_runtime",
    *(f"pipe_runtime.{room}" for room in ("call", "io", "load", "log", "serve", "wire")),
    *(f"pipe_runtime.wire.{name}" for name in ("connection", "errors", "frames", "messages")),
    *(f"pipe_runtime.call.{name}" for name in ("codec", "context", "faults", "shorten", "usage")),
    *(f"pipe_runtime.io.{name}" for name in ("outbox", "signal_guard", "stdio")),
    "pipe_runtime.load.handler",
    "pipe_runtime.log.writer",
    *(f"pipe_runtime.serve.{name}" for name in ("function", "loop", "process")),
    "pipe_runtime.main",
    "pipe_runtime.namespace",
    "__future__",
    "_signal",
    "_thread",
    "atexit",
    "faulthandler",
    "fcntl",
    "resource",
    "select",
    "time",
    # os, which `site` would have loaded
    "_collections_abc",
    "_stat",
    "genericpath",
    "os",
    "os.path",
    "posixpath",
    "stat",
    # msgpack, and what it imports
    "_collections",
    "_datetime",
    "_operator",
    "_struct",
    "collections",
    "cython_runtime",
    "datetime",
    "itertools",
    "keyword",
    "math",
    "msgpack",
    "msgpack._cmsgpack",
    "msgpack.exceptions",
    "msgpack.ext",
    "msgpack.fallback",
    "operator",
    "reprlib",
    "struct",
}
if sys.version_info >= (3, 14):  # older interpreters load these themselves before the first line
    BEFORE_READY |= {"_abc", "abc", "collections.abc", "errno", "io"}
CYTHON = "_cython_"  # the name of its shared module ends with its version


@dataclass(frozen=True)
class Import:
    """One import: the importing module, the name, and whether only a type checker sees it."""

    importer: str
    line: int
    target: str
    types_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def sources(package: str) -> dict[str, Path]:
    """Return the modules of `package`, `__init__` under the package's own name: {module: its file}."""
    spec = util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    root = Path(spec.submodule_search_locations[0])
    modules = {}
    for file in root.rglob("*.py"):
        parts = [package, *file.relative_to(root).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


def imports_of(package: str) -> list[Import]:
    """Return every import in `package`. `from pipe_runtime import frames` counts as pipe_runtime.frames."""
    known = {**sources("pipe_init"), **sources("pipe_runtime")}
    found = []
    for name, file in sources(package).items():
        inside = name if file.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(file.read_bytes(), str(file))
        guarded = {id(node) for block in type_checking_blocks(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for target in targets(node, inside, known):
                    found.append(Import(name, node.lineno, target, id(node) in guarded))
    return found


def type_checking_blocks(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements that run for a type checker only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from node.body


def targets(node: ast.Import | ast.ImportFrom, inside: str, known: Container[str]) -> list[str]:
    """Return the modules that an import names; `from a import b` is a.b if that is `known`, else a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = inside.split(".")[: len(inside.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    names = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in known else base for name in names]


def within(target: str, package: str) -> bool:
    """Tell whether `target` is `package` or something inside it."""
    return target == package or target.startswith(f"{package}.")


def test_click_only_in_the_command_line() -> None:
    wrong = [
        str(found)
        for package in ("pipe_init", "pipe_runtime")
        for found in imports_of(package)
        if within(found.target, "click") and not within(found.importer, "pipe_init.cli")
    ]
    assert not wrong


def test_runtime_names_only_light_modules() -> None:
    wrong = [
        str(found)
        for found in imports_of("pipe_runtime")
        if not found.types_only
        and found.target.split(".")[0] not in RUNTIME_IMPORTS | IMPORTS_OF.get(found.importer, set())
    ]
    assert not wrong


def modules_loaded_by(module: str) -> set[str]:
    """Return what `import module` adds to sys.modules in a fresh interpreter.

    The options -I -S keep out site, .pth files and the environment, coverage included, so nothing hides what the import
    adds. The packages' folders are on the path instead.
    """
    folders = []
    for package in ("pipe_runtime", "msgpack"):
        spec = util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
        folders.append(str(Path(spec.submodule_search_locations[0]).parent))
    code = (
        "import sys; before = set(sys.modules); sys.path[:0] = sys.argv[2:]; __import__(sys.argv[1]); "
        "print(*sorted(set(sys.modules) - before))"
    )
    child = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, module, *folders],
        capture_output=True,
        env=unmeasured(),
        text=True,
    )
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def test_runtime_loads_only_these_modules_before_ready() -> None:
    loaded = modules_loaded_by("pipe_runtime.main")
    assert "pipe_runtime.main" in loaded
    more = {name for name in loaded - BEFORE_READY if not name.startswith(CYTHON)}
    assert not more, "the cold start grew: import these late, or show that it must be"


def test_plain_function_finds_only_these_modules(tmp_path: Path) -> None:
    source = "import sys\ndef handler(event, context):\n    return sorted(sys.modules)\n"
    with RuntimeProcess(tmp_path, source, environment=unmeasured()) as runtime:
        runtime.start()
        found = runtime.call()
    assert isinstance(found, list)
    ours = {name for name in BEFORE_READY if within(name, "pipe_runtime")}
    assert {name for name in found if within(name, "pipe_runtime")} == ours
    heavy = {"asyncio", "contextvars", "dataclasses", "inspect", "logging", "threading", "typing"}
    assert not heavy & set(found)


def test_init_loads_nothing_at_once() -> None:
    assert modules_loaded_by("pipe_init") - {"__future__"} == {"pipe_init"}


def test_cgroups_are_loaded_only_where_one_is_asked_for() -> None:
    late = {"pipe_init.limits.cgroup", "pipe_init.limits.delegation"}
    assert not late & modules_loaded_by("pipe_init.engine.supervisor")
    found = [each for each in imports_of("pipe_init") if not each.types_only]
    importers = {target: {each.importer for each in found if each.target == target} for target in late}
    assert importers["pipe_init.limits.cgroup"] == {"pipe_init.limits.delegation"}
    assert importers["pipe_init.limits.delegation"] == {"pipe_init.limits.confinement"}
