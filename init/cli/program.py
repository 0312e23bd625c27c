"""Read command lines with click: find the command that the user names, and load its file only then.

This file and those of the commands are loaded for help, for errors, for the version, and for command lines that are
not plain.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..kernel import exit_codes
from .options.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.signals import Inherited
    from .options.run_options import RunOptions


class Commands(click.Group):
    """The commands. Each is imported only if it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, for the help."""
        return ["exec", "run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name; None if there is none."""
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
    help="Show the versions of everything that matters and exit.",
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
        """Return the message for the user, after the usage of the command if that was wrong."""
        error = self._error
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
            return str(self)
        if not isinstance(error, click.UsageError) or error.ctx is None:
            return super().message()
        usage, command = error.ctx.get_usage(), error.ctx.command_path
        return f"{usage}\nTry '{command} -h' for help.\n\n{super().message()}"


def read(arguments: Sequence[str], inherited: Inherited | None) -> RunOptions | int:
    """Read a command line. Return the options of `run`; for anything else, carry it out and return the exit code.

    Args:
        arguments: The command line, without the program's name.
        inherited: What `exec` needs to know of the state in which pipe-init was started.

    Raises:
        CommandError: It is wrong.
    """
    result: RunOptions | int
    try:
        result = program.main(list(arguments), prog_name="pipe-init", obj=inherited, standalone_mode=False)
    except click.ClickException as error:
        raise ClickError(error) from None
    except SystemExit:  # click raises it for one thing only: EPIPE, which it catches, with an exit code of 1
        return exit_codes.BROKEN_PIPE
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
