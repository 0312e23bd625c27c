"""Decode the event by its content type, and encode the result in a form that the caller accepts.

Only the runtime encodes and decodes. The init relays the bytes unread. A handler may return anything; a value that
cannot be encoded is one kind of Fault. This module knows the content types, but neither frames nor handlers.

A value becomes:

    =========================  ==============================  ============================================
    value                      JSON                            msgpack
    =========================  ==============================  ============================================
    int                        any size up to Python's limit   64 bits, signed or unsigned; else an error
                               for text (4,300 digits)
    float nan, inf             NaN, Infinity, -Infinity, as    as it is
                               Python and Lambda write them
    str                        UTF-8; lone surrogates as       UTF-8; lone surrogates as "surrogatepass"
                               escapes (\\ud800)
    bytes and the like         their text in UTF-8, else an    as they are
                               error; or {"base64": "…"}
    key that is bytes          its text, as above              as it is
    Decimal                    all its digits                  an int where it is integral, else a float
                                                               (which may round)
    namedtuple, other list,    an object: what _asdict()       a list or a map, as msgpack makes of the
    tuple or dict with         returns                         class that it derives from
    _asdict()
    other object with          an object: what _asdict()       the same
    _asdict()                  returns
    datetime with a time zone  ISO 8601                        the timestamp ext type: the same instant, UTC
    datetime without, date,    ISO 8601                        ISO 8601
    time
    UUID, path                 their text
    Enum                       its value
    dataclass                  an object of its fields
    set, frozenset             a list, sorted where it can be
    other mappings, other      objects, lists
    sized collections
    key that is no str         as json: int, float, bool and   as it is, but no container
                               None become text; else an error
    =========================  ==============================  ============================================

An object whose class has a `to_json()` becomes what that returns. If that is a text of JSON, it is embedded as such.
Iterators and generators are no values: as a result, each of their items is a value.

JSON is what Lambda's encoder (simplejson) writes, if Lambda can encode the value; docs/run.md has the other rules.
json's C encoder writes most results. The module `json_writer` writes those that it cannot write as Lambda does.
"""

from __future__ import annotations

import msgpack

from .. import namespace
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import ANY, BYTES, JSON, JSON_LINES, MSGPACK, MSGPACK_SEQUENCE, TEXT
from . import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

KEPT_BUFFER = 1024 * 1024
"""Bytes of the largest result whose Packer is used again: a Packer never frees its buffer."""


class _NotQuick(TypeError):
    """json's C encoder met a value that `json_writer` has to write."""


# Loaded at first use, because a start that needs no json must not wait for it. Kept here, because looking it up again
# costs more than encoding a small result.
_json_decode: Callable[[str], object] | None = None
# JSONDecoder looks for spaces around a value with two regular expressions, which cost more than a small value itself.
_json_scan: Callable[[str, int], tuple[object, int]] | None = None
# JSONEncoder makes a C encoder for every value, which costs more than a small value itself. So this module keeps them.
# An encoder marks the containers that it is in, so two threads cannot share one. Each use takes one out of the list.
_json_encoders: list[Callable[[object, int], tuple[str, ...]]] = []
# Two threads cannot share a Packer, nor can one be used again while its `default` runs. Each use takes one out of the
# list.
_packers: list[Any] = []
# The classes whose values contain no others.
_ATOMS = frozenset((str, int, float, bool, type(None), bytes, bytearray, memoryview))
_PYTHON_FUNCTION = type(lambda: None)
_base64 = False


def warm_up(content_type: str, accept: str) -> None:
    """Load what events and results of these types need, so that the first request does not take the time."""
    if _json_decode is None and JSON in (_media_type(content_type), _media_type(accept)):
        try:
            _load_json()
            _json_encoders.append(_new_json_encoder())
        except Exception:  # the function has broken imports, for example: the request itself will say so
            return


def write_bytes_as(form: str | None) -> None:
    """Choose what bytes in a JSON result become: with "base64" an object {"base64": "…"}, otherwise their text."""
    global _base64
    _base64 = form == "base64"


