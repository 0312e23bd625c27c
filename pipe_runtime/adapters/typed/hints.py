"""What a handler's annotation says, read without importing anything: whoever wrote it has imported what it needs.

This file knows functions and annotations; not values, and not how anything is built from them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_STEPS = 100  # wrappers of wrappers, aliases of aliases: a circle must not hang the load
_VARARGS = 0x04  # inspect.CO_VARARGS
_FunctionType = type(lambda: None)
_NOTHING = object()
_OWN_EVENT = (f"{__name__.partition('.')[0]}.cloudevent", "CloudEvent")


def of_first_parameter(handler: object) -> tuple[Any, dict[str, Any]]:
    """The annotation of the handler's first free parameter, and the globals in which its names mean something.

    handler: a function, method, functools.partial, or an object with a `__call__`. The annotation is None where
    there is none, and where nobody can tell.

    A wrapper that takes the event by position only among its ``*args`` cannot look into it, so what counts is the
    function that it wraps. One with a parameter for the event is written for the event as it came: then the
    annotations that functools.wraps has copied say nothing about it.
    """
    function: Any = handler
    bound = 0
    for _ in range(_MAX_STEPS):
        kind = type(function)
        if isinstance(function, _FunctionType):
            code = function.__code__
            wraps = "__wrapped__" in function.__dict__
            if bound < code.co_argcount:
                if wraps:
                    return None, {}
                return function.__annotations__.get(code.co_varnames[bound]), function.__globals__
            if not wraps or not code.co_flags & _VARARGS:
                return None, {}
            function = function.__dict__["__wrapped__"]
        elif (kind.__module__, kind.__name__) == ("functools", "partial"):
            function, bound = function.func, bound + len(function.args)
        elif kind.__name__ == "method" and hasattr(function, "__func__"):
            function, bound = function.__func__, bound + 1
        else:
            calls = [vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)]
            if not calls or not isinstance(calls[0], _FunctionType):
                break
            function, bound = calls[0], bound + 1
    return None, {}


def resolve(annotation: Any, scope: dict[str, Any]) -> Any:
    """The annotation behind text, forward references, Annotated, Final, InitVar and NewType.

    Raises whatever a text raises that means nothing in `scope`.
    """
    for _ in range(_MAX_STEPS):
        kind = type(annotation).__name__
        if kind == "ForwardRef":
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            annotation = eval(annotation, scope)
        elif hasattr(annotation, "__metadata__"):  # Annotated
            annotation = annotation.__origin__
        elif kind == "InitVar":
            annotation = annotation.type
        elif kind == "NewType":
            annotation = annotation.__supertype__
        elif getattr(annotation, "__origin__", None) is typing("Final"):
            annotation = annotation.__args__[0]
        else:
            return annotation
    raise RecursionError("an annotation stands for another without end")


def typing(name: str) -> Any:
    """What `typing` calls so; where nobody has imported typing, nobody uses it, and this is nothing of anybody's."""
    return getattr(sys.modules.get("typing"), name, _NOTHING)


def is_alias(annotation: object) -> bool:
    """Whether it was made by `type X = …`; its `__value__` may hold itself."""
    return type(annotation).__name__ == "TypeAliasType"


def structure(annotation: Any) -> str:
    """Which kind of class it is, if an event has to be made one of it.

    "event": our own CloudEvent; "package event": one of the package cloudevents; "model": a pydantic model;
    "validated": a pydantic dataclass; "dataclass"; else "".
    """
    if not isinstance(annotation, type):
        return ""
    for base in type.__dict__["__mro__"].__get__(annotation):
        name = base.__module__, base.__name__
        if name == _OWN_EVENT:
            return "event"
        if name[1] == "CloudEvent" and str(name[0]).partition(".")[0] == "cloudevents":
            return "package event"
    if hasattr(annotation, "model_validate") and hasattr(annotation, "model_fields"):
        return "model"
    if hasattr(annotation, "parse_obj") and hasattr(annotation, "__fields__"):
        return "model"
    if hasattr(annotation, "__dataclass_fields__"):
        return "validated" if hasattr(annotation, "__pydantic_validator__") else "dataclass"
    return ""


def has_structure(annotation: Any, scope: dict[str, Any]) -> bool:
    """Whether a class with a `structure` is anywhere in the annotation. Raises what `resolve` does."""
    return _search(annotation, scope, set())


def _search(annotation: Any, scope: dict[str, Any], seen: set[int]) -> bool:
    annotation = resolve(annotation, scope)
    if is_alias(annotation):
        if id(annotation) in seen:
            return False
        seen.add(id(annotation))
        return _search(annotation.__value__, scope, seen)
    parts = getattr(annotation, "__args__", None)
    if not isinstance(parts, tuple):
        return bool(structure(annotation))
    origin = getattr(annotation, "__origin__", None)
    if origin is typing("Literal"):
        return False
    return bool(structure(origin)) or any(_search(part, scope, seen) for part in parts)
