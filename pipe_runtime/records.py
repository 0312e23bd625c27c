"""The JSON style of the log: printed lines and log records as one JSON object each.

Loaded late, and only for that style. It knows neither the journal nor frames. What a record carries is the function's
own, and may raise whatever it is asked.
"""

from __future__ import annotations

from time import gmtime, strftime, time

from . import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Collection
    from typing import Any

_class_name = type.__dict__["__name__"].__get__


def text_of(value: object) -> str:
    """str(value), or a text that says that there is none."""
    try:
        return "".join((str(value),))  # of a subclass of str only what is in it
    except Exception:
        return f"<a {_class_name(type(value))} whose text could not be read>"


# ensure_ascii=False: text is UTF-8, as everywhere. allow_nan=False: NaN is no JSON, its text is.
_encode = namespace.stdlib("json").JSONEncoder(ensure_ascii=False, allow_nan=False, default=text_of).encode

# What a record has besides what logging.LogRecord() makes: formatters leave it there, ours too.
_LEFT_BY_FORMATTERS = frozenset(("message", "asctime", "aws_request_id"))


def printed_line(message: bytes, stream: str, request_id: str) -> bytes:
    """A printed line as JSON: timestamp, message, stream, requestId. request_id: "" for none."""
    text = message.decode("utf-8", "backslashreplace")
    fields: dict[str, object] = {"timestamp": _moment(time()), "message": text, "stream": stream}
    if request_id:
        fields["requestId"] = request_id
    return _line(fields, {}).encode("utf-8", "backslashreplace")


def record_line(record: logging.LogRecord, request_id: str, known: Collection[str]) -> str:
    """A log record as JSON, without a line break.

    The fields are Lambda's: timestamp, level, message, logger, requestId, location (file:function:line), and of an
    exception errorType, errorMessage and stackTrace (strings as traceback.format_exception gives them); stackInfo is
    logging's own. Whatever else the record has (`extra=`) follows under its own name, unless that is one of those.
    known: the attributes of every record. May raise what record.getMessage() raises.
    """
    fields: dict[str, object] = {
        "timestamp": _moment(record.created),
        "level": record.levelname,
        "message": record.getMessage(),
        "logger": record.name,
        "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
    }
    if request_id:
        fields["requestId"] = request_id
    if record.exc_info:
        fields.update(_exception(record.exc_info))
    if record.stack_info:
        fields["stackInfo"] = text_of(record.stack_info).split("\n")
    extra = {
        name: value
        for key, value in record.__dict__.items()
        if key not in known and key not in _LEFT_BY_FORMATTERS and (name := text_of(key)) not in fields
    }
    return _line(fields, extra)


def _exception(exc_info: Any) -> dict[str, object]:
    kind, error, traceback = exc_info
    if error is None:
        return {}
    fields: dict[str, object] = {"errorType": _class_name(type(error)), "errorMessage": text_of(error)}
    try:
        fields["stackTrace"] = namespace.stdlib("traceback").format_exception(kind, error, traceback)
    except Exception as failure:  # an exception may override all that traceback asks it
        fields["stackTrace"] = [f"<it could not be read: {_class_name(type(failure))}>\n"]
    return fields


def _line(fields: dict[str, object], extra: dict[str, object]) -> str:
    pairs = [*fields.items(), *extra.items()]
    return "{" + ", ".join(f"{_encode(name)}: {_json(value)}" for name, value in pairs) + "}"


def _json(value: object) -> str:
    """A value as JSON; its text where it does not encode."""
    try:
        text: str = _encode(value)
    except Exception:  # a key that is no string, a circle, NaN, and what the value's own code raises
        text = _encode(text_of(value))
    return text


def _moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(whole))}.{milliseconds:03d}Z"
