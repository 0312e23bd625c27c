"""Start a worker or a template: make its pipes, fork, arrange its descriptors, execute the program.

This module knows which descriptor is for what. It must not know frames or requests. It is loaded before the command
line is read, so it imports next to nothing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence

from pipe_runtime.wire import alive
from pipe_runtime.wire.alive import ALIVE_FD, arm

from ..kernel.execution import JoinError, execute, keep_only, restore_dispositions

DUMP_FD = 4
"""The worker's descriptor for its stacks when it hangs or crashes."""

CONTROL_FD = 7
"""The template's descriptor for requests for workers. 5 and 6 are left to the runtime, which moves 0 and 1 there. So a
function finds the same numbers in a forked worker as in an executed one."""

DUMP_SIGNAL = signal.SIGRTMAX
"""The signal that asks for the stacks: the last real-time signal, which neither libc nor a known library uses."""

_FIRST_FREE = 10
_EXEC_FAILED = 127

KEPT_FC_VARIABLES = frozenset(
    f"FC_{name}"
    for name in (
        "FUNC_CODE_PATH",
        "FUNCTION_MEMORY_SIZE",
        "RUNTIME_VERSION",
        "ACCOUNT_ID",
        "FUNCTION_HANDLER",
        "FUNCTION_NAME",
        "SERVICE_NAME",
        "VER_ID",
        "QUALIFIER",
        "REGION",
        "INSTANCE_ID",
    )
)
"""The variables of the platform that a function may see (Alibaba Function Compute)."""


class ProcessPipes:
    """A process and the pipes to it. The init's descriptors are closed by exec.

    Attributes:
        pid: The process's pid; 0 while it is not known.
        requests: Where the init writes frames. It does not block; -1 once closed.
        answers: Where the init reads frames. It does not block, like the next two.
        log: Where the init reads what the process writes to its fd 2.
        dump: Where the init reads the stacks of the process.
        alive: When this is closed, the kernel kills the process; -1 once closed.
        theirs: The process's ends, in the order of its descriptors from 0 on.
        closed: Whether `close` was called.
    """

    def __init__(self, for_our_runtime: bool) -> None:
        """Make the pipes.

        Args:
            for_our_runtime: Make the process's fd 1 non-blocking. That saves our runtime a poll before each write; no
                other program can be expected to be prepared for it.

        Raises:
            OSError: No descriptors are left.
        """
        ends: list[int] = []
        try:
            for _ in range(5):
                ends += os.pipe()
        except OSError:
            for descriptor in ends:
                os.close(descriptor)
            raise
        requests, self.requests, self.answers, answers, self.log, log, self.dump, dump, guard, self.alive = ends
        for descriptor in (self.requests, self.answers, self.log, self.dump):
            os.set_blocking(descriptor, False)
        if for_our_runtime:
            os.set_blocking(answers, False)
        self.pid = 0
        self.theirs = requests, answers, log, guard, dump
        self.closed = False
        self._guard = guard
        self._failure = -1

    def exec_error(self) -> OSError | None:
        """Return why the program could not be executed, once the process is dead.

        Returns:
            A JoinError if the process could not join its cgroup. None if it executed its program, or has none.
        """
        try:
            number = int(os.read(self._failure, 16) or b"0") if self._failure >= 0 else 0
        except BlockingIOError:
            return None
        return (JoinError if number < 0 else OSError)(abs(number), os.strerror(abs(number))) if number else None

    def started(self, pid: int = 0, failure: int = -1) -> None:
        """Close the process's ends, which the process has now.

        Args:
            pid: Its pid; 0 if a template was asked to fork it.
            failure: The pipe in which `exec_error` finds the reason.
        """
        self.pid, self._failure = pid, failure
        for descriptor in self.theirs:
            if descriptor != self._guard:
                os.close(descriptor)

    def close(self) -> None:
        """Close the init's ends. The kernel kills what still lives in the process's group."""
        if self.closed:
            return
        self.closed = True
        self.close_requests()
        # `alive` goes before the guard, the other end of its pipe: only while that is open does the closing kill, even
        # if the process has closed its own copy. The kernel closes a dead init's descriptors in the same order, the
        # highest first.
        self.disown()
        for descriptor in (self.answers, self.log, self.dump, self._failure, self._guard):
            if descriptor >= 0:
                os.close(descriptor)

    def disown(self) -> None:
        """Have the kernel kill the process and its group. The pid need not be known."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1

    def dismiss(self) -> None:
        """End a process to which nothing was said, and collect it, unless `close` was called."""
        if not self.closed:
            self.close()
            os.waitpid(self.pid, 0)

    def close_requests(self) -> None:
        """End the process's input."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1


