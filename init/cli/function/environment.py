"""Read the variables that the user gives the function, from options, from files, and from pipe-init's environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import click

_AT_EXEC = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "GCONV_", "LC_")
_AT_EXEC_NAMES = frozenset(("LANG", "LANGUAGE", "LOCPATH"))


def acts_at_exec(variables: Mapping[str, str]) -> bool:
    """Return whether the interpreter or libc reads one of them only when a process starts."""
    return any(name in _AT_EXEC_NAMES or name.startswith(_AT_EXEC) for name in variables)


def read_variables(files: Iterable[str], pairs: Iterable[str]) -> dict[str, str]:
    """Return the variables of --env-file and --env. A later one wins, and --env wins over files.

    Raises:
        click.UsageError: A file cannot be read, or a text is not a variable.
    """
    variables: dict[str, str] = {}
    for path in files:
        variables |= read_env_file(path)
    return variables | read_pairs(pairs)


def read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Return variables given as K=V. K alone has the value that pipe-init has itself.

    Raises:
        click.UsageError: A name is missing, or pipe-init has no such variable.
    """
    return dict(_pair(pair, "--env") for pair in pairs)


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables of a file in the form of Docker's --env-file: K=V or K per line, # for comments.

    Raises:
        click.UsageError: The file cannot be read, or a line is not a variable.
    """
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
