"""Tests of the decisions of a plain init: where each signal goes, what a status means, and how options are read."""

from __future__ import annotations

import signal

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_init.cli.exec import execute, options_of
from pipe_init.cli.options.grouped import GroupedOption
from pipe_init.exec import exec_options
from pipe_init.exec.forwarding import (
    FORWARDABLE,
    JOB_CONTROL,
    STOPPING,
    rewriting,
    route,
    signal_name,
    signal_number,
)
from pipe_init.exec.plain_init import Options
from pipe_init.kernel.exit_codes import of_status
from pipe_init.workers.early import is_run

numbers = st.sampled_from(sorted(signal.valid_signals()))
forwardable = st.sampled_from(sorted(FORWARDABLE))
flags = st.booleans()
PLAIN = sorted(FORWARDABLE - JOB_CONTROL - {signal.SIGCONT})


class TestRoute:
    def test_what_can_be_forwarded(self) -> None:
        kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
        assert FORWARDABLE | kept == signal.valid_signals() and not FORWARDABLE & kept

    @pytest.mark.parametrize("session", [False, True])
    @pytest.mark.parametrize("group", [False, True])
    def test_a_signal_goes_on_as_it_is(self, group: bool, session: bool) -> None:
        for number in PLAIN:
            assert route(number, {}, group, session) == (number, group, False)

    @pytest.mark.parametrize("number", sorted(JOB_CONTROL))
    @pytest.mark.parametrize("group", [False, True])
    def test_a_stop_is_for_the_group_and_for_us(self, number: int, group: bool) -> None:
        assert route(number, {}, group, False) == (number, True, True)
        assert route(number, {}, group, True) == (signal.SIGSTOP, True, True)

    def test_a_stop_that_was_asked_for_by_name_is_that_one(self) -> None:
        assert route(signal.SIGTSTP, {signal.SIGTSTP: signal.SIGTSTP}, False, True)[0] == signal.SIGTSTP

    @given(group=flags, session=flags)
    def test_waking_is_for_the_group(self, group: bool, session: bool) -> None:
        assert route(signal.SIGCONT, {}, group, session) == (signal.SIGCONT, True, False)

    @given(came=forwardable, group=flags, session=flags)
    def test_what_is_rewritten_to_nothing_goes_nowhere(self, came: int, group: bool, session: bool) -> None:
        assert route(came, {came: 0}, group, session) == (0, False, came in JOB_CONTROL)

    @given(came=forwardable, instead=numbers, group=flags, session=flags)
    def test_what_is_rewritten_is_what_it_was_rewritten_to(
        self, came: int, instead: int, group: bool, session: bool
    ) -> None:
        number, _, stop = route(came, {came: instead}, group, session)
        assert number == instead
        assert stop == (came in JOB_CONTROL or instead in STOPPING)


class TestExitCode:
    @given(st.integers(0, 255))
    def test_of_an_exit(self, code: int) -> None:
        assert of_status(code << 8) == code

    @given(st.integers(1, 64), flags)
    def test_of_a_signal(self, number: int, dumped: bool) -> None:
        assert of_status(number | dumped << 7) == 128 + number


