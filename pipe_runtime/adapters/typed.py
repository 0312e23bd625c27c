"""Convert an event to the type that the handler's annotation names, or pass it as a stream.

pydantic or msgspec converts the event, whichever the function's own environment has. If the annotation needs no
conversion, neither is imported. This module knows annotations. It must not know requests or handlers.
"""

from __future__ import annotations

import io
import sys

from .. import namespace
from ..call.faults import clean
from ..namespace import late
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Convert = Callable[[Any], object]

PROBLEMS_SHOWN = 3
"""The most problems of one event that an error's text shows. The text then gives the number of the others."""

_PROBLEM_SHOWN = 512  # the most bytes of one problem in an error's text, with the path of the value
_FILES = (io.IOBase, io.RawIOBase, io.BufferedIOBase, io.BufferedReader)
_OWN_EVENT = (f"{__name__.partition('.')[0]}.cloudevent", "CloudEvent")
# The attributes with the type inside Annotated, inside a NewType, and inside an alias of the statement `type`.
_STANDS_FOR = ("__origin__", "__supertype__", "__value__")


def _stream(annotation: Any) -> str:
    """Return the first value that reading() returns: how the handler wants to read the event."""
    if hasattr(annotation, "__metadata__"):  # Annotated
        annotation = annotation.__origin__
    typing = sys.modules.get("typing")  # if no module has imported `typing`, no annotation uses it
    origin, parts = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", None)
    if parts == (bytes,):
        if typing is not None and origin is typing.IO:
            return "file"
        abc = late._collections_abc
        if origin is abc.Iterator or origin is abc.Iterable:
            return "iterator"
        if origin is abc.AsyncIterator or origin is abc.AsyncIterable:
            return "async"
    if any(annotation is file for file in _FILES) or (typing is not None and annotation is typing.BinaryIO):
        return "file"
    streams = sys.modules.get("asyncio.streams")
    return "async" if streams is not None and annotation is streams.StreamReader else ""


def reading(annotation: object, scope: dict[str, Any]) -> tuple[str, Convert | None]:
    """Return how the handler wants to read the event while it arrives, and a function that converts a decoded event.

    An event needs a conversion if its annotation is a dataclass, a pydantic model, a msgspec Struct or a CloudEvent.
    Such a class may also be inside list, Optional and the like. With any other annotation the event stays as it is,
    because many annotations name a type that the event does not have. It also stays as it is if the annotation cannot
    be evaluated.

    Args:
        annotation: The annotation of the parameter that takes the event.
        scope: The globals in which to look up the annotation's names.

    Returns:
        First "file" if the handler calls `read`, "iterator" if it iterates, "async" if it iterates asynchronously or
        reads an asyncio.StreamReader, "" if it takes the whole event. Then None if the event needs no conversion, or a
        function that raises Fault Runtime.UnmarshalError if an event does not fit the type. It does not catch other
        exceptions of the function's own classes.

    Raises:
        Fault: Runtime.ImportModuleError, if the conversion needs a library and the environment has none.
        Exception: The library does not support the annotation. This is the library's own exception.
    """
    try:
        resolved = _evaluated(annotation, scope)
        stream = _stream(resolved)
        kinds = set(_structures(resolved, scope, set()))
    except Exception:  # the annotation may be a str, and its evaluation may raise anything
        return "", None
    return stream, _converter(annotation, resolved, scope, kinds) if kinds else None


def _converter(annotation: object, resolved: Any, scope: dict[str, Any], kinds: set[str]) -> Convert:
    """Return a function that converts a decoded event to the annotated type."""
    cloudevent = namespace.own("cloudevent")
    kind = _structure(resolved)
    if kind in ("event", "package event"):
        make = resolved.from_json if kind == "event" else lambda event: cloudevent.of_package(resolved, event)
        return _reporting(make, (ValueError, TypeError), lambda error: [f"event: {error}"])

    def probe(event: object) -> None:
        """Have only the event's annotation. So get_type_hints() does not evaluate the handler's other annotations."""

    probe.__annotations__ = {"event": annotation}
    wanted = late.typing.get_type_hints(probe, scope, include_extras=True)["event"]
    return _of_library(
        wanted, cloudevent.CloudEvent, (_msgspec, _pydantic) if "struct" in kinds else (_pydantic, _msgspec)
    )


def _evaluated(annotation: Any, scope: dict[str, Any]) -> Any:
    annotation = getattr(annotation, "__forward_arg__", annotation)
    while isinstance(annotation, str):
        annotation = eval(annotation, scope)
    return annotation


