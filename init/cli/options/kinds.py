"""Define the class of an option, and the kinds of values: which texts a kind allows, and how it converts them.

command_line.py and click (through grouped.py) convert texts with the same kinds. This file must not know click, nor
which options there are.
"""

from __future__ import annotations

import os

from .usage_errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_TRUE = frozenset(("1", "true", "t", "yes", "y", "on"))
_FALSE = frozenset(("0", "false", "f", "no", "n", "off"))
"""The texts, in lower case, that click accepts for true and for false in a flag's environment variable."""


class Text:
    """A kind whose value is any text, unchanged. It is the base class of the other kinds.

    Attributes:
        metavar: The word for the value in the help, such as DIR; "" to let click choose one.
    """

    metavar = ""

    def read(self, text: str) -> Any:
        """Convert a text to the option's value.

        Raises:
            ValueError: The kind does not allow this text. The message tells the user why.
        """
        return text

    def split(self, variable: str) -> list[str]:
        """Cut the environment variable of a repeatable option into texts: here, into words."""
        return variable.split()


class Flag(Text):
    """The kind of an option that takes no value on the command line. Its environment variable is true or false."""

    def read(self, text: str) -> bool:
        """Convert the text of the environment variable. Raise ValueError if it means neither true nor false."""
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError(text)
        return word in _TRUE


class Line(Text):
    """A text that may contain blanks. So the environment variable has one text per line, not one per word."""

    def split(self, variable: str) -> list[str]:
        """Return the lines of the environment variable, except blank ones."""
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
        """Return the paths in the environment variable, which are separated by colons as in PATH."""
        return variable.split(os.pathsep)


def absolute(folder: str) -> str:
    """Return the absolute path of a Folder's value. Raise UsageError if the current directory was deleted."""
    if os.path.isabs(folder):
        return folder
    try:
        here = os.getcwd()
    except FileNotFoundError:
        raise UsageError("The current directory was deleted: go to another one, or give an absolute path.") from None
    return here if folder == "." else os.path.join(here, folder)


class Choice(Text):
    """A choice between several texts. Upper and lower case count as the same.

    Attributes:
        values: The texts that are allowed.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self.values = values

    def read(self, text: str) -> str:
        """Return the allowed text that matches the given text. Raise ValueError if none matches."""
        for value in self.values:
            if text.casefold() == value.casefold():
                return value
        raise ValueError(f"{text!r} is not one of {', '.join(map(repr, self.values))}.")


class Number(Text):
    """A number in a range. NaN is never in the range.

    Attributes:
        least: The smallest number that is allowed.
        most: The largest number that is allowed.
        what: The name for such a number in an error message.
        convert: The function that converts a text to the number.
    """

    metavar = "N"
    what = "number"
    convert: Callable[[str], float] = float

    def __init__(self, least: float, most: float) -> None:
        self.least = least
        self.most = most

    def read(self, text: str) -> float:
        """Return the number that the text contains. Raise ValueError if it is not a number, or not in the range."""
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
        name: The name of the option's field in RunOptions.
        group: The heading in the help that lists the option.
        help: The text about the option in the help.
        short: The option's short name, such as "-C"; "" if it has none.
        kind: The kind of the option's value.
        default: The value of an option that is not given.
        metavar: The word for the value in the help, such as DIR.
        repeatable: Whether the option can be given several times. If so, its value is a tuple.
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
        """Name the option after its field. The field's type decides whether the option is a flag, or repeatable."""
        kind = owner.__annotations__[name]
        self.name, self.repeatable = name, kind.startswith("tuple")
        if self.repeatable:
            self.default = ()
        elif kind == "bool":
            self.kind, self.default = Flag(), False

    @property
    def long(self) -> str:
        """Return the option's long name, such as "--log-style"."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Return the name of the option's environment variable."""
        return "PIPE_INIT_" + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Return whether the option takes no value on the command line."""
        return isinstance(self.kind, Flag)
