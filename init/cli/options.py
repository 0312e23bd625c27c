"""Options that read like documentation: in groups, each with its environment variable, and examples at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that belongs under a heading of its command's help."""

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
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


def option(*names: str, group: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """An option under a heading, whose variable is PIPE_INIT_ and its long name."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "PIPE_INIT_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, cls=GroupedOption, group=group, envvar=variable, **settings)
