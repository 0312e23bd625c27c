"""The hooks around a function's life: initializer, pre-stop, pre-freeze, and AWS Lambda's for snapshots.

Loaded only where there is one. It knows handlers and contexts; when a hook runs is the service's business.
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
    """What an awaitable gives, on the function's event loop."""

SNAPSHOT_TYPE = "snap-start"
"""The value of AWS_LAMBDA_INITIALIZATION_TYPE with which Lambda takes a snapshot after loading a function."""


class Hook:
    """One hook. name: as a handler's. It takes the context, (event, context) with an empty event, or nothing."""

    def __init__(self, name: str, code_dir: str) -> None:
        self._call = handler.find(name, code_dir)
        self._parameters = handler.positional(self._call)

    def __call__(self, context: Context, run: Run) -> None:
        """Run it. Raises what it raises."""
        work = self.begin(context)
        if work is not None:
            run(work)

    def begin(self, context: Context) -> Any:
        """Call it. Returns what is to be awaited for the rest, None: nothing. Raises what it raises."""
        arguments = (context,) if self._parameters == 1 else (None, context) if self._parameters else ()
        value = self._call(*arguments)
        return value if hasattr(type(value), "__await__") else None


def snapshot(run: Run) -> None:
    """What a function registered with snapshot_restore_py, where the environment says that it is of that kind: first
    what runs before a snapshot, the last registered first, then what runs after it was restored.
    """
    registry: Any = sys.modules.get("snapshot_restore_py")
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != SNAPSHOT_TYPE or registry is None:
        return
    for function, arguments, named in [*reversed(registry.get_before_snapshot()), *registry.get_after_restore()]:
        value = function(*arguments, **named)
        if hasattr(type(value), "__await__"):
            run(value)
