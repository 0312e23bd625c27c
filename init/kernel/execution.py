"""Prepare a forked child to execute a program: close descriptors, restore signal dispositions, and find the file.

This file does not know what the descriptors are for, or what the programs do.
"""

from __future__ import annotations

import _signal
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_SHELL = "/bin/sh"


class JoinError(OSError):
    """A process could not join its cgroup. Therefore it has not executed its program."""


def keep_only(kept: Collection[int]) -> None:
    """Close all descriptors except those in `kept`.

    If proc(5) is mounted, this also closes descriptors above the present limit. The process may have opened them before
    the limit was lowered.
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        start = 0
        for descriptor in sorted(kept):
            if start < descriptor:  # if Python uses close_range(2), an empty range means all descriptors
                os.closerange(start, descriptor)
            start = descriptor + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        return
    for descriptor in map(int, names):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)  # not os.close, because listdir has closed its own descriptor


def restore_dispositions() -> None:  # Not measured: exec follows, and the counts of coverage are lost.
    """Restore the signal dispositions that Python or the init has changed.

    Signals that were ignored before Python started stay ignored, as under nohup(1). SIGPIPE, SIGXFSZ and SIGCHLD are
    exceptions. Python ignores the first two, and does not tell whether they were ignored before. An ignored SIGCHLD
    would keep the program from waiting for its own children.

    execve(2) would remove the Python handlers too, but too late: a pending signal would still call its Python handler,
    and the program would not get it.
    """
    for number in range(1, _signal.NSIG):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)


def execute(command: Sequence[str], environment: Mapping[str, str] | None = None, shell: bool = False) -> None:
    """Execute a program in this process. Like execvp(3), search PATH for it unless its name has a slash.

    Args:
        command: The program and its arguments.
        environment: The program's environment; None for the environment of this process.
        shell: Whether to run a script without `#!` with /bin/sh, as POSIX requires of execvp(3).

    Raises:
        OSError: The program cannot be executed.
    """
    program, refused = command[0], OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not program:
        raise refused
    if "/" in program:
        _execute_file(program, command, environment, shell)
    around = os.environ if environment is None else environment
    for folder in around.get("PATH", os.defpath).split(os.pathsep):  # not get_exec_path: it imports a module
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
        os.execv(path, list(command))  # not execve with os.environ, which lacks entries without an `=`
    else:
        os.execve(path, list(command), dict(environment))
