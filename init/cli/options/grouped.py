"""Options of click whose help reads like documentation: in groups, each with a variable, and examples at the end.

click's types are made of the kinds of values in kinds.py. Only command lines that command_line.py leaves to click, help
and errors need this file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from .kinds import Choice, Count, Folder, Line, Number, Text

_RANGE = re.compile(r"\s+\[[^\[\]]*<=x[^\[\]]*\]$")
"""The range of numbers that click adds to an option's help. The help is easier to read without it."""

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
                name, text = record
                text = _RANGE.sub("", text)
                groups.setdefault(getattr(parameter, "group", "Help"), []).append((name, text))
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


class LineType(click.types.StringParamType):
    """The type of a Line."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the texts of a variable."""
        return Line().split(rv)


class FolderType(click.Path):
    """The type of a Folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path."""
        return Folder().read(str(super().convert(value, param, ctx)))


class NumberType(click.FloatRange):
    """The type of a Number."""

    def __init__(self, kind: Number) -> None:
        super().__init__(kind.least, kind.most)
        self._what = kind.what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number.

        Raises:
            click.BadParameter: It is not a number in the range.
        """
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a {self._what}.", param, ctx)
        return number


def type_of(kind: Text) -> click.ParamType[Any]:
    """Return click's type for a kind of value."""
    if isinstance(kind, Choice):
        return click.Choice(list(kind.values), case_sensitive=kind.case_sensitive)
    if isinstance(kind, Count):
        return click.IntRange(kind.least, kind.most)
    if isinstance(kind, Number):
        return NumberType(kind)
    if isinstance(kind, Folder):
        return FolderType()
    return LineType() if isinstance(kind, Line) else click.STRING


def prefer_command_line(context: click.Context, given: dict[str, Any], names: Collection[str]) -> None:
    """If the command line has one of several options that exclude each other, forget those that come from variables.

    Args:
        context: The command's context.
        given: The values of the command's options.
        names: The names of the options that exclude each other.
    """
    variable = [name for name in names if context.get_parameter_source(name) is ParameterSource.ENVIRONMENT]
    if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names):
        given.update(dict.fromkeys(variable))


def option(*names: str, group: str, kind: Text | None = None, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option under the heading `group`. The option's variable is PIPE_INIT_ followed by its long name.

    Args:
        names: Its names.
        group: The heading.
        kind: What its value is, if it has one of these kinds.
        settings: Further settings of click.option.
    """
    if kind is not None:
        settings["type"] = type_of(kind)
        settings["metavar"] = settings.get("metavar") or kind.metavar or None
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "PIPE_INIT_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=GroupedOption, group=group, envvar=variable, **settings)
