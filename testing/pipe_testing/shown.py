"""A function that evaluates what its event says, and what a run of it wrote. Knows no option of the command line.

The fixture `show` of tests/e2e has a folder with it.
"""

from __future__ import annotations

import json
import os

from pipe_testing.command import Finished
from pipe_testing.environment import unmeasured

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

SHOW = """
import os, sys, time

def handler(event, context):
    return eval(event["show"], {"os": os, "sys": sys, "time": time, "context": context})

def kind(event, context):
    return f"{type(event).__name__} {event}"

def fail(event, context):
    raise ValueError("it is broken")

def quick(event, context):
    print("a line of the function")
    return "done"
"""
"""index.py: `handler` evaluates an expression, see `shown`."""

WRONG = """
import os, signal, sys

def handler(event, context):
    exec(event["do"], globals())
"""
"""wrong.py: `handler` executes the event's "do"."""


def shown(expression: str) -> str:
    """Return the event that makes index.handler evaluate an expression."""
    return json.dumps({"show": expression})


def lines(finished: Finished) -> list[str]:
    """Return the lines that went to stderr."""
    return finished.stderr.decode().splitlines()


def error(finished: Finished) -> dict[str, object]:
    """Return the error object, which is stderr's last line."""
    found = json.loads(lines(finished)[-1])
    assert isinstance(found, dict)
    return found


def variable(name: str) -> str:
    """Return the environment variable of an option."""
    return f"PIPE_INIT_{name.upper()}"


def only_unmeasured() -> dict[str, str | None]:
    """Return changes for `pipe_init(env=…)` that take away what starts coverage in a child."""
    return dict.fromkeys(os.environ.keys() - unmeasured().keys(), None)
