"""Encode and decode frames: length-prefixed pieces of a byte stream, each a msgpack head and an opaque payload.

     0               4               8               8+H
     +---------------+---------------+---------------+------------------+
     | frame length  | head length H | head          | payload          |
     | u32, big-end. | u32, big-end. | msgpack array | opaque bytes     |
     +---------------+---------------+---------------+------------------+

The frame length counts everything after its own four bytes. docs/protocol.md is the normative text. This module does
no input or output. It must not know which kinds of frame there are, and never looks into a payload.
"""

from __future__ import annotations

from struct import Struct

from msgpack import Packer, unpackb

from .errors import LocalProtocolError, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

MAX_HEAD = 64 * 1024
"""The largest head, in bytes. For HTTP headers, nginx allows 8 to 32 KiB and Node.js 16 KiB; stack traces need more."""

MAX_FRAME = 16 * 1024 * 1024
"""The largest frame length in bytes, unless a HELLO has another limit."""

LARGEST_PAYLOAD = MAX_FRAME - 4 - MAX_HEAD
"""The largest payload, in bytes, that fits into one frame with any head. The sender streams a larger payload."""

MIN_HEAD = 4
"""The smallest head, in bytes: one for the array, one for each of two small integers, one for an empty map."""

MAX_DEPTH = 64
"""How deep a head may nest arrays and maps. The head's own array counts as the first. .NET's JSON reader has the same
limit. Python can decode a deeper head, but its stack may be too small to print the head or to encode it as JSON."""

MAX_ITEMS = 1024
"""The most items that an array in a head may have. msgpack allocates memory for all items as soon as it has read their
number. Without this limit, a 5 KiB head of nested arrays that lack their items would make msgpack allocate 70 MiB."""

_LENGTHS = Struct(">II")
_pack_lengths, _unpack_lengths = _LENGTHS.pack, _LENGTHS.unpack_from
_SCALARS = frozenset((str, int, float, bool, type(None), bytes))
_PLAIN = _SCALARS | {dict, list}
_SHOWN = 32

_new_frame = object.__new__


class Frame:
    """One frame. Two frames are equal if all four parts are equal.

    Attributes:
        kind: The frame's kind, one of the integers in messages.py.
        id: The id of the request that the frame belongs to; 0 if it belongs to the connection itself.
        metadata: A map with str keys. Values are nil, bool, int, float, str, bytes, and arrays and maps of these.
        payload: Bytes that only the handler or its caller interprets.
    """

    __slots__ = ("kind", "id", "metadata", "payload")

    def __init__(self, kind: int, id: int, metadata: dict[str, Any], payload: bytes = b"") -> None:
        self.kind = kind
        self.id = id
        self.metadata = metadata
        self.payload = payload

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        mine = (self.kind, self.id, self.metadata, self.payload)
        return mine == (other.kind, other.id, other.metadata, other.payload)

    def __repr__(self) -> str:
        shown = repr(self.payload[:_SHOWN])
        if len(self.payload) > _SHOWN:
            shown += f"… ({len(self.payload)} bytes)"
        return f"Frame(kind={self.kind}, id={self.id}, metadata={self.metadata!r}, payload={shown})"


class FrameWriter:
    """Encode frames. Only one thread at a time may use a writer, because msgpack's packer is not safe between threads.

    Attributes:
        max_frame: The largest frame length that the peer accepts, in bytes. It may change between frames.
    """

    def __init__(self) -> None:
        self.max_frame = MAX_FRAME
        self._pack = Packer().pack

    def encode(self, kind: int, id: int, metadata: Mapping[str, Any], payload: bytes = b"") -> bytes:
        """Return one frame as bytes.

        Raises:
            LocalProtocolError: msgpack cannot pack the head, or the frame is larger than the limits.
        """
        if type(kind) is not int or type(id) is not int or kind < 0 or id < 0:
            raise LocalProtocolError("a head whose kind and id are not unsigned integers")
        try:
            head = self._pack((kind, id, metadata))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise LocalProtocolError(f"the head cannot be packed: {error}") from error
        head_length = len(head)
        if head_length > MAX_HEAD:
            raise LocalProtocolError(f"the head has {head_length} bytes; the limit is {MAX_HEAD}")
        length = 4 + head_length + len(payload)
        if length > self.max_frame:
            raise LocalProtocolError(f"the frame has {length} bytes; the peer's limit is {self.max_frame}")
        return b"".join((_pack_lengths(length, head_length), head, payload))


