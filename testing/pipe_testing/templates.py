"""Drive a template and the workers that it forks, in the place of the init.

There is no supervisor: the test holds a conversation with each process. A forked worker is a RuntimeProcess like an
executed one. They differ in how they come into being and in how the test learns of their end.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipe_init.kernel import killing
from pipe_init.workers import launch
from pipe_init.workers.template_socket import Forked, TemplateSocket
from pipe_runtime.wire.connection import INIT, Connection
from pipe_runtime.wire.frames import Frame
from pipe_testing import processes
from pipe_testing.patience import HANGS
from pipe_testing.runtime import RuntimeProcess

DUMP = {"dump_fd": launch.DUMP_FD, "dump_signal": int(launch.DUMP_SIGNAL)}
"""The HELLO fields that the init sends to each of its workers."""

TEMPLATE = {"template": {"control_fd": launch.CONTROL_FD}}
"""The HELLO fields that make a runtime a template."""


class Child:
    """A child of this process, with the methods of subprocess.Popen that the tests use."""

    def __init__(self, process: launch.ProcessPipes) -> None:
        self._process = process
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Reap the child if it has ended. Return its exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self._process.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL to the child's process group."""
        killing.signal_group(self._process.pid, signal.SIGKILL)

    def wait(self, limit: float | None = None) -> int:
        """Wait until the child has ended, and return its exit code."""
        if self.returncode is None:
            pidfd = os.pidfd_open(self._process.pid)
            try:
                if not select.select([pidfd], [], [], limit)[0]:
                    raise subprocess.TimeoutExpired(str(self._process.pid), limit or 0)
            finally:
                os.close(pidfd)
        code = self.poll()
        assert code is not None
        return code


class Driven(RuntimeProcess):
    """A runtime on the pipes of a launch.ProcessPipes."""

    def __init__(self, folder: Path, process: launch.ProcessPipes) -> None:
        self.folder = folder
        self.connection = Connection(INIT)
        self.log = b""
        self.lines: list[Frame] = []
        self._next_id = 1
        self.launched = process
        self.process: Any = Child(process)
        self.requests, self.answers, self._log = process.requests, process.answers, process.log

    @property
    def pid(self) -> int:
        """Return the process id of the runtime."""
        return self.launched.pid

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.launched.pid and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.launched.close()
        if error is not None:
            print(f"fd 2 of {self.launched.pid}: {self.log.decode(errors='replace')}")

    def close_input(self) -> None:
        """Close the runtime's input."""
        self.launched.close_requests()


class Templates:
    """A template that serves `source`, and the workers that the test asked it for.

    Use it as a context manager. At the end of the block all processes are killed and reaped.

    Attributes:
        workers: The workers by their tickets.
    """

    def __init__(self, folder: Path, source: str, environment: Mapping[str, str] | None = None) -> None:
        (folder / "index.py").write_text(source)
        self.folder = folder
        command = launch.runtime_command(sys.executable)
        self.template = TemplateSocket(command, dict(os.environ) if environment is None else environment)
        self.runtime = Driven(folder, self.template.pipes)
        self.workers: dict[int, Driven] = {}
        self.reported: list[Forked] = []
        self._tickets = itertools.count(1)

    def __enter__(self) -> Templates:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.template.close()
        self.runtime.__exit__(kind, error, tb)
        for worker in self.workers.values():
            worker.__exit__(kind, error, tb)
        processes.end_children()  # a worker that was never reported has ended with its alive pipe

    def start(self, handler: str = "index.handler", **fields: Any) -> Frame:
        """Have the template load the function, and return its READY."""
        return self.runtime.start(handler, **DUMP, **TEMPLATE, **fields)

    def ask(self, count: int = 1, groups: Sequence[int] = ()) -> list[Driven]:
        """Ask for workers without waiting for anything."""
        asked = []
        for ticket in itertools.islice(self._tickets, count):
            asked.append(Driven(self.folder, self.template.fork(ticket, groups)))
            self.workers[ticket] = asked[-1]
        return asked

    def settle(self) -> None:
        """Wait until each worker that was asked for has become our child or has failed to be forked."""
        deadline = time.monotonic() + HANGS
        while not self._all_settled():
            ready = select.select([self.template.control], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"no report; {self.reported}"
            for report in self.template.reports():
                self.reported.append(report)
                self.workers[report.ticket].launched.pid = report.pid
            assert not self.template.ended

    def fork(self, count: int = 1, **fields: Any) -> list[Driven]:
        """Fork workers, wait until they are ready, and return them."""
        asked = self.ask(count)
        for worker in asked:
            worker.hello(**DUMP, **fields)
        self.settle()
        for worker in asked:
            worker.ready()
        return asked

    def _all_settled(self) -> bool:
        return {report.ticket for report in self.reported if report.ours or report.errno} == set(self.workers)
