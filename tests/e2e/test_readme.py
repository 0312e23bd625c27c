"""Tests that README.md's commands work as they stand, in a clone, and that the first function prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipe_testing import console
from pipe_testing.command import PipeInit
from pipe_testing.console import Command

ROOT = Path(__file__).parents[2]
ACTIVATE = ". .venv/bin/activate\n"
"""The line after which `pipe-init` is on the PATH. console.run puts it there itself."""


def blocks(title: str) -> list[str]:
    """Return the code blocks of the section with this title."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the commands of the list of examples, without its comments."""
    (block,) = blocks("More commands")
    return [line for line in block.splitlines() if not line.startswith("#")]


def test_the_first_function_prints_what_the_page_says(pipe_init: PipeInit, tmp_path: Path) -> None:
    _, write, run, output = blocks("Install and run")
    assert ACTIVATE in run
    result = [line for line in output.splitlines() if line.startswith("{")]
    assert len(result) == 1
    console.run(Command(write + run.replace(ACTIVATE, ""), result[0]), ROOT, tmp_path, pipe_init)


@pytest.mark.parametrize("line", commands(), ids=lambda line: line[:60])
def test_a_command_of_the_list_works(pipe_init: PipeInit, tmp_path: Path, line: str) -> None:
    console.run(Command(f"set -o pipefail; {{ {line}; }} >stdout", ""), ROOT, tmp_path, pipe_init)
    assert (tmp_path / "stdout").stat().st_size > 0
