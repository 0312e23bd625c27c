"""Carries out a command line: starts the worker of `run` first, then loads click. A plain `exec` needs neither.

What is imported before the worker is started is paid for by every run; the rest is loaded while the worker starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import NamedTuple, NoReturn

from . import launch
from .signals import Signals, hold

FORKING_OPTIONS = ("-w", "--workers", "--isolation", "--start-method")
"""With these most likely a template is wanted. Whoever is wrong here has lost some milliseconds, no more."""


class Early(NamedTuple):
    """What `run` finds ready: its signals, and a worker that was started with this command and environment, if any."""

    signals: Signals
    process: launch.Process | None
    command: list[str]
    environment: dict[str, str]


def main(mask: Collection[int] | None) -> NoReturn:
    """Carry out the command line of this process, and end it with the exit code. mask: as for `run`."""
    code = run(sys.argv[1:], mask)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as where its descriptor was closed from the start
                stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it any more
    os._exit(code)  # taking the interpreter down piece by piece would take longer than a small function


def run(arguments: list[str], mask: Collection[int] | None = None) -> int:
    """Carry out a command line; returns the exit code.

    mask: the signals that were blocked at the start, if all have been blocked since.
    """
    plug_standard_descriptors()
    if arguments[:1] == ["exec"]:
        return run_plain(arguments, mask)
    early = start_early(wants_early_worker(arguments)) if is_run(arguments) else None
    from .cli import main as command_line

    return command_line(arguments, early)


def run_plain(arguments: list[str], mask: Collection[int] | None) -> int:
    """Be a plain init, without the command line's weight where the options are simple; returns the exit code."""
    held = hold(mask)
    from . import plain_init, quick

    options = quick.read(arguments[1:], os.environ)
    if options is not None:
        return plain_init.run(options, held)
    from .cli import main as command_line

    return command_line(arguments, held=held)


def is_run(arguments: list[str]) -> bool:
    """Whether this looks like a `run` that will run something."""
    return arguments[:1] == ["run"] and len(arguments) > 1 and not {"-h", "--help"} & set(arguments)


def wants_early_worker(arguments: list[str]) -> bool:
    """Whether this looks like a `run` in a worker that is started by itself."""
    return is_run(arguments) and not any(argument.startswith(FORKING_OPTIONS) for argument in arguments)


def start_early(with_worker: bool) -> Early:
    """Take charge of signals, and start our runtime under this interpreter before it is known which handler it gets.

    If that is impossible, whoever tries again, and knows the request, can say why.
    """
    signals = Signals()
    signals.install()
    command = launch.runtime_command(launch.this_python())
    environment = launch.function_environment(os.environ)
    try:
        process = launch.start(command, environment) if with_worker else None
    except OSError:
        process = None
    return Early(signals, process, command, environment)


def plug_standard_descriptors() -> None:
    """Open fds 0, 1 and 2 on nothing where they are closed: no later open() may become one of them."""
    while True:
        try:
            descriptor = os.open("/dev/null", os.O_RDWR)
        except OSError:
            descriptor, writer = os.pipe()  # no /dev: at its end for a reader, refusing for a writer
            os.close(writer)  # at once, or it would itself become the next of the three, and a reader wait for ever
        if descriptor > 2:
            os.close(descriptor)
            return
