"""Turn each printed line and each log record into one JSON object, for the JSON style of the log.

The runtime loads this module only for that style. It must know neither the log writer nor frames. The values in a
record belong to the function, so any access to them may raise.
"""

from __future__ import annotations

from time import gmtime, strftime, time

from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Collection
    from typing import Any


def text_of(value: object) -> str:
    """Return str(value), or a text that says that it could not be read."""
    try:
        return "".join((str(value),))  # join() returns a plain str, even if __str__ returns an object of a subclass
    except Exception:
        return f"<a {type(value).__name__} whose text could not be read>"


# ensure_ascii=False, because the log is UTF-8. allow_nan=False, because NaN is not JSON: _json() then uses its text.
_encode = late.json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=text_of).encode


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# len in place of int and float: only the names are needed, and a number with many digits would take long to convert.
_decode = late.json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse).decode

# The attributes that formatters and filters add to a record later. root_handler.py has a filter and a formatter, too.
_LEFT_BY_FORMATTERS = frozenset(("message", "asctime", "aws_request_id", "tenant_id"))

LARGEST_OBJECT = 256 * 1024
"""The longest line, in characters, that is checked for a JSON object. A longer printed line becomes several objects. A
log event of CloudWatch has the same limit."""

_SPACE = " \t\r\n"
"""The characters that JSON counts as white space."""

_LINE_BREAKS = (("\x85", "\\u0085"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
"""Characters that JSON allows in a string, but some readers treat as the end of a line, with their escapes."""


def printed_line(message: bytes, stream: str, request_id: str, level: str = "") -> bytes:
    """Return a printed line as a JSON object. Do the same for a record that the function's own formatter has formatted.

    The object has the fields timestamp, message and stream. It has level and requestId if they are known. If the line
    already is a JSON object, it keeps its own fields. Of the fields above, except message, it gets those that it lacks.

    Args:
        message: The line.
        stream: "stdout", "stderr" or "log".
        request_id: The id of the line's request; "" for no request.
        level: The level of a record; "" for a printed line.
    """
    text = message.decode("utf-8", "backslashreplace")
    fields: dict[str, object] = {"timestamp": _moment(time()), "level": level, "message": text, "stream": stream}
    if request_id:
        fields["requestId"] = request_id
    if not level:
        del fields["level"]
    names = _names_in(text)
    line = _line(fields, {}) if names is None else _extended(text.strip(_SPACE), names, fields)
    return _on_one_line(line).encode("utf-8", "backslashreplace")


def _names_in(text: str) -> Collection[str] | None:
    """Return the names of a JSON object's fields; None if the text is not a JSON object, or is too large."""
    text = text.strip(_SPACE)
    if not (text.startswith("{") and text.endswith("}")) or len(text) > LARGEST_OBJECT:
        return None
    try:
        found = _decode(text)
    except Exception:  # it is not JSON, or it is nested too deeply
        return None
    return found if type(found) is dict else None


def _extended(text: str, names: Collection[str], fields: dict[str, object]) -> str:
    """Return a JSON object on one line. Insert the fields that it lacks at its beginning, except message."""
    missing = {name: value for name, value in fields.items() if name not in names and name != "message"}
    text = text.replace("\r", " ").replace("\n", " ")  # no string changes: JSON allows no line breaks in it
    if not missing:
        return text
    return _line(missing, {})[:-1] + (", " if names else "") + text[1:]


def _on_one_line(line: str) -> str:
    for found, escape in _LINE_BREAKS if not line.isascii() else ():
        line = line.replace(found, escape)
    return line


def record_line(record: logging.LogRecord, tag: Any, level: str, known: Collection[str]) -> str:
    """Return a log record as JSON, without a line break.

    The fields are the same as Lambda's: timestamp, level, message (a dict stays an object), logger, requestId, tenantId
    and location (file:function:line). An exception adds errorType, errorMessage and stackTrace, a list of the strings
    of traceback.format_exception. stackInfo and taskName come from `logging`, which sets taskName in a task since
    Python 3.12. Other attributes of the record (`extra=`) follow under their own names, unless a field has the name.

    Args:
        tag: The Tag of the request that the record belongs to.
        level: The name of the level to show.
        known: The names of the attributes that every record has.

    Raises:
        Exception: An exception of record.getMessage().
    """
    fields: dict[str, object] = {
        "timestamp": _moment(record.created),
        "level": level,
        "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
        "logger": record.name,
        "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
    }
    if tag.request_id:
        fields["requestId"] = tag.request_id
    if tag.tenant_id:
        fields["tenantId"] = tag.tenant_id
    if record.exc_info:
        fields.update(_exception(record.exc_info))
    if record.stack_info:
        fields["stackInfo"] = text_of(record.stack_info).split("\n")
    extra = {
        name: value
        for key, value in record.__dict__.items()
        if (key not in known or (key == "taskName" and value))
        and key not in _LEFT_BY_FORMATTERS
        and (name := text_of(key)) not in fields
    }
    return _on_one_line(_line(fields, extra))


def _exception(exc_info: Any) -> dict[str, object]:
    kind, error, traceback = exc_info
    if error is None:
        return {}
    fields: dict[str, object] = {"errorType": type(error).__name__, "errorMessage": text_of(error)}
    try:
        fields["stackTrace"] = late.traceback.format_exception(kind, error, traceback)
    except Exception as failure:  # the exception's class may override any attribute that `traceback` reads
        fields["stackTrace"] = [f"<it could not be read: {type(failure).__name__}>\n"]
    return fields


def _line(fields: dict[str, object], extra: dict[str, object]) -> str:
    pairs = [*fields.items(), *extra.items()]
    return "{" + ", ".join(f"{_encode(name)}: {_json(value)}" for name, value in pairs) + "}"


def _json(value: object) -> str:
    """Return a value as JSON. If it cannot be encoded, return its text as a JSON string."""
    try:
        text: str = _encode(value)
    except Exception:  # a key that is not a str, a value that contains itself, NaN, or an error of the value's own code
        text = _encode(text_of(value))
    return text


def _moment(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(whole))}.{milliseconds:03d}Z"
