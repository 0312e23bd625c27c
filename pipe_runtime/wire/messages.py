"""Define the kinds of frame, and the metadata that each kind may carry.

The table FIELDS lists the kinds and their metadata. Both sides check frames against it, and docs/protocol.md shows it.
This module must not know the order of frames (connection.py does), nor what they are used for.
"""

from __future__ import annotations

from .errors import ProtocolError
from .frames import check_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1
"""The version of the protocol that this code speaks."""

HELLO = 1
READY = 2
INVOKE = 3
RESULT = 4
ERROR = 5
LOG = 6
CHUNK = 7
END = 8
CREDIT = 9
CANCEL = 10
DUMP = 11
STOP = 12

_NAMES = ("HELLO", "READY", "INVOKE", "RESULT", "ERROR", "LOG", "CHUNK", "END", "CREDIT", "CANCEL", "DUMP", "STOP")
NAMES = dict(enumerate(_NAMES, 1))
"""The name of each kind, by its number."""

JSON = "application/json"
MSGPACK = "application/msgpack"
BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
ANY = "*/*"
JSON_LINES = "application/jsonl"
"""The content type of a streamed result that has a JSON value and a line break for each item."""

MSGPACK_SEQUENCE = "application/msgpack-seq"
"""The content type of a streamed result that has a msgpack value for each item, and nothing between the items."""

PRE_FREEZE = "pre-freeze"
"""The `phase` of an INVOKE that runs the pre-freeze hook: the function's code to run before a worker is frozen."""

MEASURED = {
    "duration_us": int,
    "cpu_us": int,
    "peak_memory_bytes": int,
}
"""The metadata with a runtime's measurements of a request: {metadata key: type}."""

_PROBLEM = {
    "error_type": str,
    "error_message": str,
    "stack": list,
    "cause": dict,
    "exceptions": list,
    "limit": dict,
}

FIELDS: dict[int, dict[str, type]] = {
    HELLO: {
        "versions": list,
        "software": str,
        "capabilities": list,
        "max_frame": int,
        "window_requests": int,
        "window_bytes": int,
        "handler": str,
        "code_dir": str,
        "layers": list,
        "environment": dict,
        "function": dict,
        "platform": str,
        "dump_fd": int,
        "dump_signal": int,
        "spin_us": int,
        "type": str,
        "concurrency": int,
        "initializer": str,
        "pre_stop": str,
        "pre_freeze": str,
        "init_request_id": str,
        "log_format": str,
        "log_level": str,
        "bytes": str,
        "stream_bytes": int,
        "template": dict,
        "adopts_orphans": bool,
        "cpu_seconds": int,
        "open_files": int,
        "rehearse": bool,
    },
    READY: {"init_us": int, "peak_memory_bytes": int, "type": str, "concurrency": int, "answers_dump": bool},
    INVOKE: {
        "request_id": str,
        "timeout_ms": int,
        "deadline_ms": int,
        "content_type": str,
        "accept": str,
        "trace": str,
        "client_context": dict,
        "identity": dict,
        "tenant_id": str,
        "retry_count": int,
        "tracing": dict,
        "http": dict,
        "phase": str,
        "stream": bool,
    },
    RESULT: {"content_type": str, "http": dict, "stream": bool, **MEASURED},
    ERROR: {**_PROBLEM, **MEASURED},
    LOG: {"stream": str, "level": str, "continues": bool, "request_id": str, "named": bool},
    CHUNK: {},
    END: {**_PROBLEM, **MEASURED},
    CREDIT: {"bytes": int},
    CANCEL: {},
    DUMP: {"stacks": list},
    STOP: {},
}
"""{kind: {metadata key: type}}. Integers are unsigned."""

REQUIRED: dict[int, tuple[str, ...]] = {
    HELLO: ("versions",),
    INVOKE: ("request_id", "content_type", "accept"),
    RESULT: ("content_type",),
    ERROR: ("error_type", "error_message"),
    LOG: ("stream",),
    CREDIT: ("bytes",),
}


def check(kind: int, metadata: Mapping[str, Any]) -> bool:
    """Check that `kind` exists, and that each key that FIELDS has for the kind has a value of the right type.

    Unknown keys are allowed, with any value that a head may hold (see frames.check_plain).

    Returns:
        Whether there are no unknown keys, and each value is a str or an int. FrameReader needs to know this.

    Raises:
        ProtocolError: The kind is unknown, or a field has a wrong type or is missing.
    """
    fields = FIELDS.get(kind)
    if fields is None:
        raise ProtocolError(f"a frame of kind {kind}, which version {VERSION} does not allow here")
    plain = True
    for key, value in metadata.items():
        found = type(value)
        if found is not fields.get(key) or not (found is str or (found is int and value >= 0)):
            _check_field(kind, fields.get(key), key, value)
            plain = False
    for key in REQUIRED.get(kind, ()):
        if key not in metadata:
            raise ProtocolError(f"{NAMES[kind]} without {key}")
    return plain


def _check_field(kind: int, wanted: type | None, key: Any, value: Any) -> None:
    """Check a value that is not the str or the unsigned integer that `check` expected."""
    if type(key) is not str:
        raise ProtocolError("a head with a map key that is not a string")
    if wanted is int and (type(value) is not int or value < 0):
        raise ProtocolError(f"{NAMES[kind]} whose {key} is not an unsigned integer")
    if wanted is not None and type(value) is not wanted:
        raise ProtocolError(f"{NAMES[kind]} whose {key} is not a {wanted.__name__}")
    check_plain(value)
