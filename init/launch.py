"""Starts a worker: fork, descriptors, exec.

This file owns the moment between fork and exec. It knows which descriptor is for what, and nothing of frames or of
requests. It is loaded before the command line is read, so it imports next to nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence

ALIVE_FD = 3
"""In the worker: the read end of a pipe that only the init could write to. When it closes, the kernel kills."""

DUMP_FD = 4
"""In the worker: takes the stacks of a worker that hangs or crashes."""

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


class Process:
    """A started worker and the init's ends of its pipes. All descriptors are non-blocking and closed by exec.

    requests: to write to. answers, log, dump: to read from. alive, guard: to hold; both ends of the pipe whose closing
    kills. The worker has the guard too, but may close it.
    """

    def __init__(
        self, pid: int, requests: int, answers: int, log: int, dump: int, alive: int, guard: int, failure: int
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
        """Why the program could not be executed, once the process is dead; None if it could."""
        try:
            number = os.read(self._failure, 16)
        except BlockingIOError:
            return None
        return OSError(int(number), os.strerror(int(number))) if number else None

    def close(self) -> None:
        """Close the init's ends. What still lives in the worker's process group dies of it."""
        if self.closed:
            return
        self.closed = True
        self.close_requests()
        # The guard last: while it is open, the closing of `alive` kills. The kernel lets go of the descriptors of a
        # process that dies in the same order, the highest first.
        for descriptor in (self.answers, self.log, self.dump, self._failure, self.alive, self.guard):
            os.close(descriptor)

    def dismiss(self) -> None:
        """End a worker to which nothing was said, unless it has ended already."""
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


def start(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Start `command` with protocol pipes on fds 0 and 1, a log pipe on fd 2, in a session of its own.

    Where it is runtime_command's, fd 1 does not block.

    OSError: there is no process or no descriptor left to do it with. That the program cannot be executed is only
    known later: see Process.exec_error.
    """
    pipes: list[int] = []
    try:
        for _ in range(6):
            pipes += os.pipe()
        if len(command) > 1 and command[1] == _runtime_script():  # nobody else need be prepared for it
            os.set_blocking(pipes[3], False)  # answers_out: it saves the runtime a poll before each write
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become(command, environment, pipes, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError:
        for descriptor in pipes:
            os.close(descriptor)
        raise
    (
        requests_in,
        requests,
        answers,
        answers_out,
        log,
        log_out,
        dump,
        dump_out,
        guard,
        alive,
        failure,
        failure_out,
    ) = pipes
    for descriptor in (requests_in, answers_out, log_out, dump_out, failure_out):
        os.close(descriptor)
    for descriptor in (requests, answers, log, dump, failure):
        os.set_blocking(descriptor, False)
    return Process(pid, requests, answers, log, dump, alive, guard, failure)


def _become(command: Sequence[str], environment: Mapping[str, str], pipes: list[int], mask: Iterable[int]) -> None:
    """In the forked child: turn into the worker. Does not return."""
    failure = pipes[11]
    try:
        os.setsid()
        # In the order of the worker's descriptors: requests_in, answers_out, log_out, guard, dump_out (see start).
        high = [fcntl.fcntl(pipes[index], fcntl.F_DUPFD, _FIRST_FREE) for index in (0, 3, 5, 8, 7)]
        failure = fcntl.fcntl(pipes[11], fcntl.F_DUPFD, _FIRST_FREE)
        os.close(pipes[9])  # or the alive pipe would never close
        _arm(high[ALIVE_FD])
        for target, descriptor in enumerate(high):
            os.dup2(descriptor, target)
        last = DUMP_FD + 1
        failure = os.dup2(failure, last, inheritable=False)
        _close_from(last + 1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)  # Python ignores the first two; a parent may have ignored the third
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)  # or one that comes before exec would be swallowed by a handler
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execve(_find(command[0], environment), list(command), dict(environment))
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or 0))
    finally:
        os._exit(_EXEC_FAILED)


def _arm(alive: int) -> None:
    """Have the kernel kill this process group when the write end of `alive` closes, for whatever reason."""
    fcntl.fcntl(alive, fcntl.F_SETOWN, -os.getpid())
    fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(alive, fcntl.F_SETFL, fcntl.fcntl(alive, fcntl.F_GETFL) | os.O_ASYNC)
    watch = select.poll()
    watch.register(alive, 0)
    if watch.poll(0):  # it closed before it was armed
        os._exit(_EXEC_FAILED)


def _close_from(first: int) -> None:
    """Close every descriptor from `first` on; also those above a limit that was lowered after they were opened."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        return
    for name in names:
        if int(name) >= first:
            os.closerange(int(name), int(name) + 1)  # ignores that the one for the listing is closed already


def _find(program: str, environment: Mapping[str, str]) -> str:
    """The program's path, looked up in PATH unless it has a slash.

    FileNotFoundError: it is nowhere. PermissionError: it is somewhere, but not executable.
    """
    if "/" in program:
        return program
    number = errno.ENOENT
    for folder in os.get_exec_path(environment):
        path = os.path.join(folder, program)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            number = errno.EACCES
    raise OSError(number, os.strerror(number), program)


def this_python() -> str:
    """The interpreter that runs the init, which is the function's unless another one is asked for."""
    return sys.executable or "python3"
