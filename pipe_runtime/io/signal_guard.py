"""Keep the function's signal handlers from raising exceptions in the runtime's code between two requests.

A handler of the function may raise, for example for an alarm that the function did not cancel. To block the signals
would not help: another thread would take them, and Python would still run the handler in the main thread. So between
requests the runtime replaces each handler of the function with its own handler. The runtime's handler calls the
function's handler and catches its exceptions.

SIGTERM raises SystemExit in the function's code, so that `finally` blocks run, unless the function handles SIGTERM
itself. A frame could not do this, because a plain function occupies the only thread that reads frames. Between requests
SIGTERM ends the wait for the next request. A second SIGTERM ends the process at once.

This module knows when the function's code begins and returns. It must not know frames.
"""

from __future__ import annotations

import _signal
import _thread
import sys
from _operator import is_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    A = TypeVar("A")
    T = TypeVar("T")

_SIGNALS = tuple(sorted(_signal.valid_signals()))


class SignalGuard:
    """Run the function's signal handlers between requests, but keep their exceptions out of the runtime's code.

    One gap remains: if a signal arrives just as the function's code returns, its handler may still end the worker. The
    init then answers the request with an error.

    Args:
        finished: Called after each handler that ran between requests, with the exception that it raised, or None.
        leave: Called with the SystemExit that a handler raised, as soon as the runtime waits for a request.
        free_memory: A callable that frees memory, and needs none itself. It is called if there is a MemoryError.

    Attributes:
        waiting: Whether the runtime waits for a request. If so, a SystemExit of a signal handler takes effect at once.
        exit: A SystemExit that a signal handler raised while the runtime did not wait; None if there was none. Code
            that sets `waiting` must then check `exit`, and call `end` if it is set.
        terminated: Whether SIGTERM has come. The worker then begins no further request.
    """

    def __init__(
        self,
        finished: Callable[[BaseException | None], None],
        leave: Callable[[SystemExit], None],
        free_memory: Callable[[], None],
    ) -> None:
        self._finished = finished
        self._leave = leave
        self._free_memory = free_memory
        self.terminated = False
        self.exit: SystemExit | None = None
        self.waiting = False
        self._thread = _thread.get_ident()
        self._quiet = True
        self._raised: list[BaseException] | None = None
        self._taken: dict[int, Callable[[int, Any], Any]] = {}
        # Each access to a method makes a new object. Keep one of each, because they are compared by identity.
        self._ours, self._interrupt, self._terminate = self._contain, self._on_interrupt, self._on_terminate
        if _signal.getsignal(_signal.SIGTERM) is _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, self._terminate)
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            # This stays installed: it does the same as Python's own handler, and saves two system calls per request.
            _signal.signal(_signal.SIGINT, self._interrupt)
        self._ids = frozenset(map(id, (self._ours, self._interrupt, self._terminate)))
        self._plain = list(map(_signal.getsignal, _SIGNALS))

    def call(self, function: Callable[[A], T], argument: A, failed: Callable[[BaseException], T]) -> T:
        """Call `function(argument)`, which runs the function's code, and then replace the function's signal handlers.

        Returns:
            The result of `function(argument)`, which must not be None. If it raised, the result of `failed(exception)`.
        """
        result: T | None = None
        failure: BaseException | None = None
        try:
            self._quiet = False
            if self._taken:
                self._give_back()
            result = function(argument)
            self._quiet = True
            if "signal" in sys.modules:
                self._replace_handlers()
        except BaseException as error:  # the function's code may raise any exception, also SystemExit
            failure = error
            if issubclass(type(error), MemoryError):  # there may not be memory for a call of a method
                self._free_memory()
            try:
                self._replace_handlers()
            except BaseException:  # another signal has come before its handler was replaced
                self._replace_handlers()
        try:
            return result if result is not None else failed(failure)  # type: ignore[arg-type]  # one of the two is set
        finally:
            failure = None  # its traceback refers to this frame: break the cycle, so that memory is freed at once

    def during(self, step: Callable[[], None]) -> None:
        """Call step() while the function's code runs. Raise an exception of a signal handler only after step() returns.

        Python runs signal handlers only in the main thread, so other threads just call step().
        """
        if self._quiet or _thread.get_ident() != self._thread:
            step()
            return
        raised: list[BaseException] = []
        try:
            self._raised = raised
            try:
                self._replace_handlers()
            except MemoryError:  # the function has all the memory, so there is none for a list of the handlers
                self._free_memory()
                self._replace_handlers()
            except BaseException as error:  # a signal handler raised it before it was replaced
                self._replace_handlers()
                raised.append(error)
            step()
        finally:
            self._raised = None
            self._quiet = False
            self._give_back()
        if raised:
            raise raised[0]

    def wait(self, read: Callable[[], T]) -> T:
        """Call read(). While it waits, the function's signal handlers may end the process.

        Raises:
            SystemExit: SIGTERM has come.
        """
        if _thread.get_ident() != self._thread:
            return read()
        self.waiting = True
        try:
            if self.exit is not None:
                self.end(self.exit)
            return read()
        finally:
            self.waiting = False

    def after_fork(self) -> None:
        """Restore the default action of SIGTERM in a child that the function forked, unless the function handles it."""
        if _signal.getsignal(_signal.SIGTERM) is self._terminate:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)

    def _replace_handlers(self) -> None:
        """Replace the function's signal handlers after its code has returned. Until then a handler may still raise."""
        self._quiet = True
        if "signal" not in sys.modules:
            return
        actions = list(map(_signal.getsignal, _SIGNALS))
        if all(map(is_, actions, self._plain)):  # not ==, because a handler's class may define __eq__
            return
        for number, action in zip(_SIGNALS, actions, strict=True):
            if action is _signal.default_int_handler:
                _signal.signal(number, self._interrupt)
            elif callable(action) and id(action) not in self._ids:
                self._taken[number] = action
                _signal.signal(number, self._ours)

    def _give_back(self) -> None:
        """Restore the function's handlers before its code runs. From here on they may raise."""
        for number, action in self._taken.items():
            if _signal.getsignal(number) is self._ours:
                _signal.signal(number, action)
        self._taken.clear()

    def _contain(self, number: int, frame: Any) -> None:
        failure: BaseException | None = None
        try:
            self._taken[number](number, frame)
        except BaseException as error:  # keep it away from the runtime's code
            failure = error
        if self._raised is not None:
            if failure is not None:
                self._raised.append(failure)
            return
        self._finished(failure)
        if isinstance(failure, SystemExit):
            self.exit = failure
            if self.waiting:
                self.end(failure)

    def end(self, error: SystemExit) -> None:
        """Raise the SystemExit of SIGTERM. For any other SystemExit, call `leave`, which ends the process."""
        if self.terminated:
            raise error
        self._leave(error)

    def _on_terminate(self, number: int, frame: Any) -> None:
        _signal.signal(number, _signal.SIG_DFL)
        self.terminated = True
        error = SystemExit(128 + number)
        if not self._quiet:
            raise error
        if self._raised is not None:
            self._raised.append(error)
            return
        self.exit = error
        if self.waiting:
            raise error

    def _on_interrupt(self, number: int, frame: Any) -> None:
        if not self._quiet:  # between requests, ignore SIGINT: it belongs to no request
            _signal.default_int_handler(number, frame)
        elif self._raised is not None:
            self._raised.append(KeyboardInterrupt())
