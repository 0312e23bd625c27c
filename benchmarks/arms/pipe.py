"""Send the event through pipe-init: a Supervisor in the caller's thread, the real runtime, one request at a time."""

from __future__ import annotations

import argparse
import os

from pipe_init.engine.supervisor import Supervisor
from pipe_init.kernel.host import SoleHost
from pipe_init.kernel.signals import Signals
from pipe_init.log.journal import Journal
from pipe_init.model import Function, Request, Settings
from pipe_init.workers import launch
from pipe_runtime.wire.messages import JSON

from .case import CODE_DIR, EVENT, HANDLER, TIMEOUT, request_ids
from .driver import serve


class Pipe:
    """A supervisor with one worker.

    Args:
        spin: The microseconds for which both sides poll for a message before they sleep.
    """

    def __init__(self, spin: int) -> None:
        function = Function(
            command=launch.runtime_command(launch.this_python()),
            environment=launch.function_environment(os.environ),
            hello={"handler": HANDLER, "code_dir": CODE_DIR, "environment": {}, "function": {}},
            settings=Settings(window_requests=1),
            spin_us=spin if len(os.sched_getaffinity(0)) > 1 else 0,
        )
        signals = Signals()
        signals.install()
        self.supervisor = Supervisor(function, SoleHost(signals, function.spin_us), Journal(2))
        self.ids = request_ids()
        self.exchange()  # the first exchange starts the worker

    def exchange(self) -> bytes:
        """Submit a request, and call `step` until its outcome has come."""
        supervisor = self.supervisor
        supervisor.submit(Request(next(self.ids), EVENT, JSON, JSON, TIMEOUT))
        while not supervisor.outcomes:
            supervisor.step()
        outcome = supervisor.outcomes.popleft()
        if outcome.problem is not None:
            raise RuntimeError(f"the function failed: {outcome.problem}")
        return outcome.payload

    def settle(self) -> None:
        """Do nothing: the next request may follow at once."""

    def close(self) -> None:
        """Stop the worker."""
        self.supervisor.close()


def default_spin() -> int:
    """Return the default spin of `pipe-init run`."""
    from pipe_init.cli.run import run

    default = next(parameter.default for parameter in run.params if parameter.name == "spin")
    assert isinstance(default, int)
    return default


def main() -> None:
    """Run `python -m arms.pipe [--spin MICROSECONDS]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spin", type=int)
    spin = parser.parse_args().spin
    serve(Pipe(default_spin() if spin is None else spin))


if __name__ == "__main__":
    main()
