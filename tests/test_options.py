"""Help in groups with examples, a variable for each option, seconds in a range, and options that exclude each other."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipe_init.cli.options import DocumentedCommand, GroupedOption, Seconds, option, prefer_command_line
from pipe_init.cli.run import run

EXAMPLES = """
tool file
tool --fast file

tool --slow 3 file
"""


@click.command(cls=DocumentedCommand, examples=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file")
@option("-s", "--slow", group="Speed", type=Seconds(0.5, 60.0), default=1.0, help="How slow.")
@option("--quiet/--loud", group="Output", default=False, help="How loud.")
@option("--fast-lane", group="Speed", is_flag=True, help="How fast.")
@option("--secret", group="Output", hidden=True, help="Not for the help.")
@click.pass_context
def tool(context: click.Context, /, **given: Any) -> None:
    """Do something."""
    click.echo(" ".join(f"{name}={value}" for name, value in sorted(given.items())))


def invoke(*arguments: str, command: click.Command = tool, **variables: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments, env=variables)
    return result.exit_code, result.output


def sections(text: str) -> dict[str, list[str]]:
    """Heading -> its lines, without indentation."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            found[line[:-1]] = []
        elif found and line.strip():
            found[list(found)[-1]].append(line.strip())
    return found


class TestHelp:
    def test_options_stand_under_their_headings_in_the_order_of_first_use(self) -> None:
        code, text = invoke("-h")
        assert code == 0
        parts = sections(text)
        assert list(parts) == ["Speed", "Output", "Help", "Examples"]
        assert [re.split(" [A-Z]|  ", line)[0] for line in parts["Speed"]] == ["-s, --slow", "--fast-lane"]
        assert parts["Output"] == ["--quiet / --loud  How loud."]
        assert [line.split("  ")[0] for line in parts["Help"]] == ["-h, --help"]

    def test_hidden_options_are_not_shown(self) -> None:
        assert "secret" not in invoke("-h")[1]

    def test_examples_come_last_and_are_not_wrapped(self) -> None:
        text = invoke("-h")[1]
        assert text.endswith("Examples:\n  tool file\n  tool --fast file\n\n  tool --slow 3 file\n")

    def test_no_examples_no_heading(self) -> None:
        bare = click.command(cls=DocumentedCommand)(lambda: None)
        assert "Examples" not in invoke("--help", command=bare)[1]

    def test_every_option_of_run_has_a_heading_a_help_text_and_a_variable(self) -> None:
        for parameter in run.params:
            if isinstance(parameter, click.Option):
                assert isinstance(parameter, GroupedOption), parameter.name
                assert parameter.group and parameter.help, parameter.name
                assert parameter.envvar == f"PIPE_INIT_{str(parameter.name).upper()}"

    def test_no_variable_is_read_twice(self) -> None:
        variables = [parameter.envvar for parameter in run.params if isinstance(parameter, click.Option)]
        assert len(variables) == len(set(variables)) > 10


class TestVariables:
    def test_the_variable_has_the_long_name(self) -> None:
        assert "slow=5.0" in invoke("x", PIPE_INIT_SLOW="5")[1]
        assert "fast_lane=True" in invoke("x", PIPE_INIT_FAST_LANE="1")[1]

    def test_of_a_pair_of_flags_it_is_the_first_one(self) -> None:
        assert "quiet=True" in invoke("x", PIPE_INIT_QUIET="yes")[1]
        assert "quiet=False" in invoke("x", PIPE_INIT_LOUD="yes")[1]

    def test_the_command_line_comes_first(self) -> None:
        assert "slow=7.0" in invoke("-s", "7", "x", PIPE_INIT_SLOW="5")[1]


class TestSeconds:
    @pytest.mark.parametrize("text", ["0.5", "60", "1e1"])
    def test_in_the_range(self, text: str) -> None:
        code, output = invoke("-s", text, "x")
        assert code == 0 and f"slow={float(text)}" in output

    @pytest.mark.parametrize("text", ["0.49", "60.1", "-1", "inf", "nan", "NaN", "one", ""])
    def test_not_in_the_range(self, text: str) -> None:
        code, output = invoke("-s", text, "x")
        assert code == 2 and "--slow" in output


class TestPreferCommandLine:
    """Two options exclude each other; one in the environment must not forbid the other on the command line."""

    @staticmethod
    def chosen(*arguments: str, **variables: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        @click.command()
        @option("--one", group="G")
        @option("--two", group="G")
        @option("--other", group="G")
        @click.pass_context
        def command(context: click.Context, /, **given: Any) -> None:
            prefer_command_line(context, given, ["one", "two"])
            found.update(given)

        assert invoke(*arguments, command=command, **variables)[0] == 0
        return found

    def test_what_the_command_line_says_counts(self) -> None:
        given = self.chosen("--one", "1", PIPE_INIT_TWO="2", PIPE_INIT_OTHER="3")
        assert given == {"one": "1", "two": None, "other": "3"}

    def test_variables_alone_are_left_alone(self) -> None:
        given = self.chosen("--other", "3", PIPE_INIT_ONE="1", PIPE_INIT_TWO="2")
        assert given == {"one": "1", "two": "2", "other": "3"}

    def test_so_is_the_command_line(self) -> None:
        assert self.chosen("--one", "1", "--two", "2") == {"one": "1", "two": "2", "other": None}

    def test_an_option_in_both_places_is_the_command_lines(self) -> None:
        assert self.chosen("--one", "1", PIPE_INIT_ONE="9", PIPE_INIT_TWO="2")["one"] == "1"
