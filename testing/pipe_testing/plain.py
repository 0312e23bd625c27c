"""Start `pipe-init exec` with a program that a test can talk to while it runs.

This module knows how the command is started, not what it promises.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipe_testing.command import PipeInit
from pipe_testing.patience import HANGS


class Running:
    """A pipe-init in a session of its own, and the output of its program."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self._text = b""

    def line(self) -> str:
        """Return the next line that the program writes.

        Raises:
            TimeoutError: No line comes in time.
            EOFError: Every process that could write a line has ended.
        """
        while b"\n" not in self._text:
            assert self.process.stdout is not None
            if not select.select([self.process.stdout], [], [], HANGS)[0]:
                raise TimeoutError(f"no line; so far {self._text!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(f"no line; at the end {self._text!r}")
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def rest(self) -> list[str]:
        """Return all lines until every process that could write one has ended."""
        lines = []
        while True:
            try:
                lines.append(self.line())
            except EOFError:
                return lines

    def send(self, number: int) -> None:
        """Send a signal to pipe-init."""
        self.process.send_signal(number)

    def stopped_by(self) -> int:
        """Wait until a signal stops pipe-init, and return the signal's number."""
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        assert pid == self.pid and os.WIFSTOPPED(status), status
        return os.WSTOPSIG(status)

    def exit_code(self) -> int:
        """Wait until pipe-init ends, and return its exit code."""
        return self.process.wait(HANGS)

    def stderr(self) -> str:
        """Return what was written to stderr, once every process has closed it."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def running(
    *arguments: str,
    prefix: Sequence[str] = (),
    env: Mapping[str, str | None] | None = None,
    before: Callable[[], object] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Running]:
    """Yield a running `pipe-init exec ARGUMENTS`, and wait for its end. Kill it if the block fails.

    Args:
        arguments: The command's arguments.
        prefix: A command that starts pipe-init, such as a tracer.
        env: Changes to the environment.
        before: A function that the child calls between fork and exec.
        pass_fds: The descriptors that the command inherits.
    """
    runner = PipeInit()
    process = subprocess.Popen(
        [*prefix, *runner.command, "exec", *arguments],
        env=runner.environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # a signal that stops the command's process group must not stop the tests'
        preexec_fn=before,
        pass_fds=pass_fds,
    )
    with process:
        try:
            yield Running(process)
            process.wait(HANGS)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def python(code: str, *arguments: str) -> list[str]:
    """Return a command that runs Python code without the site-packages of a virtual environment."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]
