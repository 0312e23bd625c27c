"""Call a WSGI application (PEP 3333) for each request, as an HTTP server would.

This module does not use wsgiref.handlers.BaseHandler. That class ignores a BrokenPipeError of the application, because
it assumes that the client has disconnected. It also calls close() twice after an error, sends the headers when it gets
an empty block, checks only with `assert`, answers a HEAD request with a body, and copies os.environ.

This module must not know frames, threads, or how the caller sees an error. It does not change the application's own
exceptions.
"""

from __future__ import annotations

import io
import sys

from ..call.exchange import Body, at_once
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

    from ..call.exchange import Exchange

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


_HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "te", "trailer", "trailers", "transfer-encoding", "upgrade",
))  # fmt: skip
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# PEP 3333 forbids all control characters in a header's value. HTTP allows a tab, and most servers accept it.
_CONTROLS = bytes(code for code in (*range(32), 127) if code != 9)


def serve(
    app: Callable[..., Any], exchange: Exchange, multithread: bool, added: Sequence[tuple[str, str]] = ()
) -> None:
    """Call a WSGI application for one request. Return when `exchange` has the answer and the result's close() has run.

    Args:
        app: The application.
        exchange: The request and its answer.
        multithread: Whether another thread may call `app` at the same time.
        added: The headers that the platform adds. If the request has a header of the same name, that header is used.

    Raises:
        Fault: Runtime.UnmarshalError if the `http` map is not valid, Runtime.MarshalError if the answer is not valid.
        BaseException: An exception of the application, or of `exchange` after a cancellation.
    """
    environ = make_environ(exchange, multithread)
    for name, value in added:
        environ.setdefault("HTTP_" + name.upper().replace("-", "_"), value)
    _Answer(exchange, environ["REQUEST_METHOD"]).run(app, environ)


class _Answer:
    """Collect one answer from start_response(), write(), and the blocks that the application returns."""

    def __init__(self, exchange: Exchange, method: str) -> None:
        self._exchange = exchange
        self._method = method
        self._status = 0  # 0 before start_response() is called
        self._reason = ""
        self._headers: list[list[str]] = []
        self._length: int | None = None  # the Content-Length that the application has declared
        self._room: int | None = None  # how many bytes may still follow; None if any number may
        self._sent = False
        self._ended = False

    def run(self, app: Callable[..., Any], environ: dict[str, Any]) -> None:
        try:
            result = app(environ, self.start_response)
            try:
                self._send_all(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        finally:
            self._ended = True

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take the status and the headers. They are sent with the first bytes of the body (PEP 3333).

        Raises:
            RuntimeError: It was called a second time without exc_info, or after the end of the request.
            TypeError, ValueError: HTTP or PEP 3333 does not allow the arguments. Nothing has changed.
            BaseException: The exception in exc_info, if the headers were already sent.
        """
        error = exc_info[1] if exc_info else None
        if self._sent and error is not None and exc_info:
            try:
                raise error.with_traceback(exc_info[2])
            finally:
                error = exc_info = None  # the error's traceback refers to this frame: break the cycle
        if self._ended:
            raise RuntimeError("start_response() was called after the request's end")
        if self._status and error is None:
            raise RuntimeError("start_response() was called again without exc_info")
        code, reason = _parse_status(status)
        checked = _check_headers(headers)
        self._length = _content_length(checked)
        self._status, self._reason, self._headers = code, reason, checked
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body. start_response() returns this method to the application (PEP 3333)."""
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        if self._ended:
            raise RuntimeError("write() was called after the request's end")
        at_once(self._exchange.check())  # needed if nothing is sent below, as for HEAD, so that a cancellation is seen
        if data and not self._send(data, False) and not self._bodiless():
            raise ValueError(f"write() of more bytes than Content-Length: {self._length}")

    def _send_all(self, result: Any) -> None:
        kind = type(result)
        if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
            raise _fault(f"the WSGI application returned {kind.__name__}, not an iterable of bytes")
        last = kind in (list, tuple) and len(result) == 1
        for block in result:
            if not isinstance(block, bytes):
                raise _fault(f"the WSGI application returned a block of type {type(block).__name__}, not bytes")
            if not block:
                at_once(self._exchange.check())
            # When the body has its full length, still ask for the next block, so that a generator's code after its last
            # `yield` runs. Stop at the first block that exceeds the length.
            if block and not self._send(block, last):
                break
        self._finish()

    def _send(self, block: bytes, last: bool) -> bool:
        """Send a block that is not empty, up to the declared length. Return whether the whole block was sent.

        Args:
            last: Whether no other block follows.
        """
        if not self._sent:
            self._room = self._first_room()
        room = self._room
        fitting = block if room is None else block[:room]
        if self._sent:
            if fitting:
                at_once(self._exchange.write(fitting))
        elif len(fitting) == room or last:
            if room is not None and len(fitting) < room:
                raise self._too_short(room - len(fitting))
            self._respond(fitting)
        else:
            self._exchange.begin(*self._head())
            self._sent = True
            at_once(self._exchange.write(fitting))
        if room is not None:
            self._room = room - len(fitting)
        return len(fitting) == len(block)

    def _finish(self) -> None:
        room = self._room if self._sent else self._first_room()
        if room:
            raise self._too_short(room)
        if not self._sent:
            self._respond(b"")

    def _respond(self, body: bytes) -> None:
        self._exchange.respond(body, *self._head())
        self._sent = True

    def _first_room(self) -> int | None:
        if not self._status:
            raise _fault("the WSGI application did not call start_response()")
        return 0 if self._bodiless() else self._length

    def _bodiless(self) -> bool:
        """Return whether HTTP forbids a body in this answer. If so, Content-Length is not the length of its body."""
        return self._method == "HEAD" or self._status in (204, 304) or self._status < 200

    def _head(self) -> tuple[str, dict[str, Any]]:
        content_type = next((value for name, value in self._headers if name.lower() == "content-type"), BYTES)
        return content_type, {"status": self._status, "reason": self._reason, "headers": self._headers}

    def _too_short(self, room: int) -> Fault:
        return _fault(f"the WSGI application's body is {room} bytes short of its Content-Length: {self._length}")


def _fault(why: str) -> Fault:
    return Fault("Runtime.MarshalError", f"Unable to marshal response: {why}")


def _parse_status(status: str) -> tuple[int, str]:
    text = _plain(status, "the status")
    code, space, reason = text[:3], text[3:4], text[4:]
    if not (len(code) == 3 and code.isascii() and code.isdigit() and code >= "100" and space == " "):
        raise ValueError(f"the status must be three digits, a space and a reason, not {text!r}")
    return int(code), reason


def _check_headers(headers: list[tuple[str, str]]) -> list[list[str]]:
    """Check the headers. Return a copy as plain lists, because the application may change its own list later."""
    if not isinstance(headers, list):
        raise TypeError(f"the headers must be a list, not {type(headers).__name__}")
    checked = []
    for pair in headers:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"a header must be a tuple of name and value, not {pair!r}")
        name = _plain(pair[0], "a header's name")
        if not name or name.encode("latin-1").translate(None, _TOKEN):
            raise ValueError(f"{name!r} is not a valid header name")
        if name.lower() in _HOP_BY_HOP:
            raise ValueError(f"the hop-by-hop header {name!r} is the server's, not the application's")
        checked.append([name, _plain(pair[1], f"the value of {name}")])
    return checked


