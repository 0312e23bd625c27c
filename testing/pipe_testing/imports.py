"""Read the imports of the installed packages from their sources, so that a late import in a function counts too.

It imports none of the modules that it reads. It does not know which imports are allowed.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

PACKAGES = ("pipe_init", "pipe_runtime")


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes:
        importer: The module that imports.
        line: The line of its source.
        target: The module that is imported.
        types_only: Whether only a type checker sees it.
    """

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
    """Return every import in `package`. `from pipe_runtime import wire` counts as pipe_runtime.wire."""
    known = {name: file for each in PACKAGES for name, file in sources(each).items()}
    found = []
    for name, file in sources(package).items():
        inside = name if file.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(file.read_bytes(), str(file))
        guarded = {id(node) for block in _type_checking_blocks(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            for target in _targets(node, inside, known):
                found.append(Import(name, getattr(node, "lineno", 0), target, id(node) in guarded))
    return found


def within(target: str, package: str) -> bool:
    """Return whether `target` is `package` or something in it."""
    return target == package or target.startswith(f"{package}.")


def _type_checking_blocks(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from node.body


def _targets(node: ast.AST, inside: str, known: Container[str]) -> list[str]:
    """Return the modules that a node imports; `from a import b` is a.b if that is `known`, otherwise a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = inside.split(".")[: len(inside.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        names = [f"{base}.{alias.name}" for alias in node.names]
        return [name if name in known else base for name in names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("own", "namespace.own") and node.args:
        name = node.args[0]
        assert isinstance(name, ast.Constant), f"own() in {inside} must name its module as a literal"
        return [f"pipe_runtime.{name.value}"]
    return []
