"""Decode the event by its content type, and encode the result in a form that the caller accepts.

Only the runtime encodes and decodes. The init passes the bytes on without reading them. A handler may return any value.
If the value cannot be encoded, this module raises a Fault. It knows the content types, but neither frames nor handlers.

The encoders turn each value into this:

    =========================  ==============================  ============================================
    value                      JSON                            msgpack
    =========================  ==============================  ============================================
    int                        any size up to Python's limit   64 bits, signed or unsigned; else an error
                               for text (4,300 digits)
    float nan, inf             NaN, Infinity, -Infinity, as    the same float
                               Python and Lambda write them
    str                        UTF-8; lone surrogates as       UTF-8; lone surrogates as Python's error
                               escapes (\\ud800)                handler "surrogatepass" encodes them
    bytes, bytearray,          their text if they are UTF-8,   the same bytes
    memoryview                 else an error; with HELLO's
                               `bytes`: {"base64": "…"}
    key that is bytes          its text, as above              the same bytes
    Decimal                    all its digits                  an int if it is integral, else a float
                                                               (which may round)
    namedtuple, other list,    an object: what _asdict()       a list or a map, like any list, tuple or
    tuple or dict with         returns                         dict
    _asdict()
    other object with          an object: what _asdict()       the same
    _asdict()                  returns
    datetime with a time zone  ISO 8601                        the timestamp ext type: the same instant, UTC
    datetime without a time    ISO 8601                        ISO 8601
    zone, date, time
    UUID, path                 its text                        its text
    Enum                       its value                       its value
    dataclass                  an object of its fields         a map of its fields
    set, frozenset             a list, sorted if possible      a list, sorted if possible
    other mapping              an object                       a map
    other sized collection     a list                          a list
    other key that is not str  int, float, bool and None       the same value; many decoders refuse a tuple
                               become text; else an error
    =========================  ==============================  ============================================

An object whose class has a `to_json()` is replaced by the result of that method. If the result is a JSON text, it is
decoded first. Iterators and generators are not values: if a handler returns one, each item is a value.

If Lambda's encoder (simplejson) can encode a value, this module writes the same JSON. docs/run.md has the other rules.
json's C encoder writes most results. `conversions` first copies those that it would write in another way than Lambda's.
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

_BYTE_ORDER_MARK = "\ufeff"


class _NotQuick(TypeError):
    """json's C encoder has found a value that `conversions` has to replace."""


