"""Call an ASGI 3 application for each request, as an HTTP server would: with a scope, receive() and send().

This module translates between ASGI's messages and an Exchange, which holds the request and its answer. It must not know
frames, descriptors or how a request is cancelled. It sets no time limits; its callers set them.
"""

from __future__ import annotations

from ..call.faults import in_words, type_name
from ..namespace import late
from ..wire.messages import BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..call.exchange import Exchange
    from .lifespan import Application, Message

asyncio = late.asyncio

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


async def serve(
    app: Application, exchange: Exchange, state: Mapping[str, Any], added: Sequence[tuple[str, str]] = ()
) -> None:
    """Call an application for one request, and return after the application returns.

    The scope is the one for HTTP, without extensions. Two additional keys hold the request's context object:
    `pipe_init.context`, and `aws.context`, which applications for Lambda read. Exchange.http_map describes a request
    that has no `http` metadata.

    If the application sends the body of its answer in one message, exchange.respond gets it. Otherwise exchange.begin
    and exchange.write get it. An answer to HEAD is complete with the first message of its body, and the other messages
    are ignored. After the request is cancelled, receive() returns http.disconnect, and send() ignores its messages. The
    application may then return without an answer. An exception after a complete answer is logged with its stack.

    Args:
        app: The application.
        exchange: The request and its answer.
        state: The result of Lifespan.startup(). The scope's `state` is a shallow copy of it.
        added: The headers that the platform adds. If the request has a header of the same name, that header is used.

    Raises:
        RuntimeError: The application returned before its answer was complete.
        BaseException: An exception of the application, before its answer was complete.
    """
    log = exchange.context.log  # read it now, because an application may assign another `log` to the context
    http = await exchange.http_map()
    scope = _scope(http, state)
    given = {name for name, _ in scope["headers"]}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in added]
    scope["headers"] += [header for header in headers if header[0] not in given]
    scope["pipe_init.context"] = scope["aws.context"] = exchange.context
    cycle = _Cycle(exchange, scope["method"] == "HEAD")
    try:
        await app(scope, cycle.receive, cycle.send)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # also SystemExit; a complete answer cannot report it any more
        if not cycle.complete:
            raise
        log("the ASGI application raised after its response was complete: " + in_words(error))
    finally:
        cycle.close()
    if not cycle.complete and not exchange.cancelled:
        step = "starting" if cycle.http is None else "completing"
        raise RuntimeError(f"ASGI application returned without {step} its response")


def _scope(http: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    scheme = http.get("scheme", "http")
    host, port = http.get("host"), http.get("port")
    path = http.get("path") or "/"
    headers = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in http.get("headers", ())]
    server = None
    if host:
        default = 443 if scheme == "https" else 80
        server = (host, port or default)
        if not any(name == b"host" for name, _ in headers):
            named = host if not port or port == default else f"{host}:{port}"
            headers.insert(0, (b"host", named.encode("latin-1")))
    client = http.get("client")
    return {
        "type": "http",
        # Version 2.3 ignores a send() after a disconnect. Since version 2.4 it raises OSError. Frameworks that see 2.4
        # wait for this error, and do not wait for http.disconnect.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": http.get("version", "1.1"),
        "method": http.get("method", "GET").upper(),
        "scheme": scheme,
        "path": late.urllib_parse.unquote(path) if "%" in path else path,
        "raw_path": path.encode(),
        "query_string": http.get("query", "").encode(),
        "root_path": "",
        "headers": headers,
        "client": tuple(client) if client else None,
        "server": server,
        "state": dict(state),
        "extensions": {},
    }


