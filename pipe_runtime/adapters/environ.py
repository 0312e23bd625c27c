"""Make WSGI's environ (PEP 3333) of a request. This module knows neither frames nor applications."""

from __future__ import annotations

import io
import sys

from ..namespace import late
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make_environ(exchange: Any, multithread: bool) -> dict[str, Any]:
    """Return the request as WSGI's environ: a new dict, without anything of os.environ.

    Without an `http` map it is GET / if the payload is empty or {}, else POST / with the payload as its body.
    """
    request = exchange.request
    http = request.get("http")
    body: io.BytesIO | io.BufferedReader
    if request.get("stream"):
        body, length = io.BufferedReader(exchange.body), -1
        empty = http is None and not body.peek(1)
    else:
        whole = exchange.body.read() or b""
        if http is None and whole == b"{}":  # the event of a caller that gave none
            whole = b""
        body, length, empty = io.BytesIO(whole), len(whole), not whole
    if http is None:
        http = {} if empty else {"method": "POST", "headers": [["Content-Type", request.get("content_type", "")]]}
    try:
        environ: dict[str, Any] = _variables(http)
    except (AttributeError, TypeError, ValueError) as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: the http map: {error}") from None
    if length >= 0:  # whatever the header says: some frameworks read as much as this, and nothing without it
        environ["CONTENT_LENGTH"] = str(length)
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
    """Return the variables that an `http` map stands for.

    Raises:
        AttributeError, TypeError, ValueError: The map is not as the protocol describes it.
    """
    path, query = _native(http.get("path") or "/"), _native(http.get("query", ""))
    scheme = _native(http.get("scheme", "http"))
    rooted = path if path.startswith("/") else "/" + path
    variables = {
        "REQUEST_METHOD": _native(http.get("method", "GET")),
        "SCRIPT_NAME": "",
        "PATH_INFO": _unquoted(rooted) if "%" in rooted else rooted,
        "QUERY_STRING": query,
        "REQUEST_URI": f"{path}?{query}" if query else path,
        "SERVER_NAME": _native(http.get("host") or "localhost"),
        "SERVER_PORT": str(http.get("port") or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/" + _native(http.get("version", "1.1")),
        "wsgi.url_scheme": scheme,
    }
    # An unknown address is left out, because applications trust 127.0.0.1.
    client = http.get("client")
    if client:
        host, port = client
        variables.update(REMOTE_ADDR=_native(host), REMOTE_PORT=str(port))
    for name, value in http.get("headers", ()):
        _add_header(variables, name, _native(value))
    return variables


def _add_header(variables: dict[str, str], name: str, value: str) -> None:
    # X_User and X-User would become one variable, so a caller could forge what a proxy has set.
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
    """Return a text as WSGI wants it, a byte for each character. A text beyond latin-1 becomes its UTF-8."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8").decode("latin-1")
    return text


def _unquoted(path: str) -> str:
    decoded: bytes = late.urllib_parse.unquote_to_bytes(path.encode("latin-1"))
    return decoded.decode("latin-1")
