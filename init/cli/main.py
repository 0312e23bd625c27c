"""Carry out a command line: read it, run its command, and write what is wrong to stderr.

A plain `run` needs no click. Any other command line is read with click, in program.py.
"""

from __future__ import annotations

import os

from ..kernel import exit_codes
from .invocation import Invocation
from .options.errors import CommandError, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.signals import Inherited
    from ..workers.early import EarlyStart

COMPLAINT_SECONDS = 2.0
"""Time that the reader of an error message has after a signal has asked pipe-init to end."""


def main(arguments: list[str], early: EarlyStart | None = None, inherited: Inherited | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        arguments: The command line, without the program's name.
        early: What was prepared for `run`. If `run` does not use its worker, the worker is ended.
        inherited: What `exec` needs to know of the state in which pipe-init was started.
    """
    invocation = Invocation(early, inherited, _asks_for_json(arguments))
    try:
        return _carry_out(arguments, invocation)
    except CommandError as error:
        _complain(error, invocation)
        return error.exit_code
    except Exit as exit:
        return exit.exit_code
    except BrokenPipeError:
        return exit_codes.BROKEN_PIPE
    finally:
        if early is not None:
            early.dismiss()


def _carry_out(arguments: Sequence[str], invocation: Invocation) -> int:
    if arguments[:1] == ["run"]:
        from .options import command_line  # late: `exec` does not need it

        options = command_line.read(arguments[1:], os.environ)
        if options is not None:
            return invocation.run(options)
    from .program import carry_out  # late: it loads click

    return carry_out(arguments, invocation)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether this is a `run` that logs JSON, as far as can be told before its options are read."""
    if arguments[:1] != ["run"]:
        return False
    if os.environ.get("PIPE_INIT_LOG_STYLE") == "json" or "--log-style=json" in arguments:
        return True
    return ("--log-style", "json") in zip(arguments, arguments[1:], strict=False)


def _complain(error: CommandError, invocation: Invocation) -> None:
    from ..kernel.outlet import Patience  # late, like the next two: most commands do not fail
    from ..log.journal import ERROR, Journal
    from ..log.json_lines import json_line

    journal = Journal(2, json_line=json_line if invocation.logs_json else None)
    journal.tell(error.message(), ERROR)
    journal.finish(Patience(None if invocation.early is None else invocation.early.signals, COMPLAINT_SECONDS))
