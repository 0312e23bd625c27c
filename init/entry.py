"""Run a command line: start the worker of `run` first, then load click. A simple `exec` needs neither.

Every run pays for what is imported before the worker is started; the rest is loaded while the worker starts. This file
knows no options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import NamedTuple, NoReturn

from .kernel.signals import Signals, hold
from .workers import launch

FORKING_OPTIONS = ("-w", "--workers", "--isolation", "--start-method")
"""Options that most likely ask for a template, so that no worker is started early. A wrong guess costs milliseconds."""


class Early(NamedTuple):
    """What was prepared for `run` before click was loaded.

    Attributes:
        signals: The signals that pipe-init handles.
        process: A worker that was started early; None if none was.
        command: The command that the worker was, or would be, started with.
        environment: The environment, likewise.
    """

    signals: Signals
    process: launch.Process | None
    command: list[str]
    environment: dict[str, str]


def main(mask: Collection[int] | None) -> NoReturn:
    """Run the command line of this process, and end the process with its exit code.

    Args:
        mask: As for `run`.
    """
    code = run(sys.argv[1:], mask)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # as where its descriptor was closed from the start
                stream.flush()
        except (OSError, ValueError):
            continue  # its reader is gone
    os._exit(code)  # taking the interpreter down piece by piece would take longer than a small function


def run(arguments: list[str], mask: Collection[int] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The command line, without the program's name.
        mask: The signals that the parent had blocked, if this process has blocked all of them since; else None.
    """
    plug_standard_descriptors()
    if arguments[:1] == ["exec"]:
        return run_plain(arguments, mask)
    early = start_early(wants_early_worker(arguments)) if is_run(arguments) else None
    from .cli.main import main as run_command

    return run_command(arguments, early)


def run_plain(arguments: list[str], mask: Collection[int] | None) -> int:
    """Run `exec` and return its exit code. Simple options are read without loading click."""
    held = hold(mask)
    from .exec import command_line, plain_init

    options = command_line.read(arguments[1:], os.environ)
    if options is not None:
        return plain_init.run(options, held)
    from .cli.main import main as run_command

    return run_command(arguments, held=held)


def is_run(arguments: list[str]) -> bool:
    """Return whether this looks like a `run` that will run a function."""
    return arguments[:1] == ["run"] and len(arguments) > 1 and not {"-h", "--help"} & set(arguments)


def wants_early_worker(arguments: list[str]) -> bool:
    """Return whether this looks like a `run` whose worker is started by exec."""
    return is_run(arguments) and not any(argument.startswith(FORKING_OPTIONS) for argument in arguments)


def start_early(with_worker: bool) -> Early:
    """Install the signal handlers, and start a worker under this interpreter before the options are read.

    A start that fails is not reported here: the supervisor tries again, and tells which request failed.
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
    """Open fds 0, 1 and 2 on /dev/null where they are closed, so that no later open() becomes one of them."""
    while True:
        try:
            descriptor = os.open("/dev/null", os.O_RDWR)
        except OSError:
            descriptor, writer = os.pipe()  # no /dev: a pipe that is at its end for readers and broken for writers
            os.close(writer)  # at once: it could be one of the three, and a reader would wait for ever
        if descriptor > 2:
            os.close(descriptor)
            return
