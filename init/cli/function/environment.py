"""Variables for the function, from options and files. It reads these files and our own environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import click

_AT_EXEC = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "GCONV_", "LC_")
_AT_EXEC_NAMES = frozenset(("LANG", "LANGUAGE", "LOCPATH"))


def acts_at_exec(variables: Mapping[str, str]) -> bool:
    """Whether the interpreter or libc reads one of them when a process starts: setting it later is in vain."""
    return any(name in _AT_EXEC_NAMES or name.startswith(_AT_EXEC) for name in variables)


def read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """K=V as given; K alone has our own variable's value. click.UsageError: no name, or no such variable."""
    return dict(_pair(pair, "--env") for pair in pairs)


def read_env_file(path: str) -> dict[str, str]:
    """The form of Docker's --env-file: K=V or K per line, taken literally; # starts a comment line."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"--env-file: cannot read {path!r}: {reason}.") from None
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#"))
    return dict(_pair(line, f"--env-file {path}, line {number}") for number, line in numbered)


def _pair(text: str, where: str) -> tuple[str, str]:
    name, assigned, value = text.partition("=")
    if not name or name != name.strip() or "\0" in text:
        raise click.UsageError(f"{where}: {text!r} is not NAME=VALUE.")
    if name.startswith("export "):
        raise click.UsageError(f"{where}: {text!r} is for a shell; without 'export' it is NAME=VALUE.")
    if assigned:
        return name, value
    if name not in os.environ:
        raise click.UsageError(f"{where}: there is no variable {name} to pass on; {name}=VALUE gives it one.")
    return name, os.environ[name]
