"""Make INVOKE's HTTP request from --request and --header. The functions are pure, and nothing opens a connection."""

from __future__ import annotations

import re

from ..options.run_options import RunOptions
from ..options.usage_errors import UsageError

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests have a Content-Length even if their body is empty (RFC 9110, 8.6)."""


def parse_request(text: str) -> tuple[str, str, str]:
    """Return (method, path, query) of --request, which is "METHOD TARGET" or "TARGET".

    The method is "" if there is only a target. Percent-encoding in the path and the query stays as it is, and bytes
    above ASCII are encoded too. The query does not include the question mark.

    Raises:
        UsageError: The text has another form.
    """
    wrong = f"--request: {text!r}: "
    method, blank, target = ("", "", text) if text.startswith("/") else text.partition(" ")
    if not blank:
        method, target = "", text
    elif not _METHOD.fullmatch(method):
        raise UsageError(wrong + f"{method!r} is no method, an upper-case word such as POST.")
    target = target.lstrip(" ")
    if not target.startswith("/") and target != "*":
        raise UsageError(wrong + "the target is a path, which starts with a slash, such as in 'GET /items?n=1'.")
    raw = target.encode("utf-8", "surrogateescape")
    if any(byte <= 0x20 or byte == 0x7F for byte in raw):
        raise UsageError(wrong + "no blanks or control characters in the target; a blank is %20.")
    if b"#" in raw:
        raise UsageError(wrong + "a fragment is not sent; the character # itself is %23.")
    path, _, query = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw).partition("?")
    return method, path, query


def parse_header(text: str) -> list[str]:
    """Return [name, value] of --header, which is "Name: value". Each byte of the value becomes one character.

    Raises:
        UsageError: The text has another form.
    """
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name):
        raise UsageError(f"--header: {text!r} is not 'Name: value'.")
    if any(character in value for character in "\r\n\0"):
        raise UsageError(f"--header: the value of {name} has a line break or a NUL in it.")
    return [name, value.strip(" \t").encode("utf-8", "surrogateescape").decode("latin-1")]


def http_metadata(options: RunOptions, body_size: int | None) -> dict[str, object]:
    """Return the map `http` of INVOKE (docs/protocol.md) for one request.

    Args:
        options: The options of the run.
        body_size: The number of bytes in the body; None if it is not known yet.

    Raises:
        UsageError: --request or a --header has the wrong form.
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
