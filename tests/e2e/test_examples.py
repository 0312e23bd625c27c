"""Tests that every example does what its own text says: its commands are run, and their output is compared.

The commands run in the folder above examples/. Commands that docs/functions.md has too are tested there.
"""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

import pytest

from pipe_testing import console
from pipe_testing.command import PipeInit
from pipe_testing.console import Command

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "functions.md").read_text(encoding="utf-8")


def commands() -> list[tuple[str, Command]]:
    """Return all commands in the examples' module docstrings, with the example. A command begins a paragraph."""
    found = []
    for path in sorted(EXAMPLES.rglob("*.py")):
        _, *own = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n$ ")
        text = "".join(f"$ {command}\n" for command in own)
        found += [(path.relative_to(EXAMPLES).parts[0], command) for command in console.commands(text)]
    return found


def test_every_example_says_how_to_run_it() -> None:
    assert {name for name, _ in commands()} == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}


def test_the_commands_name_their_own_example() -> None:
    for name, command in commands():
        assert "pipe-init run " in command.line
        assert f"examples/{name}" in command.line


def test_what_the_examples_need_is_installed_for_the_tests() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    needed = {line for folder in EXAMPLES.iterdir() for line in console.requirements(folder)}
    assert needed
    assert needed <= set(tox["testenv"]["deps"].split())


@pytest.mark.parametrize(
    "command", [one for _, one in commands() if one.line not in PAGE], ids=lambda one: one.line[:40]
)
def test_example(pipe_init: PipeInit, tmp_path: Path, command: Command) -> None:
    console.run(command, ROOT, tmp_path, pipe_init)
