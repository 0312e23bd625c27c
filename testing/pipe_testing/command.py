"""Run the installed `pipe-init` command, as a user would.

This module knows nothing of what the command prints. PipeInit runs a command to its end. With `popen` a test can talk
to the command while it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipe_testing import modes, processes, tools
from pipe_testing.patience import HANGS


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        returncode: The exit code. If a signal ended the command: minus the signal's number.
        stdout: All bytes that the command wrote to its stdout.
        stderr: All bytes that the command wrote to its stderr.
    """

    returncode: int
    stdout: bytes
    stderr: bytes


class PipeInit:
    """Call the `pipe-init` of the environment in which the tests run."""

    def __init__(self) -> None:
        script = Path(sys.executable).with_name("pipe-init")
        if tools.under_ci() and not script.exists():
            raise FileNotFoundError(f"the wheel installed no {script}")
        self.command = [str(script)] if script.exists() else [sys.executable, "-m", "pipe_init"]

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment for a command: this process's own, cleaned, then with the changes.

        Variables that set options of pipe-init, colours or an AWS region are left out. COVERAGE_* stays, so that
        coverage is measured in children. The mode of the test (modes.py) adds options as variables.

        Args:
            changes: The variables to set. A value of None removes the variable.
        """
        environment: dict[str, str | None] = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIPE_INIT_", "AWS_")) and name not in ("NO_COLOR", "FORCE_COLOR")
        }
        environment["PIPE_INIT_START_TIMEOUT"] = "60"  # the default is short for a machine that is busy
        environment.update(modes.variables())
        environment.update(changes or {})
        return {name: value for name, value in environment.items() if value is not None}

    def __call__(
        self,
        *arguments: str,
        stdin: bytes = b"",
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        limit: float = HANGS,
    ) -> Finished:
        """Run `pipe-init ARGUMENTS` to its end and return how it ended.

        Args:
            arguments: The command's arguments.
            stdin: All that the command can read from its stdin.
            cwd: The command's working directory.
            env: Changes to the environment, as in `environment`.
            limit: The seconds that the command may take.

        Raises:
            TimeoutError: After `limit` seconds the command still ran, or a process still held its stdout or stderr.
                The command and its descendants were killed. The error names them and shows the output so far.
        """
        others = processes.children()
        with subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=self.environment(env),
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout=limit)
            except subprocess.TimeoutExpired:
                own = processes.describe(process.pid)
                process.kill()
                process.wait()
                rest = processes.end_children(keep=others)
                stdout, stderr = process.communicate()
                raise TimeoutError(
                    f"pipe-init {' '.join(arguments)}: not done after {limit:g} s; killed:\n"
                    + "".join(f"  {line}\n" for line in [own, *rest])
                    + f"stdout so far: {stdout!r}\nstderr so far: {stderr!r}"
                ) from None
        return Finished(process.returncode, stdout, stderr)


@contextmanager
def popen(
    pipe_init: PipeInit,
    *arguments: str,
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    env: Mapping[str, str | None] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running pipe-init that the test can talk to. Kill it if it still runs at the end of the block."""
    process = subprocess.Popen(
        [*pipe_init.command, *arguments],
        cwd=cwd,
        env=pipe_init.environment(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=0,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
