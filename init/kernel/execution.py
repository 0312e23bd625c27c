"""Prepare a forked child to execute a program: close descriptors, restore dispositions, find the file.

This file does not know what the descriptors are for, nor what the programs do.
"""

from __future__ import annotations

import _signal
import errno
import os
from collections.abc import Collection, Mapping, Sequence

_SHELL = "/bin/sh"


class JoinError(OSError):
    """A process could not join its cgroup, and has not executed its program."""


def keep_only(kept: Collection[int]) -> None:
    """Close all descriptors except these.

    Where there is proc(5), that includes descriptors above a limit that was lowered after they were opened.
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        start = 0
        for descriptor in sorted(kept):
            if start < descriptor:  # where Python uses close_range(2), an empty range means all descriptors
                os.closerange(start, descriptor)
            start = descriptor + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in map(int, names):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)  # ignores that the one for the listing is closed already


def restore_dispositions() -> None:  # Not measured: exec comes next.
    """Undo what Python did. Other signals that were ignored at the start stay ignored, as under nohup(1).

    Python ignores SIGPIPE and SIGXFSZ, and does not tell whether they were ignored before. An ignored SIGCHLD would
    keep the program from waiting for its own children. Python handlers must go before exec does it: for a signal that
    is pending they would run Python code, and exec would lose it.
    """
    for number in range(1, _signal.NSIG):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)


def execute(command: Sequence[str], environment: Mapping[str, str] | None = None, shell: bool = False) -> None:
    """Become a program, which is looked up in PATH unless it has a slash, as execvp(3) does.

    Args:
        command: The program and its arguments.
        environment: Its environment; None for that of this process.
        shell: Whether /bin/sh runs a script without `#!`, as POSIX demands of execvp(3).

    Raises:
        OSError: It cannot be executed.
    """
    program, refused = command[0], OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not program:
        raise refused
    if "/" in program:
        _execute_file(program, command, environment, shell)
    around = os.environ if environment is None else environment
    for folder in around.get("PATH", os.defpath).split(os.pathsep):  # os.get_exec_path would import a module
        try:
            _execute_file(os.path.join(folder or ".", program), command, environment, shell)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refused = error
    raise refused


def _execute_file(path: str, command: Sequence[str], environment: Mapping[str, str] | None, shell: bool) -> None:
    try:
        _exec(path, command, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC or not shell:
            raise
        _exec(_SHELL, [_SHELL, path, *command[1:]], environment)


def _exec(path: str, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
    if environment is None:
        os.execv(path, list(command))  # not execve: os.environ has only variables with an `=`
    else:
        os.execve(path, list(command), dict(environment))
