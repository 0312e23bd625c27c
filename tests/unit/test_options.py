"""Tests of options: help in groups with examples, a variable for each option, ranges, and options that exclude others.

They also test what the options of `run` become: the fields of HELLO, and how the function is run. test_http_options.py
has the options for HTTP.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import msgpack
import pytest
from click.shell_completion import CompletionItem
from click.testing import CliRunner

from pipe_init.cli.function.checks import MAX_ASKED, MAX_HANDLER
from pipe_init.cli.function.describe import describe_function
from pipe_init.cli.options.grouped import DocumentedCommand, GroupedOption, option
from pipe_init.cli.options.kinds import Seconds
from pipe_init.cli.options.run_options import EVENT_SOURCES, HOOKS, LOG_LEVELS, RunOptions
from pipe_init.cli.options.usage_errors import UsageError
from pipe_init.cli.run import options_of, run
from pipe_init.model import Function, new_request_id
from pipe_runtime.wire.connection import INIT, MAX_CONCURRENCY, MAX_CREDIT, Connection
from pipe_runtime.wire.frames import MAX_ITEMS
from pipe_runtime.wire.messages import HELLO, VERSION

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

EXAMPLES = """
tool file
tool --fast file

tool --slow 3 file
"""


@click.command(cls=DocumentedCommand, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file")
@option("-s", "--slow", group="Speed", kind=Seconds(0.5, 60.0), default=1.0, help="How slow.")
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
    """Return the lines of each section, without indentation, by its heading."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            found[line[:-1]] = []
        elif found and line.strip():
            found[list(found)[-1]].append(line.strip())
    return found


def completed(name: str, begun: str) -> list[CompletionItem]:
    """Return what a shell may offer for the value of an option of `run`."""
    parameter = next(each for each in run.params if each.name == name)
    return parameter.shell_complete(click.Context(run), begun)


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


class TestCompletion:
    """A shell asks for values that complete what the user has begun to write."""

    @pytest.mark.parametrize(
        ("name", "begun", "offered"),
        [
            ("platform", "", ["lambda", "fc", "none"]),
            ("log_style", "j", ["json"]),
            ("log_level", "warn", ["warn", "warning"]),
            ("timeout", "", []),
        ],
    )
    def test_values(self, name: str, begun: str, offered: list[str]) -> None:
        assert [item.value.casefold() for item in completed(name, begun)] == offered

    @pytest.mark.parametrize("name", ["code_dir", "layer", "cgroup"])
    def test_folders(self, name: str) -> None:
        """The shell itself then looks for folders."""
        assert [item.type for item in completed(name, "ex")] == ["dir"]


class TestSeconds:
    @pytest.mark.parametrize("text", ["0.5", "60", "1e1"])
    def test_in_the_range(self, text: str) -> None:
        code, output = invoke("-s", text, "x")
        assert code == 0 and f"slow={float(text)}" in output

    @pytest.mark.parametrize("text", ["0.49", "60.1", "-1", "inf", "nan", "NaN", "one", ""])
    def test_not_in_the_range(self, text: str) -> None:
        code, output = invoke("-s", text, "x")
        assert code == 2 and "--slow" in output


def given(*arguments: str) -> RunOptions:
    """Return the options of `run` with these arguments and this process's variables."""
    return options_of(run.make_context("run", ["index.handler", *arguments]))


def describe(*arguments: str) -> Function:
    return describe_function(given(*arguments))


def refused(*arguments: str) -> str:
    """Return the error for these arguments."""
    with pytest.raises(UsageError) as caught:
        describe(*arguments)
    return str(caught.value)


