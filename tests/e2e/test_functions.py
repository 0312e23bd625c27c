"""Tests that each command in docs/functions.md prints what the page says, and that the page has every example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import console, modes
from pipe_testing.command import PipeInit
from pipe_testing.console import Command

MODES = modes.ON_REQUEST

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "functions.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    """Return the contents of the page's code blocks."""
    return re.findall(r"^```\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[Command]:
    """Return the commands in all the blocks."""
    return [command for block in blocks() for command in console.commands(block)]


def test_every_block_is_commands() -> None:
    assert blocks()
    assert [block for block in blocks() if not block.startswith("$ ")] == []
    assert PAGE.count("\n```\n") == 2 * len(blocks())


def test_every_example_is_on_the_page() -> None:
    shown = {name for command in commands() for name in re.findall(r"examples/(\w+)", command.line)}
    there = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()}
    assert shown == there - {"echo"}  # that example is for the tests


def test_no_command_is_there_twice() -> None:
    lines = [command.line for command in commands()]
    assert len(set(lines)) == len(lines)


def in_modes(command: Command) -> Any:
    """Return the command as a parameter. With several workers, a command that shows one worker's state is left out."""
    shares = re.search("Counter|--concurrency|examples/lifecycle", command.line)
    marks = pytest.mark.modes(modes.EXEC, modes.TEMPLATE) if shares else ()
    return pytest.param(command, marks=marks, id=command.line[:60])


@pytest.mark.parametrize("command", [*map(in_modes, commands())])
def test_command(pipe_init: PipeInit, tmp_path: Path, command: Command) -> None:
    console.run(command, ROOT, tmp_path, pipe_init)
