"""Values to bytes and back: the event by its content type, the result by what the caller accepts.

Only the runtime encodes and decodes; the init relays the bytes unread. A handler may return anything, and
whatever does not encode is one kind of Fault. This file knows the content types, but neither frames nor handlers.

What becomes of a value:

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

An object with a `to_json()` of its class is what that returns; text that is JSON is embedded as such.
Iterators and generators are no values: as a result, each of their items is one.

JSON is what Lambda's encoder (simplejson) writes, where Lambda has an answer; docs/run.md tells the rest. json's C
encoder writes most results. It cannot write all: what it leaves, or would write unlike Lambda, `jsonwriter` writes.
"""

from __future__ import annotations

import msgpack

from .. import namespace
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import ANY, BYTES, JSON, JSON_LINES, MSGPACK, MSGPACK_SEQUENCE, TEXT
from . import faults, unencodable
from .shorten import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


_SPACES = " \t\n\r"
"""What may stand around a JSON value (RFC 8259)."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

KEPT_BUFFER = 1024 * 1024
"""Bytes of a result after which its Packer is let go: a Packer never gives its buffer back."""
CONVERSIONS = 64
"""Objects that may stand for one another in a row (to_json() returning something with a to_json())."""


class _NotQuick(TypeError):
    """json's C encoder met a value that `jsonwriter` has to write."""


# Loaded at first use and held: json must not slow a start down that needs none, and looking it up again costs
# more than encoding a small result.
_json_decode: Callable[[str], object] | None = None
# JSONDecoder looks for spaces around a value with two regular expressions, JSONEncoder makes a C encoder for every
# value: both cost more than a small value itself. So what they use is used without them.
_json_scan: Callable[[str, int], tuple[object, int]] | None = None
# An encoder marks the containers that it is in. Each use takes one out of here, as with the Packers below.
_json_encoders: list[Callable[[object, int], tuple[str, ...]]] = []
# A Packer cannot be used by two threads, nor again while its own `default` runs; so each use takes one out of
# here.
_packers: list[Any] = []
# The classes whose values hold no others; what becomes of bytes does not depend on their class.
_ATOMS = frozenset((str, int, float, bool, type(None), bytes, bytearray, memoryview))
_PYTHON_FUNCTION = type(lambda: None)
_base64 = False
_PACKED = (str, int, float, bytes, bytearray, memoryview, dict, list, tuple, type(None))


def warm_up(content_type: str, accept: str) -> None:
    """Load what events and results of these types need, so that it is not the first request that takes the time."""
    if _json_scan is None and JSON in (_media_type(content_type), _media_type(accept)):
        try:
            _load_json()
            _json_encoders.append(_new_json_encoder())
        except Exception:  # the function has broken imports, say: the request itself will tell
            return


def write_bytes_as(form: str | None) -> None:
    """Choose what bytes in a JSON result become: "base64", an object {"base64": "…"}; anything else, their text."""
    global _base64
    _base64 = form == "base64"


