"""Tests that the calls of a real run are the calls that docs/architecture.md lists for a request.

Each Python process of the run records its calls of functions in pipe_init and pipe_runtime. A module `sitecustomize` on
PYTHONPATH does this. The tests themselves name no module: they read all names from the document.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured

RECORDER = """
import os, sys

folder = os.environ["RECORD_CALLS"]

def record(frame, event, argument):
    if event != "call" or not frame.f_code.co_flags & 1:  # inspect.CO_OPTIMIZED: not the body of a module or class
        return
    name = frame.f_globals.get("__name__", "")
    if name.startswith(("pipe_init.", "pipe_runtime.")):
        try:
            file = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError:  # between fork and exec, a child has no descriptor to spare
            return
        os.write(file, f"{name} {frame.f_code.co_name}\\n".encode())
        os.close(file)

sys.setprofile(record)
"""

Call = tuple[str, str]
"""A module's path in the tree, and a function's name."""


def document() -> str:
    """Return the part of docs/architecture.md about the way of a request."""
    file = Path(os.environ["PIPE_INIT_TREE"]) / "docs" / "architecture.md"
    return file.read_text(encoding="utf-8").partition("## A request's way\n")[2].partition("\n## ")[0]


def parts() -> list[list[Call]]:
    """Return the calls that each part of the document lists."""
    sections = document().split("\n### ")[1:]
    calls = [re.findall(r"^\d+\. `([\w/]+\.py)` `(\w+)`", section, re.MULTILINE) for section in sections]
    return [part for part in calls if part]


def is_named(module: str, part: int) -> bool:
    """Return whether the document names a module, or its folder, in this part or among the other modules on the way."""
    names = re.findall(r"`([\w/.]+)`", document().partition("### Other modules on the way")[2])
    names += [module for module, _ in parts()[part]]
    return any(module == name or (name.endswith("/") and module.startswith(name)) for name in names)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Call]]:
    """Return the calls of one run: {"init": in the init, "pipe_runtime": in its worker}."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "sitecustomize.py").write_text(RECORDER)
    (folder / "index.py").write_text("def handler(event, context):\n    return event\n")
    (folder / "calls").mkdir()
    environment = {**unmeasured(), "PYTHONPATH": str(folder), "RECORD_CALLS": str(folder / "calls")}
    done = PipeInit()("run", "index.handler", "-e", "1", cwd=folder, env=environment)
    assert (done.returncode, done.stdout) == (0, b"1\n"), done.stderr
    found = {}
    for file in (folder / "calls").iterdir():
        calls = [_call(*line.split(" ")) for line in file.read_text().splitlines()]
        inside = "init" if calls[0][0].startswith("init/__main__") else "pipe_runtime"
        found[inside] = calls
    assert set(found) == {"init", "pipe_runtime"}
    return found


def _call(module: str, function: str) -> Call:
    package, *parts = module.split(".")
    return "/".join(["init" if package == "pipe_init" else package, *parts]) + ".py", function


def test_the_document_lists_a_way_out_and_back() -> None:
    assert [part[0][0].partition("/")[0] for part in parts()] == ["init", "pipe_runtime", "pipe_runtime", "init"]


@pytest.mark.parametrize("part", range(4))
def test_the_calls_come_in_the_order_of_the_list(recorded: dict[str, list[Call]], part: int) -> None:
    assert _window(recorded, part)


@pytest.mark.parametrize("part", range(4))
def test_no_module_is_visited_that_the_document_does_not_name(recorded: dict[str, list[Call]], part: int) -> None:
    assert not {module for module, _ in _window(recorded, part) if not is_named(module, part)}


@pytest.mark.parametrize("part", range(4))
def test_the_list_visits_no_module_twice(part: int) -> None:
    modules = [module for module, _ in groupby(parts()[part], key=lambda call: call[0])]
    assert len(modules) == len(set(modules))


def _window(recorded: dict[str, list[Call]], part: int) -> list[Call]:
    """Return what was recorded from the first to the last call of a part; fail if the order is another one."""
    program = parts()[part][0][0].partition("/")[0]
    trace, here, start = recorded[program], -1, 0
    for calls in parts()[: part + 1]:  # each part begins after the one before it
        if calls[0][0].partition("/")[0] == program:
            for number, call in enumerate(calls):
                assert call in trace[here + 1 :], f"{call} does not follow {trace[here]}"
                here = trace.index(call, here + 1)
                start = start if number else here
    return trace[start : here + 1]
