"""Tests of ASGI's lifespan protocol: startup, shutdown, and every way in which an application fails at either."""

from __future__ import annotations

import asyncio

import pytest

from pipe_runtime.adapters.lifespan import Lifespan, LifespanFailed
from pipe_testing.asgi import App, Receive, Scope, Send, after, fail, hello, settle


def unexpected(text: str) -> None:
    """Fail on a log line: this lifespan must not log anything."""
    raise AssertionError(text)


def test_lifespan_from_startup_to_shutdown() -> None:
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        assert await receive() == {"type": "lifespan.startup"}
        await settle()
        scope["state"]["pool"] = "open"
        steps.append("started")
        await send({"type": "lifespan.startup.complete"})
        assert await receive() == {"type": "lifespan.shutdown"}
        await settle()
        steps.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        assert await lifespan.startup() == {"pool": "open"}
        assert steps == ["started"]
        await lifespan.shutdown()
        assert steps == ["started", "stopped"]
        await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("text, expected", [("no database", "failed: no database"), ("", "failed"), (5, "failed")])
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
def test_lifespan_failed(phase: str, text: object, expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            if step == phase:
                await send({"type": f"lifespan.{step}.failed", "message": text})
                raise ConnectionError("the cause")
            await send({"type": f"lifespan.{step}.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        with pytest.raises(LifespanFailed) as caught:
            await lifespan.startup()
            await lifespan.shutdown()
        assert str(caught.value) == f"ASGI lifespan {phase} {expected}"
        assert isinstance(caught.value.__cause__, ConnectionError)
        await lifespan.shutdown()
        await settle()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_application_that_stays_after_it_failed_is_cancelled() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await receive()

    async def main() -> None:
        with pytest.raises(LifespanFailed):
            await Lifespan(app, unexpected).startup()
        await settle()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"


async def does_not_look(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await hello(scope, receive, send)


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["left"] = True


@pytest.mark.parametrize("app", [http_only, does_not_look, fail, returns])
def test_lifespan_that_is_not_supported(app: App) -> None:
    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        assert await lifespan.startup() == {}
        await lifespan.shutdown()

    asyncio.run(main())


def test_an_application_that_is_not_async_supports_no_lifespan() -> None:
    def wsgi(environ: object, start_response: object, more: object) -> list[bytes]:
        return []

    async def main() -> None:
        lifespan = Lifespan(wsgi, unexpected)  # type: ignore[arg-type]
        assert await lifespan.startup() == {}

    asyncio.run(main())


def test_an_application_that_wants_to_end_the_process_has_failed() -> None:
    async def main() -> None:
        with pytest.raises(LifespanFailed, match="raised SystemExit during lifespan startup") as caught:
            await Lifespan(after(error=SystemExit(3)), unexpected).startup()
        assert isinstance(caught.value.__cause__, SystemExit)

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3)])
@pytest.mark.parametrize("wait", [False, True])
def test_lifespan_that_raises_after_its_startup(error: BaseException, wait: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        if wait:
            await receive()
        raise error

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        name = type(error).__name__
        when = "during" if wait else "before"
        with pytest.raises(LifespanFailed, match=f"raised {name} {when} lifespan shutdown") as caught:
            await lifespan.shutdown()
        assert caught.value.__cause__ is error

    asyncio.run(main())


def test_lifespan_that_raises_after_its_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        raise KeyError("mine")

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        with pytest.raises(LifespanFailed, match="raised KeyError after lifespan shutdown"):
            await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("mine"), None])
def test_a_lifespan_that_breaks_off_its_startup_is_told_once(error: Exception | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "lifespan.startup"}
        if error is not None:
            raise error

    async def main() -> None:
        said: list[str] = []
        lifespan = Lifespan(app, said.append)
        assert await lifespan.startup() == {}
        await lifespan.shutdown()
        [text] = said
        assert "is served without a lifespan" in text
        assert error is None or ("KeyError: 'mine'\n" in text and f'File "{__file__}", line ' in text)

    asyncio.run(main())


def test_lifespan_that_ends_without_a_word_at_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(
    "messages, expected",
    [
        (["lifespan.shutdown.complete"], "where an answer to 'lifespan.startup' was expected"),
        (["lifespan.startup.complete", "lifespan.startup.complete"], "after its answer to 'lifespan.startup'"),
        (["lifespan.startup.complete", "lifespan.shutdown.complete"], "after its answer to 'lifespan.startup'"),
    ],
)
def test_lifespan_messages_out_of_order(messages: list[str], expected: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for kind in messages[:-1]:
            await send({"type": kind})
        with pytest.raises(RuntimeError, match=f"sent '{messages[-1]}' {expected}"):
            await send({"type": messages[-1]})

    async def main() -> None:
        lifespan = Lifespan(app, unexpected)
        await lifespan.startup()
        await lifespan.shutdown()

    asyncio.run(main())


def test_shutdown_without_startup_does_nothing() -> None:
    asyncio.run(Lifespan(fail, unexpected).shutdown())
