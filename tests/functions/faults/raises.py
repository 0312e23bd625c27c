"""A function whose requests end in an exception, or in a value that cannot be encoded."""

import sys


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


def plain():
    raise LookupError("not there")  # <- plain


def chain():
    try:
        {}["inner"]  # <- chain.cause
    except KeyError as error:
        raise RuntimeError("outer") from error  # <- chain


def context():
    try:
        int("x")
    except ValueError:
        raise TypeError("while handling")  # noqa: B904  # <- context


def group():
    raise ExceptionGroup("several", [OSError(5, "one"), ValueError("two")])  # noqa: F821  # <- group


def exits():
    sys.exit(3)  # <- exits


def interrupts():
    raise KeyboardInterrupt  # <- interrupts


def memory():
    raise MemoryError("too much")  # <- memory


def allocates():
    return len(bytearray(1 << 46))  # <- allocates


def recurses():
    return recurses()  # <- recurses


def unprintable():
    raise Unprintable  # <- unprintable


def unserialisable():
    return object()


def circular():
    value = []
    value.append(value)
    return value


def handler(event, context):
    return globals()[event["fault"]]() if "fault" in event else event
