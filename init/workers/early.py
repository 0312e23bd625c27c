"""Start a worker for `run` before click is loaded and the options are read.

`run` uses the worker if the options need one like it. Otherwise `run` ends it. Each import before the start delays
every run, so this file imports very little. It does not know the options.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from ..kernel.signals import Signals
from . import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Function

FORKING_OPTIONS = ("-w", "--workers", "--isolation", "--start-method")
"""Options that most likely ask for a template, so that no worker is started early. A wrong guess costs milliseconds."""


class EarlyStart(NamedTuple):
    """What was prepared for `run` before click was loaded.

    Attributes:
        signals: The signals that pipe-init handles.
        process: A worker that was started early; None if none was.
        command: The command that the worker was, or would be, started with.
        environment: The environment that it was, or would be, started with.
    """

    signals: Signals
    process: launch.ProcessPipes | None
    command: list[str]
    environment: dict[str, str]

    def worker_for(self, function: Function, in_cgroup: bool) -> launch.ProcessPipes | None:
        """Return the worker if it is what a function needs. Otherwise end it and return None.

        Args:
            function: The function.
            in_cgroup: Whether workers have to be in a cgroup. This one is not.
        """
        from ..model import EXEC  # late: it is not needed before the worker is started

        same = (self.command, self.environment) == (function.command, function.environment)
        if same and not in_cgroup and function.start_method == EXEC and function.workers == 1:
            return self.process
        self.dismiss()
        return None

    def dismiss(self) -> None:
        """End the worker, unless it has ended already."""
        if self.process is not None:
            self.process.dismiss()


def start_early(arguments: Sequence[str] = ()) -> EarlyStart:
    """Install the signal handlers, and start a worker under this interpreter if the arguments allow it.

    If the start fails, this function reports nothing. The supervisor tries again, and reports which request failed.

    Args:
        arguments: The command line. If it is empty, start no worker.
    """
    signals = Signals()
    signals.install()
    command = launch.runtime_command(launch.this_python())
    environment = launch.function_environment(os.environ)
    try:
        process = launch.start(command, environment) if wants_worker(arguments) else None
    except OSError:
        process = None
    return EarlyStart(signals, process, command, environment)


def is_run(arguments: Sequence[str]) -> bool:
    """Return whether the arguments look like a `run` command that will run a function."""
    return list(arguments[:1]) == ["run"] and len(arguments) > 1 and not {"-h", "--help"} & set(arguments)


def wants_worker(arguments: Sequence[str]) -> bool:
    """Return whether the arguments look like a `run` command that starts its worker by exec."""
    return is_run(arguments) and not any(argument.startswith(FORKING_OPTIONS) for argument in arguments)
