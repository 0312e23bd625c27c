"""Every example does what its own text says: the commands in it are run, and their output is compared.

A command is a line that begins with `$ `; what follows, up to an empty line, is its stdout. They are meant to be run
from the folder above examples/.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit

EXAMPLES = Path(__file__).parents[1] / "examples"


def commands() -> list[tuple[str, str, str]]:
    """(example, command, stdout) of all the commands in the examples' module docstrings."""
    found = []
    for path in sorted(EXAMPLES.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for paragraph in text.split("\n\n"):
            if paragraph.startswith("$ "):
                command, _, output = paragraph.partition("\n")
                found.append((path.relative_to(EXAMPLES).parts[0], command.removeprefix("$ "), output + "\n"))
    return found


def test_every_example_says_how_to_run_it() -> None:
    assert {name for name, _, _ in commands()} == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}


@pytest.mark.parametrize(("name", "command", "output"), commands(), ids=lambda value: str(value)[:40])
def test_example(pipe_init: PipeInit, name: str, command: str, output: str) -> None:
    assert "pipe-init run " in command
    own = f'pipe-init() {{ {shlex.join(pipe_init.command)} "$@"; }}\n'
    shell = subprocess.run(
        ["bash", "-c", own.replace("pipe-init()", "pipe_init()") + command.replace("pipe-init run", "pipe_init run")],
        cwd=EXAMPLES.parent,
        env={**pipe_init.environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert shell.returncode == 0, os.fsdecode(shell.stderr)
    assert shell.stdout.decode().rstrip("\n") + "\n" == output
    assert f"examples/{name}" in command
