"""Find the handler by its name, and find out what kind of function it is.

Python's ordinary import system loads the function's module, under its dotted name. namespace.prepare() must have run
before. This module must not know requests, pipes or results.
"""

from __future__ import annotations

import _frozen_importlib
import os
import sys

from .. import namespace
from ..namespace import late
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

_FunctionType = type(lambda: None)
_MethodType: type = type(namespace.own_library.__enter__)
_import = __import__
_MAX_WRAPPERS = 100  # functions that wrap each other in a circle must not hang the load
_VARARGS = 0x04  # flags of a code object: inspect.CO_VARARGS, CO_COROUTINE …
_COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x80, 0x100, 0x200
_PLAIN_TYPES = (None, dict, list, str, int, float, bool, bytes, object)
_PLAIN_NAMES = frozenset(("dict", "list", "str", "int", "float", "bool", "bytes", "object", "Any", "typing.Any"))
_accepted: set[str] = set()
"""The top-level modules that _refuse_builtin need not check again. Hooks are often in the module of the handler."""


class _NotFound(Fault):
    """The module itself does not exist. If an import inside the module fails, that is another error."""


def find(name: str, code_dir: str) -> Callable[..., object]:
    """Return the callable with this name, and import its module for that.

    Args:
        name: ``index.handler``, ``pkg.mod.func``, ``dir/index.handler``, ``index:Class.method`` …
        code_dir: The folder that the name is relative to.

    Raises:
        Fault: The handler cannot be found or imported. docs/protocol.md has a table of the errors.
        BaseException: Any other exception that the module raises while it is imported, including SystemExit.
    """
    code_dir = os.path.abspath(code_dir)
    certain, guesses, attributes = _parse(name)
    shown, module, rest = _import_chain(certain, guesses, attributes, code_dir)
    return _resolve(shown, module, rest)


def _parse(name: str) -> tuple[list[str], list[str], list[str]]:
    """Split a name into three lists.

    The first list has the parts of the name that must be folders and modules. The second has the next parts, which may
    be modules or attributes: for index.Class.method, only the import of index shows which. The third has all possible
    attributes.
    """

    def malformed(why: str) -> Fault:
        return Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {why}")

    if "\0" in name:
        raise malformed("it holds a null character")
    if name.startswith("/"):
        raise malformed("it must be relative to the code directory")
    place, _, last = name.rpartition("/")
    folders = [part for part in place.split("/") if part not in ("", ".")]
    if ".." in folders:
        raise malformed("it must not leave the code directory")
    left, colon, right = last.partition(":")
    if ":" in right or ":" in place:
        raise malformed("more than one ':'")
    modules, attributes = left.split("."), right.split(".")
    if not colon:
        modules, attributes = modules[:1], modules[1:]
    if not attributes:
        raise malformed("expected module.function or module:function")
    if not all(modules) or not all(attributes):
        raise malformed("a part of it is empty")
    return [*folders, *modules], [] if colon else attributes[:-1], attributes


def _import_chain(
    certain: list[str], guesses: list[str], attributes: list[str], code_dir: str
) -> tuple[str, ModuleType, list[str]]:
    """Import a dotted name part by part. Return the last module's name, the module, and the attributes that follow."""
    parts = [*certain, *guesses]
    _refuse_builtin(parts, code_dir)
    module: ModuleType | None = None
    full, place, is_added = "", code_dir, False
    for index, part in enumerate(parts):
        guess = index - len(certain)
        if module is not None and guess >= 0 and not hasattr(module, "__path__"):
            return full, module, attributes[guess:]
        parent = full
        step = part.replace(".", "_")  # import the folder v1.2 as the package v1_2, not as v1 with a submodule 2
        full = f"{parent}.{step}" if parent else step
        shown = ".".join(parts[: max(index + 1, len(certain))])
        try:
            path = os.path.join(place, part)
            if index + 1 < len(parts) and os.path.isdir(path):
                module, added = _import_folder(full, shown, path, code_dir)
                is_added |= added
            else:
                module = _import_one(full, shown, place)
        except _NotFound:
            if module is not None and guess >= 0 and hasattr(module, part):
                return parent, module, attributes[guess:]
            raise
        place = path
    assert module is not None  # _parse returns at least one module
    if is_added and not _within(module, code_dir):
        raise _conflict(full)
    _accepted.add(full.partition(".")[0])
    return full, module, attributes[len(guesses) :]


