"""Serve a Python handler: the child's side of pipe-init, with the protocol.

A function may import what is here. Importing the package imports nothing else. It must not know `pipe_init`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

_hooks: list[Callable[[], object]] | None = []
"""The functions of `after_fork`; None after they have run."""

_COROUTINE = 0x80
"""inspect.CO_COROUTINE."""


def after_fork(function: Hook) -> Hook:
    """Have `function()` called once in each process that serves requests, before the initializer. Also a decorator.

    With a template, a function's module is loaded once, and its workers are forked. Each worker must make connections,
    threads and random generators of its own; `function` is the place for that, with or without a template. If it
    raises, loading has failed. In a process that already serves requests it is called at once. Outside of a runtime
    nothing calls it.

    Returns:
        `function`.

    Raises:
        TypeError: It cannot be called, or it is a coroutine function, and no event loop runs yet.
    """
    if not callable(function) or getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:
        raise TypeError(f"after_fork takes a plain function of no parameters, not {function!r}")
    if _hooks is None:
        function()
    else:
        _hooks.append(function)
    return function


def run_hooks() -> None:
    """Call the functions of `after_fork`, in a process that will serve requests. Raises what they raise."""
    global _hooks
    hooks, _hooks = _hooks or [], None
    for function in hooks:
        function()
