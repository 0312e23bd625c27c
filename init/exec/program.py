"""Starts a plain program as its parent would have without us: same mask, dispositions, environment and descriptors.

This file owns the moment between fork and exec. It knows nothing of pipes and of the protocol; launch.py starts
workers.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterable, Sequence

from ..kernel.shortage import describe
from .forwarding import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND
from .tty import Terminal

_SHELL = "/bin/sh"


def start(
    command: Sequence[str], mask: Iterable[int], session: bool, terminal: Terminal | None, folder: int = -1
) -> int:
    """Start a program; returns its pid. Every signal must be blocked.

    command: the program and its arguments. mask: the signals that it has blocked. session: it gets a session of its
    own, else a process group of its own in ours. terminal: to claim in a new session; else to have in the foreground
    if we do now. folder: a descriptor of the one to start in; -1: ours.

    OSError: there is no process left to do it with. If the program cannot be executed the process says so on its
    stderr and exits with 127 or 126.
    """
    in_front = not session and terminal is not None and terminal.is_ours()
    pid = os.fork()
    if pid == 0:
        _become(command, mask, session, terminal if session or in_front else None, folder)
    if not session:
        try:
            os.setpgid(pid, pid)  # both do it: nobody knows who comes first, and each needs it done
        except OSError:
            return pid  # it has executed its program, and so done it before
    return pid


def say(text: str) -> None:
    """A line on stderr, if somebody takes it now: an init must not wait for a reader."""
    line = f"pipe-init: {text}\n".encode("utf-8", "backslashreplace")
    if len(line) > select.PIPE_BUF:
        line = line[: select.PIPE_BUF - 1] + b"\n"
    waiting = select.poll()
    waiting.register(2, select.POLLOUT)
    try:
        if waiting.poll(0):
            os.write(2, line)
    except OSError:
        return  # it is closed, or nobody will ever read it


def _become(  # Not measured: it ends in exec, and with it what was counted.
    command: Sequence[str], mask: Iterable[int], session: bool, terminal: Terminal | None, folder: int
) -> None:
    """In the forked child: turn into the program. Does not return."""
    code = EXIT_NOT_EXECUTABLE
    try:
        if session:
            os.setsid()
            if terminal is not None:
                terminal.claim()
        else:
            os.setpgid(0, 0)
            if terminal is not None:
                terminal.hand_to(os.getpid())
        if folder >= 0:
            os.fchdir(folder)
        _restore_environment()
        _restore_dispositions()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _execute(command)
    except OSError as error:
        code = EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE
        say(f"cannot execute {command[0]!r}: {describe(error)}")
    finally:
        os._exit(code)


def _restore_dispositions() -> None:  # Not measured: exec comes next.
    """Undo what Python did. What else was ignored when we were started stays ignored, as under nohup(1).

    Python ignores SIGPIPE and SIGXFSZ, and nobody can tell whether they were ignored before. An ignored SIGCHLD would
    keep the program from waiting for its own children.
    """
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):  # SIGINT: a pending one would run Python code, not end the process
            signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _restore_environment() -> None:  # Not measured: exec comes next.
    """Undo PEP 538: in the C locale Python sets LC_CTYPE. What was there before only proc(5) knows."""
    if "LC_CTYPE" not in os.environ:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            before = [line for line in file.read().split(b"\0") if line.startswith(b"LC_CTYPE=")]
    except OSError:
        return
    if before:
        os.environb[b"LC_CTYPE"] = before[0].partition(b"=")[2]
    else:
        del os.environ["LC_CTYPE"]


def _execute(command: Sequence[str]) -> None:
    """execvp(3): the program is looked for in PATH unless it has a slash. OSError: why it cannot be executed."""
    program, missing = command[0], OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not program:
        raise missing
    if "/" in program:
        _execute_file(program, command)
    refused = None
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):  # os.get_exec_path would import a module
        try:
            _execute_file(os.path.join(folder or ".", program), command)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            refused = error
    raise refused or missing


def _execute_file(path: str, command: Sequence[str]) -> None:
    """execv(2), and a script without `#!` is the shell's, as POSIX has it. OSError: as above."""
    try:
        os.execv(path, list(command))
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execv(_SHELL, [_SHELL, path, *command[1:]])
