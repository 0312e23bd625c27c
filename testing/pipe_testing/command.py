"""Running the installed `pipe-init` command to its end, as a user would.

Knows nothing of what the command prints. For tests that talk to it while it runs there is `popen`.
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

HARD_LIMIT = 60.0


@dataclass(frozen=True)
class Finished:
    """How a command ended: exit code (minus the signal's number if one ended it) and all that it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class PipeInit:
    """Calls the `pipe-init` of the environment in which the tests run."""

    def __init__(self) -> None:
        script = Path(sys.executable).with_name("pipe-init")
        if tools.under_ci() and not script.exists():
            raise FileNotFoundError(f"the wheel installed no {script}")
        self.command = [str(script)] if script.exists() else [sys.executable, "-m", "pipe_init"]

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return this process's environment without what would set options, colours or a region, then changed.

        The test's mode (modes.py) sets options too. In `changes` None takes a variable away. COVERAGE_* stays: with it
        children are measured.
        """
        environment: dict[str, str | None] = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIPE_INIT_", "AWS_")) and name not in ("NO_COLOR", "FORCE_COLOR")
        }
        environment.update(modes.variables())
        environment.update(changes or {})
        return {name: value for name, value in environment.items() if value is not None}

    def __call__(
        self,
        *arguments: str,
        stdin: bytes = b"",
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        limit: float = HARD_LIMIT,
    ) -> Finished:
        """Run `pipe-init ARGUMENTS` and return how it ended.

        `stdin` is all that it can read there; `env` as in `environment`. If it, or anything that holds its
        stdout or stderr, is still there after `limit` seconds, it is killed with all it started, and
        TimeoutError tells what ran and what had been written.
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
    """A pipe-init that runs while the test talks to it; killed if the test fails before its end."""
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
