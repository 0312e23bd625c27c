"""Says in a line that the system has not enough for pipe-init: descriptors, memory, processes.

By then no further module may be there to load, so this one imports only what is built into the interpreter. It knows
the commands' names and their exit codes, and not what they do.
"""

import errno
import os

SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

EXIT_EXEC = 126
EXIT_RUN = 3
"""As the documents have it: the program cannot be executed, the function cannot be loaded."""


def why(error: OSError) -> str:
    """Return what an error means; of descriptors, how many there may be."""
    text = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        text += f" (the limit is {os.sysconf('SC_OPEN_MAX')}, see ulimit -n)"
    return text


def end(error: Exception, arguments: list[str]) -> None:
    """Say what was missing, and end the process; raise the error again if it is of another kind.

    CPython has SystemError where it runs out of memory amid an import.
    """
    if isinstance(error, OSError):
        if error.errno not in SHORT:
            raise error
        text = why(error)
    else:
        text = str(error) or os.strerror(errno.ENOMEM)
    try:
        os.write(2, f"pipe-init: cannot start: {text}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(EXIT_EXEC if arguments[:1] == ["exec"] else EXIT_RUN)
