"""Read plain command lines of `run` without click, because importing click takes longer than all the rest of the start.

The table of options in run_options.py says what to read; click's command is made from the same table. If this file is
not sure what a command line means, it leaves the command line to click, which also writes the error messages. Tests
compare what this file and click read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .kinds import Option
from .run_options import OPTIONS, RunOptions, choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BY_NAME: Mapping[str, Option] = {
    **{option.long: option for option in OPTIONS.values()},
    **{option.short: option for option in OPTIONS.values() if option.short},
}


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> RunOptions | None:
    """Return the options of `run`; None if click has to read them.

    Args:
        arguments: The command line after `run`.
        environment: The environment variables. Some of them may set options.
    """
    try:
        handler, given = _of_arguments(arguments)
        variables = _of_variables(environment, without=given)
    except (StopIteration, ValueError):
        return None
    return choose(handler, given, variables)


def _of_arguments(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the handler and the values of options on the command line.

    Raises:
        ValueError: click has to read it.
        StopIteration: It ends with an option that has no value.
    """
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
        value = option.kind.read(text if has_value else next(rest))
        given[option.name] = (*given.get(option.name, ()), value) if option.repeatable else value
    if len(handlers) != 1 or not handlers[0]:
        raise ValueError("not one handler")
    return handlers[0], given


def _of_variables(environment: Mapping[str, str], without: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the options that environment variables set. An empty variable does not set its option.

    Args:
        environment: The environment variables.
        without: The options whose variables to ignore, because the command line has them.

    Raises:
        ValueError: A variable has a value that its option does not allow.
    """
    given: dict[str, Any] = {}
    for option in OPTIONS.values():
        text = environment.get(option.variable)
        if text and option.name not in without:
            read = option.kind.read
            given[option.name] = tuple(map(read, option.kind.split(text))) if option.repeatable else read(text)
    return given