def _structures(annotation: Any, scope: dict[str, Any], seen: set[int]) -> Iterator[str]:
    """Yield the kind, as _structure() returns it, of each class in the annotation that needs a conversion."""
    annotation = _evaluated(annotation, scope)
    if id(annotation) in seen:  # an alias may contain itself
        return
    seen.add(id(annotation))
    parts = getattr(annotation, "__args__", None)
    if isinstance(annotation, type) and not isinstance(parts, tuple):
        kind = _structure(annotation)
        if kind:
            yield kind
        return
    typing = sys.modules.get("typing")
    if typing is not None and getattr(annotation, "__origin__", None) is typing.Literal:
        return
    inner = [getattr(annotation, name) for name in _STANDS_FOR if hasattr(annotation, name)]
    for part in (*inner, *(parts if isinstance(parts, tuple) else ())):
        yield from _structures(part, scope, seen)


def _structure(annotation: Any) -> str:
    """Return the kind of a class that needs a conversion; "" for any other class."""
    if not isinstance(annotation, type):
        return ""
    for base in getattr(annotation, "__mro__", ()):
        if (base.__module__, base.__name__) == _OWN_EVENT:
            return "event"
        if base.__name__ == "CloudEvent" and base.__module__.partition(".")[0] == "cloudevents":
            return "package event"
    if hasattr(annotation, "__struct_fields__"):
        return "struct"
    # Models of pydantic 1 have parse_obj. They are not supported, and raise an error while the function is loaded.
    marks = ("__dataclass_fields__", "model_validate", "parse_obj")
    return "object" if any(hasattr(annotation, mark) for mark in marks) else ""


def _of_library(wanted: Any, own_event: Any, libraries: Iterable[Callable[[Any, Any], Convert]]) -> Convert:
    """Return the converter that the first available library makes."""
    missing: list[ImportError] = []
    for library in libraries:
        try:
            return library(wanted, own_event)
        except ImportError as error:
            missing.append(error)
    why = "the event's annotation names a type that pydantic or msgspec has to make"
    text = f"Unable to import module 'pydantic': {missing[0]}; {why}: pip install 'pipe-init[typed]'"
    raise Fault("Runtime.ImportModuleError", text)


def _pydantic(wanted: Any, own_event: Any) -> Convert:
    from pydantic import TypeAdapter, ValidationError

    # Look up the attribute now: if pydantic cannot validate the type, this raises before the first event.
    return _reporting(TypeAdapter(wanted).validator.validate_python, (ValidationError,), _problems_of_pydantic)


def _msgspec(wanted: Any, own_event: Any) -> Convert:
    import msgspec

    def own_type(kind: Any, value: object) -> object:
        if isinstance(kind, type) and issubclass(kind, own_event):
            return kind.from_json(value)  # type: ignore[attr-defined]
        return value  # msgspec itself then checks that the value is an instance of the class

    msgspec.json.Decoder(wanted)  # raises for a type that is not supported

    def make(event: object) -> object:
        return msgspec.convert(event, wanted, str_keys=True, dec_hook=own_type)

    return _reporting(make, (msgspec.ValidationError,), _problem_of_msgspec)


def _reporting(make: Convert, errors: tuple[type[Exception], ...], problems: Callable[[Any], list[str]]) -> Convert:
    """Return a function like `make` that turns its `errors` into Faults, which explain why the event does not fit."""

    def convert(event: object) -> object:
        try:
            return make(event)
        except errors as error:
            found = problems(error)
            told = [clean(" ".join(problem.split()), _PROBLEM_SHOWN) for problem in found[:PROBLEMS_SHOWN]]
            if len(found) > len(told):
                told.append(f"and {len(found) - len(told)} more")
            text = clean(f"Unable to unmarshal input: {'; '.join(told)}")
            raise Fault("Runtime.UnmarshalError", text) from error.__cause__

    return convert


def _problem_of_msgspec(error: Exception) -> list[str]:
    text, _, path = str(error).rpartition(" - at `$")
    return [f"event{path.rstrip('`')}: {text}" if text else f"event: {path}"]


def _problems_of_pydantic(error: Any) -> list[str]:
    problems = []
    for detail in error.errors(include_url=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
        got = "" if detail["type"] == "missing" else f", got {_shown(detail['input'])}"
        problems.append(f"event{path}: {detail['msg']}{got}")
    return problems


def _shown(value: object) -> str:
    """Describe a value for an error's text: its type, and for str, bytes and numbers the value."""
    kind = type(value)
    if kind in (str, bytes):
        value = value[:_PROBLEM_SHOWN]  # type: ignore[index]
    return f"{kind.__name__} {value!r}" if kind in (str, bytes, bool, int, float) else kind.__name__
