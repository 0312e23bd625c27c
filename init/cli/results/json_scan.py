"""Check whether bytes are exactly one JSON value, without building the value.

A result that a worker declares as JSON becomes part of a line. The worker must not be able to end its value within that
line and begin another one. This is the only place where the init looks into a result. The scan builds no values. Its
memory does not grow with the text, and its time is linear. It accepts what Python's json module writes, including NaN
and Infinity.

Regular expressions do the work, because Python code for each byte would take fifty times as long as json.loads. A
repetition that can be nested in another has a bound, because `re` keeps about 200 bytes for each round that it might
have to undo. If a value exceeds a bound, or is nested deeply, a loop with a stack of open brackets scans the rest.
"""

from __future__ import annotations

import re
from collections.abc import Generator

MAX_DEPTH = 100_000
"""The most brackets that may be open at one time. Python's own encoder overflows its stack before it gets deeper."""

_ROUNDS = 16
"""The most times that a part of a regular expression may repeat. After that, the loop in `_scan` continues. Up to four
repetitions are nested, which makes 70,000 rounds. For these `re` may keep 14 MiB."""

_SPACE = rb"[ \t]*"
_PLAIN = rb'[^"\\\x00-\x1f]{0,65535}'
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING = rb'"%b(?:%b%b){0,%d}"' % (_PLAIN, _ESCAPE, _PLAIN, _ROUNDS)
_OTHER = rb"(?:-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|Infinity)|true|false|null|NaN)"
_SCALAR = rb"(?:%b|%b)" % (_STRING, _OTHER)
_NAME = _STRING + _SPACE + rb":" + _SPACE


def _list(item: bytes, brackets: bytes) -> bytes:
    """Return the regular expression for up to _ROUNDS + 1 items in brackets."""
    more = rb"(?:,%b%b%b){0,%d}" % (_SPACE, item, _SPACE, _ROUNDS)
    return rb"\%b%b(?:%b%b%b)?\%b" % (brackets[:1], _SPACE, item, _SPACE, more, brackets[1:])


_FLAT = rb"(?:%b|%b|%b)" % (_SCALAR, _list(_SCALAR, b"[]"), _list(_NAME + _SCALAR, b"{}"))
"""The expression for a scalar, or for a list or an object of scalars."""

_VALUE = rb"(?:%b|%b|%b)" % (_SCALAR, _list(_FLAT, b"[]"), _list(_NAME + _FLAT, b"{}"))
"""The expression for a value whose items match _FLAT. Most results are like this, and need a single match."""

_value = re.compile(_VALUE).match
_items = re.compile(rb"(?:%b%b,%b){0,%d}" % (_VALUE, _SPACE, _SPACE, _ROUNDS)).match
_members = re.compile(rb"(?:%b%b%b,%b){0,%d}(%b)?" % (_NAME, _FLAT, _SPACE, _SPACE, _ROUNDS, _NAME)).match
_space = re.compile(_SPACE).match
_string_part = re.compile(rb"(?:%b%b){0,%d}%b" % (_PLAIN, _ESCAPE, 1000, _PLAIN)).match

_QUOTE, _COMMA, _COLON = b'",:'
_SPACES = b" \t"
_ARRAY, _OBJECT = _OPENING = b"[{"


STEP = 256 * 1024
"""Bytes to scan between two pauses. Scanning them takes a tenth of a second at most, whatever the bytes are."""


def scan(data: bytes | bytearray, start: int, end: int) -> Generator[None, None, bool]:
    """Return whether data[start:end] is one JSON value without line breaks, possibly with blanks or tabs around it.

    The generator yields from time to time, so that its caller can do something else. It does not yield during the scan
    of a short text. It does not check that the bytes are UTF-8.
    """
    match = _value(data, start, end)
    if match is not None and match.end() == end:
        return True
    return (yield from _scan(data, start, end))


def _scan(data: bytes | bytearray, at: int, end: int) -> Generator[None, None, bool]:
    """Return the same as `scan`, also for values that no single match can recognize."""
    pause = at + STEP
    open_ones = bytearray()
    inside = 0  # the last open bracket; 0 for none
    flat = False  # whether a single match recognized the previous value: then one match may recognize the next ones too
    at = _after_space(data, at, end)
    while True:
        if at > pause:
            pause = at + STEP
            yield
        # Here begins a value, or the name of an object's member.
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
        # Here ends a value, and possibly some of the lists and objects around it.
        while True:
            if at < end and data[at] in _SPACES:
                at = _after_space(data, at, end)
            if at == end or not open_ones:
                return at == end and not open_ones
            at += 1
            if data[at - 1] == _COMMA:
                at = _after_space(data, at, end)
                break
            if data[at - 1] != inside + 2:  # not the matching bracket: the codes of ] and } are those of [ and { plus 2
                return False
            flat = False
            open_ones.pop()
            inside = open_ones[-1] if open_ones else 0


def _after_space(data: bytes | bytearray, at: int, end: int) -> int:
    match = _space(data, at, end)
    return at if match is None else match.end()


def _after_name(data: bytes | bytearray, at: int, end: int) -> int:
    """Return the position of the value after the name and the colon at `at`; -1 if they are not there."""
    at = _after_string(data, at, end)
    if at < 0:
        return -1
    at = _after_space(data, at, end)
    return _after_space(data, at + 1, end) if at < end and data[at] == _COLON else -1


def _after_string(data: bytes | bytearray, at: int, end: int) -> int:
    """Return the position after the string that begins at `at`; -1 if no string begins there, or if it has no end."""
    if at == end or data[at] != _QUOTE:
        return -1
    before, at = at, at + 1
    while at > before:
        match = _string_part(data, at, end)
        before, at = at, at if match is None else match.end()
        if at < end and data[at] == _QUOTE:
            return at + 1
    return -1
