"""The command `pipe-init`: heeds signals, cleans the path of modules, then carries out the command line.

Before the path is clean, nothing may be imported here that an interpreter has not loaded by itself.
"""

import _signal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Entry point of the command `pipe-init` and of `python -m pipe_init`. Does not return."""
    before = None
    if sys.argv[1:2] == ["exec"]:  # each signal from here on is for the program
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    else:
        end_by_signals()
    from . import paths

    paths.clean()
    from . import shortage  # it is there before anything is short

    try:
        from . import entry

        entry.main(before)
    except (ImportError, MemoryError, OSError, SystemError) as error:
        shortage.end(error, sys.argv[1:])


def end_by_signals() -> None:
    """Have SIGINT, SIGTERM and SIGHUP end this process quietly until there is something to end in order.

    Python would print a traceback for the first, and for PID 1 the kernel drops the others. What the parent has had
    ignored stays ignored.
    """
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) in (_signal.SIG_DFL, _signal.default_int_handler):
            _signal.signal(number, _end)


def _end(number: int, frame: "FrameType | None") -> None:
    posix._exit(128 + number)


if __name__ == "__main__":
    main()
