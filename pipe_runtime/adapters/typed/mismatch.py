"""Where an event does not fit its type, and how that is said. It knows paths and values, and nothing of types."""

from __future__ import annotations

from ...call import faults
from ...call.shorten import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROBLEMS_SHOWN = 3
"""Problems of one event that are told; the others are counted."""

TEXT_SHOWN = 60
"""Characters of a text that are shown."""

_PROBLEM_SHOWN = 512
"""Bytes of one problem, path included."""


class Mismatch(Exception):
    """A value that does not fit.

    problems: (path to the place, what is wrong there). The path is that from the value, such as ``.items[2]``;
    whoever knows what the value lies in adds that step with `within`.
    depth: how many steps were added.
    fitted: how many fields of the outermost object did fit.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__()
        self.problems = problems
        self.depth = 0
        self.fitted = 0

    def within(self, step: str) -> None:
        """Put a step in front of every path: ``.name``, ``[2]``, ``['key']``."""
        self.problems = [(step + path, text) for path, text in self.problems]
        self.depth += 1

    def text(self, root: str) -> str:
        """One line. root: what the paths begin with."""
        told = [clean(f"{root}{path}: {text}", _PROBLEM_SHOWN) for path, text in self.problems[:PROBLEMS_SHOWN]]
        more = len(self.problems) - len(told)
        return "; ".join([*told, f"and {more} more"] if more else told)


def wrong(expected: str, value: object) -> Mismatch:
    """The mismatch of a value that is something else than `expected`."""
    return Mismatch([("", f"expected {expected}, got {shown(value)}")])


def refused(error: Exception) -> Mismatch:
    """The mismatch of a value that its class's own code has refused, by raising `error`.

    That is the mismatch's cause, unless it is pydantic's, which says all that there is to say.
    """
    if type(error).__name__ == "ValidationError":  # pydantic's
        try:
            problems = [_problem(detail) for detail in error.errors()]  # type: ignore[attr-defined]
        except Exception:  # somebody else's class of that name
            problems = []
        if problems:
            return Mismatch(problems)
    mismatch = Mismatch([("", f"{faults.type_name(error)}: {' '.join(faults.message_of(error).split())}")])
    mismatch.__cause__ = error
    return mismatch


def _problem(detail: dict[str, Any]) -> tuple[str, str]:
    """One of pydantic's error details, as (path, text)."""
    parts = [part for part in detail["loc"] if part != "__root__"]  # pydantic 1's name for the value itself
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    text = " ".join(str(detail["msg"]).split())
    if "input" in detail and detail["type"] != "missing":
        text = f"{text}, got {shown(detail['input'])}"
    return path, text


def shown(value: object) -> str:
    """A value in a message: a short one as it is, of any other its type. Runs none of its own code."""
    if value is None:
        return "None"
    kind = type(value)
    if isinstance(value, (str, bytes)) and kind in (str, bytes):
        text = repr(value[:TEXT_SHOWN])
        return f"{kind.__name__} {text}" if len(value) <= TEXT_SHOWN else f"{kind.__name__} {text[:-1]}…{text[-1]}"
    # An int of more bits may have more digits than Python is willing to write.
    if kind in (bool, float) or (isinstance(value, int) and kind is int and value.bit_length() <= 128):
        return f"{kind.__name__} {value!r}"
    return faults.type_name(value)