def decode_event(payload: bytes, content_type: str) -> object:
    """A request's payload as the event that the handler gets.

    content_type: application/json (UTF-8, a byte order mark tolerated), application/msgpack (timestamps
    become datetimes in UTC; no other ext type), application/octet-stream (the bytes) or text/plain (UTF-8);
    parameters are tolerated, other charsets than UTF-8 are not.
    Raises Fault Runtime.UnmarshalError.
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
    raise _unmarshal_fault(f"unknown content type {clean(kind, 128)!r}")


def encode_result(value: object, accept: str) -> tuple[str, bytes]:
    """What a handler returned as (content type, payload).

    accept: application/json, application/msgpack, or */* for raw: bytes-likes as they are, a str as text,
    anything else as JSON. Anything unknown means JSON. In raw text a lone surrogate that stands for an
    undecodable byte (as in file names) becomes that byte again, any other its escape, such as \\ud800.
    Raises Fault Runtime.MarshalError and nothing else, whatever the value's own code does.
    """
    kind = accept if accept == JSON else _media_type(accept)
    # BaseException: to_json() and its like are user code, which may raise SystemExit or KeyboardInterrupt;
    # that is a result which does not encode, and no reason to end the runtime.
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
        raise _marshal_fault(value, error, kind == MSGPACK) from _user_cause(error)


def encode_item(value: object, accept: str) -> tuple[str, bytes]:
    """One item of a streamed result as (content type of the whole stream, piece), otherwise as encode_result.

    In JSON an item is a line. Raw pieces and msgpack values follow each other without anything in between.
    """
    content_type, payload = encode_result(value, accept)
    if content_type == JSON:
        return JSON_LINES, payload + b"\n"
    return (MSGPACK_SEQUENCE if content_type == MSGPACK else content_type), payload


def stream_type(accept: str) -> str:
    """The content type of a stream without an item."""
    kind = _media_type(accept)
    return MSGPACK_SEQUENCE if kind == MSGPACK else BYTES if kind == ANY else JSON_LINES


def _unmarshal_fault(why: str) -> Fault:
    return Fault("Runtime.UnmarshalError", clean(f"Unable to unmarshal input: {why}"))


def _decode_json(text: str) -> object:
    if _json_scan is None:
        _load_json()
    try:
        value, end = _json_scan(text, 0)  # type: ignore[misc]
    except StopIteration:  # no value begins here; a space may
        end = -1
    if end != len(text) and (end < 0 or text[end:].strip(_SPACES)):
        value = _json_decode(text)  # type: ignore[misc]
    return value


def _encode_json(value: object) -> bytes:
    text = _quick_json(value)
    if text is None:
        text = namespace.own("call.json_writer").write(value, _quick_json, _bytes_json)
    # A lone surrogate can only be inside a string here, and this error handler writes exactly JSON's escape.
    return text.encode("utf-8", "backslashreplace")


def _quick_json(value: object) -> str | None:
    """Return the value as JSON, or None if json's C encoder cannot write it as Lambda does.

    It calls no methods of the function's classes: objects that have such methods are left to `jsonwriter`.
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

    Args:
        value: A value that was encoded already, so it has no cycles.
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
    json = late.json
    make = json.encoder.c_make_encoder
    if make is None:  # an interpreter without the C half
        encode = json.JSONEncoder(ensure_ascii=False, default=_json_default).encode
        return lambda value, level: (encode(value),)
    # In the order of CPython's Modules/_json.c: markers, default, encoder, indent, key separator, item separator,
    # sort_keys, skipkeys, allow_nan.
    pieces: Callable[[object, int], tuple[str, ...]] = make(
        {}, _json_default, json.encoder.encode_basestring, None, ": ", ", ", False, False, True
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
        packer = msgpack.Packer(datetime=True, default=_msgpack_default, unicode_errors="surrogatepass")
    payload: bytes = packer.pack(value)
    # Not after an exception: then the Packer is left to die.
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
                raise ValueError(f"charset {clean(charset, 128)!r} is not supported, UTF-8 is")


def _encode_text(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _json_default(value: object) -> object:
    """Return the value that json's C encoder encodes in place of one that it does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_json(value)
    found, stand_in = namespace.own("call.conversions").exact(value)
    if not found:
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
    raise unencodable.NotSerializable(value, why)


def _msgpack_default(value: object) -> object:
    """What msgpack may encode in a value's place. The Packer asks once per value, so this goes on to the
    end.
    """
    conversions = namespace.own("call.conversions")
    for _ in range(CONVERSIONS):
        if isinstance(value, int):
            raise unencodable.NotSerializable(value, "Integer beyond the 64 bits of msgpack")
        if "datetime.datetime" in conversions.class_names(value) and value.tzinfo is not None:  # type: ignore[attr-defined]
            return msgpack.Timestamp.from_datetime(value)
        value = conversions.convert(value)
        if isinstance(value, _PACKED) and not (isinstance(value, int) and not -(2**63) <= value < 2**64):
            return value
    raise unencodable.NotSerializable(value, f"Object of type {faults.type_name(value)} is converted without end")


def _why(error: BaseException) -> str:
    """A reason on one line, for errors of the decoders' and encoders' own."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return faults.message_of(error) or faults.type_name(error)


def _user_cause(error: BaseException) -> BaseException | None:
    """Return the exception if it comes out of the value's own code, where its stack helps; otherwise None."""
    traceback = error.__traceback__
    while traceback is not None and _encodes(traceback.tb_frame):
        traceback = traceback.tb_next
    plain = isinstance(error, (unencodable.NotSerializable, RecursionError, MemoryError))
    return None if plain or traceback is None else error


def _encodes(frame: Any) -> bool:
    return namespace.is_own(frame) or str(frame.f_globals.get("__name__")).partition(".")[0] in ("json", "msgpack")


def _marshal_fault(value: object, error: BaseException, as_msgpack: bool) -> Fault:
    # BaseException: telling the place is a courtesy, and looks at a value that is known to be odd.
    try:
        why = _explain(value, error, as_msgpack)
    except BaseException:
        why = _why(error)
    return Fault("Runtime.MarshalError", clean(f"Unable to marshal response: {why}"))


def _explain(value: object, error: BaseException, as_msgpack: bool) -> str:
    """Return Python's and Lambda's words first, for programs that parse them; then the place."""
    if isinstance(error, unencodable.NotSerializable):
        offender = error.value
        return error.why + unencodable.place(value, lambda item, above: item is offender)
    why = _why(error)
    if _user_cause(error) is not None:
        return f"{faults.type_name(error)}: {why}" if why != faults.type_name(error) else why
    place = unencodable.place(value, lambda item, above: id(item) in above)
    if place:
        return "Circular reference detected" + place
    if isinstance(error, (RecursionError, MemoryError)) or "recursion limit" in why:
        return "out of memory" if isinstance(error, MemoryError) else "nested too deeply"
    return why if as_msgpack else why + unencodable.place(value, unencodable.is_huge)
