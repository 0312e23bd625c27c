"""Define the class CloudEvent. A handler can use it as the annotation of its event, and can return objects of it.

An envelope is an event as a JSON object. Its format is the JSON Event Format for CloudEvents, version 1.0.2
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md). Functions import this module. It
must know neither handlers nor how a value is encoded.
"""

from __future__ import annotations

from .call import faults
from .namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from typing import Any

SPECVERSION = "1.0"
REQUIRED = ("specversion", "id", "source", "type")
OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
_DATA = ("data", "data_base64")
_DIGITS = "0123456789"


class EnvelopeError(ValueError):
    """A value is not a valid CloudEvent. The error's text names the attribute, and says what is wrong with it."""


class CloudEvent:
    """One event: its data, and its attributes as the CloudEvents specification defines them.

    A function can read every attribute as `event.subject` or as `event["subject"]`. If an optional attribute is not
    set, `event.subject` is None, and `event["subject"]` raises KeyError. If an extension is not set, the two forms
    raise AttributeError and KeyError.

    Args:
        attributes: The attributes by name. `source` and `type` are required. The default of `specversion` is "1.0", and
            of `id` a new UUID. `time` is a datetime with a time zone, or a text in the format of RFC 3339. A name that
            is not in the specification is an extension. An attribute with the value None is not set.
        data: Any value. bytes, bytearray and memoryview are binary data.

    Raises:
        EnvelopeError: An attribute is missing or wrong.
    """

    __slots__ = (*REQUIRED, *OPTIONAL, "data", "extensions")

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str | None
    dataschema: str | None
    subject: str | None
    time: datetime | None
    data: Any
    extensions: dict[str, Any]

    def __init__(self, attributes: Mapping[str, Any], data: Any = None) -> None:
        given: dict[str, Any] = {"specversion": SPECVERSION, **_set(attributes)}
        if "id" not in given:
            given["id"] = str(late.uuid.uuid4())
        for name in _DATA:
            if name in given:
                raise EnvelopeError(f"{name} is not an attribute; give the data as the second argument")
        check(given)
        if given["specversion"] != SPECVERSION:
            raise EnvelopeError(f"specversion must be {SPECVERSION!r}, got {given['specversion'][:32]!r}")
        for name in REQUIRED:
            setattr(self, name, given.pop(name))
        for name in OPTIONAL:
            setattr(self, name, given.pop(name, None))
        self.time = timestamp(self.time)
        self.extensions = given
        self.data = data

    @classmethod
    def from_json(cls, envelope: object) -> CloudEvent:
        """Return the event that a decoded envelope describes. Raise EnvelopeError if the envelope is not valid."""
        attributes, data = open_envelope(envelope)
        return cls(attributes, data)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> dict[str, Any]:
        """Return a schema that makes pydantic call from_json(), if a type that it validates contains a CloudEvent."""
        return {"type": "function-plain", "function": {"type": "no-info", "function": cls.from_json}}

    def to_json(self) -> dict[str, Any]:
        """Return the envelope as a dict that JSON can encode. It has no `data` if the event's data is None."""
        envelope = {name: self[name] for name in self}
        if self.time is not None:
            text = self.time.isoformat()
            envelope["time"] = text[:-6] + "Z" if text.endswith("+00:00") else text
        if isinstance(self.data, (bytes, bytearray, memoryview)):
            envelope["data_base64"] = late.base64.b64encode(self.data).decode("ascii")
        elif self.data is not None:
            envelope["data"] = self.data
        return envelope

    def __getitem__(self, name: str) -> Any:
        value = getattr(self, name) if name in REQUIRED or name in OPTIONAL else self.extensions[name]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the attributes that are set."""
        for name in (*REQUIRED, *OPTIONAL):
            if getattr(self, name) is not None:
                yield name
        yield from self.extensions

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` if it is not set."""
        return self[name] if name in self else default

    def __getattr__(self, name: str) -> Any:
        # Check __slots__ first: while copy or pickle creates the object, `extensions` is not set yet.
        if name not in CloudEvent.__slots__ and name in self.extensions:
            return self.extensions[name]
        raise AttributeError(f"the event has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}: {self.type!r} from {self.source!r}>"


def open_envelope(envelope: object) -> tuple[dict[str, Any], Any]:
    """Return (the attributes that are set, the data) of a decoded envelope. Decode data in base64 to bytes.

    Raises:
        EnvelopeError: An attribute is missing or wrong. The value of `specversion` is not checked.
    """
    if not isinstance(envelope, dict):
        raise EnvelopeError(f"expected a CloudEvent, got {type(envelope).__name__}")
    attributes = _set(envelope)
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    check(attributes)
    if encoded is None:
        return attributes, data
    if data is not None:
        raise EnvelopeError("data and data_base64 exclude each other")
    try:
        return attributes, late.base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        raise EnvelopeError("data_base64 is not base64") from None


def of_package(cls: Any, envelope: object) -> Any:
    """Return an event of `cls`, a class of the package cloudevents.

    This function checks that the required attributes are there, because the class would fill in missing ones.

    Raises:
        EnvelopeError: An attribute is missing or wrong.
        ValueError, TypeError: An exception of the class, such as pydantic's ValidationError.
    """
    attributes, data = open_envelope(envelope)
    time = attributes.get("time")
    if hasattr(cls, "create"):  # a class of the package's version 1, which version 2 still has: it takes `time` as text
        if time is not None and not isinstance(time, str):
            attributes["time"] = time.isoformat()
        make = cls.create
    else:
        if time is not None:
            attributes["time"] = timestamp(time)
        make = cls
    try:
        return make(attributes, data)
    except (ValueError, TypeError):
        raise
    except Exception as error:  # the package's own errors are neither ValueError nor TypeError
        raise EnvelopeError(f"{faults.type_name(error)}: {faults.message_of(error)}") from error


def check(attributes: Mapping[str, Any]) -> None:
    """Raise EnvelopeError if a required attribute is missing, or an attribute of the specification is wrong.

    Extensions are not checked.
    """
    missing = [name for name in REQUIRED if name not in attributes]
    if missing:
        raise EnvelopeError(f"a CloudEvent needs {', '.join(REQUIRED)}; missing: {', '.join(missing)}")
    for name in (*REQUIRED, *OPTIONAL):
        value = attributes.get(name, "-")
        if name == "time":
            timestamp(attributes.get(name))
        elif not isinstance(value, str) or not value:
            raise EnvelopeError(f"{name} must be text that is not empty")


def timestamp(value: object) -> datetime | None:
    """Return a `time` attribute, which is a text or a datetime, as a datetime. None stays None.

    Raises:
        EnvelopeError: The value is not a date and time, or it has no time zone.
    """
    if value is None:
        return None
    kind = late.datetime.datetime
    try:
        time = kind.fromisoformat(_for_python_3_10(value)) if isinstance(value, str) else value
    except ValueError:
        time = None
    if not isinstance(time, kind) or time.tzinfo is None:
        raise EnvelopeError("time must be a date and time with a time zone, as RFC 3339 writes it")
    return time  # type: ignore[no-any-return]


def _for_python_3_10(text: str) -> str:
    """Change a time in RFC 3339's format so that Python 3.10 can parse it: no Z, and six digits of a second."""
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    head, _, rest = text.partition(".")
    fraction = rest[: len(rest) - len(rest.lstrip(_DIGITS))]
    if fraction:
        text = f"{head}.{fraction[:6].ljust(6, '0')}{rest[len(fraction) :]}"
    return text


def _set(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
