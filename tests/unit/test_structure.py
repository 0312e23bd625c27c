"""Tests of the code's structure: which folder may import which, that there are no import circles, and modules' lengths.

docs/architecture.md says what is allowed. The tests compare it with the folders. They have no list of modules.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

from pipe_testing.imports import PACKAGES, Import, imports_of, sources, within

LONGEST = 350
"""The most lines that a module may have, unless docs/architecture.md allows it more."""


@cache
def architecture() -> str:
    """Return the text of docs/architecture.md."""
    return (Path(os.environ["PIPE_INIT_TREE"]) / "docs" / "architecture.md").read_text(encoding="utf-8")


@cache
def arrows(package: str) -> dict[str, set[str]]:
    """Return {room: the rooms that it may import}, as drawn in docs/architecture.md for `package`."""
    folder = "init" if package == "pipe_init" else package
    found = re.search(rf"^```arrows {folder}/\n(.*?)^```", architecture(), re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no arrows of {folder}/"
    drawn = {}
    for line in found[1].splitlines():
        room, _, targets = line.partition("->")
        drawn[room.strip()] = set(targets.split())
    return drawn


def room_of(module: str) -> str:
    """Return the folder of a module, such as `wire` or `cli/runs`. A module at the top is a room of its own name."""
    package, *parts = module.split(".")
    folders = parts if sources(package)[module].name == "__init__.py" else parts[:-1]
    return "/".join(folders) or (parts[0] if parts else "__init__")


def own_imports(package: str) -> list[Import]:
    """Return the imports of `package` that name a module of this project."""
    return [found for found in imports_of(package) if any(within(found.target, each) for each in PACKAGES)]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_is_drawn(package: str) -> None:
    rooms = {room_of(module) for module in sources(package)} - {"__init__"}
    assert rooms == set(arrows(package))


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    drawn, seen = arrows(package), set[str]()
    for room, targets in reversed(drawn.items()):  # from the bottom of the drawing to its top
        assert targets <= seen, f"{room} points to {targets - seen}, which is not below it"
        seen.add(room)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    wrong, walked = [], set()
    for found in own_imports(package):
        if not within(found.target, package):
            continue
        importer, target = room_of(found.importer), room_of(found.target)
        if target in ("__init__", importer):
            continue
        walked.add((importer, target))
        if target not in arrows(package)[importer]:
            wrong.append(f"{found} ({importer} -> {target})")
    assert not wrong
    drawn = {(room, target) for room, targets in arrows(package).items() for target in targets}
    assert drawn == walked, f"unused arrows: {sorted(drawn - walked)}"


def test_the_runtime_does_not_know_the_init() -> None:
    assert not [str(found) for found in own_imports("pipe_runtime") if within(found.target, "pipe_init")]


def test_wire_is_all_that_the_init_sees_of_the_runtime() -> None:
    wrong = []
    for found in own_imports("pipe_init"):
        if within(found.target, "pipe_runtime") and room_of(found.target) != "wire":
            wrong.append(str(found))
    assert not wrong


def test_no_circles_not_even_for_types() -> None:
    below: dict[str, set[str]] = {}
    for package in PACKAGES:
        for found in own_imports(package):
            if found.target != found.importer.partition(".")[0]:  # the package itself imports nothing
                below.setdefault(found.importer, set()).add(found.target)
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, "a circle: " + " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for target in sorted(below.get(module, ())):
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(below):
        visit(module, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_nothing(package: str) -> None:
    """Check that the `__init__` of a package and of its folders imports nothing, because each import takes time."""
    found = [each for each in imports_of(package) if sources(package)[each.importer].name == "__init__.py"]
    assert not [
        str(each) for each in found if not each.types_only and each.target not in ("__future__", "importlib.metadata")
    ]


def test_modules_can_be_read_in_a_sitting() -> None:
    excused = dict(re.findall(r"^\| `([\w/]+\.py)` \| (\d+) lines", architecture(), re.MULTILINE))
    long = {}
    for package, folder in zip(PACKAGES, ("init", "pipe_runtime"), strict=True):
        for module, file in sources(package).items():
            lines = len(file.read_text(encoding="utf-8").splitlines())
            if lines > LONGEST:
                long["/".join([folder, *module.split(".")[1:]]) + ".py"] = lines
    assert set(long) <= set(excused), "too long, and docs/architecture.md gives no reason"
    assert set(excused) <= set(long), "no longer too long: docs/architecture.md need not excuse it"
    assert all(lines <= int(excused[name]) for name, lines in long.items()), "longer than docs/architecture.md says"


def test_each_module_has_a_name_of_its_own() -> None:
    """Check that no two modules have the same file name, because errors and documents often give only that."""
    names = [path.stem for package in PACKAGES for path in sources(package).values()]
    assert {name for name in names if names.count(name) > 1} == {"__init__", "__main__", "main"}