def decode_event(payload: bytes, content_type: str) -> object:
    """Return a request's payload as the event that the handler gets.

    Args:
        payload: The payload.
        content_type: application/json (UTF-8, with or without a byte order mark), application/msgpack (timestamps
            become datetimes in UTC; no other ext type), application/octet-stream (the bytes) or text/plain (UTF-8).
            It may have parameters, but no other charset than UTF-8.

    Raises:
        Fault: Runtime.UnmarshalError.
    """
    # Exception: the decoders raise a dozen types for bad input, among them RecursionError and MemoryError.
    try:
        kind = content_type if content_type == JSON else _media_type(content_type)
        if kind == JSON:
            # Not "utf-8-sig": that codec is written in Python, and three times as slow for a small event.
            return _decode_json(str(payload.removeprefix(_BYTE_ORDER_MARK), "utf-8"))
        if kind == MSGPACK:
            return _decode_msgpack(payload)
        if kind == BYTES:
            return bytes(payload)
        if kind == _media_type(TEXT):
            _require_utf8(content_type)
            return str(payload, "utf-8")
    except Exception as error:
        raise _unmarshal_fault(_why(error)) from None
    raise _unmarshal_fault(f"unknown content type {faults.clean(kind, 128)!r}")


def encode_result(value: object, accept: str) -> tuple[str, bytes]:
    """Return what a handler returned as (content type, payload).

    Args:
        value: What it returned.
        accept: application/json, application/msgpack, or */* for raw: bytes-likes as they are, a str as text, anything
            else as JSON. Anything unknown means JSON. In raw text a lone surrogate that stands for an undecodable byte
            (as in file names) becomes that byte again, any other its escape, such as \\ud800.

    Raises:
        Fault: Runtime.MarshalError, and nothing else, whatever the value's own code does.
    """
    kind = accept if accept == JSON else _media_type(accept)
    # BaseException: to_json() and the like are the function's code, which may raise SystemExit or KeyboardInterrupt.
    # Such a result cannot be encoded; the runtime does not end.
    try:
        if kind == MSGPACK:
            return MSGPACK, _encode_msgpack(value)
        if kind == ANY:
            if isinstance(value, (bytes, bytearray, memoryview)):
                return BYTES, bytes(value)
            if isinstance(value, str):
                return TEXT, _encode_text(value)
        return JSON, _encode_json(value)
    except BaseException as error:
        fault = namespace.own("call.unencodable").fault(value, error, _why(error), kind == MSGPACK)
        raise fault from fault.__cause__


def encode_item(value: object, accept: str) -> tuple[str, bytes]:
    """Return one item of a streamed result as (content type of the whole stream, piece). See encode_result.

    In JSON an item is a line. Raw pieces and msgpack values follow each other without a separator.
    """
    content_type, payload = encode_result(value, accept)
    if content_type == JSON:
        return JSON_LINES, payload + b"\n"
    return (MSGPACK_SEQUENCE if content_type == MSGPACK else content_type), payload


def stream_type(accept: str) -> str:
    """Return the content type of a stream without an item."""
    kind = _media_type(accept)
    return MSGPACK_SEQUENCE if kind == MSGPACK else BYTES if kind == ANY else JSON_LINES


def _unmarshal_fault(why: str) -> Fault:
    return Fault("Runtime.UnmarshalError", faults.clean(f"Unable to unmarshal input: {why}"))


def _decode_json(text: str) -> object:
    if _json_scan is None:
        _load_json()
    try:
        value, end = _json_scan(text, 0)  # type: ignore[misc]
    except StopIteration:  # no value begins here; a space may
        end = -1
    return value if end == len(text) else _json_decode(text)  # type: ignore[misc]


def _encode_json(value: object) -> bytes:
    text = _quick_json(value)
    if text is None:
        text = namespace.own("call.json_writer").Writer(_quick_json, _bytes_json).write(value)
    # A lone surrogate can only be inside a string here, and this error handler writes exactly JSON's escape.
    return text.encode("utf-8", "backslashreplace")


