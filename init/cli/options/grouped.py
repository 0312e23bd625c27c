"""Options of click whose help reads like documentation: in groups, each with a variable, and examples at the end."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click
from click.core import ParameterSource

JSON_LOG = "json_log"
"""A key in click's context. Its value says whether each line on stderr must be JSON, as far as that is known yet."""

_RANGE = re.compile(r"\s+\[[^\[\]]*<=x[^\[\]]*\]$")
"""The range of numbers that click adds to an option's help. The help is easier to read without it."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that stands under a heading of its command's help."""

    def __init__(self, *names: Any, group: str = "Options", **settings: Any) -> None:
        settings.setdefault("metavar", getattr(settings.get("type"), "metavar", None))
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


class Line(click.types.StringParamType):
    """A text that may contain blanks. The option's variable has one text in each line; click would split at blanks."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the lines of a variable that are not blank."""
        return [line for line in rv.splitlines() if line.strip()]


class Count(click.IntRange):
    """A whole number in a range. `metavar` is the name of the value in the help."""

    metavar = "N"


class Megabytes(Count):
    """A number of megabytes in a range."""

    metavar = "MB"


class Number(click.FloatRange):
    """A number in a range. NaN is in no range.

    Attributes:
        metavar: The name of the value in the help.
        what: The name of the value in an error message.
    """

    metavar = "N"
    what = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number.

        Raises:
            click.BadParameter: It is not a number in the range.
        """
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a {self.what}.", param, ctx)
        return number


class Seconds(Number):
    """A number of seconds in a range."""

    metavar = "SECONDS"
    what = "number of seconds"


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


def option(*names: str, group: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Declare an option under the heading `group`. The option's variable is PIPE_INIT_ followed by its long name."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "PIPE_INIT_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=GroupedOption, group=group, envvar=variable, **settings)
