"""Read plain command lines of `run` without click, whose import takes longer than everything else.

The options, their kinds and their variables are those of run_options.py, of which click's command is made too. A
command line that this file does not surely understand is left to click, which decides what is right and says what is
wrong. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .kinds import Option
from .run_options import OPTIONS, RunOptions, choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COMPLETION = "_PIPE_INIT_COMPLETE"
"""The variable with which a shell asks click to complete a command line."""

_BY_NAME: Mapping[str, Option] = {
    **{option.long: option for option in OPTIONS.values()},
    **{option.short: option for option in OPTIONS.values() if option.short},
}


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> RunOptions | None:
    """Return the options of `run`; None if click has to read them.

    Args:
        arguments: The command line after `run`.
        environment: The variables, of which some may be options.
    """
    if environment.get(_COMPLETION):
        return None
    try:
        handler, given = _of_arguments(arguments)
        variables = _of_variables(environment, without=given)
    except ValueError:
        return None
    return choose(handler, given, variables)


def _of_arguments(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the handler and the values of options on the command line. Raise ValueError if click has to read it."""
    handlers: list[str] = []
    given: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            handlers.append(argument)
            continue
        if argument.startswith("--"):
            name, has_value, text = argument.partition("=")
        else:
            name, text = argument[:2], argument[2:]
            has_value = text
        option = _BY_NAME.get(name)
        if option is None or (option.is_flag and has_value):
            raise ValueError(argument)
        if option.is_flag:
            given[option.name] = True
            continue
        value = option.kind.read(text if has_value else _next(rest, argument))
        given[option.name] = (*given.get(option.name, ()), value) if option.repeatable else value
    if len(handlers) != 1 or not handlers[0]:
        raise ValueError("not one handler")
    return handlers[0], given


def _next(rest: Iterator[str], argument: str) -> str:
    """Return the value of an option that is the next argument. Raise ValueError if there is none."""
    for value in rest:
        return value
    raise ValueError(argument)


def _of_variables(environment: Mapping[str, str], without: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options that have a variable which is not empty.

    Args:
        environment: The variables.
        without: Options whose variables do not count.

    Raises:
        ValueError: A variable has no right value.
    """
    given: dict[str, Any] = {}
    for option in OPTIONS.values():
        text = environment.get(option.variable)
        if text and option.name not in without:
            read = option.kind.read
            given[option.name] = tuple(map(read, option.kind.split(text))) if option.repeatable else read(text)
    return given
