"""The ways in which workers come to be, for tests that are to pass in each of them.

The tests of a module that says `MODES = modes.ALL` can run in each mode; conftest.py sees to it, and `wanted` says what
does. A mode is a set of variables for `pipe-init`, so the tests' commands stay as they are.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection

EXEC, TEMPLATE, REQUEST, WORKERS = "exec", "template", "request", "workers"

VARIABLES = {
    EXEC: {},
    TEMPLATE: {"PIPE_INIT_START_METHOD": "template"},
    REQUEST: {"PIPE_INIT_START_METHOD": "template", "PIPE_INIT_ISOLATION": "request"},
    WORKERS: {"PIPE_INIT_START_METHOD": "template", "PIPE_INIT_WORKERS": "4"},
}
"""What makes `pipe-init run` use each mode, unless a test's own options say otherwise."""

ALL = tuple(VARIABLES)

_asked = os.environ.get("PIPE_INIT_MODES", "")
ON_REQUEST = ALL if _asked else (EXEC,)
"""For modules whose tests have little to do with processes: all modes, if PIPE_INIT_MODES asks for any."""

chosen = EXEC
"""The mode of the test that runs."""


def variables() -> dict[str, str]:
    """Of the test that runs."""
    return dict(VARIABLES[chosen])


def wanted(test: str, mode: str, modes: Collection[str]) -> bool:
    """Whether this run of the tests has `test` in `mode`. modes: those that it can have.

    PIPE_INIT_MODES names some, with commas, or "all". Else each test runs by exec, and in one of the other modes:
    always the same one for a test, and another one for its neighbours.
    """
    if mode not in modes:
        return False
    if _asked:
        return _asked == "all" or mode in _asked.split(",")
    others = [other for other in modes if other != EXEC]
    return mode == EXEC or mode == others[zlib.crc32(test.encode()) % len(others)]
