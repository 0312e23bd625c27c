"""Keep the function's signal handlers from interrupting the runtime between two requests.

This file also turns SIGTERM into SystemExit in the function's code. It knows signals, and when the function's code
begins and returns; it knows no frames.
"""

from __future__ import annotations

import _signal
import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    A = TypeVar("A")
    T = TypeVar("T")

ATTEMPTS = 1000
"""How often the end of the function's code may be interrupted: alarms may come faster than anything gets done."""

_SIGNALS = tuple(sorted(_signal.valid_signals()))


class Quiet:
    """Let the function's signal handlers run between requests, but not raise into the runtime's code.

    Such a handler may raise, for example for an alarm that was not cancelled. Blocking the signals would not help: with
    a second thread in the process they arrive there, and Python still runs the handler in the main thread. So a handler
    of the runtime replaces the function's handlers between requests, calls them, and catches what they raise.

    SIGTERM raises SystemExit in the function's code, so that `finally` blocks run, unless the function has a handler of
    its own. Between requests it ends the wait for the next one. A second SIGTERM ends the process at once.

    Args:
        finished: Called after each such handler, with what it has raised, or None.
        leave: Called with the SystemExit that a handler has raised, when the runtime waits for a request.

    Attributes:
        terminated: Whether SIGTERM has come. No further request begins then.
    """

    def __init__(self, finished: Callable[[BaseException | None], None], leave: Callable[[SystemExit], None]) -> None:
        self._finished = finished
        self._leave = leave
        self.terminated = False
        self._exit: SystemExit | None = None
        self._waiting = False
        self._thread = _thread.get_ident()
        self._quiet = True
        self._raised: list[BaseException] | None = None
        self._taken: dict[int, Callable[[int, Any], Any]] = {}
        # Bound once: they are told apart by identity.
        self._ours, self._interrupt, self._terminate = self._contain, self._interrupted, self._asked_to_end
        if _signal.getsignal(_signal.SIGTERM) is _signal.SIG_DFL:
            _signal.signal(_signal.SIGTERM, self._terminate)
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            # For good: it does what Python's own does, and saves two system calls for each request.
            _signal.signal(_signal.SIGINT, self._interrupt)
        self._ids = frozenset(map(id, (self._ours, self._interrupt, self._terminate)))
        self._plain = list(map(_signal.getsignal, _SIGNALS))
        self._plain_ids = list(map(id, self._plain))

    def call(self, function: Callable[[A], T], argument: A, failed: Callable[[BaseException], T]) -> T:
        """Run the function's code.

        Returns what `function(argument)` returns, never None, or what `failed` makes of what it raised. A signal
        handler of the function's may raise anywhere until it is quiet again, between any two steps below: hence one
        loop around the other. What then gets out must hit the short `except` of the inner and that of the outer.
        """
        result: T | None = None
        failure: BaseException | None = None
        called = settled = False
        attempts = 0
        while not settled:
            try:
                while not settled:
                    try:
                        if not called:
                            called, self._quiet = True, False
                            if self._taken:
                                self._give_back()
                            result = function(argument)
                        self._begin()
                        settled = True
                    except BaseException as error:  # the function's code may raise anything, SystemExit too
                        failure = error if failure is None else failure
                        attempts += 1
                        settled = attempts > ATTEMPTS
            except BaseException as error:
                failure = error if failure is None else failure
        return result if result is not None else failed(failure)  # type: ignore[arg-type]  # one of them is there

    def during(self, step: Callable[[], None]) -> None:
        """Call step() in the middle of the function's code. What a signal handler raises meanwhile is raised after it.

        Python runs signal handlers only in the main thread, so other threads just call step().
        """
        if self._quiet or _thread.get_ident() != self._thread:
            step()
            return
        raised: list[BaseException] = []
        try:
            self._raised = raised
            self._begin_surely(raised)
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
        self._waiting = True
        try:
            if self._exit is not None:
                self._end(self._exit)
            return read()
        finally:
            self._waiting = False

    def _begin_surely(self, raised: list[BaseException]) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._begin()
                return
            except BaseException as error:  # a signal handler's, from before it was replaced
                raised.append(error)

    def _begin(self) -> None:
        """The function's code has returned. May raise what a signal handler raises now; to be called again then."""
        self._quiet = True
        if "signal" not in sys.modules:
            return
        if list(map(id, map(_signal.getsignal, _SIGNALS))) == self._plain_ids:  # no == of a function's own
            return
        actions = list(map(_signal.getsignal, _SIGNALS))
        for number, action in zip(_SIGNALS, actions, strict=True):
            if action is _signal.default_int_handler:
                _signal.signal(number, self._interrupt)
            elif callable(action) and id(action) not in self._ids:
                self._taken[number] = action
                _signal.signal(number, self._ours)

    def _give_back(self) -> None:
        """The function's code begins. From here on its signal handlers may raise again, here to begin with."""
        for number, action in self._taken.items():
            if _signal.getsignal(number) is self._ours:
                _signal.signal(number, action)
        self._taken.clear()

    def _contain(self, number: int, frame: Any) -> None:
        failure: BaseException | None = None
        try:
            self._taken[number](number, frame)
        except BaseException as error:  # that is what this is for
            failure = error
        if self._raised is not None:
            if failure is not None:
                self._raised.append(failure)
            return
        self._finished(failure)
        if isinstance(failure, SystemExit):
            self._exit = failure
            if self._waiting:
                self._end(failure)

    def _end(self, error: SystemExit) -> None:
        if self.terminated:
            raise error
        self._leave(error)

    def _asked_to_end(self, number: int, frame: Any) -> None:
        _signal.signal(number, _signal.SIG_DFL)
        self.terminated = True
        error = SystemExit(128 + number)
        if not self._quiet:
            raise error
        if self._raised is not None:
            self._raised.append(error)
            return
        self._exit = error
        if self._waiting:
            raise error

    def after_fork(self) -> None:
        """Restore the default action of SIGTERM in a child that the function forked, unless the function handles it."""
        if _signal.getsignal(_signal.SIGTERM) is self._terminate:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)

    def _interrupted(self, number: int, frame: Any) -> None:
        if not self._quiet:  # between requests a SIGINT belongs to none of them
            _signal.default_int_handler(number, frame)
        elif self._raised is not None:
            self._raised.append(KeyboardInterrupt())
