"""Start a program with the same signal mask, signal dispositions, environment and descriptors as without pipe-init.

The code here runs in the time between fork and exec. It knows neither pipes nor the protocol, because it starts no
workers.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Sequence

from ..kernel import exit_codes
from ..kernel.execution import execute, restore_dispositions
from ..kernel.shortage import describe
from .tty import Terminal


def start(
    command: Sequence[str], mask: Iterable[int], session: bool, terminal: Terminal | None, folder: int = -1
) -> int:
    """Start a program and return its pid. The caller must have blocked every signal.

    If the program cannot be executed, the new process reports that on stderr, and exits with 127 or 126.

    Args:
        command: The program and its arguments.
        mask: The signals that are blocked when the program starts.
        session: Whether the program gets a session of its own. If not, it gets a process group in the init's session.
        terminal: The terminal that a new session claims. Without a new session, the program's group goes to its
            foreground if the init's group is there. None for no terminal.
        folder: A descriptor of the folder to start in; -1 for the current folder.

    Raises:
        OSError: No further process can be started.
    """
    in_front = not session and terminal is not None and terminal.is_ours()
    pid = os.fork()
    if pid == 0:
        _become(command, mask, session, terminal if session or in_front else None, folder)
    return pid


def say(text: str) -> None:
    """Write a line to stderr. Drop it if stderr is not writable now, because an init must not wait for a reader."""
    line = f"pipe-init: {text}".encode("utf-8", "backslashreplace")[: select.PIPE_BUF - 1] + b"\n"
    waiting = select.poll()
    waiting.register(2, select.POLLOUT)
    try:
        if waiting.poll(0):
            os.write(2, line)
    except OSError:
        return  # stderr is closed, or has no reader


def _become(  # Not measured: it ends in exec, and the counts of coverage are lost.
    command: Sequence[str], mask: Iterable[int], session: bool, terminal: Terminal | None, folder: int
) -> None:
    """Turn the forked child into the program. This function does not return."""
    code = exit_codes.NOT_EXECUTABLE
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
        restore_dispositions()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        execute(command, shell=True)
    except OSError as error:
        code = exit_codes.NOT_FOUND if isinstance(error, FileNotFoundError) else exit_codes.NOT_EXECUTABLE
        say(f"cannot execute {command[0]!r}: {describe(error)}")
    finally:
        os._exit(code)


def _restore_environment() -> None:  # Not measured: exec follows, and the counts of coverage are lost.
    """Restore LC_CTYPE, which Python sets in the C locale (PEP 538). Only proc(5) still has the previous value."""
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
