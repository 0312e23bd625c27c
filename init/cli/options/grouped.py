"""Define click options and commands whose help has headings for groups of options, and examples at the end.

The classes of kinds.py convert the values of the options. This file is loaded for help, for errors, and for the command
lines that command_line.py leaves to click.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .kinds import Choice, Folder, Text

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that the help of its command lists under the heading `group`."""

    def __init__(self, *names: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group


class DocumentedCommand(click.Command):
    """A command whose help lists the options under headings, and ends with examples."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group in the order of their first members."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda parameter: not hasattr(parameter, "group")):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog, which has the examples, one on each line."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text(f"\b\n{self.epilog.strip()}")  # click does not wrap what follows a backspace


class Conversion(click.types.StringParamType):
    """A click type that converts texts with the given functions.

    Args:
        read: Converts a text to a value. If the text is wrong, it raises a ValueError that says why.
        split: Cuts the environment variable of a repeatable option into texts.
    """

    def __init__(self, read: Callable[[str], Any], split: Callable[[str], list[str]] = str.split) -> None:
        self._read = read
        self._split = split

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert a text to a value.

        Raises:
            click.BadParameter: The text cannot be converted.
        """
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Cut the value of an environment variable into texts."""
        return self._split(rv)


def option(*names: str, group: str, kind: Text | None = None, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option. Its environment variable is PIPE_INIT_ followed by its long name.

    Args:
        names: The option's names, such as "-t" and "--timeout".
        group: The heading in the help.
        kind: The kind of the option's value, which converts it and says what a shell may offer to complete it with.
            With None, click does both.
        settings: Further settings of click.option.
    """
    if kind is not None:
        settings["type"] = Conversion(kind.read, kind.split)
        settings["metavar"] = settings.get("metavar") or kind.metavar or None
        if isinstance(kind, Choice):
            settings["shell_complete"] = click.Choice(kind.values, case_sensitive=False).shell_complete
        elif isinstance(kind, Folder):
            settings["shell_complete"] = click.Path(file_okay=False).shell_complete
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "PIPE_INIT_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=GroupedOption, group=group, envvar=variable, **settings)
