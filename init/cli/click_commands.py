"""Read command lines with click. Load the file of a command only if the user names that command.

This file and the files of the commands are loaded only for help, errors and the version, and for command lines that the
modules `options/command_line.py` and `exec/exec_options.py` do not read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..kernel import exit_codes
from ..kernel.shortage import SHORT
from .options.usage_errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.signals import Inherited
    from .options.run_options import RunOptions


class Commands(click.Group):
    """The group of all commands. It imports a command only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, for the help."""
        return ["exec", "run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name; None if there is none."""
        if cmd_name == "run":
            from .run import run

            return run
        if cmd_name == "exec":
            from .exec import execute

            return execute
        return None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="See `pipe-init COMMAND -h` for a command's options and examples.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    help="Show the versions of pipe-init, its protocol, Python and msgpack, and exit.",
    callback=lambda *given: _show_version(*given),
)
def program() -> None:
    """Run Python functions over pipes: no network, no HTTP, no container engine."""


class ClickError(CommandError):
    """An error that click has found.

    Args:
        error: The error.
    """

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(error.format_message())
        self.exit_code = error.exit_code
        self._error = error

    def message(self) -> str:
        """Return the message for the user. For a usage error, put the usage of the command before the message."""
        error = self._error
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
            return str(self)
        if not isinstance(error, click.UsageError) or error.ctx is None:
            return super().message()
        usage, command = error.ctx.get_usage(), error.ctx.command_path
        return f"{usage}\nTry '{command} -h' for help.\n\n{super().message()}"


def read(arguments: Sequence[str], inherited: Inherited | None) -> RunOptions | int:
    """Read a command line. For `run`, return the options. Anything else is carried out; return its exit code.

    Args:
        arguments: The command line, without the program's name.
        inherited: The signal mask and the parent with which pipe-init was started, for `exec`.

    Raises:
        CommandError: The command line is wrong.
    """
    result: RunOptions | int
    try:
        result = program.main(list(arguments), prog_name="pipe-init", obj=inherited, standalone_mode=False)
    except click.ClickException as error:
        raise ClickError(error) from None
    except SystemExit:  # click raises it only after EPIPE, and always with exit code 1
        return exit_codes.BROKEN_PIPE
    except OSError as error:
        if error.errno in SHORT:
            raise
        raise CommandError(f"The output cannot be written to stdout: {error.strerror}.") from None
    return result


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    import msgpack

    from pipe_runtime.wire.messages import VERSION

    from .. import __version__

    python = sys.version.partition(" ")[0]
    kind = "pure Python" if "fallback" in msgpack.Packer.__module__ else "C"
    release = ".".join(map(str, msgpack.version))
    click.echo(
        f"pipe-init {__version__}, protocol {VERSION}, Python {python} ({sys.executable}), msgpack {release} ({kind})"
    )
    context.exit(0)
