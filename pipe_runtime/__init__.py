"""Serve a Python handler in a process that pipe-init has started. The protocol with pipe-init is here, too.

A function may import the names in this module. Importing this package imports no other module. It must not know
`pipe_init`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])

_hooks: list[Callable[[], object]] | None = []
"""The functions that `after_fork` has registered; None after `run_hooks` has called them."""

_COROUTINE = 0x80
"""inspect.CO_COROUTINE."""


def after_fork(function: Hook) -> Hook:
    """Register `function` to be called once in each worker, before the initializer. This also works as a decorator.

    A template loads the module once and then forks the workers. Each worker needs its own connections, threads and
    random generators. Make them in `function`, which is called with or without a template. If `function` raises, the
    worker fails to load. If the worker already serves requests, `function` is called at once. Outside of a runtime it
    is never called.

    Returns:
        `function`.

    Raises:
        TypeError: `function` is not callable, or it is a coroutine function, which needs an event loop. No event loop
            runs yet.
    """
    if not callable(function) or getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:
        raise TypeError(f"after_fork takes a plain function of no parameters, not {function!r}")
    if _hooks is None:
        function()
    else:
        _hooks.append(function)
    return function


def run_hooks() -> None:
    """Call the functions that `after_fork` registered, in a process that will serve requests. Raise what they raise."""
    global _hooks
    hooks, _hooks = _hooks or [], None
    for function in hooks:
        function()