def _quick_json(value: object) -> str | None:
    """Return the value as JSON, or None if json's C encoder cannot write it as Lambda does.

    It calls no methods of the function's classes. It leaves objects that have such methods to `json_writer`.
    """
    try:
        pieces = _json_encoders.pop()
    except IndexError:
        pieces = _new_json_encoder()
    try:
        text = "".join(pieces(value, 0))
    except TypeError:  # _NotQuick, or a key that may be bytes
        return None
    _json_encoders.append(pieces)  # not after an exception: its marks are still there then
    return text if type(value) in _ATOMS or _all_plain(value) else None


def _all_plain(value: object) -> bool:
    """Return whether no list, tuple or dict in the value has an _asdict(), which json's C encoder would ignore.

    The value was encoded already, so it has no cycles.
    """
    kind = type(value)
    level: Iterable[Any] = value.values() if kind is dict else value if kind is list else (value,)  # type: ignore[attr-defined, assignment]
    while not _ATOMS.issuperset(map(type, level)):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below += item.values()
            elif kind is list or kind is tuple:
                below += item
            elif kind not in _ATOMS and issubclass(kind, (list, tuple, dict)):
                if not _is_plain(kind):
                    return False
                below += dict.values(item) if issubclass(kind, dict) else item
        level = below
    return True


def _is_plain(kind: type) -> bool:
    """Return whether a subclass of list, tuple or dict has no _asdict() and does not change how its items are read."""
    gives = kind.items if issubclass(kind, dict) else kind.__iter__  # type: ignore[attr-defined]
    return not hasattr(kind, "_asdict") and type(gives) is not _PYTHON_FUNCTION


def _load_json() -> None:
    global _json_decode, _json_scan
    decoder = late.json.JSONDecoder()
    _json_decode, _json_scan = decoder.decode, decoder.scan_once


def _new_json_encoder() -> Callable[[object, int], tuple[str, ...]]:
    encoder = late.json.encoder
    # In the order of CPython's Modules/_json.c: markers, default, encoder, indent, key separator, item separator,
    # sort_keys, skipkeys, allow_nan.
    pieces: Callable[[object, int], tuple[str, ...]] = encoder.c_make_encoder(
        {}, _json_default, encoder.encode_basestring, None, ": ", ", ", False, False, True
    )
    return pieces


def _decode_msgpack(payload: bytes) -> object:
    return msgpack.unpackb(
        payload,
        timestamp=3,
        raw=False,
        strict_map_key=False,
        ext_hook=_no_ext,
        unicode_errors="surrogatepass",
    )


def _no_ext(code: int, data: bytes) -> object:
    raise ValueError(f"ext type {code} is not known")


def _encode_msgpack(value: object) -> bytes:
    try:
        packer = _packers.pop()
    except IndexError:
        convert: Any = lambda value: namespace.own("call.conversions").for_msgpack(value)  # noqa: E731
        packer = msgpack.Packer(datetime=True, default=convert, unicode_errors="surrogatepass")
    payload: bytes = packer.pack(value)
    # Not after an exception: its state is unknown then.
    if len(payload) <= KEPT_BUFFER:
        _packers.append(packer)
    return payload


def _media_type(text: str) -> str:
    """Return a content type without parameters, in lower case."""
    return text if text == JSON or text == MSGPACK else text.partition(";")[0].strip().lower()


def _require_utf8(content_type: str) -> None:
    for parameter in content_type.split(";")[1:]:
        name, _, charset = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = charset.strip().strip('"').lower()
            if charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
                raise ValueError(f"charset {faults.clean(charset, 128)!r} is not supported, UTF-8 is")


def _encode_text(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _json_default(value: object) -> object:
    """Return the value that json's C encoder encodes in place of one that it does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_json(value)
    stand_in = namespace.own("call.conversions").exact(value)
    if stand_in is None:
        raise _NotQuick
    return stand_in


def _bytes_json(value: bytes | bytearray | memoryview) -> object:
    """Return what bytes in a JSON result become. Raise NotSerializable if they have to be text and are not UTF-8."""
    data = bytes(value)
    if _base64:
        return {"base64": late.binascii.b2a_base64(data, newline=False).decode("ascii")}
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        why = str(error)
    raise namespace.own("call.unencodable").NotSerializable(value, why)


def _why(error: BaseException) -> str:
    """Return the reason for an error of a decoder or an encoder, on one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return faults.message_of(error) or faults.type_name(error)