class FrameReader:
    """Cut a byte stream into frames. A reader buffers at most one frame and the bytes that were fed after it.

    Args:
        check: Called with the kind and the metadata of each frame. It raises ProtocolError if the metadata is not valid
            for the kind. It returns whether all keys are str and all values are str or int. If they are, the reader
            only has to look for a duplicate key, and skips a slower check.

    Attributes:
        max_frame: The largest frame length to accept, in bytes. It may change between frames.
        buffered: How many bytes `feed` has taken, but `next_frame` has not yet returned in frames.
    """

    def __init__(self, check: Callable[[int, dict[str, Any]], bool] = lambda kind, metadata: False) -> None:
        self.max_frame = MAX_FRAME
        self._check = check
        self._buffer: bytes | bytearray = b""
        self._start = self.buffered = 0
        self._pack = Packer().pack

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream. They may begin and end anywhere in a frame."""
        buffer, start = self._buffer, self._start
        self._start = 0
        self.buffered += len(data)
        if start == len(buffer):
            self._buffer = data  # the buffer is empty, as usual: keep the bytes without a copy
            return
        if isinstance(buffer, bytearray):
            del buffer[:start]  # a bytearray drops a prefix without moving the rest
        else:
            buffer = self._buffer = bytearray(buffer[start:])
        buffer += data

    def next_frame(self, data: bytes = b"") -> Frame | None:
        """Return the next frame, or None if the frame is not complete yet.

        Args:
            data: Bytes to feed first.

        Raises:
            ProtocolError: The bytes cannot be a frame within the limits, nor the beginning of one. If a length is
                wrong, the error is raised before the rest of the frame arrives.
        """
        if data:
            if not self.buffered:  # the usual case: do what `feed` does, without a call
                self._buffer, self._start, self.buffered = data, 0, len(data)
            else:
                self.feed(data)
        buffer, start, available = self._buffer, self._start, self.buffered
        if available < 8:
            if available >= 4:
                self._check_length(int.from_bytes(buffer[start : start + 4], "big"))
            return None
        length, head_length = _unpack_lengths(buffer, start)
        if not MIN_HEAD <= head_length <= length - 4 or head_length > MAX_HEAD or length > self.max_frame:
            self._check_lengths(length, head_length)
        if available < 4 + length:
            return None
        head_end, end = start + 8 + head_length, start + 4 + length
        if isinstance(buffer, bytes):
            head = buffer[start + 8 : head_end]
            payload = buffer[head_end:end]
        else:
            head = bytes(buffer[start + 8 : head_end])
            with memoryview(buffer) as view:  # a large payload is copied once, not twice
                payload = bytes(view[head_end:end])
        try:
            kind, id, metadata = unpackb(head, ext_hook=_no_extension, max_array_len=MAX_ITEMS)
            is_head = type(kind) is int and type(id) is int and kind >= 0 and id >= 0 and type(metadata) is dict
        except Exception:  # msgpack's two implementations raise a dozen types for hostile bytes
            is_head = False
        if not is_head:
            raise _fault_of(head)
        try:
            is_plain, entries = self._check(kind, metadata), len(metadata)
        except ProtocolError:
            self._look_again(head, [kind, id, metadata])  # if the head itself is wrong, raise this error instead
            raise
        # Usually, the kind takes one byte, and one byte of the head has the number of entries. If that number is larger
        # than the number of unpacked entries, the head has a duplicate key.
        if not is_plain or entries > 15 or head[0] != 0x93 or head[1] > 0x7F:
            self._look_again(head, [kind, id, metadata])
        elif head[3 if head[2] < 0x80 else _AFTER_ID[head[2] & 3]] != 0x80 + entries:
            self._look_again(head, [kind, id, metadata])
        self.buffered = available - 4 - length
        if not self.buffered:
            self._buffer, self._start = b"", 0  # this frees the memory of a large frame
        else:
            self._start = end
        frame = _new_frame(Frame)  # this and four assignments are faster than a call of __init__
        frame.kind, frame.id, frame.metadata, frame.payload = kind, id, metadata, payload
        return frame

    def _look_again(self, head: bytes, parts: list[Any]) -> None:
        """Refuse a head that has a fault which the unpacked values do not show.

        Raises:
            ProtocolError: The head has a duplicate key, a key that is not a string, or an extension type.
        """
        try:
            is_odd = 0xFF in head or 0xC4 in head or (len(head) > 255 and (0xC5 in head or 0xC6 in head))
            is_odd = is_odd or self._pack(parts) != head
        except Exception:  # msgpack raises many types; a head that it cannot pack again is not valid
            is_odd = True
        if is_odd:  # the head is not in msgpack's shortest form, or it may have a timestamp or a binary key
            _unpack(head, list_hook=_plain_list, object_pairs_hook=_plain_map)

    def _check_lengths(self, length: int, head_length: int) -> None:
        self._check_length(length)
        if head_length > MAX_HEAD:
            raise ProtocolError(f"a head of {head_length} bytes; the limit is {MAX_HEAD}")
        raise ProtocolError(f"a head of {head_length} bytes in a frame of {length}")

    def _check_length(self, length: int) -> None:
        if length > self.max_frame:
            raise ProtocolError(f"a frame of {length} bytes; the limit is {self.max_frame}")
        if length < 4 + MIN_HEAD:
            raise ProtocolError(f"a frame of {length} bytes, which cannot hold a head")


def _unpack(data: bytes, **hooks: Any) -> Any:
    """Return a msgpack value.

    Raises:
        ProtocolError: The bytes are not one msgpack value, or the value is not within the limits.
    """
    try:
        return unpackb(data, ext_hook=_no_extension, max_array_len=MAX_ITEMS, **hooks)
    except ProtocolError:
        raise
    except Exception as error:  # msgpack's two implementations raise a dozen types for hostile bytes
        raise ProtocolError(f"a head that is not msgpack: {str(error) or type(error).__name__}") from None


def _fault_of(data: bytes) -> ProtocolError:
    """Return the error for a head that is not an array of two unsigned integers and a map."""
    try:
        head = _unpack(data)
    except ProtocolError as error:
        return error
    if type(head) is not list or len(head) != 3:
        return ProtocolError("a head that is not an array of three")
    kind, id, _ = head
    if type(kind) is not int or type(id) is not int or kind < 0 or id < 0:
        return ProtocolError("a head whose kind and id are not unsigned integers")
    return ProtocolError("a head whose metadata is not a map")


_AFTER_ID = (4, 5, 7, 11)
"""The offset of the metadata in a head whose kind takes one byte, by the size of the id.