def _content_length(headers: list[list[str]]) -> int | None:
    values = [value for name, value in headers if name.lower() == "content-length"]
    if not values:
        return None
    if len(values) > 1 or not (values[0].isascii() and values[0].isdigit()):
        raise ValueError(f"Content-Length must be one number, not {', '.join(values)!r}")
    return int(values[0])


def _plain(text: str, what: str) -> str:
    """Return `text` as a plain str. Raise if a header must not contain it; the error's message calls it `what`."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    try:
        encoded = text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{what} has a character beyond latin-1") from None
    if len(encoded.translate(None, _CONTROLS)) != len(encoded):
        raise ValueError(f"{what} has a control character")
    return encoded.decode("latin-1")


def make_environ(exchange: Exchange, multithread: bool) -> dict[str, Any]:
    """Return the request as WSGI's environ (PEP 3333): a new dict that copies nothing from os.environ."""
    http = at_once(exchange.http_map())
    body: io.BytesIO | io.BufferedReader = io.BufferedReader(Body(exchange))
    try:
        environ: dict[str, Any] = _variables(http)
    except (AttributeError, TypeError, ValueError) as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: the http map: {error}") from None
    if not exchange.request.get("stream"):
        whole = at_once(exchange.whole())
        body = io.BytesIO(whole)
        # Set this even if the request has another or no Content-Length: some frameworks read exactly this many bytes.
        environ["CONTENT_LENGTH"] = str(len(whole))
    environ.update({
        "wsgi.version": (1, 0),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "fc.context": exchange.context,
        "fc.request_uri": environ["REQUEST_URI"],
    })  # fmt: skip
    return environ


def _variables(http: dict[str, Any]) -> dict[str, str]:
    """Return the environ's variables for the entries of an `http` map.

    Raises:
        AttributeError, TypeError, ValueError: The map does not have the format that docs/protocol.md describes.
    """
    path, query = _native(http.get("path") or "/"), _native(http.get("query", ""))
    scheme = _native(http.get("scheme", "http"))
    rooted = path if path.startswith("/") else "/" + path
    if "%" in rooted:
        rooted = late.urllib_parse.unquote_to_bytes(rooted.encode("latin-1")).decode("latin-1")
    variables = {
        "REQUEST_METHOD": _native(http.get("method", "GET")),
        "SCRIPT_NAME": "",
        "PATH_INFO": rooted,
        "QUERY_STRING": query,
        "REQUEST_URI": f"{path}?{query}" if query else path,
        "SERVER_NAME": _native(http.get("host") or "localhost"),
        "SERVER_PORT": str(http.get("port") or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/" + _native(http.get("version", "1.1")),
        "wsgi.url_scheme": scheme,
    }
    # If the client's address is unknown, leave it out. Applications would trust 127.0.0.1.
    client = http.get("client")
    if client:
        host, port = client
        variables.update(REMOTE_ADDR=_native(host), REMOTE_PORT=str(port))
    for name, value in http.get("headers", ()):
        _add_header(variables, name, _native(value))
    return variables


def _add_header(variables: dict[str, str], name: str, value: str) -> None:
    # Drop names with "_": X_User and X-User would become the same variable. A caller could forge a proxy's header.
    if "_" in name or not name.isascii():
        return
    key = name.upper().replace("-", "_")
    if key == "CONTENT_LENGTH":
        if value.isascii() and value.isdigit():
            variables.setdefault(key, value)
    elif key == "CONTENT_TYPE":
        variables.setdefault(key, value)
    else:
        key = "HTTP_" + key
        known = variables.get(key)
        separator = "; " if key == "HTTP_COOKIE" else ","
        variables[key] = value if known is None else known + separator + value


def _native(text: str) -> str:
    """Return a text in WSGI's form, where each character stands for a byte. Encode a text beyond latin-1 as UTF-8."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8").decode("latin-1")
    return text