def _refuse_builtin(parts: list[str], code_dir: str) -> None:
    top = parts[0]
    if top in _accepted or (len(parts) > 1 and os.path.isdir(os.path.join(code_dir, top))):
        return
    found = namespace.find(top, sys.path)
    if top not in sys.modules:
        if namespace.is_standard(found):
            raise _conflict(".".join(parts))
        return
    loaded = sys.modules[top]
    spec = namespace.spec_of(loaded)
    # If the function has already imported a module of this name from a layer, the handler's name means that module.
    foreign = spec is None or bool(spec.origin) and not namespace.same_origin(spec, found)
    if namespace.is_standard(spec) or (foreign and not _within(loaded, code_dir)):
        raise _conflict(".".join(parts))


def _conflict(module: str) -> Fault:
    return Fault("Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module} as a handler module")


def _within(module: ModuleType, code_dir: str) -> bool:
    spec = namespace.spec_of(module)
    return spec is not None and bool(spec.origin) and str(spec.origin).startswith(os.path.join(code_dir, ""))


def _import_folder(full: str, shown: str, path: str, code_dir: str) -> tuple[ModuleType, bool]:
    """Import a folder of the function as a package, even if another package has the same name.

    Python prefers the standard library's package ``test`` to a folder ``test`` without ``__init__.py``. In that case,
    add the folder to the package, so that both work. ``v1.2`` cannot be a module's name, so make a package for it.

    Returns:
        The package, and whether the folder was added to it.
    """
    try:
        module = _import_one(full, shown, os.path.dirname(path))
    except _NotFound:
        spec = _frozen_importlib.ModuleSpec(full, None, is_package=True)
        spec.submodule_search_locations = [path]
        module = sys.modules[full] = _frozen_importlib.module_from_spec(spec)
        parent, _, child = full.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
        return module, True
    paths = getattr(module, "__path__", ())
    if _within(module, code_dir) or path in paths:
        return module, False
    module.__path__ = [*paths, path]
    return module, True


def _import_one(full: str, shown: str, place: str) -> ModuleType:
    """Import one module. `place` is the folder where it should be."""
    try:
        _import(full)
        return sys.modules[full]
    except (ImportError, SyntaxError, ValueError, OSError) as error:
        fault, is_missing = namespace.own("load.import_errors").of_import(error, full, shown, place)
        if fault is None:
            raise
        raise (_NotFound(fault.error_type, fault.message) if is_missing else fault) from None


def _resolve(shown: str, module: ModuleType, attributes: list[str]) -> Callable[..., object]:
    wanted = ".".join(attributes)
    missing = f"Handler '{wanted}' missing on module '{shown}'"
    found: object = module
    for attribute in attributes:
        try:
            found = _step(found, attribute)
        except AttributeError:
            raise Fault("Runtime.HandlerNotFound", missing) from None
        except TypeError as error:
            if namespace.calls_of(error.__traceback__):
                raise
            raise Fault("Runtime.HandlerNotFound", f"{missing}: no instance can be made: {error}") from None
    if not callable(found):
        kind = type(found).__name__
        raise Fault("Runtime.HandlerNotFound", f"{missing}: it is of type {kind}, not callable")
    return found


def _step(owner: object, attribute: str) -> object:
    """Return an attribute. If it is a method of a class, create an instance without arguments and return its method."""
    if isinstance(owner, type) and isinstance(_defined(owner, attribute), _FunctionType):
        return getattr(owner(), attribute)
    return getattr(owner, attribute)


def _defined(kind: type, attribute: str) -> object:
    """Return an attribute, unbound, from the class or from the nearest base that has it. None if no class has it."""
    for base in kind.__mro__:
        if attribute in base.__dict__:
            return base.__dict__[attribute]
    return None


