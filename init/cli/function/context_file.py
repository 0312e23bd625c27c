"""Read the file of --context, which describes the function and each request to the handler. It reads no other file.

No value is repeated in an error: there may be credentials among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import click
import msgpack

from pipe_runtime.wire.errors import ProtocolError
from pipe_runtime.wire.frames import check_plain

MAX_FILE = 2**20
"""Bytes of the file: whatever its spelling, more does not fit into a head."""

_SERVICE = dict.fromkeys(("name", "log_project", "log_store", "qualifier", "version_id"), str)
_CREDENTIALS = dict.fromkeys(("access_key_id", "access_key_secret", "security_token"), str)
_TRACING = {"span_context": str, "jaeger_endpoint": str, "span_baggages": dict}

FUNCTION_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(("name", "version", "arn", "log_group", "log_stream", "region", "account_id"), str),
    "service": _SERVICE,
    "credentials": _CREDENTIALS,
}
"""HELLO's `function`: {key: type}, or the keys of the map that it is. memory_mb and timeout_ms are options."""

REQUEST_KEYS: Mapping[str, Any] = {
    "request_id": str,
    "trace": str,
    "tenant_id": str,
    "retry_count": int,
    "client_context": dict,
    "identity": dict,
    "tracing": _TRACING,
}
"""INVOKE's fields, in the same form. What a `dict` contains is up to the function."""

_OPTIONS = {"memory_mb": "--memory", "timeout_ms": "--timeout"}
_KINDS = {str: "a text", dict: "an object", int: "an integer from 0 to 2^64 - 1"}
_PRINTED = ("version", "request_id")
"""Fields that become part of log lines, so they must not contain line breaks."""

_CONTROL = re.compile("[\x00-\x1f\x7f]")
"""Characters that neither a variable nor a header can hold: the file's texts about the function become both."""

_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24});Parent=([0-9a-f]{16})(?:;Sampled=([01]))?(?:;.*)?")
"""AWS X-Ray's tracing header."""


def read_context_file(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (HELLO's `function` map, INVOKE's fields) from the JSON object in a file.

    Raises:
        click.UsageError: The file cannot be read, or the object is wrong. The error names the key.
    """
    where = f"--context {path!r}"
    given = _read_object(path, where)
    for key, option in _OPTIONS.items():
        if key in given:
            raise click.UsageError(f"{where}: {key!r} is not for the file; it is what {option} says.")
    _check_map(given, {**FUNCTION_KEYS, **REQUEST_KEYS}, "", where)
    for key, value in given.items():
        if _cannot_be_packed(value):
            raise click.UsageError(f"{where}: {key!r} has a number, a text or a depth that the protocol cannot carry.")
    function = {key: value for key, value in given.items() if key in FUNCTION_KEYS}
    if "trace" in given:
        given["trace"] = traceparent(given["trace"])
    return function, {key: value for key, value in given.items() if key in REQUEST_KEYS}


def traceparent(trace: str) -> str:
    """Return a trace in W3C's form: rewrite one in X-Ray's form, and leave any other text as it is."""
    found = _XRAY.fullmatch(trace)
    if not found:
        return trace
    moment, rest, parent, sampled = found.groups()
    return f"00-{moment}{rest}-{parent}-0{sampled or 0}"


def _read_object(path: str, where: str) -> dict[str, Any]:
    if path == "-":
        raise click.UsageError("--context: stdin is for events; name a file.")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no path"
        raise click.UsageError(f"{where}: it cannot be read: {reason}.") from None
    if len(data) > MAX_FILE:
        raise click.UsageError(f"{where}: it has more than {MAX_FILE} bytes.")
    try:
        given = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"it is not JSON: {error}"
        raise click.UsageError(f"{where}: {reason}.") from None
    if not isinstance(given, dict):
        raise click.UsageError(f"{where}: it is not a JSON object.")
    return given


def _check_map(given: Mapping[str, Any], keys: Mapping[str, Any], prefix: str, where: str) -> None:
    for key, value in given.items():
        name, wanted = f"{prefix}{key}", keys.get(key)
        if wanted is None:
            known = ", ".join(prefix + key for key in keys)
            raise click.UsageError(f"{where}: there is no key {name!r}; there are {known}.")
        kind = dict if isinstance(wanted, Mapping) else wanted
        if type(value) is not kind or (type(value) is int and not 0 <= value < 2**64):
            raise click.UsageError(f"{where}: {name!r} is not {_KINDS[kind]}.")
        if isinstance(value, str) and name in _PRINTED and not (value and value.isprintable()):
            raise click.UsageError(f"{where}: {name!r} is not a text of printable characters.")
        if isinstance(value, str) and _CONTROL.search(value) and name.partition(".")[0] in FUNCTION_KEYS:
            raise click.UsageError(f"{where}: {name!r} has a control character in it.")
        if isinstance(wanted, Mapping):
            _check_map(value, wanted, f"{name}.", where)


def _cannot_be_packed(value: object) -> bool:
    try:
        check_plain(value)
        msgpack.packb(value)
    except (ProtocolError, RecursionError, ValueError, OverflowError):
        return True
    return False
