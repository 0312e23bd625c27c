"""Define a function that evaluates the text in its event, and read what a run of it wrote.

The fixture `show` of tests/e2e makes a folder with this function. This module knows no options of the command line.
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
"""The file index.py. Its `handler` evaluates an expression; see `shown`."""

WRONG = """
import os, signal, sys

def handler(event, context):
    exec(event["do"], globals())
"""
"""The file wrong.py. Its `handler` executes the event's "do"."""


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
