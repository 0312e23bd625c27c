"""What the annotation of a handler's first parameter asks for: the event as an object of its type, or as a stream.

Asked once, when the handler is loaded. An annotation that cannot be worked out (a name that only a type checker
imports, say) asks for nothing: such a handler runs as it does elsewhere. This file knows neither requests nor
contexts; how an object is built, unmarshal knows.
"""

from __future__ import annotations

import io
import sys

from ... import namespace
from . import hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FILES = (io.IOBase, io.RawIOBase, io.BufferedIOBase, io.BufferedReader)


def converter(function: object) -> Callable[[object], object] | None:
    """How to make the event that `function` asks for from a decoded one; None where it asks for nothing.

    function: the user's own callable. It asks for something where a dataclass, a pydantic model or a CloudEvent is in
    its annotation: by itself, or inside list, dict, Optional and the like. Any other annotation is left to the
    function: many name a type that the event does not have.
    What is returned raises Fault Runtime.UnmarshalError for an event that does not fit, and whatever else the
    class's own code raises.
    """
    try:
        annotation, scope = hints.of_first_parameter(function)
        if not hints.has_structure(annotation, scope):
            return None
    except Exception:  # evaluating somebody's text may raise anything
        return None
    convert: Callable[[object], object] = namespace.own("adapters.typed.unmarshal").converter(annotation, scope)
    return convert


def wants_stream(function: object) -> str:
    """How `function` takes the event as it arrives: "file" (it reads), "iterator", "async" (it iterates
    asynchronously, or reads an asyncio.StreamReader), or "" for the whole event.
    """
    try:
        return _stream(hints.resolve(*hints.of_first_parameter(function)))
    except Exception:  # see converter
        return ""


def _stream(annotation: Any) -> str:
    origin, parts = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", None)
    if parts == (bytes,):
        if origin is hints.typing("IO"):
            return "file"
        abc = namespace.stdlib("_collections_abc")
        if origin is abc.Iterator or origin is abc.Iterable:
            return "iterator"
        if origin is abc.AsyncIterator or origin is abc.AsyncIterable:
            return "async"
    if annotation is hints.typing("BinaryIO") or any(annotation is file for file in _FILES):
        return "file"
    streams = sys.modules.get("asyncio.streams")
    return "async" if streams is not None and annotation is streams.StreamReader else ""