class TestNames:
    @given(numbers)
    def test_every_signal_has_a_name_and_a_number(self, number: int) -> None:
        name = signal_name(number)
        assert signal_number(name) == signal_number(name.lower()) == signal_number(name[3:]) == number
        assert signal_number(str(int(number))) == number

    @pytest.mark.parametrize("text", ["RTMIN+3", "SIGRTMIN+3", str(signal.SIGRTMIN + 3)])
    def test_a_real_time_signal(self, text: str) -> None:
        assert signal_number(text) == signal.SIGRTMIN + 3
        assert signal_number("RTMAX-1") == signal.SIGRTMAX - 1

    @pytest.mark.parametrize("text", ["", "0", "32", "33", "65", "-1", "FOO", "SIG", "RTMIN+31", "RTMAX-31", "\u0661"])
    def test_no_signal(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no signal"):
            signal_number(text)

    @given(forwardable, st.one_of(st.just(0), numbers))
    def test_a_rewriting(self, came: int, instead: int) -> None:
        assert rewriting(f"{came}:{instead}") == (came, instead)
        if instead:
            assert rewriting(f"{signal_name(came)}:{signal_name(instead)[3:]}") == (came, instead)

    @pytest.mark.parametrize(
        "text", ["15", "15:", ":3", "TERM:FOO", "15:3:1", "KILL:TERM", "STOP:0", "CHLD:TERM", "0:3"]
    )
    def test_no_rewriting(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"is no signal|of the form|never forwarded"):
            rewriting(text)


def slowly(*arguments: str) -> Options:
    """Return the options as click reads them. Raise click.UsageError if they are wrong."""
    return options_of(execute.make_context("exec", list(arguments)).params)


words = st.sampled_from(
    "-g -s -v --group --subreaper --verbose --setsid --no-setsid --rewrite 15:3 TERM:0 15:x --pdeathsig KILL 0 --grace "
    "5 0 1.5 3600 999 -1 --grace=5 -gs -- - sh -c -h --help --nothing ls --leave-rest ".split(" ")
)


class TestCommandLine:
    @given(st.lists(words, max_size=8))
    def test_the_short_way_says_what_the_long_one_does(self, arguments: list[str]) -> None:
        found = exec_options.read(arguments, {})
        if found is not None:
            assert found == slowly(*arguments)

    def test_the_short_way_is_taken(self) -> None:
        arguments = [
            "-g",
            "-v",
            "--rewrite",
            "TERM:3",
            "--rewrite",
            "USR1:0",
            "--grace",
            "5",
            "--",
            "sh",
            "-c",
            "--",
            "-g",
        ]
        rewrites = {signal.SIGTERM: signal.SIGQUIT, signal.SIGUSR1: 0}
        expected = Options(("sh", "-c", "--", "-g"), group=True, verbose=True, rewrites=rewrites, grace=5)
        assert exec_options.read(arguments, {}) == slowly(*arguments) == expected

    def test_variables_take_the_long_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for option in execute.params:
            if isinstance(option, click.Option):
                assert exec_options.read(["true"], {str(option.envvar): "5"}) is None
        assert exec_options.read(["true"], {"PIPE_INIT_TIMEOUT": "5", "LANG": "C"}) == Options(("true",))
        monkeypatch.setenv("PIPE_INIT_REWRITE", "15:3 USR1:0")
        monkeypatch.setenv("PIPE_INIT_SETSID", "1")
        monkeypatch.setenv("PIPE_INIT_PDEATHSIG", "KILL")
        rewrites = {signal.SIGTERM: signal.SIGQUIT, signal.SIGUSR1: 0}
        assert slowly("true") == Options(("true",), rewrites=rewrites, session=True, parent_death=signal.SIGKILL)
        assert not slowly("--no-setsid", "true").session

    def test_no_worker_is_started_ahead(self) -> None:
        assert not is_run(["exec", "--", "run"])

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((), "Missing argument"),
            (("-g", "--"), "Missing argument"),
            (("--rewrite", "KILL:3", "true"), "SIGKILL is never forwarded, so it cannot be rewritten."),
            (("--rewrite", "15", "true"), "'15' is not of the form A:B"),
            (("--pdeathsig", "FOO", "true"), "'FOO' is no signal."),
            (("--grace", "nan", "true"), "nan is not in the range"),
            (("--grace", "soon", "true"), "is not a number of seconds"),
            (("--grace", "-1", "true"), "not in the range"),
            (("--nothing", "true"), "No such option"),
            (("-s", "--leave-rest", "true"), "--subreaper ends what --leave-rest leaves alone: choose one."),
        ],
    )
    def test_what_is_wrong_is_told(self, arguments: tuple[str, ...], says: str) -> None:
        assert exec_options.read(arguments, {}) is None
        with pytest.raises(click.UsageError) as caught:
            slowly(*arguments)
        assert says in caught.value.format_message()

    def test_every_option_has_a_heading_a_help_text_and_a_variable(self) -> None:
        options = [parameter for parameter in execute.params if isinstance(parameter, click.Option)]
        for option in options:
            assert isinstance(option, GroupedOption) and option.group and option.help
            long = max(option.opts, key=len).removeprefix("--")
            assert option.envvar == f"PIPE_INIT_{long.upper().replace('-', '_')}"
        assert len({option.envvar for option in options}) == len(options) == 8
