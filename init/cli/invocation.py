"""Hold what one invocation of `pipe-init` has prepared, and run a function with it. This file knows no options."""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.signals import Inherited
    from ..workers.early import EarlyStart
    from .options.run_options import RunOptions


class Invocation:
    """One invocation of `pipe-init`.

    Attributes:
        early: What was prepared for `run`; None if nothing was.
        inherited: What `exec` needs to know of the state in which pipe-init was started.
        logs_json: Whether each line on stderr has to be JSON, as far as that is known yet.
    """

    def __init__(self, early: EarlyStart | None, inherited: Inherited | None, logs_json: bool) -> None:
        self.early = early
        self.inherited = inherited
        self.logs_json = logs_json

    def run(self, options: RunOptions) -> int:
        """Carry out `run` and return its exit code.

        Raises:
            CommandError: It cannot be carried out.
        """
        from .runs.session import Session  # late: help and `exec` do not need it

        gc.enable()  # entry.py has disabled it
        session = Session(options, self.early)
        self.logs_json = session.logs_json
        return session.run()
