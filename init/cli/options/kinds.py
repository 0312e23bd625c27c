"""Define what an option is, and the kinds of values: what a text must be, and the value that it stands for.

command_line.py and click (grouped.py) convert texts with the same kinds. This file knows neither click nor what options
there are.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_TRUE = frozenset(("1", "true", "t", "yes", "y", "on"))
_FALSE = frozenset(("0", "false", "f", "no", "n", "off"))
"""The values of a flag's variable, as click reads them."""


class Text:
    """Any text, as it is. The other kinds are kinds of this one.

    Attributes:
        metavar: What the help calls the value; "" if click decides.
    """

    metavar = ""

    def read(self, text: str) -> Any:
        """Return the value that a text stands for.

        Raises:
            ValueError: It stands for none. The error says why, for the user.
        """
        return text

    def split(self, variable: str) -> list[str]:
        """Return the texts in the variable of an option that can be given repeatedly."""
        return variable.split()


class Flag(Text):
    """An option without a value: it is given, or it is not. Its variable may say either."""

    def read(self, text: str) -> bool:
        """Return the value that a variable stands for. Raise ValueError if it stands for none."""
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError(text)
        return word in _TRUE


class Line(Text):
    """A text with blanks in it. Its variable has one such text per line, not one per word."""

    def split(self, variable: str) -> list[str]:
        """Return the lines of a variable that are not blank."""
        return [line for line in variable.splitlines() if line.strip()]


class Folder(Text):
    """A path, without needless slashes and dots. Whether the folder exists is checked later."""

    metavar = "DIR"

    def read(self, text: str) -> str:
        """Return the path as pathlib writes it. A `..` stays, because the folder before it may be a link."""
        names = [name for name in text.split("/") if name not in ("", ".")]
        slashes = len(text) - len(text.lstrip("/"))
        root = "//" if slashes == 2 else "/" * (slashes > 0)  # POSIX gives two slashes a meaning of their own
        return root + "/".join(names) or "."

    def split(self, variable: str) -> list[str]:
        """Return the paths of a variable that has a list of them, as PATH has."""
        return variable.split(os.pathsep)


def absolute(folder: str) -> str:
    """Return the absolute path of a Folder's value."""
    if os.path.isabs(folder):
        return folder
    here = os.getcwd()
    return here if folder == "." else os.path.join(here, folder)


class Choice(Text):
    """One of some texts.

    Attributes:
        values: The texts.
        case_sensitive: Whether upper and lower case differ.
    """

    def __init__(self, values: Sequence[str], case_sensitive: bool = True) -> None:
        self.values = values
        self.case_sensitive = case_sensitive

    def read(self, text: str) -> str:
        """Return the one that is meant. Raise ValueError if none is."""
        for value in self.values:
            if text == value or (not self.case_sensitive and text.casefold() == value.casefold()):
                return value
        raise ValueError(f"{text!r} is not one of {', '.join(map(repr, self.values))}.")


class Number(Text):
    """A number in a range. NaN is in no range.

    Attributes:
        least: The least number of the range.
        most: The greatest number of the range.
        what: What an error message calls it.
        convert: The function that makes a number of a text.
    """

    metavar = "N"
    what = "number"
    convert: Callable[[str], float] = float

    def __init__(self, least: float, most: float) -> None:
        self.least = least
        self.most = most

    def read(self, text: str) -> float:
        """Return the number. Raise ValueError if there is none in the range."""
        try:
            number = self.convert(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a {self.what}.") from None
        if not self.least <= number <= self.most:
            raise ValueError(f"{number} is not in the range {self.least}<=x<={self.most}.")
        return number


class Seconds(Number):
    """A number of seconds in a range."""

    metavar = "SECONDS"
    what = "number of seconds"


class Count(Number):
    """A whole number in a range."""

    what = "whole number"
    convert = int


class Megabytes(Count):
    """A number of megabytes in a range."""

    metavar = "MB"


class Option:
    """One option of `run`.

    Attributes:
        name: The name of its field in RunOptions.
        group: The heading in the help under which it stands.
        help: Its help.
        short: Its short name, such as "-C"; "" if it has none.
        kind: What its value is.
        default: Its value if it is not given.
        metavar: What the help calls its value.
        repeatable: Whether it can be given several times. Then its value is a tuple.
    """

    def __init__(
        self, group: str, help: str, short: str = "", kind: Text | None = None, default: Any = None, metavar: str = ""
    ) -> None:
        self.name = ""
        self.group = group
        self.help = help
        self.short = short
        self.kind = kind or Text()
        self.default = default
        self.metavar = metavar or self.kind.metavar
        self.repeatable = False

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the field's name. The field's type says whether the option is a flag, or repeatable."""
        kind = owner.__annotations__[name]
        self.name, self.repeatable = name, kind.startswith("tuple")
        if self.repeatable:
            self.default = ()
        elif kind == "bool":
            self.kind, self.default = Flag(), False

    @property
    def long(self) -> str:
        """Return its long name."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Return its environment variable."""
        return "PIPE_INIT_" + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Return whether it has no value on the command line."""
        return isinstance(self.kind, Flag)