def function_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a function inherits of the init's environment: all except the platform's private variables."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT_FC_VARIABLES or not name.startswith(("FC_", "_FC_"))
    }


def runtime_command(python: str, brought: Sequence[str] = ()) -> list[str]:
    """Return the command that runs our runtime under `python`, whether or not pipe-init is installed there.

    Args:
        python: The interpreter.
        brought: Folders with what the runtime imports, besides the runtime's own.
    """
    return [python, _runtime_script(), *brought]


def _runtime_script() -> str:
    wire = os.path.dirname(os.path.abspath(alive.__file__))
    return os.path.join(os.path.dirname(wire), "__main__.py")


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    joins: Sequence[int] = (),
    control: int = -1,
    adopts: bool = False,
    open_files: int | None = None,
) -> ProcessPipes:
    """Start a program in a session of its own, with the protocol on its fds 0 and 1 and a log pipe on its fd 2.

    Args:
        command: The program and its arguments. For that of `runtime_command`, fd 1 does not block.
        environment: The program's environment.
        joins: The cgroup.procs files to which the process writes "0" first, so that it is in these cgroups.
        control: The descriptor that becomes CONTROL_FD there, and stays the caller's here; -1 for none.
        adopts: Whether the process gets its own orphans, where the system can do that. Otherwise they fall to the init.
        open_files: The limit of open files.

    Raises:
        OSError: No process or descriptor is left. An error of exec is known later, from ProcessPipes.exec_error.
    """
    process = ProcessPipes(len(command) > 1 and command[1] == _runtime_script())
    failure = failure_out = -1
    try:
        failure, failure_out = os.pipe()
        os.set_blocking(failure, False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become(command, environment, process, failure_out, joins, control, adopts, open_files, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError:
        process.started(0, failure)
        process.close()
        raise
    finally:
        if failure_out >= 0:
            os.close(failure_out)
    process.started(pid, failure)
    return process


def _become(  # Not measured: it ends in exec, and with it what was counted.
    command: Sequence[str],
    environment: Mapping[str, str],
    process: ProcessPipes,
    failure: int,
    joins: Sequence[int],
    control: int,
    adopts: bool,
    open_files: int | None,
    mask: Iterable[int],
) -> None:
    """Become the program, in the forked child. This does not return."""
    sign = -1  # it has not joined its cgroups yet
    try:
        for descriptor in joins:
            os.write(descriptor, b"0")
        sign = 1
        os.setsid()
        if adopts:
            from ..kernel.prctl import SET_CHILD_SUBREAPER, prctl  # most runs need not load it

            prctl(SET_CHILD_SUBREAPER, 1)  # it stays so after exec
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_FREE) for descriptor in process.theirs]
        failure = fcntl.fcntl(failure, fcntl.F_DUPFD, _FIRST_FREE)
        if control >= 0:
            control = fcntl.fcntl(control, fcntl.F_DUPFD, _FIRST_FREE)
        os.close(process.alive)  # otherwise the alive pipe would never close
        arm(high[ALIVE_FD])
        for target, descriptor in enumerate(high):
            os.dup2(descriptor, target)
        failure = os.dup2(failure, DUMP_FD + 1, inheritable=False)
        kept = {*range(DUMP_FD + 2)}
        if control >= 0:
            kept.add(os.dup2(control, CONTROL_FD))
        keep_only(kept)
        if open_files is not None:
            from ..limits import rlimits  # an early worker has no such limit

            rlimits.apply(os.getpid(), rlimits.Limits(open_files=open_files))
        restore_dispositions()
        # A parent may have blocked every signal. Without DUMP_SIGNAL no stack would say where a worker hangs.
        signal.pthread_sigmask(signal.SIG_SETMASK, set(mask) - {DUMP_SIGNAL})
        execute(command, environment)
    except OSError as error:
        os.write(failure, b"%d" % (sign * (error.errno or 0)))
    finally:
        os._exit(_EXEC_FAILED)


def this_python() -> str:
    """Return the interpreter that runs the init. It is the function's, too, unless another one is asked for."""
    return sys.executable or "python3"
