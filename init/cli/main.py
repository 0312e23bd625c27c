"""Carry out a command line: read it, run the function, and write an error message to stderr if that fails.

A plain `run` is read without click. click_commands.py reads any other command line with click.
"""

from __future__ import annotations

import gc
import os

from ..kernel import exit_codes
from .options.usage_errors import CommandError, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.signals import Inherited
    from ..workers.early import EarlyStart
    from .options.run_options import RunOptions

COMPLAINT_SECONDS = 2.0
"""How long to wait for the reader of stderr to read an error message, after a signal has asked pipe-init to end."""


def main(arguments: list[str], early: EarlyStart | None = None, inherited: Inherited | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        arguments: The command line, without the program's name.
        early: The worker that was started early for `run`. If `run` does not use the worker, this function ends it.
        inherited: The signal mask and the parent with which pipe-init was started, for `exec`.
    """
    logs_json = _asks_for_json(arguments)
    try:
        options = _read(arguments, inherited)
        if isinstance(options, int):
            return options
        from .runs.session import Session  # imported late, because help and `exec` do not need it

        gc.enable()  # entry.py has disabled it
        session = Session(options, early)
        logs_json = session.logs_json
        return session.run()
    except CommandError as error:
        _complain(error, logs_json, early)
        return error.exit_code
    except Exit as exit:
        return int(exit.args[0])
    except BrokenPipeError:
        return exit_codes.BROKEN_PIPE
    finally:
        if early is not None:
            early.dismiss()


def _read(arguments: Sequence[str], inherited: Inherited | None) -> RunOptions | int:
    """For `run`, return the options. Anything else is carried out; return its exit code."""
    if arguments[:1] == ["run"]:
        from .options import command_line  # imported late, because `exec` does not need it

        options = command_line.read(arguments[1:], os.environ)
        if options is not None:
            return options

    from . import click_commands  # imported late, because it imports click

    return click_commands.read(arguments, inherited)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Guess, before the options are read, whether this is a `run` that logs JSON."""
    if arguments[:1] != ["run"]:
        return False
    given = [argument.casefold() for argument in arguments]
    if os.environ.get("PIPE_INIT_LOG_STYLE", "").casefold() == "json" or "--log-style=json" in given:
        return True
    return ("--log-style", "json") in zip(given, given[1:], strict=False)


def _complain(error: CommandError, logs_json: bool, early: EarlyStart | None) -> None:
    from ..kernel.outlet import Patience  # import these three modules late, because most commands do not fail
    from ..log.journal import ERROR, Journal
    from ..log.json_lines import json_line

    journal = Journal(2, json_line=json_line if logs_json else None)
    journal.tell(error.message(), ERROR)
    journal.finish(Patience(None if early is None else early.signals, COMPLAINT_SECONDS))
