"""An ASGI application's lifespan: its startup before the first request, its shutdown after the last.

It must not know requests, hooks or the protocol, and it sets no time limits: whoever waits does.
"""

from __future__ import annotations

from .. import namespace
from ..faults import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Mapping[str, Any]], Awaitable[None]]
    Application = Callable[[dict[str, Any], Receive, Send], Awaitable[object]]

asyncio = namespace.stdlib("asyncio")

VERSIONS = {"version": "3.0", "spec_version": "2.0"}


class LifespanFailed(RuntimeError):
    """An application has said that its startup or shutdown failed, or has ended in a way that says so."""


class Lifespan:
    """An application's life in one event loop: startup() before the first request, shutdown() after the last."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._inbox: Any = asyncio.Queue()
        self._phase = "startup"
        self._answer: Future[str | None]
        self._task: Task[None] | None = None
        self._error: BaseException | None = None

    async def startup(self) -> dict[str, Any]:
        """Start the application and wait until it has started; returns its state, for serve(). Once only.

        An application that raises an Exception, or returns, before it has answered does not support the lifespan: the
        state is empty then. LifespanFailed: it said that it failed, or raised an exception
        that asks to end the process.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        if await self._ask("startup", self._task):
            return self._state
        error, self._task = self._error, None
        if error is not None and not isinstance(error, Exception):
            raise LifespanFailed(f"ASGI application raised {type_name(error)} during lifespan startup") from error
        return {}

    async def shutdown(self) -> None:
        """Tell the application to shut down, and wait until it has; nothing where it has not started.

        LifespanFailed: it said that it failed, or it raised, now or since its startup.
        """
        if self._task is None:
            return
        answered = await self._ask("shutdown", self._task)
        error, self._task = self._error, None
        if error is not None and not answered:
            raise LifespanFailed(f"ASGI application raised {type_name(error)} before lifespan shutdown") from error

    async def _ask(self, phase: str, task: Task[None]) -> bool:
        """Send one event; False if the application ends without an answer. LifespanFailed: its answer."""
        self._phase, self._answer = phase, asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": f"lifespan.{phase}"})
        await asyncio.wait((self._answer, task), return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            return False
        failure = self._answer.result()
        if failure is None:
            return True
        task.cancel()
        self._task = None
        text = f"ASGI lifespan {phase} failed"
        raise LifespanFailed(f"{text}: {failure}" if failure else text) from self._error

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": dict(VERSIONS), "state": self._state}
        try:
            await self._app(scope, self._inbox.get, self._send)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit, too: out of a task it would end the event loop
            self._error = error

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        wanted = f"lifespan.{self._phase}"
        if self._answer.done():
            raise RuntimeError(f"ASGI application sent {kind!r} after its answer to {wanted!r}")
        if kind == f"{wanted}.complete":
            self._answer.set_result(None)
        elif kind == f"{wanted}.failed":
            text = message.get("message", "")
            self._answer.set_result(text if isinstance(text, str) else "")
        else:
            raise RuntimeError(f"ASGI application sent {kind!r} where an answer to {wanted!r} was expected")
