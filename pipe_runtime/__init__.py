"""The child's side of pipe-init: the protocol, and the runtime that serves a Python handler.

Importing the package imports nothing else. It must not know `pipe_init`, the supervisor. What is here is for functions.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

_hooks: list[Callable[[], object]] | None = []
"""None: they have run."""

_COROUTINE = 0x80
"""inspect.CO_COROUTINE; importing the package imports nothing else."""


def after_fork(function: Hook) -> Hook:
    """Have `function()` called once in each process that serves requests, before the initializer. A decorator too.

    A function is loaded once, in a template, and its workers are forked from there. Connections, threads and random
    generators are for each worker to make; this is the place, whether or not there is a template. What `function`
    raises is a fault of loading. In a process that serves already it is called at once.
    Outside of a runtime nothing is called.

    TypeError: it cannot be called, or is a coroutine function: no event loop runs yet.
    """
    if not callable(function) or getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:
        raise TypeError(f"after_fork takes a plain function of no parameters, not {function!r}")
    if _hooks is None:
        function()
    else:
        _hooks.append(function)
    return function


def run_hooks() -> None:
    """For the runtime: this process is one that serves requests. Raises what the function's code raises."""
    global _hooks
    hooks, _hooks = _hooks or [], None
    for function in hooks:
        function()
