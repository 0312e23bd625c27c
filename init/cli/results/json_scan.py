"""Tell whether bytes are exactly one JSON value, without building it.

A result that a worker calls JSON becomes part of a line. The worker must not be able to end its value within that line
and begin another one.
This is the only place where the init looks into a result. It builds no values: its memory does not grow with the text,
and its time is linear. It accepts what Python's json module writes, including NaN and Infinity.

Regular expressions do the work, because Python code for each byte would take fifty times as long as json.loads. Each
repetition that can nest in another is bounded, because `re` keeps about 200 bytes for each round that it might have to
undo. Beyond a bound, and for deeply nested values, a loop with a stack of open brackets continues.
"""

from __future__ import annotations

import re
from collections.abc import Generator

MAX_DEPTH = 100_000
"""Brackets that may be open at a time. Python's own encoder overflows its stack before it gets deeper."""

_ROUNDS = 16
"""Most rounds of a repetition. After them the loop continues. Four repetitions nest: 70,000 rounds, or 14 MiB."""

_SPACE = rb"[ \t]*"
_PLAIN = rb'[^"\\\x00-\x1f]{0,65535}'
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING = rb'"%b(?:%b%b){0,%d}"' % (_PLAIN, _ESCAPE, _PLAIN, _ROUNDS)
_OTHER = rb"(?:-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|Infinity)|true|false|null|NaN)"
_SCALAR = rb"(?:%b|%b)" % (_STRING, _OTHER)
_NAME = _STRING + _SPACE + rb":" + _SPACE


def _list(item: bytes, brackets: bytes) -> bytes:
    """Return the expression of up to _ROUNDS + 1 items in brackets."""
    more = rb"(?:,%b%b%b){0,%d}" % (_SPACE, item, _SPACE, _ROUNDS)
    return rb"\%b%b(?:%b%b%b)?\%b" % (brackets[:1], _SPACE, item, _SPACE, more, brackets[1:])


_FLAT = rb"(?:%b|%b|%b)" % (_SCALAR, _list(_SCALAR, b"[]"), _list(_NAME + _SCALAR, b"{}"))
"""A scalar, or a list or an object of scalars."""

_VALUE = rb"(?:%b|%b|%b)" % (_SCALAR, _list(_FLAT, b"[]"), _list(_NAME + _FLAT, b"{}"))
"""A value whose items are flat. Most results are like this, and need a single match."""

_value = re.compile(_VALUE).match
_items = re.compile(rb"(?:%b%b,%b){0,%d}" % (_VALUE, _SPACE, _SPACE, _ROUNDS)).match
_members = re.compile(rb"(?:%b%b%b,%b){0,%d}(%b)?" % (_NAME, _FLAT, _SPACE, _SPACE, _ROUNDS, _NAME)).match
_space = re.compile(_SPACE).match
_string_part = re.compile(rb"(?:%b%b){0,%d}%b" % (_PLAIN, _ESCAPE, 1000, _PLAIN)).match

_QUOTE, _COMMA, _COLON = b'",:'
_SPACES = b" \t"
_ARRAY, _OBJECT = _OPENING = b"[{"


STEP = 256 * 1024
"""Bytes to scan before each pause. This takes a tenth of a second at most, whatever the bytes are."""


def scan(data: bytes | bytearray, start: int, end: int) -> Generator[None, None, bool]:
    """Return whether data[start:end] is one JSON value without line breaks, possibly with blanks or tabs around it.

    The generator yields to let its caller do something else. It does not yield during the scan of a short text. It does
    not check that the bytes are UTF-8.
    """
    match = _value(data, start, end)
    if match is not None and match.end() == end:
        return True
    return (yield from _scan(data, start, end))


def _scan(data: bytes | bytearray, at: int, end: int) -> Generator[None, None, bool]:
    """Return the same as `scan`, for a value of any depth, with blanks and tabs around it."""
    pause = at + STEP
    open_ones = bytearray()
    inside = 0  # the bracket that was opened last; 0 for none
    flat = False  # a single match took the previous value, so one match may take the next values too
    at = _after_space(data, at, end)
    while True:
        if at > pause:
            pause = at + STEP
            yield
        # A value begins here, or the name of a member.
        match = None
        if inside == _ARRAY:
            if flat or at == end or data[at] not in _OPENING:
                match = _items(data, at, end)
        elif inside == _OBJECT:
            match = _members(data, at, end)
        if match is not None:
            at = match.end()
        if inside == _OBJECT and (match is None or match.lastindex is None) and (at := _after_name(data, at, end)) < 0:
            return False
        match = _value(data, at, end)
        flat = match is not None
        if match is not None:
            at = match.end()
        elif at == end:
            return False
        elif data[at] in _OPENING:
            if len(open_ones) == MAX_DEPTH:
                return False
            inside = data[at]
            open_ones.append(inside)
            at = _after_space(data, at + 1, end)
            continue
        elif (at := _after_string(data, at, end)) < 0:
            return False
        # A value ends here. Some of the lists and objects around it may end here too.
        while True:
            if at < end and data[at] in _SPACES:
                at = _after_space(data, at, end)
            if at == end or not open_ones:
                return at == end and not open_ones
            at += 1
            if data[at - 1] == _COMMA:
                at = _after_space(data, at, end)
                break
            if data[at - 1] != inside + 2:  # the bracket that closes: ] and } are two after [ and {
                return False
            flat = False
            open_ones.pop()
            inside = open_ones[-1] if open_ones else 0


def _after_space(data: bytes | bytearray, at: int, end: int) -> int:
    match = _space(data, at, end)
    return at if match is None else match.end()


def _after_name(data: bytes | bytearray, at: int, end: int) -> int:
    """Return where the value begins that follows the name at `at`; -1 if there is no name."""
    at = _after_string(data, at, end)
    if at < 0:
        return -1
    at = _after_space(data, at, end)
    return _after_space(data, at + 1, end) if at < end and data[at] == _COLON else -1


def _after_string(data: bytes | bytearray, at: int, end: int) -> int:
    """Return the end of the string that begins at `at`; -1 if there is none, or it does not end."""
    if at == end or data[at] != _QUOTE:
        return -1
    before, at = at, at + 1
    while at > before:
        match = _string_part(data, at, end)
        before, at = at, at if match is None else match.end()
        if at < end and data[at] == _QUOTE:
            return at + 1
    return -1
