"""Compare the two readers of `run`'s command line: command_line.read, and click.

Whenever command_line.read returns options, click must return the same options. For the usual forms of options,
command_line.read must return them and not leave them to click.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from unittest import mock

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipe_init.cli.click_commands import program
from pipe_init.cli.options import command_line
from pipe_init.cli.options.grouped import GroupedOption
from pipe_init.cli.options.kinds import Choice, Count, Flag, Folder, Number, Option, absolute
from pipe_init.cli.options.run_options import OPTIONS, RunOptions
from pipe_init.cli.options.usage_errors import USAGE
from pipe_init.cli.run import options_of, run

ODD = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1",
        " 7 ",
        "+5",
        "1_0",
        "\u0665",
        "16",
        "1.5",
        "1e1",
        "inf",
        "nan",
        "x",
        "=",
        "=1",
    ),
    *("TRUE", "off", " yes ", "auto", "warn", "Lambda", "/", "//a", "a//b/./c/..", "a:b:", "K=V W", "a\n\n b\r\nc"),
    *("{}", "\udcff", "index.handler", "-e", "--raw", "-h", "--help"),
)
"""Texts that are the value of some options, wrong for others, and converted by others."""


def right_values(option: Option) -> tuple[str, ...]:
    """Return texts that are right values of an option."""
    kind = option.kind
    if isinstance(kind, Flag):
        return ("1", "no")
    if isinstance(kind, Choice):
        return tuple(kind.values)
    if isinstance(kind, (Count, Number)):
        return (str(kind.least), str(kind.least + 1))
    return ("some", "a text")


def fitting(option: Option) -> st.SearchStrategy[str]:
    """Return texts to try as an option's value. Most of them are right."""
    right = st.sampled_from(right_values(option))
    return st.one_of(
        right, right, right, st.sampled_from(ODD), st.text(max_size=5).filter(lambda text: "\0" not in text)
    )


@st.composite
def words(draw: st.DrawFn) -> list[str]:
    """Return the words of one option on a command line. Its value may be missing, or a word too many may follow."""
    option = draw(st.sampled_from(sorted(OPTIONS.values(), key=lambda option: option.name)))
    value = draw(fitting(option))
    long, short = option.long, option.short or option.long
    forms = (
        [[long], [short]] if option.is_flag else [[long, value], [f"{long}={value}"], [short, value], [short + value]]
    )
    odd = [
        [long],
        [f"{long}={value}"],
        [long[:-1], value],
        [short, value],
        [short + "q"],
        ["-q" + short[1:]],
        [long.upper()],
    ]
    return draw(st.one_of(*[st.sampled_from(forms)] * 9, st.sampled_from(odd)))


arguments = st.builds(
    lambda before, handler, after: [*sum(before, []), *handler, *sum(after, [])],
    st.lists(words(), max_size=3),
    st.sampled_from([["index.handler"]] * 12 + [[], ["a", "b"], ["--", "a"], ["a", "--"], ["-"], [""], ["-h"]]),
    st.lists(words(), max_size=3),
)

environments = st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.sampled_from(range(8)), max_size=3).flatmap(
    lambda chosen: st.fixed_dictionaries({OPTIONS[name].variable: fitting(OPTIONS[name]) for name in chosen})
)


def slowly(arguments: list[str], environment: dict[str, str]) -> RunOptions:
    """Return the options as click reads them. Raise click's error if they are wrong."""
    with mock.patch.dict(os.environ, environment):
        return options_of(run.make_context("run", list(arguments)))


@given(arguments, environments)
@example(["a", "-e", "1"], {"PIPE_INIT_EVENTS": "x", "PIPE_INIT_EVENT": "2"})
@example(["a"], {"PIPE_INIT_PLATFORM": "fc", "PIPE_INIT_RAW": "0"})
@example(["a", "--platform", "fc", "--log-style", "auto"], {"PIPE_INIT_ERROR_STYLE": "text"})
@example(["a", "--layer", ""], {"PIPE_INIT_HEADER": " ", "PIPE_INIT_ENV": "A=1 B=2", "PIPE_INIT_CGROUP": "a::b"})
def test_the_plain_reader_reads_what_click_reads(arguments: list[str], environment: dict[str, str]) -> None:
    found = command_line.read(arguments, environment)
    if found is not None:
        assert vars(found) == vars(slowly(arguments, environment))


@given(st.data())
def test_the_plain_reader_reads_every_option_in_each_of_its_forms(data: st.DataObject) -> None:
    given_arguments, environment = ["index.handler"], {}
    for option in data.draw(st.lists(st.sampled_from(sorted(OPTIONS.values(), key=lambda option: option.name)))):
        value = data.draw(st.sampled_from(right_values(option)))
        name = data.draw(st.sampled_from([option.long, option.short or option.long]))
        if data.draw(st.booleans()):
            environment[option.variable] = value
        elif option.is_flag:
            given_arguments.append(name)
        elif name == option.long and data.draw(st.booleans()):
            given_arguments.append(f"{name}={value}")
        else:
            given_arguments += [name, value]
    found = command_line.read(given_arguments, environment)
    assert found is not None
    assert vars(found) == vars(slowly(given_arguments, environment))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-h",),
        ("index.handler", "--help"),
        ("index.handler", "another"),
        ("index.handler", "--"),
        ("--", "index.handler"),
        ("-",),
        ("",),
        ("index.handler", "--even", "{}"),
        ("index.handler", "--nothing"),
        ("index.handler", "-e"),
        ("index.handler", "--raw=1"),
        ("index.handler", "-t", "0"),
        ("index.handler", "-t", "nan"),
        ("index.handler", "-m", "1.5"),
        ("index.handler", "--type", "http"),
    ],
)
def test_help_and_errors_are_left_to_click(arguments: tuple[str, ...]) -> None:
    assert command_line.read(arguments, {}) is None


def test_a_wrong_variable_is_left_to_click() -> None:
    assert command_line.read(["index.handler"], {"PIPE_INIT_RAW": "perhaps"}) is None
    assert command_line.read(["index.handler", "-t", "5"], {"PIPE_INIT_TIMEOUT": "x"}) is not None


def test_click_has_the_options_of_the_table() -> None:
    of_click = {str(each.name): each for each in run.params if isinstance(each, GroupedOption)}
    assert list(of_click) == list(OPTIONS)
    for name, option in OPTIONS.items():
        each = of_click[name]
        assert set(each.opts) == {option.long, option.short} - {""}
        assert (each.envvar, each.multiple, each.is_flag) == (option.variable, option.repeatable, option.is_flag)


def test_usage_is_written_as_click_writes_it() -> None:
    context = click.Context(run, info_name="run", parent=click.Context(program, info_name="pipe-init"))
    assert f"{context.get_usage()}\nTry '{context.command_path} -h' for help.\n\n" == USAGE


@given(st.text("ab./", max_size=12))
def test_folders_are_written_as_pathlib_writes_them(text: str) -> None:
    path = PurePosixPath(text)
    assert Folder().read(text) == str(path)
    assert absolute(Folder().read(text)) == str(PurePosixPath(os.getcwd()) / path)
