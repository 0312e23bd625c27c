"""Builds an event of an annotated type from decoded JSON or msgpack, or says where it does not fit.

What becomes of a value:

    ===========================  ====================================================================================
    annotation                   what fits, and what becomes of it
    ===========================  ====================================================================================
    dataclass                    a map; keys that it has no field for are ignored; what is missing has its default
    pydantic model or dataclass  what pydantic takes
    CloudEvent                   an envelope: ours, see cloudevent; those of the package cloudevents by its constructor
    list, Sequence, Iterable …   a list; a tuple, set or frozenset is made of one
    dict, Mapping …              a map; where keys are to be int or float, so are their texts
    Union                        the first that fits, from left to right; an int is no float if it may be an int
    TypedDict                    a map, not looked into
    Any, TypeVar and the like,   everything, as it is
    names that mean nothing
    ===========================  ====================================================================================

and scalars has the rest. A field's type is asked for in the module of the class that declares it.

This file knows annotations and values; neither handlers nor content types.
"""

from __future__ import annotations

import sys

from ... import cloudevent, namespace
from ...call.shorten import clean
from ...wire.errors import Fault
from . import hints, scalars
from .mismatch import Mismatch, refused, shown, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Build = Callable[[Any], Any]
    """Makes the value of a type from a decoded one; raises Mismatch."""


def converter(annotation: object, scope: dict[str, Any]) -> Callable[[object], object]:
    """A function that makes an event of the annotated type from a decoded one.

    scope: the globals in which the annotation's names mean something.
    It raises Fault Runtime.UnmarshalError where the event does not fit; so it does where a class refuses its values
    with ValueError or TypeError, which then is the Fault's cause. What else a class's own code raises passes.
    """
    build = _Builders().of(annotation, scope, {})

    def convert(event: object) -> object:
        try:
            return build(event)
        except Mismatch as error:
            raise _fault(error.text("event")) from error.__cause__
        except RecursionError as error:
            raise _fault("nested too deeply") from error

    return convert


def _fault(why: str) -> Fault:
    return Fault("Runtime.UnmarshalError", clean(f"Unable to unmarshal input: {why}"))


class _Builders:
    """Makes the functions that build, each class's once: a class may lie in itself."""

    def __init__(self) -> None:
        self._known: dict[object, Build] = {}
        self._typing = namespace.stdlib("typing")
        self._union_types = (self._typing.Union, namespace.stdlib("types").UnionType)
        abc = namespace.stdlib("_collections_abc")
        self._lists = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
        self._dicts = (dict, abc.Mapping, abc.MutableMapping)
        self._sets = {set: set, abc.Set: set, abc.MutableSet: set, frozenset: frozenset}

    def of(self, annotation: Any, scope: dict[str, Any], variables: dict[object, Build]) -> Build:
        """What builds the annotated type. variables: what stands for a generic class's type variables."""
        try:
            annotation = hints.resolve(annotation, scope)
        except Exception:  # a name that only a type checker knows; evaluating somebody's text may raise anything
            return scalars.as_it_is
        if annotation is None:
            return scalars.none
        if hints.is_alias(annotation):
            return self._alias(annotation, scope)
        if type(annotation).__name__ == "TypeVar":
            return variables.get(annotation, scalars.as_it_is)
        origin = self._typing.get_origin(annotation)
        if origin is self._typing.Literal:
            return scalars.literal(annotation.__args__)
        if origin is None and isinstance(annotation, type):
            origin = annotation
        parts = [self.of(part, scope, variables) for part in self._typing.get_args(annotation)]
        if any(origin is union for union in self._union_types):
            return self._union(annotation, parts)
        if hints.structure(origin):
            return self._structure(origin, parts)
        return self._container(origin, annotation, parts) or scalars.builder(origin)

    def _alias(self, annotation: Any, scope: dict[str, Any]) -> Build:
        known: list[Build] = []

        def build(value: object) -> object:
            if not known:  # not before: it may hold itself
                known.append(self.of(annotation.__value__, scope, {}))
            return known[0](value)

        return build

    def _union(self, annotation: Any, parts: list[Build]) -> Build:
        optional = scalars.none in parts
        # An int fits a float too, so the float has to wait.
        makers = sorted((part for part in parts if part is not scalars.none), key=lambda part: part is scalars.number)
        expected = _name(annotation)

        def build(value: object) -> object:
            if value is None and optional:
                return None
            errors = []
            for make in makers:
                try:
                    return make(value)
                except Mismatch as error:
                    errors.append(error)
            # The one that got furthest is the likeliest to have been meant.
            best = max(errors, key=lambda error: (error.fitted, error.depth, error.__cause__ is not None))
            if len(makers) == 1 or best.fitted or best.depth or best.__cause__ is not None:
                raise best
            raise wrong(expected, value)

        return build

    def _container(self, origin: Any, annotation: Any, parts: list[Build]) -> Build | None:
        if origin is tuple and parts and self._typing.get_args(annotation)[-1] is not ...:
            return _fixed_tuple(parts)
        item = parts[0] if parts else scalars.as_it_is
        if any(origin is kind for kind in self._lists):
            return _items(list, item)
        if origin is tuple:
            return _items(tuple, item)
        if isinstance(origin, type) and origin in self._sets:
            return _items(self._sets[origin], item)
        if any(origin is kind for kind in self._dicts):
            return _mapping(*parts) if len(parts) == 2 else scalars.instance(dict)
        return scalars.instance(dict) if hasattr(origin, "__total__") else None  # a TypedDict

    def _structure(self, cls: Any, parts: list[Build]) -> Build:
        kind = hints.structure(cls)
        if kind == "event":
            return _checked(cls.from_json)
        if kind == "package event":
            return _checked(lambda value: cloudevent.of_package(cls, value))
        if kind == "model":
            return _checked(cls.model_validate if hasattr(cls, "model_validate") else cls.parse_obj)
        if kind == "validated":
            return _checked(sys.modules["pydantic"].TypeAdapter(cls).validate_python)
        return self._dataclass(cls, parts)

    def _dataclass(self, cls: Any, parts: Sequence[Build]) -> Build:
        key = cls, *parts
        if key in self._known:
            return self._known[key]
        makers: dict[str, Build] = {}
        required: list[str] = []
        make = _checked(lambda given: cls(**given))

        def build(value: object) -> object:
            if not isinstance(value, dict):
                raise wrong(cls.__name__, value)
            given, name = {}, ""
            try:
                for name, maker in makers.items():
                    if name in value:
                        given[name] = maker(value[name])
            except Mismatch as error:
                error.within(f".{name}")
                error.fitted = len(given)
                raise
            missing = [name for name in required if name not in value]
            if missing:
                mismatch = Mismatch([(f".{name}", "required, but missing") for name in missing])
                mismatch.fitted = len(given)
                raise mismatch
            return make(given)

        self._known[key] = build
        variables = dict(zip(getattr(cls, "__parameters__", ()), parts, strict=False))
        # The constructor's parameters are its fields without those of init=False, and with its InitVars.
        for parameter in namespace.stdlib("inspect").signature(cls).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            field = cls.__dataclass_fields__.get(parameter.name)
            annotation = parameter.annotation if field is None else field.type
            makers[parameter.name] = self.of(annotation, _scope_of(cls, parameter.name), variables)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        return build