class TestGiven:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("type", "asgi", "asgi"),
            ("concurrency", "7", 7),
            ("initializer", "index.initialize", "index.initialize"),
            ("pre_stop", "index.stop", "index.stop"),
            ("pre_freeze", "index.freeze", "index.freeze"),
            ("layer", "a folder", ("a folder",)),
            ("context", "context.json", "context.json"),
            ("request", "POST /a b", "POST /a b"),
            ("header", "X-A: b c", ("X-A: b c",)),
            ("log_level", "warn", "WARN"),
            ("bytes", "base64", "base64"),
        ],
    )
    def test_option_and_variable(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
        assert getattr(given(), name) != value
        assert getattr(given("--" + name.replace("_", "-"), text), name) == value
        monkeypatch.setenv(f"PIPE_INIT_{name.upper()}", text)
        assert getattr(given(), name) == value

    def test_include(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not given().include and given("-i").include
        monkeypatch.setenv("PIPE_INIT_INCLUDE", "1")
        assert given().include

    def test_a_variable_with_several_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIPE_INIT_HEADER", "X-A: 1\n\n  \nX-B: 2 3\r\n")
        monkeypatch.setenv("PIPE_INIT_LAYER", "one:two")
        options = given()
        assert options.header == ("X-A: 1", "X-B: 2 3")
        assert options.layer == ("one", "two")
        assert given("-H", "X-C: 3").header == ("X-C: 3",)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--type", "http"),
            ("--concurrency", "0"),
            ("--concurrency", str(MAX_CONCURRENCY + 1)),
            ("--concurrency", "many"),
            ("--log-level", "LOUD"),
        ],
    )
    def test_what_is_no_value(self, arguments: tuple[str, str]) -> None:
        with pytest.raises(click.BadParameter) as caught:
            given(*arguments)
        assert arguments[0] in caught.value.format_message() and arguments[1] in caught.value.format_message()

    @pytest.mark.parametrize("arguments", [("-e", ""), ("-f", "-"), ("--events", "-")])
    def test_whether_there_is_an_event(self, arguments: tuple[str, str]) -> None:
        assert given(*arguments).has_event and not given().has_event


class TestSourcesOfEvents:
    """Check that an option on the command line wins over an excluded one that comes from the environment."""

    @staticmethod
    def chosen(monkeypatch: pytest.MonkeyPatch, *arguments: str, **variables: str) -> dict[str, Any]:
        for name, value in variables.items():
            monkeypatch.setenv(f"PIPE_INIT_{name.upper()}", value)
        options = given(*arguments)
        return {name: getattr(options, name) for name in (*EVENT_SOURCES, "name") if getattr(options, name) is not None}

    def test_what_the_command_line_says_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.chosen(monkeypatch, "--event", "1", events="2", name="3")
        assert found == {"event": "1", "name": "3"}

    def test_variables_alone_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.chosen(monkeypatch, "--name", "3", event="1", events="2")
        assert found == {"name": "3", "event": "1", "events": "2"}

    def test_so_is_the_command_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.chosen(monkeypatch, "-e", "1", "-f", "2") == {"event": "1", "event_file": "2"}

    def test_an_option_in_both_places_is_the_command_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.chosen(monkeypatch, "-e", "1", event="9", events="2") == {"event": "1"}


class TestFunction:
    def test_defaults_add_nothing(self) -> None:
        function = describe("--platform", "none")
        assert set(function.hello) == {"handler", "code_dir", "environment", "function"}
        assert set(function.hello["function"]) == {"memory_mb", "timeout_ms"}
        assert (function.concurrency, dict(function.metadata)) == (1, {})
        assert (function.version, function.settings.window_requests) == ("$LATEST", 1)

    @pytest.mark.parametrize(("name", "sent"), [("auto", None), ("event", "event"), ("wsgi", "wsgi"), ("asgi", "asgi")])
    def test_type(self, name: str, sent: str | None) -> None:
        assert describe("--type", name).hello.get("type") == sent

    @pytest.mark.parametrize("events", [(), ("--events", "-")])
    def test_concurrency_is_the_window(self, events: tuple[str, ...]) -> None:
        function = describe("--concurrency", "10", *events)
        assert (function.concurrency, function.hello["concurrency"]) == (10, 10)
        assert function.settings.window_requests == 10

    def test_concurrency_of_one(self) -> None:
        function = describe("--concurrency", "1", "--events", "-")
        assert "concurrency" not in function.hello and function.settings.window_requests == 64

    @pytest.mark.parametrize("hook", HOOKS)
    def test_a_hook(self, hook: str) -> None:
        function = describe("--" + hook.replace("_", "-"), "pkg/mod:Class.method")
        assert function.hello[hook] == "pkg/mod:Class.method"
        assert function.hello.keys() & set(HOOKS) == {hook}
        found = function.hello.get("init_request_id")
        assert found is None if hook == "pre_freeze" else re.fullmatch(UUID, found)

    def test_all_hooks_share_a_request_id_of_their_own(self) -> None:
        arguments = ("--initializer", "a.b", "--pre-stop", "a.c", "--pre-freeze", "a.d")
        one, other = describe(*arguments), describe(*arguments)
        assert set(HOOKS) <= one.hello.keys()
        assert one.hello["init_request_id"] != other.hello["init_request_id"]

    @pytest.mark.parametrize("hook", HOOKS)
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("x" * (MAX_HANDLER + 1), f"has {MAX_HANDLER + 1} characters; the limit is {MAX_HANDLER}."),
            ("ind\udcffex.hook", ": 'ind\\udcffex.hook' is not UTF-8 text; give it another name."),
            ("", ": the name is empty; it has HANDLER's form, such as index.initialize."),
        ],
    )
    def test_names_of_hooks_are_checked(self, hook: str, name: str, says: str) -> None:
        long = "--" + hook.replace("_", "-")
        assert refused(f"{long}={name}").replace(" ", "") == (long + says).replace(" ", "")

    @pytest.mark.parametrize("level", LOG_LEVELS)
    def test_log_level(self, level: str) -> None:
        assert describe("--log-level", level).hello["log_level"] == level

    @pytest.mark.parametrize("more", [(), ("-q",)])
    def test_log_style_json_is_for_the_function_too(self, more: tuple[str, ...]) -> None:
        assert describe("--log-style", "json", *more).hello["log_format"] == "json"
        assert "log_format" not in describe("--log-style", "lambda", *more).hello

    def test_layers_are_absolute_and_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        hello = describe("--layer", "two", "--layer", str(tmp_path / "one")).hello
        assert hello["layers"] == [str(tmp_path / "two"), str(tmp_path / "one")]

    def test_what_is_no_layer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        (tmp_path / "odd\udcff").mkdir()
        assert refused("--layer", "nowhere") == "--layer: there is no folder 'nowhere'."
        assert refused("--layer", "file") == "--layer: there is no folder 'file'."
        assert "is not UTF-8 text" in refused("--layer", "odd\udcff")
        assert (
            refused(*["--layer", "."] * (MAX_ITEMS + 1))
            == f"--layer: {MAX_ITEMS + 1} folders; the limit is {MAX_ITEMS}."
        )


