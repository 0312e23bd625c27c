"""Run a command line. For `run`, start the worker before importing the rest of the init, so that both start together.

For a simple `exec`, most of the init is never imported. This file must not know options.
"""

from __future__ import annotations

import gc
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def run(arguments: list[str], mask: Collection[int] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The command line, without the program's name.
        mask: The signals that the parent had blocked, if this process has blocked all signals since; otherwise None.
    """
    plug_standard_descriptors()
    early = inherited = None
    if arguments[:1] == ["exec"]:
        from .kernel.signals import block_all

        inherited = block_all(mask)
        from .exec import exec_options, plain_init

        options = exec_options.read(arguments[1:], os.environ)
        if options is not None:  # the command line is simple, so click is not needed
            return plain_init.run(options, inherited)
    else:
        from .workers.early import is_run, start_early

        gc.disable()  # until the run begins, because loading modules makes little garbage to collect
        early = start_early(arguments) if is_run(arguments) else None
    from .cli.main import main as run_command

    return run_command(arguments, early, inherited)


def plug_standard_descriptors() -> None:
    """Open /dev/null for each of fds 0, 1 and 2 that is closed, so that no later open() gets one of these numbers."""
    while True:
        try:
            descriptor = os.open("/dev/null", os.O_RDWR)
        except OSError:
            # Without /dev/null, use a pipe's reading end. Reading finds the end of the data, and writing fails.
            descriptor, writer = os.pipe()
            os.close(writer)  # the number may be one of these three; while it is open, reading would never end
        if descriptor > 2:
            os.close(descriptor)
            return
