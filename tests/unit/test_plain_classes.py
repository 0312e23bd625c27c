"""Tests that plain_classes.py behaves like the standard library, as far as it has the features of the originals."""

from __future__ import annotations

import copy
import dataclasses
import enum
from types import ModuleType
from typing import Any

import pytest

from pipe_init.kernel import plain_classes


def classes(module: ModuleType) -> tuple[Any, Any]:
    """Return two classes that are declared with a module's dataclass()."""

    @module.dataclass(frozen=True)  # type: ignore[untyped-decorator]
    class Point:
        x: int
        y: int = 2
        names: list[str] = module.field(default_factory=list)

        @property
        def sum(self) -> int:
            return self.x + self.y

    @module.dataclass(slots=True)  # type: ignore[untyped-decorator]
    class Box:
        size: int
        weight: float = 1.5
        total: float = 0.0

        def __post_init__(self) -> None:
            self.total = self.size * self.weight

    return Point, Box


@pytest.mark.parametrize("base", [plain_classes.Enum, enum.Enum])
def test_members_of_an_enum(base: Any) -> None:
    class Colour(base):  # type: ignore[misc]
        """A colour."""

        RED = "the first"
        BLUE = "the second"

    assert Colour.RED is Colour.RED != Colour.BLUE and isinstance(Colour.RED, Colour)
    assert (Colour.RED.name, Colour.BLUE.value) == ("RED", "the second")
    assert copy.deepcopy([Colour.RED])[0] is Colour.RED
    assert {Colour.RED: 1}[Colour.RED] == 1 and "Colour.RED" in repr(Colour.RED)


@pytest.mark.parametrize("module", [plain_classes, dataclasses])
class TestRecords:
    def test_fields_and_defaults(self, module: ModuleType) -> None:
        point_class, box_class = classes(module)
        point = point_class(1)
        assert (point.x, point.y, point.names, point.sum, point_class.y) == (1, 2, [], 3, 2)
        assert vars(point_class(x=3, names=["a"])) == {"x": 3, "y": 2, "names": ["a"]}
        assert (box_class(4).total, box_class(4, 0.5).total) == (6.0, 2.0)

    def test_each_object_has_a_default_of_its_own(self, module: ModuleType) -> None:
        point_class, _ = classes(module)
        assert point_class(1).names is not point_class(1).names

    def test_slots(self, module: ModuleType) -> None:
        box = classes(module)[1](4)
        assert not hasattr(box, "__dict__")
        with pytest.raises(AttributeError):
            box.other = 1

    def test_what_is_missing_or_unknown(self, module: ModuleType) -> None:
        point_class, _ = classes(module)
        for given in ({}, {"x": 1, "z": 2}):
            with pytest.raises(TypeError):
                point_class(**given)

    def test_equality_is_that_of_the_fields(self, module: ModuleType) -> None:
        point_class, box_class = classes(module)
        assert point_class(1) == point_class(1) != point_class(2)
        assert point_class(1) != box_class(1) and point_class(1) != (1, 2, [])

    def test_the_text_names_the_fields(self, module: ModuleType) -> None:
        assert repr(classes(module)[0](1)).endswith("Point(x=1, y=2, names=[])")

    def test_replace(self, module: ModuleType) -> None:
        point_class, box_class = classes(module)
        point = point_class(1, 5, ["a"])
        assert module.replace(point, x=7) == point_class(7, 5, ["a"]) and point.x == 1
        assert module.replace(box_class(4), size=2).total == 3.0
        with pytest.raises(TypeError):
            module.replace(point, z=1)
