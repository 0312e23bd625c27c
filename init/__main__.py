"""The command `pipe-init`: heeds signals, cleans the path of modules, then carries out the command line.

Before the path is clean, nothing may be imported here that an interpreter has not loaded by itself.
"""

import _signal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main(before: "set[int] | None" = None) -> None:
    """Carry out the command line of `pipe-init` or `python -m pipe_init`. Does not return.

    Args:
        before: The signal mask that the caller found, if it has blocked all signals.
    """
    if before is None:
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    if sys.argv[1:2] != ["exec"]:  # of exec, each signal from here on is for the program
        end_by_signals()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        before = None
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
