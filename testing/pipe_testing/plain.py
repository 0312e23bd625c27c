"""Programs under `pipe-init exec`, for tests that talk to them while they run.

Knows how the command is started, not what it promises.
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

LIMIT = 30.0


class Running:
    """A pipe-init in a session of its own, and what its program writes to stdout."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self._text = b""

    def line(self) -> str:
        """The next line of the program's. TimeoutError: none comes. EOFError: nobody is left to write one."""
        while b"\n" not in self._text:
            assert self.process.stdout is not None
            if not select.select([self.process.stdout], [], [], LIMIT)[0]:
                raise TimeoutError(f"no line; so far {self._text!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(f"no line; at the end {self._text!r}")
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def rest(self) -> list[str]:
        """All lines until nobody is left to write one."""
        lines = []
        while True:
            try:
                lines.append(self.line())
            except EOFError:
                return lines

    def send(self, number: int) -> None:
        """Send pipe-init a signal."""
        self.process.send_signal(number)

    def stopped_by(self) -> int:
        """Wait until pipe-init is stopped; the signal that did it."""
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        assert pid == self.pid and os.WIFSTOPPED(status), status
        return os.WSTOPSIG(status)

    def exit_code(self) -> int:
        """Wait for the end of pipe-init."""
        return self.process.wait(LIMIT)

    def stderr(self) -> str:
        """What was written there, once it is closed."""
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
    """`pipe-init exec ARGUMENTS`, to its end; killed if the block fails. before: runs between fork and exec."""
    runner = PipeInit()
    process = subprocess.Popen(
        [*prefix, *runner.command, "exec", *arguments],
        env=runner.environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # what stops process groups must not stop ours
        preexec_fn=before,
        pass_fds=pass_fds,
    )
    with process:
        try:
            yield Running(process)
            process.wait(LIMIT)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def python(code: str, *arguments: str) -> list[str]:
    """A command that runs Python code, without what a virtual environment would bring."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]