The index is the two low bits of msgpack's type byte before the id. uint 8, 16, 32 and 64 have the type bytes 0xCC to
0xCF; int 8, 16, 32 and 64 have 0xD0 to 0xD3.
"""


def check_plain(value: Any, depth: int = 3) -> None:
    """Check that a head may contain `value`: it has only plain types and string keys, and is within the limits.

    Args:
        depth: How deep the value is nested in the head. The head itself has depth 1, a value in the metadata depth 3.

    Raises:
        ProtocolError: A head may not contain the value.
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise ProtocolError("a head with a map key that is not a string")
        items = value.values()
    elif kind is list or kind is tuple:
        if len(value) > MAX_ITEMS:
            raise ProtocolError(f"a head with an array of {len(value)} items; the limit is {MAX_ITEMS}")
        items = value
    else:
        raise ProtocolError(f"a head with a value of type {kind.__name__}")
    if depth > MAX_DEPTH:
        raise ProtocolError(f"a head with more than {MAX_DEPTH} arrays and maps inside one another")
    for item in items:
        check_plain(item, depth + 1)


def _no_extension(code: int, data: bytes) -> Any:
    raise ProtocolError("a head with an extension type")


def _plain_list(items: list[Any]) -> list[Any]:
    for item in items:
        if type(item) not in _PLAIN:
            raise ProtocolError("a head with an extension type")
    return items


def _plain_map(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:  # msgpack's C code passes a list, its Python code a generator
        if type(key) is not str:
            raise ProtocolError("a head with a map key that is not a string")
        if type(value) not in _PLAIN:
            raise ProtocolError("a head with an extension type")
        if key in result:
            raise ProtocolError("a head with a duplicate key")
        result[key] = value
    return result
