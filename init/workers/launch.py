"""Starts a worker: pipes, fork, descriptors, exec.

This file owns the moment between fork and exec. It knows which descriptor is for what, and nothing of frames or of
requests. What a template forks gets its pipes here too. It is loaded before the command line is read, so it imports
next to nothing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipe_runtime.wire.alive import ALIVE_FD, arm

from ..kernel.execution import execute, keep_only, restore_dispositions

DUMP_FD = 4
"""In the worker: takes the stacks of a worker that hangs or crashes."""

CONTROL_FD = 7
"""In a template: where the init asks for workers. Not 5 or 6, which the runtime takes for 0 and 1: in its workers a
function is to find the numbers that it finds in any other."""

DUMP_SIGNAL = signal.SIGRTMAX
"""Asks for the stacks. The last real-time signal: neither libc nor any known library uses it."""

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


class JoinError(OSError):
    """A worker could not join its cgroup."""


class Process:
    """A started worker and the init's ends of its pipes. All descriptors are non-blocking and closed by exec.

    requests: to write to. answers, log, dump: to read from. alive, guard: to hold; both ends of the pipe whose closing
    kills. The worker has the guard too, but may close it.
    pid: 0 while a worker that a template forks has none that is known; to be assigned then.
    """

    def __init__(
        self, pid: int, requests: int, answers: int, log: int, dump: int, alive: int, guard: int, failure: int = -1
    ) -> None:
        self.pid = pid
        self.requests = requests
        self.answers = answers
        self.log = log
        self.dump = dump
        self.alive = alive
        self.guard = guard
        self.closed = False
        self._failure = failure

    def exec_error(self) -> OSError | None:
        """Why the program could not be executed, once the process is dead; None if it could, or was forked only.
        JoinError: it was not even tried.
        """
        if self._failure < 0:
            return None
        try:
            number = os.read(self._failure, 16)
        except BlockingIOError:
            return None
        if not number:
            return None
        kind = JoinError if number.startswith(b"-") else OSError
        return kind(abs(int(number)), os.strerror(abs(int(number))))

    def close(self) -> None:
        """Close the init's ends. What still lives in the worker's process group dies of it."""
        if self.closed:
            return
        self.closed = True
        self.close_requests()
        # `alive` before the guard: while that is open, the closing of the other kills. The kernel lets go of the
        # descriptors of a process that dies in the same order, the highest first.
        self.disown()
        for descriptor in (self.answers, self.log, self.dump, self._failure, self.guard):
            if descriptor >= 0:
                os.close(descriptor)

    def disown(self) -> None:
        """Have the kernel kill what was started, whose pid need not be known."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1

    def dismiss(self) -> None:
        """End a started worker to which nothing was said, unless it has ended already."""
        if not self.closed:
            self.close()
            os.waitpid(self.pid, 0)

    def close_requests(self) -> None:
        """The end of the worker's input."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1


def function_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the init's own environment a function inherits: all but the platform's private variables."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT_FC_VARIABLES or not name.startswith(("FC_", "_FC_"))
    }


def runtime_command(python: str, brought: Sequence[str] = ()) -> list[str]:
    """The command that runs our runtime under `python`, whether or not pipe-init is installed there.

    brought: folders with what the runtime imports, besides the one that it lies in itself.
    """
    return [python, _runtime_script(), *brought]


def _runtime_script() -> str:
    import pipe_runtime

    return os.path.join(os.path.dirname(os.path.abspath(pipe_runtime.__file__)), "__main__.py")


class Pipes(NamedTuple):
    """The pipes of a worker, both ends, in the order in which they were made."""

    requests_in: int
    requests: int
    answers: int
    answers_out: int
    log: int
    log_out: int
    dump: int
    dump_out: int
    guard: int
    alive: int

    @property
    def for_the_worker(self) -> tuple[int, int, int, int, int]:
        """The worker's ends, in the order of its descriptors from 0 on."""
        return self.requests_in, self.answers_out, self.log_out, self.guard, self.dump_out

    def process(self, pid: int, failure: int = -1) -> Process:
        """Close the ends that are the worker's alone, and keep the init's."""
        for descriptor in (self.requests_in, self.answers_out, self.log_out, self.dump_out):
            os.close(descriptor)
        for descriptor in (self.requests, self.answers, self.log, self.dump):
            os.set_blocking(descriptor, False)
        return Process(pid, self.requests, self.answers, self.log, self.dump, self.alive, self.guard, failure)

    def close(self) -> None:
        """Close both ends of all."""
        for descriptor in self:
            os.close(descriptor)