class _Cycle:
    """Provide `receive` and `send` for one request, and keep the state of its answer.

    Args:
        exchange: The request and its answer.
        headless: Whether the answer has no body, because the request is HEAD.

    Attributes:
        http: The head of the answer; None before the application has started its answer.
        complete: Whether the application has given its whole answer.
    """

    def __init__(self, exchange: Exchange, headless: bool) -> None:
        self._exchange = exchange
        self._headless = headless
        self._received = False  # whether the application has received the last part of the request's body
        self._turn = asyncio.Lock()
        self.http: dict[str, Any] | None = None
        self._content_type = BYTES
        self._closed = False
        self.complete = False

    async def receive(self) -> Message:
        """Return the next message. Any task of the application may call this. A cancelled call loses no data."""
        exchange = self._exchange
        await exchange.check()
        while not (self.complete or self._disconnected()):
            seen = exchange.news
            if self._received:
                await exchange.change(seen)
            elif (piece := exchange.take()) is not None:
                self._received = not (piece and exchange.request.get("stream"))
                return {"type": "http.request", "body": piece, "more_body": not self._received}
            else:
                await exchange.wait(seen)
        await asyncio.sleep(0)  # an application that calls this in a loop must not block the event loop
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take one message of the application. If several tasks call this, handle their messages one after another."""
        async with self._turn:
            if self._disconnected() or (self.complete and self._headless):
                await asyncio.sleep(0)  # do not block the event loop, as in `receive`
                return
            kind = message.get("type")
            if self.complete:
                raise RuntimeError(f"ASGI application sent {kind!r} after its response was complete")
            wanted = "http.response.start" if self.http is None else "http.response.body"
            if kind != wanted:
                raise RuntimeError(f"ASGI application sent {kind!r} where {wanted!r} was expected")
            if self.http is None:
                self.http, self._content_type = _response(message)
            else:
                await self._send_body(self.http, message)

    async def _send_body(self, http: dict[str, Any], message: Mapping[str, Any]) -> None:
        body = message.get("body", b"")
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"http.response.body: body must be bytes, not {type_name(body)}")
        # The answer to HEAD is complete at the first message of the body. Nothing slows down an application whose body
        # nobody reads, and such a body may never end.
        more = bool(message.get("more_body", False)) and not self._headless
        data = b"" if self._headless else bytes(body)
        if not self._exchange.begun and not more:
            self._exchange.respond(data, self._content_type, http)
        else:
            if not self._exchange.begun:
                self._exchange.begin(self._content_type, http)
            await self._exchange.write(data)
        if not more:
            self.complete = True
            self._exchange.wake()

    def _disconnected(self) -> bool:
        return self._closed or self._exchange.cancelled

    def close(self) -> None:
        """Show a disconnected client to the tasks that the application has left running."""
        self._closed = True
        self._exchange.wake()


def _response(message: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Convert a message http.response.start. Return the answer's `http` map and its content type.

    Raises:
        TypeError, ValueError: The message is not valid.
    """
    status = message.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"http.response.start: status must be an int, not {type_name(status)}")
    code = int.__index__(status)  # an http.HTTPStatus becomes a plain number
    if not 100 <= code <= 999:
        raise ValueError(f"http.response.start: status must be 100 to 999, not {code}")
    try:
        pairs = iter(message.get("headers", ()))
    except TypeError:
        raise TypeError("http.response.start: headers must be pairs of bytes") from None
    headers = [_header(pair) for pair in pairs]
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    return {"status": code, "reason": "", "headers": headers}, content_type or BYTES


def _header(pair: object) -> list[str]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TypeError("http.response.start: headers must be pairs of bytes")
    name, value = pair
    if not isinstance(name, bytes) or not isinstance(value, bytes):
        found = f"{type_name(name)} and {type_name(value)}"
        raise TypeError(f"http.response.start: headers must be pairs of bytes, not of {found}")
    if not name or name.translate(None, _TOKEN):
        raise ValueError(f"http.response.start: {name!r} cannot be a header's name")
    if value.translate(None, b"\r\n\0") != value:
        raise ValueError(f"http.response.start: header {name!r} with a line break or a null byte in its value")
    return [str(name, "latin-1"), str(value, "latin-1")]
