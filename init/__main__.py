"""Run the command `pipe-init`: set up signals, clean the module search path, then run the command line.

Until the path is clean, this file may import only modules that every interpreter has loaded already.
"""

import _signal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main(before: "set[int] | None" = None) -> None:
    """Run the command `pipe-init`, or `python -m pipe_init`, and end the process.

    Args:
        before: The signals that were blocked before the caller blocked all signals; None if the caller blocked none.
    """
    if before is None:
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    if sys.argv[1:2] != ["exec"]:  # exec keeps all signals blocked, because it forwards them to the program
        end_by_signals()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        before = None
    from . import module_path

    module_path.clean()
    from .kernel import shortage  # import this early, because later no descriptors or memory may be left for it

    try:
        import os

        from . import entry

        # All output is written. Finalising the interpreter would take longer than a small function runs.
        os._exit(entry.run(sys.argv[1:], before))
    except (ImportError, MemoryError, OSError, SystemError) as error:
        shortage.end(error, sys.argv[1:])


def end_by_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP end this process quietly, until `entry` installs other handlers.

    Otherwise Python would print a traceback for SIGINT. And if pipe-init is PID 1, the kernel would drop the other two.
    A signal that the parent has set to be ignored stays ignored.
    """
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) in (_signal.SIG_DFL, _signal.default_int_handler):
            _signal.signal(number, _end)


def _end(number: int, frame: "FrameType | None") -> None:
    posix._exit(128 + number)


if __name__ == "__main__":
    main()
