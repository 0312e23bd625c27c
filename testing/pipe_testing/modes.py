"""The ways in which workers come to be, for tests that are to pass in each of them.

A test module that says `MODES = modes.ALL` runs once in each mode: the fixture `process_mode` of conftest.py sees to
it. A mode is a set of variables for `pipe-init`, so the tests' commands stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

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


def wanted(modes: Iterable[str]) -> list[str]:
    """Those of `modes` that this run of the tests has: all, or those that PIPE_INIT_MODES names, with commas."""
    return [mode for mode in modes if _asked in ("", "all") or mode in _asked.split(",")]
