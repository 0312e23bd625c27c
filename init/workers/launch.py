"""Start a worker or a template: make its pipes, fork, set up its descriptors, and execute its program.

This module knows the purpose of each descriptor. It must not know frames or requests. It is loaded before the command
line is read, so it imports very little.
"""

from __future__ import annotations

import _signal as signal  # signal itself imports enum, which would delay each worker
import fcntl
import os
import sys

from pipe_runtime.wire import alive_pipe
from pipe_runtime.wire.alive_pipe import ALIVE_FD, arm

from ..kernel.execution import JoinError, execute, keep_only, restore_dispositions
from ..kernel.shortage import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DUMP_FD = 4
"""The descriptor to which a worker writes its stacks when it hangs or crashes."""

CONTROL_FD = 7
"""The template's descriptor for the control socket, on which the init asks it for workers.

The runtime moves its descriptors 0 and 1 to 5 and 6. So 7 is the first free number, and a function has the same
descriptors in a forked worker as in an executed one."""

DUMP_SIGNAL = signal.SIGRTMAX
"""The signal that asks for the stacks. It is the last real-time signal, which neither libc nor a known library uses."""

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
"""The FC_ variables of the platform, Alibaba Function Compute, that a function may see."""


class ProcessPipes:
    """A process, and the pipes between the init and the process.

    The init's descriptors are close-on-exec. The init's ends of `requests`, `answers`, `log` and `dump` do not block.

    Attributes:
        pid: The process's pid; 0 while it is not known.
        requests: The descriptor to which the init writes frames; -1 after it is closed.
        answers: The descriptor from which the init reads frames.
        log: The descriptor from which the init reads what the process writes to its fd 2.
        dump: The descriptor from which the init reads the stacks of the process.
        alive: The descriptor that keeps the process alive: when it closes, the kernel kills the process. -1 after that.
        theirs: The process's ends of the pipes, in the order of its descriptors from 0 on.
        closed: Whether `close` was called.
    """

    def __init__(self, for_our_runtime: bool) -> None:
        """Make the pipes.

        Args:
            for_our_runtime: Whether to make the process's fd 1 non-blocking. pipe_runtime is prepared for this, and
                saves a poll before each write. Other runtimes may not be prepared for it.

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
        """Return why the program could not be executed. Call this after the process is dead.

        Returns:
            The error of exec, or a JoinError if the process could not join its cgroup. None if the program was
            executed, or if a template has forked the process.
        """
        try:
            number = int(os.read(self._failure, 16) or b"0") if self._failure >= 0 else 0
        except BlockingIOError:
            return None
        text = describe(OSError(abs(number), os.strerror(abs(number))))
        return (JoinError if number < 0 else OSError)(abs(number), text) if number else None

    def started(self, pid: int = 0, failure: int = -1) -> None:
        """Close the init's copies of the process's ends, because the process has its own copies now.

        Args:
            pid: The process's pid; 0 if a template was asked to fork it.
            failure: The pipe from which `exec_error` reads the error; -1 for none.
        """
        self.pid, self._failure = pid, failure
        for descriptor in self.theirs:
            if descriptor != self._guard:
                os.close(descriptor)

    def close(self) -> None:
        """Close the init's ends. The kernel kills all processes that are left in the process's group."""
        if self.closed:
            return
        self.closed = True
        self.close_requests()
        # Close `alive` before the guard, which is the other end of its pipe. If the process has closed its own copy of
        # the guard, closing `alive` kills only as long as the init's guard is open. When an init dies, the kernel
        # closes its descriptors in the same order, the highest first.
        self.disown()
        for descriptor in (self.answers, self.log, self.dump, self._failure, self._guard):
            if descriptor >= 0:
                os.close(descriptor)

    def disown(self) -> None:
        """Make the kernel kill the process and its group, by closing `alive`. The pid need not be known."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1

    def dismiss(self) -> None:
        """End and collect a process that was sent nothing yet. If `close` was called, do nothing."""
        if not self.closed:
            self.close()
            os.waitpid(self.pid, 0)

    def close_requests(self) -> None:
        """Close `requests`, so that the process's input ends."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1


def function_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a function inherits from the init: all except the platform's private ones."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT_FC_VARIABLES or not name.startswith(("FC_", "_FC_"))
    }


def runtime_command(python: str, brought: Sequence[str] = ()) -> list[str]:
    """Return the command that runs pipe_runtime under `python`, whether or not pipe-init is installed there.

    Args:
        python: The interpreter.
        brought: Further folders from which the runtime imports modules.
    """
    return [python, _runtime_script(), *brought]


def _runtime_script() -> str:
    wire = os.path.dirname(os.path.abspath(alive_pipe.__file__))
    return os.path.join(os.path.dirname(wire), "__main__.py")


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    joins: Sequence[int] = (),
    control: int = -1,
    adopts: bool = False,
    open_files: int | None = None,
) -> ProcessPipes:
    """Start a program in its own session, with the protocol on its fds 0 and 1, and a log pipe on its fd 2.

    Args:
        command: The program and its arguments. If it is a `runtime_command`, its fd 1 does not block.
        environment: The program's environment.
        joins: Descriptors of cgroup.procs files. The process first writes "0" to each, to join these cgroups.
        control: The descriptor that becomes CONTROL_FD in the process; -1 for none. The caller keeps it, and closes it.
        adopts: Whether the process adopts its own orphans, if the system supports that. Otherwise the init adopts them.
        open_files: The limit on open files; None for no limit.

    Raises:
        OSError: No process or descriptor is left. ProcessPipes.exec_error reports an error of exec later.
    """
    process = ProcessPipes(len(command) > 1 and command[1] == _runtime_script())
    failure = failure_out = -1

    def become() -> None:  # coverage cannot measure this function, because exec discards the counts
        """Turn the forked child into the program. This does not return."""
        report, sign = failure_out, -1  # a negative error number means that the process could not join its cgroups
        try:
            for descriptor in joins:
                os.write(descriptor, b"0")
            sign = 1
            os.setsid()
            if adopts:
                from ..kernel.prctl import SET_CHILD_SUBREAPER, prctl  # imported late, because most runs do not need it

                prctl(SET_CHILD_SUBREAPER, 1)  # exec keeps this setting
            high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_FREE) for descriptor in process.theirs]
            report = fcntl.fcntl(report, fcntl.F_DUPFD, _FIRST_FREE)
            passed = fcntl.fcntl(control, fcntl.F_DUPFD, _FIRST_FREE) if control >= 0 else -1
            os.close(process.alive)  # the child's copy would keep the alive pipe open after the init's end
            arm(high[ALIVE_FD])
            for target, descriptor in enumerate(high):
                os.dup2(descriptor, target)
            report = os.dup2(report, DUMP_FD + 1, inheritable=False)
            kept = {*range(DUMP_FD + 2)}
            if passed >= 0:
                kept.add(os.dup2(passed, CONTROL_FD))
            keep_only(kept)
            if open_files is not None:
                from ..limits import rlimits  # here, because a worker that is started early has no such limit

                rlimits.apply(os.getpid(), rlimits.Limits(open_files=open_files))
            restore_dispositions()
            # The init's parent may have blocked all signals. Unblock DUMP_SIGNAL, so that a hanging worker can be
            # dumped.
            signal.pthread_sigmask(signal.SIG_SETMASK, set(before) - {DUMP_SIGNAL})
            execute(command, environment)
        except OSError as error:
            os.write(report, b"%d" % (sign * (error.errno or 0)))
        finally:
            os._exit(_EXEC_FAILED)

    try:
        failure, failure_out = os.pipe()
        os.set_blocking(failure, False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                become()
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


def this_python() -> str:
    """Return the interpreter that runs the init. The function runs on it, too, unless the user chooses another one."""
    return sys.executable or "python3"
