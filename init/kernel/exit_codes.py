"""Define the exit codes of pipe-init. The table in README.md explains them.

A process may need them while the system is short of memory. So this module imports only modules that every interpreter
has loaded already. It does not know who chooses a code.
"""

import os

FUNCTION_FAILED = 1
USAGE = 2
NOT_LOADED = 3
PROTOCOL = 4
TIMED_OUT = 124
NOT_EXECUTABLE = 126
NOT_FOUND = 127
OUT_OF_MEMORY = 137
BROKEN_PIPE = 141  # the exit code that a shell reports for a program that SIGPIPE has ended
STOPPED = 143


def of_status(status: int) -> int:
    """Return the exit code for a status of waitpid(2): the child's own exit code, or 128 plus the signal's number."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
