"""Start a worker for `run` before the options are read.

`run` uses the worker if the options need one like it. Otherwise `run` ends it. Each import before the start delays
every run, so this file imports very little. It does not know the options.
"""

from __future__ import annotations

import os

from ..kernel.signals import Signals
from . import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import Function

FORKING_OPTIONS = ("-w", "--workers", "--isolation", "--start-method")
"""If one of these options is given, no worker is started early, because the run most likely needs a template.

If the options need no template after all, this delays the run by some milliseconds."""


class EarlyStart:
    """The signal handlers and the worker that are set up for `run` before its options are read.

    Attributes:
        signals: The signals that pipe-init handles.
        process: The worker that was started early; None if there is none.
    """

    def __init__(self, signals: Signals, process: launch.ProcessPipes | None) -> None:
        self.signals = signals
        self.process = process

    def worker_for(self, function: Function, in_cgroup: bool) -> launch.ProcessPipes | None:
        """Return the worker if it fits the function. Otherwise end it and return None.

        Args:
            function: The function.
            in_cgroup: Whether workers must be in a cgroup. The early worker is in none.
        """
        from ..model import EXEC  # imported late, because an import before the start would delay the worker

        same = (function.command, function.environment) == _program()
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

    If the start fails, report nothing. The supervisor starts a worker again later, and reports an error by request.

    Args:
        arguments: The command line, for which `is_run` is true; empty to start no worker.
    """
    signals = Signals()
    signals.install()
    try:
        forks = any(argument.startswith(FORKING_OPTIONS) for argument in arguments)
        process = launch.start(*_program()) if arguments and not forks else None
    except OSError:
        process = None
    return EarlyStart(signals, process)


def _program() -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a worker that is started early."""
    return launch.runtime_command(launch.this_python()), launch.function_environment(os.environ)


def is_run(arguments: Sequence[str]) -> bool:
    """Return whether the arguments look like a `run` command that will run a function."""
    return list(arguments[:1]) == ["run"] and len(arguments) > 1 and not {"-h", "--help"} & set(arguments)
