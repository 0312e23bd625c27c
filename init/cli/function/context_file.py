"""Read the file of --context, which sets what the handler's context says about the function and about each request.

Error messages never contain a value from the file, because it may be a credential.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgpack

from pipe_runtime.wire.errors import ProtocolError
from pipe_runtime.wire.frames import check_plain

from ..options.usage_errors import UsageError
from .checks import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVICE = dict.fromkeys(("name", "log_project", "log_store", "qualifier", "version_id"), str)
_CREDENTIALS = dict.fromkeys(("access_key_id", "access_key_secret", "security_token"), str)
_TRACING = {"span_context": str, "jaeger_endpoint": str, "span_baggages": dict}

FUNCTION_KEYS: Mapping[str, Any] = {
    **dict.fromkeys(("name", "version", "arn", "log_group", "log_stream", "region", "account_id"), str),
    "service": _SERVICE,
    "credentials": _CREDENTIALS,
}
"""The keys of HELLO's map `function`, each with the type of its value. If the value is a map, the keys of that map are
in the place of the type. The keys memory_mb and timeout_ms are missing, because options set them."""

REQUEST_KEYS: Mapping[str, Any] = {
    "request_id": str,
    "trace": str,
    "tenant_id": str,
    "retry_count": int,
    "client_context": dict,
    "identity": dict,
    "tracing": _TRACING,
}
"""The fields of INVOKE, in the same form as FUNCTION_KEYS. A `dict` may contain anything that the function expects."""

_OPTIONS = {"memory_mb": "--memory", "timeout_ms": "--timeout"}
_KINDS = {str: "a text", dict: "an object", int: "an integer from 0 to 2^64 - 1"}
_PRINTED = ("version", "request_id")
"""Fields that become part of log lines. So they must not contain line breaks."""

_CONTROL = re.compile("[\x00-\x1f\x7f]")
"""Characters that variables and headers cannot contain. The texts of FUNCTION_KEYS become both."""

_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24});Parent=([0-9a-f]{16})(?:;Sampled=([01]))?(?:;.*)?")
"""The form of AWS X-Ray's tracing header."""


def read_context_file(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (HELLO's map `function`, the fields of INVOKE) from the JSON object in a file.

    Raises:
        UsageError: The file cannot be read, or the object in it is wrong. The message names the wrong key.
    """
    where = f"--context {path!r}"
    given = _read_object(path, where)
    for key, option in _OPTIONS.items():
        if key in given:
            raise UsageError(f"{where}: {key!r} is not for the file; it is what {option} says.")
    _check_map(given, {**FUNCTION_KEYS, **REQUEST_KEYS}, "", where)
    for key, value in given.items():
        try:
            check_plain(value)
            msgpack.packb(value)
        except (ProtocolError, RecursionError, ValueError, OverflowError):
            wrong = "has a number, a text or a depth that the protocol cannot carry"
            raise UsageError(f"{where}: {key!r} {wrong}.") from None
    function = {key: value for key, value in given.items() if key in FUNCTION_KEYS}
    if "trace" in given:
        given["trace"] = traceparent(given["trace"])
    return function, {key: value for key, value in given.items() if key in REQUEST_KEYS}


def traceparent(trace: str) -> str:
    """Convert a trace from X-Ray's form to W3C's form. Return any other text unchanged."""
    found = _XRAY.fullmatch(trace)
    if not found:
        return trace
    moment, rest, parent, sampled = found.groups()
    return f"00-{moment}{rest}-{parent}-0{sampled or 0}"


def _read_object(path: str, where: str) -> dict[str, Any]:
    if path == "-":
        raise UsageError("--context: stdin is for events; name a file.")
    text = read_text("--context", path)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: it is not JSON: {error}.") from None
    if not isinstance(given, dict):
        raise UsageError(f"{where}: it is not a JSON object.")
    return given


def _check_map(given: Mapping[str, Any], keys: Mapping[str, Any], prefix: str, where: str) -> None:
    for key, value in given.items():
        name, wanted = f"{prefix}{key}", keys.get(key)
        if wanted is None:
            known = ", ".join(prefix + key for key in keys)
            raise UsageError(f"{where}: there is no key {name!r}; there are {known}.")
        kind = dict if isinstance(wanted, Mapping) else wanted
        if type(value) is not kind or (type(value) is int and not 0 <= value < 2**64):
            raise UsageError(f"{where}: {name!r} is not {_KINDS[kind]}.")
        if isinstance(value, str) and name in _PRINTED and not (value and value.isprintable()):
            raise UsageError(f"{where}: {name!r} is not a text of printable characters.")
        if isinstance(value, str) and _CONTROL.search(value) and name.partition(".")[0] in FUNCTION_KEYS:
            raise UsageError(f"{where}: {name!r} has a control character in it.")
        if isinstance(wanted, Mapping):
            _check_map(value, wanted, f"{name}.", where)
