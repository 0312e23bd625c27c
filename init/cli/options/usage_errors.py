"""Define the exceptions that end `pipe-init run`: wrong usage, another error, or an exit code without a message.

`cli/main.py` writes their messages for the user. They do not derive from click's exceptions, so that a run can report
them without loading click. This file must not know which options there are.
"""

from __future__ import annotations

from ...kernel import exit_codes

USAGE = "Usage: pipe-init run [OPTIONS] HANDLER\nTry 'pipe-init run -h' for help.\n\n"
"""The lines before the message of a usage error, in the form that click gives them."""


class CommandError(Exception):
    """Raised if the command cannot go on. The text of the exception says why."""

    exit_code = exit_codes.FUNCTION_FAILED

    def message(self) -> str:
        """Return the message for the user."""
        return f"Error: {self}"


class UsageError(CommandError):
    """Raised if the command line of `run` is wrong, or if something that it names, such as a file, cannot be used."""

    exit_code = exit_codes.USAGE

    def message(self) -> str:
        """Return the message for the user."""
        return USAGE + super().message()


class Exit(Exception):
    """The command ends without a message. The exception's argument is the exit code."""
