"""HTTP on the command line: options to the request that INVOKE carries, and RESULT's answer to text.

Pure functions. Nothing here opens a connection. The answer comes from the function, so it is hostile: whatever it
holds, its text has the lines that it says and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .json_text import dumped, text_pieces

if TYPE_CHECKING:
    from ..function.inputs import Given

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")
_NO_TOKEN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests say so, too, if their body is empty (RFC 9110, 8.6)."""


def parse_request(text: str) -> tuple[str, str, str]:
    """--request: (method, path, query) of "METHOD TARGET"; the method is "" where there is only a target.

    The path is percent-encoded as given, its other bytes above ASCII too; the query has no question mark.
    click.UsageError: it is no such text.
    """
    wrong = f"--request: {text!r}: "
    method, target = "", text
    if not text.startswith("/"):
        words = text.split(" ", 1)
        method, target = words if len(words) == 2 else ("", text)
        target = target.lstrip(" ")
        if len(words) == 2 and not _METHOD.fullmatch(method):
            raise click.UsageError(wrong + f"{method!r} is no method, an upper-case word such as POST.")
    if not target.startswith("/") and target != "*":
        raise click.UsageError(wrong + "the target is a path, which starts with a slash, such as in 'GET /items?n=1'.")
    raw = target.encode("utf-8", "surrogateescape")
    if any(byte <= 0x20 or byte == 0x7F for byte in raw):
        raise click.UsageError(wrong + "no blanks or control characters in the target; a blank is %20.")
    if b"#" in raw:
        raise click.UsageError(wrong + "a fragment is not sent; the character # itself is %23.")
    path, _, query = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw).partition("?")
    return method, path, query


def parse_header(text: str) -> list[str]:
    """--header: [name, value] of "Name: value". The value's characters are its bytes, which are UTF-8 if typed so.

    click.UsageError: it is no such text.
    """
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise click.UsageError(f"--header: {text!r} is not 'Name: value'.")
    if any(character in value for character in "\r\n\0"):
        raise click.UsageError(f"--header: the value of {name} has a line break or a NUL in it.")
    return [name, value.strip(" \t").encode("utf-8", "surrogateescape").decode("latin-1")]


def http_metadata(options: Given, body_size: int | None) -> dict[str, Any]:
    """INVOKE's `http` of a request with a body of `body_size` bytes; None: it is not known yet.

    click.UsageError: --request or a --header is wrong.
    """
    method, path, query = ("", "/", "") if options.request is None else parse_request(options.request)
    method = method or ("POST" if options.has_event else "GET")
    headers = [parse_header(text) for text in options.header]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        headers.insert(0, ["Host", "localhost"])
    says_size = body_size is not None and (body_size > 0 or method in _WITH_BODY)
    if says_size and not names & {"content-length", "transfer-encoding"}:
        headers.append(["Content-Length", str(body_size)])
    return {
        "method": method,
        "path": path,
        "query": query,
        "headers": headers,
        "scheme": "http",
        "host": "localhost",
        "port": 80,
        "client": ["127.0.0.1", 0],
        "version": "1.1",
    }


def response_status(http: Mapping[str, Any]) -> int:
    """The status of RESULT's `http`, three digits; 500 if it has none."""
    status = http.get("status")
    return status if type(status) is int and 100 <= status <= 999 else 500


def response_head(http: Mapping[str, Any]) -> bytes:
    """Status line, headers and an empty line. What would forge another line, or a name, is written as an escape."""
    status, reason = response_status(http), http.get("reason")
    if not isinstance(reason, str) or not reason:
        reason = _standard_reason(status)
    lines = [f"HTTP/1.1 {status} {_CONTROL.sub(_escape, reason)}"]
    for name, value in _headers(http):
        lines.append(f"{_NO_TOKEN.sub(_escape, name)}: {_CONTROL.sub(_escape, value)}")
    return "".join(line + "\r\n" for line in (*lines, "")).encode("latin-1", "backslashreplace")


def response_object(http: Mapping[str, Any]) -> dict[str, Any]:
    """Return an HTTP answer without its body as an object, in the form that functions on Lambda return.

    It has `headers` {name: value}, where several values of one name are joined by commas, and if there are such names
    also `multiValueHeaders` {name: [value, …]} of them.
    """
    spelled: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in _headers(http):
        values.setdefault(spelled.setdefault(name.lower(), name), []).append(value)
    answer: dict[str, Any] = {
        "statusCode": response_status(http),
        "headers": {name: ", ".join(of_name) for name, of_name in values.items()},
    }
    repeated = {name: of_name for name, of_name in values.items() if len(of_name) > 1}
    if repeated:
        answer["multiValueHeaders"] = repeated
    return answer


def response_pieces(http: Mapping[str, Any], body: bytes | bytearray) -> Iterator[bytes]:
    """Return an HTTP answer as one JSON object, in pieces for a line.

    The object is that of response_object with `body`: text if the body is UTF-8, else base64; `isBase64Encoded` says
    which.
    """
    pieces, is_base64 = text_pieces(body)
    yield dumped(response_object(http))[:-1] + b', "body": '
    yield from pieces
    yield b', "isBase64Encoded": true}' if is_base64 else b', "isBase64Encoded": false}'


def _headers(http: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs that are pairs of texts, with a name."""
    given = http.get("headers")
    found = []
    for pair in given if isinstance(given, list) else ():
        if isinstance(pair, list) and [type(part) for part in pair] == [str, str] and pair[0]:
            found.append((pair[0], pair[1]))
    return found


def _standard_reason(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _escape(match: re.Match[str]) -> str:
    character = ord(match[0])
    return f"\\x{character:02x}" if character < 0x100 else f"\\u{character:04x}"
