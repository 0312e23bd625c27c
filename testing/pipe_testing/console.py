"""Commands in texts, with what they print: found in a text, and run as somebody would who pastes them into a shell.

A command is a line that begins with `$ `; what follows is its stdout. Knows neither where the texts come from nor what
the commands do.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipe_testing import tools
from pipe_testing.command import PipeInit

LIMIT = 60.0


@dataclass(frozen=True)
class Command:
    """A command line and the text that it prints to stdout, without the line breaks at its end."""

    line: str
    output: str


def commands(text: str) -> list[Command]:
    """All the commands in a text in which there is nothing else, each followed by its output."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        found.append(Command(line, output.rstrip("\n")))
    return found


def run(command: Command, root: Path, folder: Path, pipe_init: PipeInit) -> None:
    """Run a command that is meant for the project's `root`, in an empty folder, and compare.

    What the command writes stays in `folder`, which has the root's examples/ in it.
    """
    require_packages(command.line, root)
    (folder / "examples").symlink_to(root / "examples")
    nothing = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)  # no region of the user's
    environment = pipe_init.environment({"PYTHONDONTWRITEBYTECODE": "1", **nothing})
    environment["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), environment["PATH"]))
    ours = f'pipe-init() {{ {shlex.join(pipe_init.command)} "$@"; }}\n'
    shell = subprocess.run(
        ["bash", "-c", ours + command.line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=LIMIT,
    )
    assert shell.returncode == 0, os.fsdecode(shell.stderr)
    assert shell.stdout.decode().replace("\r\n", "\n").rstrip("\n") == command.output, os.fsdecode(shell.stderr)


def requirements(folder: Path) -> list[str]:
    """The lines of an example's requirements.txt; none if it has no such file."""
    file = folder / "requirements.txt"
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def require_packages(line: str, root: Path) -> None:
    """Skip the test, or fail it under CI, if the examples that a command names need what is not installed."""
    for name in re.findall(r"examples/(\w+)", line):
        for requirement in requirements(root / "examples" / name):
            package = re.split(r"[<>=!~]", requirement)[0]
            try:
                metadata.version(package)
            except metadata.PackageNotFoundError:
                tools.require(False, f"needs the package {package}")
