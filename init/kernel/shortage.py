"""Report in one line that pipe-init cannot start, because descriptors, memory or processes are short.

In such a state an import may fail. So this module imports only modules that every interpreter has loaded already. It
knows the commands' names and exit codes, but not what the commands do.
"""

import errno
import os

from . import exit_codes

SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def describe(error: OSError) -> str:
    """Return an error's text. If descriptors are short, add their limit."""
    text = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        text += f" (the limit is {os.sysconf('SC_OPEN_MAX')}, see ulimit -n)"
    return text


def end(error: Exception, arguments: list[str]) -> None:
    """Write on stderr what is short, and end the process with the documented exit code.

    Args:
        error: The error that prevented the start. CPython raises SystemError if memory runs out during an import.
        arguments: The command line. Its first word decides the exit code.

    Raises:
        OSError: The given error, if it is an OSError whose number is not in SHORT.
    """
    if isinstance(error, OSError):
        if error.errno not in SHORT:
            raise error
        text = describe(error)
    else:
        text = str(error) or os.strerror(errno.ENOMEM)
    try:
        os.write(2, f"pipe-init: cannot start: {text}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(exit_codes.NOT_EXECUTABLE if arguments[:1] == ["exec"] else exit_codes.NOT_LOADED)