def connect(function: Function) -> bytes:
    """Return the bytes of HELLO, with the longest values in the fields that the supervisor sets."""
    own = {"versions": [VERSION], "software": "x" * 100, "dump_fd": 2**64 - 1, "dump_signal": 2**64 - 1}
    more = {"spin_us": 2**64 - 1, "stream_bytes": MAX_CREDIT, "window_requests": 2**64 - 1}
    return Connection(INIT).send(HELLO, metadata={**own, **more, **function.hello})


class TestSize:
    """Check that HELLO's head stays within 64 KiB for all options."""

    def test_variables_take_the_room_that_is_left_and_then_exec(self) -> None:
        platform = ("--platform", "none")
        hello = describe(*platform).hello
        del hello["environment"]
        room = MAX_ASKED - len(msgpack.packb(hello)) - (len(msgpack.packb({"environment": {"A": "x" * 1000}})) - 1000)
        function = describe(*platform, "-E", "A=" + "x" * room)
        assert function.hello["environment"] == {"A": "x" * room} and "A" not in function.environment
        assert connect(function)
        function = describe(*platform, "-E", "A=" + "x" * (room + 1))
        assert function.hello["environment"] == {} and function.environment["A"] == "x" * (room + 1)

    def test_many_short_variables(self, tmp_path: Path) -> None:
        (tmp_path / "variables").write_text("".join(f"{number}=\n" for number in range(15_000)))
        function = describe("--env-file", str(tmp_path / "variables"))
        assert function.environment["14999"] == "" and connect(function)

    def test_other_options_leave_less_room(self) -> None:
        variable = ("-E", "A=" + "x" * 50_000)
        assert describe(*variable).hello["environment"]
        function = describe(*variable, "--initializer", "ü" * MAX_HANDLER, "--pre-stop", "€" * MAX_HANDLER)
        assert not function.hello["environment"] and connect(function)

    def test_names_that_fit_each_but_not_together(self, tmp_path: Path) -> None:
        name = "\U0001f40d" * MAX_HANDLER
        hooks = [part for hook in HOOKS for part in ("--" + hook.replace("_", "-"), name)]
        assert connect(describe(*hooks))
        says = refused(*hooks, *["--layer", str(tmp_path)] * 1000)
        assert re.fullmatch(
            r"HANDLER, its hooks, --code-dir, --layer, --name, --region and --context make \d{5,} bytes together; "
            rf"the limit is {MAX_ASKED}\.",
            says,
        )


def test_request_ids_are_random_uuids() -> None:
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100 and all(re.fullmatch(UUID, id) for id in ids)
