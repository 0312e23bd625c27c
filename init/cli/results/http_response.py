"""Convert the HTTP answer of a function to text: its head, or one JSON object for a result line.

The functions here are pure. The answer comes from the user's function, which may be hostile. Whatever the answer
contains, it cannot add a line to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...log.json_lines import to_line
from .json_text import text_pieces
from .run_exit_code import response_status

_NO_TOKEN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def response_head(http: Mapping[str, Any]) -> bytes:
    """Return the head of an HTTP answer: the status line, the headers and an empty line.

    Write a character as an escape if it could begin another line, or end a header's name.

    Args:
        http: The map `http` of RESULT (docs/protocol.md).
    """
    status, reason = response_status(http), http.get("reason")
    if not isinstance(reason, str) or not reason:
        from http import HTTPStatus  # imported late, because few answers need it

        reason = next((known.phrase for known in HTTPStatus if known == status), "")
    lines = [f"HTTP/1.1 {status} {_CONTROL.sub(_escape, reason)}"]
    for name, value in _headers(http):
        lines.append(f"{_NO_TOKEN.sub(_escape, name)}: {_CONTROL.sub(_escape, value)}")
    return "".join(line + "\r\n" for line in (*lines, "")).encode("latin-1", "backslashreplace")


def response_pieces(http: Mapping[str, Any], body: bytes | bytearray) -> Iterator[bytes]:
    """Return an HTTP answer as one JSON object, in the form that functions on Lambda return. Return it in pieces.

    The object's `headers` are {name: value}. If a name has several values, `headers` joins them with commas, and the
    object also has `multiValueHeaders`, with {name: [value, …]} for each such name. A body that is UTF-8 becomes text,
    and any other body becomes base64. `isBase64Encoded` says which form the body has.

    Args:
        http: The map `http` of RESULT (docs/protocol.md).
        body: The answer's body.
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
    pieces, is_base64 = text_pieces(body)
    yield to_line(answer)[:-1] + b', "body": '
    yield from pieces
    yield b', "isBase64Encoded": true}' if is_base64 else b', "isBase64Encoded": false}'


def _headers(http: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) for each valid header. A header is valid if both are texts and the name is not empty."""
    given = http.get("headers")
    pairs = [pair for pair in given if isinstance(pair, list)] if isinstance(given, list) else []
    return [(pair[0], pair[1]) for pair in pairs if [type(part) for part in pair] == [str, str] and pair[0]]


def _escape(match: re.Match[str]) -> str:
    character = ord(match[0])
    return f"\\x{character:02x}" if character < 0x100 else f"\\u{character:04x}"
