"""Replace the standard library's dataclasses and enum by a small module that is imported faster.

To import dataclasses and enum, with the dozen modules that they import, would take a fifth of the time that
`pipe-init run` needs to start. This module has only the features that the init uses, under the same names. A type
checker reads the originals instead. So only the type checker enforces `frozen`: nothing does when the init runs. This
module must not know what the data mean.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
    from enum import Enum
    from typing import Any
else:

    class Enum:
        """A class whose public attributes are replaced by objects of the class, each with a `name` and a `value`."""

        def __init_subclass__(cls):
            for name, value in list(vars(cls).items()):
                if not name.startswith("_"):
                    member = cls()
                    member.name, member.value = name, value
                    setattr(cls, name, member)

        def __repr__(self):
            return f"{type(self).__name__}.{self.name}"

        def __deepcopy__(self, memo):
            return self

    class field:  # in dataclasses, `field` is a function
        """A field whose default value is made by a call for each new object: `field(default_factory=dict)`."""

        def __init__(self, default_factory):
            self.make = default_factory

    def dataclass(cls=None, *, frozen=False, slots=False):
        """Add `__init__`, `__eq__` and `__repr__` to a class, for its annotated fields. Without `cls`: a decorator."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, slots=slots)
        names = tuple(cls.__annotations__)
        defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
        if slots:
            kept = {name: value for name, value in vars(cls).items() if name not in (*names, "__dict__", "__weakref__")}
            cls = type(cls)(cls.__name__, cls.__bases__, {**kept, "__slots__": names})
        cls.__match_args__ = names
        cls.__init__ = _constructor(names, defaults, hasattr(cls, "__post_init__"))
        cls.__eq__ = _equal
        cls.__repr__ = _shown
        cls.__hash__ = None
        return cls

    def replace(data, **changes):
        """Return a copy of an object with other values in some fields."""
        return type(data)(**{**dict(zip(data.__match_args__, _values(data), strict=True)), **changes})


__all__ = ["Enum", "dataclass", "field", "replace"]


def _constructor(names: tuple[str, ...], defaults: dict[str, Any], goes_on: bool) -> Any:
    """Return an `__init__` that sets the fields, and then calls `__post_init__` if the class has it (`goes_on`).

    The function is compiled from source text for these fields. That is three times faster than a loop over the fields.
    """
    parameters, lines = [], []
    for name in names:
        parameters.append(f"{name}=defaults[{name!r}]" if name in defaults else name)
        made = type(defaults.get(name)) is field
        value = f"{name}.make() if {name} is defaults[{name!r}] else {name}" if made else name
        lines.append(f" self.{name} = {value}\n")
    if goes_on:
        lines.append(" self.__post_init__()\n")
    scope: dict[str, Any] = {"defaults": defaults}
    exec(f"def __init__(self, {', '.join(parameters)}):\n{''.join(lines)}", scope)
    return scope["__init__"]


def _values(data: Any) -> list[Any]:
    return [getattr(data, name) for name in data.__match_args__]


def _equal(data: Any, other: Any) -> bool:
    return _values(data) == _values(other) if type(data) is type(other) else NotImplemented


def _shown(data: Any) -> str:
    shown = ", ".join(f"{name}={getattr(data, name)!r}" for name in data.__match_args__)
    return f"{type(data).__qualname__}({shown})"
