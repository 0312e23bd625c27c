"""Run a command line: start the worker of `run` first, then load click. A simple `exec` needs neither.

This file knows no options.
"""

from __future__ import annotations

import os
from collections.abc import Collection


def run(arguments: list[str], mask: Collection[int] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The command line, without the program's name.
        mask: The signals that the parent had blocked, if this process has blocked all of them since; else None.
    """
    plug_standard_descriptors()
    early = inherited = None
    if arguments[:1] == ["exec"]:
        from .kernel.signals import block_all

        inherited = block_all(mask)
        from .exec import command_line, plain_init

        options = command_line.read(arguments[1:], os.environ)
        if options is not None:  # it is simple: click is not needed
            return plain_init.run(options, inherited)
    else:
        from .workers.early import is_run, start_early

        early = start_early(arguments) if is_run(arguments) else None
    from .cli.main import main as run_command

    return run_command(arguments, early, inherited)


def plug_standard_descriptors() -> None:
    """Open fds 0, 1 and 2 on /dev/null where they are closed, so that no later open() becomes one of them."""
    while True:
        try:
            descriptor = os.open("/dev/null", os.O_RDWR)
        except OSError:
            descriptor, writer = os.pipe()  # no /dev: a pipe without data for readers, and broken for writers
            os.close(writer)  # at once: it could be one of the three, and a reader would wait for ever
        if descriptor > 2:
            os.close(descriptor)
            return
