"""Read simple command lines of `exec` without click, because importing click takes longer than everything else.

The init would also keep click's memory as long as the program runs. If this file does not understand a command line,
cli/exec.py reads it, and reports errors in it. Tests check that both give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .forwarding import rewriting, signal_number
from .plain_init import Options

_FLAGS: dict[str, tuple[str, bool]] = {
    "-g": ("group", True),
    "--group": ("group", True),
    "-s": ("subreaper", True),
    "--subreaper": ("subreaper", True),
    "-v": ("verbose", True),
    "--verbose": ("verbose", True),
    "--setsid": ("session", True),
    "--no-setsid": ("session", False),
    "--leave-rest": ("leave", True),
}


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdecimal() and len(text) < 4):
        raise ValueError(text)
    return float(text)


_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--rewrite": ("rewrites", rewriting),
    "--pdeathsig": ("parent_death", signal_number),
    "--grace": ("grace", _seconds),
}

_VARIABLES = frozenset(
    "PIPE_INIT_" + name[2:].replace("-", "_").upper() for name in (*_FLAGS, *_VALUES) if name.startswith("--")
)
"""The environment variables that can set the options."""


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Options | None:
    """Return the options of `exec`; None if cli/exec.py must read them.

    Args:
        arguments: The command line after `exec`.
        environment: The environment. If one of its variables sets an option, cli/exec.py must read all options.
    """
    if not _VARIABLES.isdisjoint(environment):
        return None
    found: dict[str, Any] = {}
    rest = iter(range(len(arguments)))
    for index in rest:
        argument = arguments[index]
        if argument in _FLAGS:
            name, value = _FLAGS[argument]
            found[name] = value
        elif argument in _VALUES:
            name, convert = _VALUES[argument]
            try:
                value = convert(arguments[next(rest)])
            except (StopIteration, ValueError):
                return None
            found[name] = dict([*found.get(name, {}).items(), value]) if name == "rewrites" else value
        elif argument == "--" or not argument.startswith("-"):
            command = tuple(arguments[index + (argument == "--") :])
            options = Options(command, **found)
            return options if command and not (options.subreaper and options.leave) else None
        else:
            return None
    return None