def adapt(handler: Callable[..., object]) -> Callable[[object, object], object]:
    """Return a callable that takes (event, context).

    If the handler takes fewer arguments, return a wrapper, with the handler as its ``__wrapped__``.
    """
    count = positional(handler)
    if count >= 2:
        return handler

    def adapter(event: object, context: object) -> object:
        return handler(*(event, context)[:count])

    adapter.__dict__["__wrapped__"] = handler
    return adapter


def type_of(handler: object) -> str:
    """Guess from the handler what kind of function it is: "asgi", "wsgi" or "event".

    A WSGI callable takes (environ, start_response), an ASGI callable (scope, receive, send). Frameworks use such names.
    """
    function, bound = _function_of(handler)
    code = getattr(function, "__code__", None)
    names = code.co_varnames[bound : code.co_argcount] if code is not None else ()
    if names[:3] == ("scope", "receive", "send"):
        return "asgi"
    return "wsgi" if names[1:2] == ("start_response",) else "event"


def is_plain(handler: object) -> bool:
    """Return whether the runtime can simply call the handler with a decoded event and use its return value."""
    return type_of(handler) == "event" and not is_async(handler) and is_plain_annotation(event_annotation(handler)[0])


def is_async(handler: object) -> bool:
    """Return whether a call of the handler returns a coroutine or an asynchronous generator."""
    function, _ = _function_of(handler)
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & (_COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR))


def event_annotation(handler: object) -> tuple[Any, dict[str, Any]]:
    """Return the annotation of the parameter that takes the event, and the globals in which to look up its names.

    The annotation is None if there is none, or if it cannot be evaluated. A wrapper that has a parameter for the event
    expects the plain event. So the annotations that functools.wraps has copied to it do not count.
    """
    function, bound = _function_of(handler, stops_at_event=True)
    try:
        code = function.__code__
        if bound >= code.co_argcount or "__wrapped__" in function.__dict__:
            return None, {}
        return function.__annotations__.get(code.co_varnames[bound]), function.__globals__
    except Exception:  # it is not a Python function, or its lazy annotations cannot be evaluated
        return None, {}


def is_plain_annotation(annotation: object) -> bool:
    """Return whether the decoded event fits the annotation without a conversion."""
    if type(annotation) is str:
        return annotation in _PLAIN_NAMES
    return any(annotation is plain for plain in _PLAIN_TYPES)


def _function_of(handler: object, stops_at_event: bool = False) -> tuple[Any, int]:
    """Return the Python function that a call of the handler runs, and how many of its parameters are already bound.

    Args:
        handler: The function's callable.
        stops_at_event: Whether to stop at the first wrapper that has a parameter for the event, and to return this
            wrapper instead of the function that it wraps.
    """
    function: Any = handler
    bound = 0
    for _ in range(_MAX_WRAPPERS):
        if type(function) is _MethodType:
            function, bound = function.__func__, bound + 1  # type: ignore[attr-defined]
        elif isinstance(function, _FunctionType):
            code = function.__code__
            if "__wrapped__" not in function.__dict__ or not code.co_flags & _VARARGS:
                break
            if stops_at_event and bound < code.co_argcount:
                break
            function = function.__dict__["__wrapped__"]
        elif type(function).__module__ == "functools" and type(function).__name__ == "partial":
            function, bound = function.func, bound + len(function.args)
        elif isinstance(call := _defined(type(function), "__call__"), _FunctionType):
            function, bound = call, bound + 1
        else:
            break
    return function, bound


def positional(handler: Callable[..., object]) -> int:
    """Return how many positional arguments the handler takes; 2 if it takes any number, or if the number is unknown."""
    function, bound = _function_of(handler)
    if isinstance(function, _FunctionType) and not getattr(handler, "keywords", None):
        return 2 if function.__code__.co_flags & _VARARGS else function.__code__.co_argcount - bound
    inspect = late.inspect
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (ValueError, TypeError):  # some callables written in C have no signature
        return 2
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)
