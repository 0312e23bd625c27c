"""Find shell commands in a text, run them, and compare what they print with what the text says.

A command is a line that begins with `$ `. The lines after it are its stdout. This module knows neither where the texts
come from nor what the commands do.
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
from pipe_testing.patience import HANGS


@dataclass(frozen=True)
class Command:
    """A command line and the text that it prints to stdout, without the final line breaks."""

    line: str
    output: str


def commands(text: str) -> list[Command]:
    """Return the commands of a text that holds only commands, each followed by its output."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        found.append(Command(line, output.rstrip("\n")))
    return found


def run(command: Command, root: Path, folder: Path, pipe_init: PipeInit) -> None:
    """Run a command in a folder as a shell would run it in `root`, and check its exit code and its output.

    Args:
        command: The command. Its exit code must be 0.
        root: The folder of the project. The command may name files in its examples/.
        folder: An empty folder in which the command runs. It gets a link to examples/.
        pipe_init: The `pipe-init` that the command calls.
    """
    require_packages(command.line, root)
    (folder / "examples").symlink_to(root / "examples")
    # The region of the user's own AWS configuration must not appear in the output.
    nothing = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
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
        timeout=HANGS,
    )
    assert shell.returncode == 0, os.fsdecode(shell.stderr)
    assert shell.stdout.decode().replace("\r\n", "\n").rstrip("\n") == command.output, os.fsdecode(shell.stderr)


def requirements(folder: Path) -> list[str]:
    """Return the lines of an example's requirements.txt. Return an empty list if there is no such file."""
    file = folder / "requirements.txt"
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def require_packages(line: str, root: Path) -> None:
    """Skip the test if a package that the command's examples need is not installed. Under CI, fail it."""
    for name in re.findall(r"examples/(\w+)", line):
        for requirement in requirements(root / "examples" / name):
            package = re.split(r"[<>=!~]", requirement)[0]
            try:
                metadata.version(package)
            except metadata.PackageNotFoundError:
                tools.require(False, f"needs the package {package}")