class _Defaults:
    """The attributes that the scanner of JSON needs. They are the defaults of json.loads."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


# The scanner that json has in C. It is imported at its first use. Importing the rest of json would take a tenth of the
# time in which a worker starts. The rest only skips blanks, which is slow for a small value, and writes error messages.
_json_scan: Callable[[str, int], tuple[object, int]] | None = None
# JSONEncoder makes a new C encoder for each result, which takes longer than to encode a small one. An encoder records
# the containers that it is inside of, so two threads cannot share an encoder. Each use takes one out of the list.
_json_encoders: list[Callable[[object, int], tuple[str, ...]]] = []
# The classes whose values contain no other values.
_ATOMS = frozenset((str, int, float, bool, type(None), bytes, bytearray, memoryview))
_PYTHON_FUNCTION = type(lambda: None)
_base64 = False


def warm_up(content_type: str, accept: str) -> None:
    """Load the decoder and the encoder for these content types, before the time of the first request is measured."""
    if _json_scan is None and JSON in (_media_type(content_type), _media_type(accept)):
        try:
            _load_json()
            _json_encoders.append(_new_json_encoder())
        except Exception:  # for example, the function has broken imports; the request will then report the error
            return


def write_bytes_as(form: str | None) -> None:
    """Choose how bytes are written in a JSON result: as {"base64": "…"} if `form` is "base64", otherwise as text."""
    global _base64
    _base64 = form == "base64"


def decode_event(payload: bytes, content_type: str) -> object:
    """Return a request's payload as the event that the handler gets.

    Args:
        payload: The payload.
        content_type: application/json (UTF-8, with or without a byte order mark), application/msgpack (timestamps
            become datetimes in UTC; no other ext type), application/octet-stream (the bytes) or text/plain (UTF-8).
            It may have parameters. A charset must be UTF-8 or ASCII.

    Raises:
        Fault: Runtime.UnmarshalError.
    """
    # Catch any Exception: the decoders raise a dozen types for bad input, also RecursionError and MemoryError.
    try:
        kind = content_type if content_type == JSON else _media_type(content_type)
        if kind == JSON:
            text = str(payload, "utf-8")
            try:
                value, end = (_json_scan or _load_json())(text, 0)
            except Exception:  # the text may begin with a blank or a byte order mark: let json.loads decide
                end = -1
            return value if end == len(text) else late.json.JSONDecoder().decode(text.removeprefix(_BYTE_ORDER_MARK))
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
    """Encode the value that a handler returned. Return (content type, payload).

    Args:
        value: The value.
        accept: application/json, application/msgpack, or */* for a raw result. In a raw result, bytes stay as they are,
            a str becomes text, and any other value becomes JSON. An unknown content type means JSON. In raw text, a
            lone surrogate that stands for an undecodable byte (as in file names) becomes that byte again. If the text
            has other lone surrogates, all become escapes, such as \\ud800.

    Raises:
        Fault: Runtime.MarshalError. No other exception is raised, whatever the value's own methods do.
    """
    kind = accept if accept == JSON else _media_type(accept)
    # Catch BaseException: methods such as to_json() are the function's code, and may raise SystemExit or
    # KeyboardInterrupt. The result then cannot be encoded, but the runtime must not end.
    try:
        if kind == MSGPACK:
            return MSGPACK, _encode_msgpack(value)
        if kind == ANY:
            if isinstance(value, (bytes, bytearray, memoryview)):
                return BYTES, bytes(value)
            if isinstance(value, str):
                return TEXT, _encode_text(value)
        text = _quick_json(value)
        if text is None:
            convert = namespace.own("call.conversions")
            text = "".join(_new_json_encoder(convert.quote)(convert.copied(value, _quick_json, _bytes_json), 0))
        # A lone surrogate can only be inside a JSON string here. This error handler writes it as JSON's own escape.
        return JSON, text.encode("utf-8", "backslashreplace")
    except BaseException as error:
        fault = namespace.own("call.unencodable").fault(value, error, _why(error), kind == MSGPACK)
        raise fault from fault.__cause__


def encode_item(value: object, accept: str) -> tuple[str, bytes]:
    """Encode one item of a streamed result. Return (content type of the whole stream, piece). See encode_result.

    In JSON each item is a line. Raw items and msgpack values have no separator between them.
    """
    content_type, payload = encode_result(value, accept)
    if content_type == JSON:
        return JSON_LINES, payload + b"\n"
    return (MSGPACK_SEQUENCE if content_type == MSGPACK else content_type), payload


def stream_type(accept: str) -> str:
    """Return the content type of a streamed result that has no items."""
    kind = _media_type(accept)
    return MSGPACK_SEQUENCE if kind == MSGPACK else BYTES if kind == ANY else JSON_LINES


def _unmarshal_fault(why: str) -> Fault:
    return Fault("Runtime.UnmarshalError", faults.clean(f"Unable to unmarshal input: {why}"))


def _quick_json(value: object) -> str | None:
    """Return the value as JSON, or None if json's C encoder cannot write it as Lambda's encoder does.

    This calls no methods of the function's classes. If the value has objects with such methods, return None.
    """
    try:
        pieces = _json_encoders.pop()
    except IndexError:
        pieces = _new_json_encoder()
    try:
        text = "".join(pieces(value, 0))
    except (TypeError, RecursionError):  # _NotQuick, or a key that may be bytes; the value may be too deep
        return None
    _json_encoders.append(pieces)  # not after an exception, because the encoder keeps its record of containers then
    # Check, level by level, that the C encoder has written all lists, tuples and dicts as Lambda's encoder does. The
    # value has no cycles, because the C encoder has encoded it.
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
                    return None
                below += dict.values(item) if issubclass(kind, dict) else item
        level = below
    return text


def _is_plain(kind: type) -> bool:
    """Return whether a subclass of list, tuple or dict has neither an _asdict() nor its own way to give its items."""
    gives = kind.items if issubclass(kind, dict) else kind.__iter__  # type: ignore[attr-defined]
    return not hasattr(kind, "_asdict") and type(gives) is not _PYTHON_FUNCTION


def _load_json() -> Any:
    global _json_scan
    _json_scan = scan = late._json.make_scanner(_Defaults)
    return scan


def _new_json_encoder(quote: Callable[[str], str] | None = None) -> Callable[[object, int], tuple[str, ...]]:
    # The arguments, in the order of CPython's Modules/_json.c: markers, default, encoder, indent, key separator, item
    # separator, sort_keys, skipkeys, allow_nan.
    pieces: Callable[[object, int], tuple[str, ...]] = late._json.make_encoder(
        {}, _json_default, quote or late._json.encode_basestring, None, ": ", ", ", False, False, True
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
    convert: Any = lambda value: namespace.own("call.conversions").for_msgpack(value)  # noqa: E731
    payload: bytes = msgpack.packb(value, datetime=True, default=convert, unicode_errors="surrogatepass")
    return payload


def _media_type(text: str) -> str:
    """Return a content type in lower case, without its parameters."""
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
    """Return a value that json's C encoder can encode, in place of `value`, which it does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_json(value)
    stand_in = namespace.own("call.conversions").exact(value)
    if stand_in is None:
        raise _NotQuick
    return stand_in


def _bytes_json(value: bytes | bytearray | memoryview) -> object:
    """Return the str or dict that stands for bytes in a JSON result. See write_bytes_as.

    Raises:
        NotSerializable: The bytes have to become text, and are not UTF-8.
    """
    data = bytes(value)
    if _base64:
        return {"base64": late.binascii.b2a_base64(data, newline=False).decode("ascii")}
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        why = str(error)
    raise namespace.own("call.unencodable").NotSerializable(value, why)


def _why(error: BaseException) -> str:
    """Return the reason for an error of a decoder or an encoder as one line of text."""
    if faults.is_a(error, RecursionError):
        return "nested too deeply"
    return faults.message_of(error) or faults.type_name(error)
