"""Find the command that the user names, and load its file only then. Only this package knows click."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ..kernel import exit_codes
from .options.grouped import JSON_LOG

if TYPE_CHECKING:
    from ..kernel.signals import Inherited, Signals
    from ..workers.early import EarlyStart

COMPLAINT_SECONDS = 2.0
"""Time that the reader of an error message has after a signal has asked pipe-init to end."""


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


def main(arguments: list[str], early: EarlyStart | None = None, inherited: Inherited | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        arguments: The command line, without the program's name.
        early: What was prepared for `run`. If `run` does not use its worker, the worker is ended.
        inherited: What `exec` needs to know of the state in which pipe-init was started.
    """
    shared: dict[str, object] = {"early": early, "inherited": inherited, JSON_LOG: _asks_for_json(arguments)}
    try:
        code = program.main(args=arguments, prog_name="pipe-init", obj=shared, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        _complain(error, None if early is None else early.signals, bool(shared[JSON_LOG]))
        return error.exit_code
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except SystemExit:  # click raises it for one thing only: EPIPE, which it catches, with an exit code of 1
        return exit_codes.BROKEN_PIPE
    finally:
        if early is not None:
            early.dismiss()


def _asks_for_json(arguments: list[str]) -> bool:
    """Return whether this is a `run` that logs JSON, as far as can be told before its options are parsed."""
    if arguments[:1] != ["run"]:
        return False
    if os.environ.get("PIPE_INIT_LOG_STYLE") == "json" or "--log-style=json" in arguments:
        return True
    return ("--log-style", "json") in zip(arguments, arguments[1:], strict=False)


def _complain(error: click.ClickException, signals: Signals | None, as_json: bool) -> None:
    from ..kernel.outlet import Patience
    from ..log.journal import ERROR, Journal
    from ..log.json_lines import json_line

    journal, lines = Journal(2, json_line=json_line if as_json else None), []
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # since click 8.2
        lines.append(error.format_message())
    else:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            lines += [error.ctx.get_usage(), f"Try '{error.ctx.command_path} -h' for help.", ""]
        lines.append(f"Error: {error.format_message()}")
    journal.tell("\n".join(lines), ERROR)
    journal.finish(Patience(signals, COMPLAINT_SECONDS))


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
