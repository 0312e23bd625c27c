"""Call the hooks of a function's life: initializer, pre-stop, pre-freeze, and AWS Lambda's snapshot hooks.

Loaded only if there is one. This module must not know when a hook runs.
"""

from __future__ import annotations

import os
import sys

from ..load import handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..call.context import Context

    Run = Callable[[Any], Any]
    """Returns what an awaitable gives, on the function's event loop."""

SNAPSHOT_TYPE = "snap-start"
"""The value of AWS_LAMBDA_INITIALIZATION_TYPE with which Lambda takes a snapshot after loading a function."""


class Hook:
    """One hook. It takes the context, (event, context) with an empty event, or nothing.

    Args:
        name: As of a handler.
    """

    def __init__(self, name: str, code_dir: str) -> None:
        self._call = handler.find(name, code_dir)
        self._parameters = handler.positional(self._call)

    def __call__(self, context: Context, run: Run) -> None:
        """Run it. Raises what it raises."""
        work = self.begin(context)
        if work is not None:
            run(work)

    def begin(self, context: Context) -> Any:
        """Call it. Return what must be awaited for the rest of it, if anything. Raises what it raises."""
        arguments = (context,) if self._parameters == 1 else (None, context) if self._parameters else ()
        value = self._call(*arguments)
        return value if hasattr(type(value), "__await__") else None


def snapshot(run: Run) -> None:
    """Run what the function registered with snapshot_restore_py, if the environment asks for that.

    The functions for before a snapshot run first, in reverse order of registration; then those for after a restore.
    """
    registry: Any = sys.modules.get("snapshot_restore_py")
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != SNAPSHOT_TYPE or registry is None:
        return
    for function, arguments, named in [*reversed(registry.get_before_snapshot()), *registry.get_after_restore()]:
        value = function(*arguments, **named)
        if hasattr(type(value), "__await__"):
            run(value)
