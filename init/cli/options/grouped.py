"""Options of click whose help reads like documentation: in groups, each with a variable, and examples at the end.

click converts values as kinds.py says. Only command lines that command_line.py leaves to click, help and errors need
this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .kinds import Text

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a heading of its command's help."""

    def __init__(self, *names: Any, group: str = "Options", **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group


class DocumentedCommand(click.Command):
    """A command whose help has its options under headings, and ends with examples."""

    def __init__(self, *names: Any, examples: str = "", **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group in the order of their first members, then the examples."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda parameter: not hasattr(parameter, "group")):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


class Conversion(click.types.StringParamType):
    """A type of click that converts texts with functions.

    Args:
        read: A function that makes a value of a text. Its ValueError says what is wrong with the text.
        split: A function that returns the texts in the variable of an option that can be given repeatedly.
    """

    def __init__(self, read: Callable[[str], Any], split: Callable[[str], list[str]] = str.split) -> None:
        self._read = read
        self._split = split

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of a text.

        Raises:
            click.BadParameter: The text stands for no value.
        """
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the texts of a variable."""
        return self._split(rv)


def option(*names: str, group: str, kind: Text | None = None, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option under the heading `group`. The option's variable is PIPE_INIT_ followed by its long name.

    Args:
        names: Its names.
        group: The heading.
        kind: What its value is, if it has one of these kinds.
        settings: Further settings of click.option.
    """
    if kind is not None:
        settings["type"] = Conversion(kind.read, kind.split)
        settings["metavar"] = settings.get("metavar") or kind.metavar or None
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "PIPE_INIT_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=GroupedOption, group=group, envvar=variable, **settings)