def make_pipes(for_our_runtime: bool) -> Pipes:
    """The pipes of one worker. OSError: there are no descriptors left.

    for_our_runtime: its fd 1 does not block, which saves it a poll before each write. Nobody else need be prepared.
    """
    ends: list[int] = []
    try:
        for _ in range(5):
            ends += os.pipe()
    except OSError:
        for descriptor in ends:
            os.close(descriptor)
        raise
    pipes = Pipes(*ends)
    if for_our_runtime:
        os.set_blocking(pipes.answers_out, False)
    return pipes


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    control: int = -1,
    joins: Sequence[int] = (),
    adopts: bool = False,
    open_files: int | None = None,
) -> Process:
    """Start `command` with protocol pipes on fds 0 and 1, a log pipe on fd 2, in a session of its own.

    Where it is runtime_command's, fd 1 does not block.
    control: becomes CONTROL_FD there; it stays the caller's here. -1: there is none.
    joins: where it writes 0 to first, so that it and all that comes of it are in these cgroups.
    adopts: whether its orphans fall to it, where the system has that, and not to us before it is dead.
    open_files: how many it may have open, ours that it closes first not counted.

    OSError: there is no process or no descriptor left to do it with. That the program cannot be executed is only
    known later: see Process.exec_error.
    """
    pipes = make_pipes(len(command) > 1 and command[1] == _runtime_script())
    failure = failure_out = -1
    try:
        failure, failure_out = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become(command, environment, pipes, failure_out, control, joins, adopts, open_files, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError:
        pipes.close()
        for descriptor in (failure, failure_out):
            if descriptor >= 0:
                os.close(descriptor)
        raise
    os.close(failure_out)
    os.set_blocking(failure, False)
    return pipes.process(pid, failure)


def _become(  # Not measured: it ends in exec, and with it what was counted.
    command: Sequence[str],
    environment: Mapping[str, str],
    pipes: Pipes,
    failure: int,
    control: int,
    joins: Sequence[int],
    adopts: bool,
    open_files: int | None,
    mask: Iterable[int],
) -> None:
    """In the forked child: turn into the worker. Does not return."""
    try:
        os.setsid()
        for descriptor in joins:
            _join(descriptor, failure)
        if adopts:
            from ..kernel.prctl import SET_CHILD_SUBREAPER, prctl  # most runs need not load it

            prctl(SET_CHILD_SUBREAPER, 1)  # it stays so after exec
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_FREE) for descriptor in pipes.for_the_worker]
        failure = fcntl.fcntl(failure, fcntl.F_DUPFD, _FIRST_FREE)
        if control >= 0:
            control = fcntl.fcntl(control, fcntl.F_DUPFD, _FIRST_FREE)
        os.close(pipes.alive)  # or the alive pipe would never close
        arm(high[ALIVE_FD])
        for target, descriptor in enumerate(high):
            os.dup2(descriptor, target)
        failure = os.dup2(failure, DUMP_FD + 1, inheritable=False)
        kept = {*range(DUMP_FD + 2)}
        if control >= 0:
            kept.add(os.dup2(control, CONTROL_FD))
        keep_only(kept)
        if open_files is not None:
            from ..limits import rlimits  # whoever starts ahead has no such limit, and need not load it

            rlimits.apply(os.getpid(), rlimits.Limits(open_files=open_files))
        restore_dispositions()
        # A parent may have had all blocked. Without its stack nobody could tell why a worker hangs.
        signal.pthread_sigmask(signal.SIG_SETMASK, set(mask) - {DUMP_SIGNAL})
        execute(command, environment)
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or 0))
    finally:
        os._exit(_EXEC_FAILED)


def _join(procs: int, failure: int) -> None:
    """Join the cgroup whose cgroup.procs is open; without it nothing is run."""
    try:
        os.write(procs, b"0")
    except OSError as error:
        os.write(failure, b"-%d" % (error.errno or 0))
        os._exit(_EXEC_FAILED)


def this_python() -> str:
    """The interpreter that runs the init, which is the function's unless another one is asked for."""
    return sys.executable or "python3"