def _scope_of(cls: Any, name: str) -> dict[str, Any]:
    """The names that an annotation of the field means: those of the module and of the class that declare it."""
    owner = cls
    field = cls.__dataclass_fields__.get(name)
    for base in cls.__mro__:
        # A class that inherits a field has the same Field object.
        if field is not None and vars(base).get("__dataclass_fields__", {}).get(name) is field:
            owner = base
    module = getattr(sys.modules.get(owner.__module__), "__dict__", {})
    # The module's come first: in the class, a field `date` with a default hides datetime's date.
    return {**vars(owner), **module}


def _items(kind: Any, make: Build) -> Build:
    """A list, tuple or set of any number of items."""

    def build(value: object) -> object:
        if type(value) is not list:
            raise wrong("list", value)
        if make is scalars.as_it_is and kind is list:
            return value
        items = []
        try:
            for item in value:
                items.append(make(item))
        except Mismatch as error:
            error.within(f"[{len(items)}]")
            raise
        try:
            return kind(items)
        except TypeError as error:  # a list in a set, say
            raise refused(error) from None

    return build


def _fixed_tuple(makers: list[Build]) -> Build:
    def build(value: object) -> object:
        if type(value) is not list:
            raise wrong("list", value)
        if len(value) != len(makers):
            raise Mismatch([("", f"expected {len(makers)} items, got {len(value)}")])
        items: list[object] = []
        try:
            for make, item in zip(makers, value, strict=True):
                items.append(make(item))
        except Mismatch as error:
            error.within(f"[{len(items)}]")
            raise
        return tuple(items)

    return build


def _mapping(make_key: Build, make: Build) -> Build:
    make_key = scalars.key(make_key)

    def build(value: object) -> object:
        if not isinstance(value, dict):
            raise wrong("dict", value)
        built, name = {}, None
        try:
            for name, item in value.items():
                built[make_key(name)] = make(item)
        except Mismatch as error:
            error.within(f"[{shown(name).partition(' ')[2]}]")
            raise
        return built

    return build


def _checked(make: Build) -> Build:
    """As `make`, but its ValueError and TypeError mean that the value does not fit."""

    def build(value: object) -> object:
        try:
            return make(value)
        except cloudevent.EnvelopeError as error:
            raise Mismatch([("", str(error))]) from None
        except (ValueError, TypeError) as error:
            mismatch = refused(error)
            raise mismatch from mismatch.__cause__

    return build


def _name(annotation: Any) -> str:
    """The annotation as somebody would write it."""
    if annotation is None or annotation is type(None):
        return "None"
    parts = getattr(annotation, "__args__", None) or ()
    name = getattr(annotation, "__name__", None) or getattr(annotation, "__forward_arg__", None) or str(annotation)
    if type(annotation).__name__ in ("UnionType", "_UnionGenericAlias", "Union"):
        return " | ".join(map(_name, parts))
    return f"{name}[{', '.join(map(_name, parts))}]" if parts else str(name)
