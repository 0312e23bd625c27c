"""Run the lifespan of an ASGI application: its startup before the first request, its shutdown after the last one.

This module must not know requests, hooks or the protocol. It sets no time limits; its callers set them.
"""

from __future__ import annotations

from ..call.faults import in_words, type_name
from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Mapping[str, Any]], Awaitable[None]]
    Application = Callable[[dict[str, Any], Receive, Send], Awaitable[object]]

asyncio = late.asyncio


class LifespanFailed(RuntimeError):
    """An application has reported that its startup or shutdown failed, or has raised an exception."""


class Lifespan:
    """Run an application's startup and shutdown in one event loop.

    Args:
        app: The application.
        log: A callable that writes a text to the log. It is called if the startup failed but the application can still
            serve requests.
    """

    def __init__(self, app: Application, log: Callable[[str], None]) -> None:
        self._app = app
        self._log = log
        self._state: dict[str, Any] = {}
        self._inbox: Any = asyncio.Queue()
        self._phase = "startup"
        self._received = ""  # the phase of the last event that the application has received
        self._answer: Future[str | None]
        self._task: Task[None] | None = None
        self._error: BaseException | None = None
        self._unaware = False  # whether the application has answered the lifespan like a request

    async def startup(self) -> dict[str, Any]:
        """Start the application and wait until it has started. Call this only once.

        If the application returns or raises an Exception before it has answered, it serves requests without a lifespan.
        A log line reports this if the application had received the startup event. No line is written if the application
        answered the event like a request: it does not support lifespans.

        Returns:
            The application's state, for serve().

        Raises:
            LifespanFailed: The application reported a failure, or raised SystemExit or a similar exception.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        if await self._ask("startup", self._task):
            return self._state
        error, self._task = self._error, None
        if error is not None and not isinstance(error, Exception):
            raise LifespanFailed(f"ASGI application raised {type_name(error)} during lifespan startup") from error
        if self._received and not self._unaware:
            without = "is served without a lifespan"
            if error is not None:
                self._log(f"the ASGI application failed during lifespan startup, and {without}: {in_words(error)}")
            else:
                self._log(f"the ASGI application returned without an answer to lifespan.startup, and {without}")
        return {}

    async def shutdown(self) -> None:
        """Tell the application to shut down, and wait until it has. Do nothing if it has not started.

        Raises:
            LifespanFailed: The application reported a failure. Or its lifespan raised an exception before, during or
                after the shutdown.
        """
        if self._task is None:
            return
        answered = await self._ask("shutdown", self._task)
        error, self._task = self._error, None
        if error is not None:
            when = "after" if answered else "during" if self._received == "shutdown" else "before"
            raise LifespanFailed(f"ASGI application raised {type_name(error)} {when} lifespan shutdown") from error

    async def _ask(self, phase: str, task: Task[None]) -> bool:
        """Send one event. Return False if the application ends without an answer.

        Raises:
            LifespanFailed: The application answered that the phase failed.
        """
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
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # also SystemExit, which would stop the event loop if it left the task
            self._error = error

    async def _receive(self) -> Message:
        message: Message = await self._inbox.get()
        self._received = self._phase
        return message

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        wanted = f"lifespan.{self._phase}"
        self._unaware |= not str(kind).startswith("lifespan.")
        if self._answer.done():
            raise RuntimeError(f"ASGI application sent {kind!r} after its answer to {wanted!r}")
        if kind == f"{wanted}.complete":
            self._answer.set_result(None)
        elif kind == f"{wanted}.failed":
            text = message.get("message", "")
            self._answer.set_result(text if isinstance(text, str) else "")
        else:
            raise RuntimeError(f"ASGI application sent {kind!r} where an answer to {wanted!r} was expected")
