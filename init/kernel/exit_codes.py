"""The exit codes of pipe-init, as README.md's table has them.

A process may need them while the system is short of memory, so this module imports only what every interpreter has
loaded. It does not know who chooses a code.
"""

import os

EXIT_FUNCTION_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_LOADED = 3
EXIT_PROTOCOL = 4
EXIT_TIMED_OUT = 124
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_OUT_OF_MEMORY = 137
EXIT_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended
EXIT_STOPPED = 143


def of_status(status: int) -> int:
    """Return the exit code for a status of waitpid(2): the child's own, or 128 and the number of its signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
