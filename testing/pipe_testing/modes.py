"""Define the modes in which `pipe-init run` can start its workers, for tests that must pass in each mode.

A test module asks for its modes with a line such as `MODES = modes.ALL`. The hooks in conftest.py repeat its tests, and
`wanted` decides which modes run. A mode is a set of environment variables, so the commands in the tests stay the same.
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
"""The variables that make `pipe-init run` use each mode. Options that a test gives itself come first."""

ALL = tuple(VARIABLES)

_asked = os.environ.get("PIPE_INIT_MODES", "")
ON_REQUEST = ALL if _asked else (EXEC,)
"""The modes of a module whose tests have little to do with processes: all, if PIPE_INIT_MODES asks for any."""

SPIN = {"PIPE_INIT_SPIN": os.environ["PIPE_INIT_TEST_SPIN"]} if "PIPE_INIT_TEST_SPIN" in os.environ else {}
"""The variable that sets `--spin` in every command of the tests, if PIPE_INIT_TEST_SPIN asks for it."""

chosen = EXEC
"""The mode of the test that runs now."""


def variables() -> dict[str, str]:
    """Return the variables for the test that runs now."""
    return {**SPIN, **VARIABLES[chosen]}


def wanted(test: str, mode: str, modes: Collection[str]) -> bool:
    """Tell whether a test runs in this mode.

    PIPE_INIT_MODES lists the modes, separated by commas, or is "all". Without it a test runs in the mode `exec` and in
    one other mode. That mode is always the same for one test, and differs among tests.

    Args:
        test: The name of the test.
        mode: The mode in question.
        modes: The modes that the test can run in.
    """
    if mode not in modes:
        return False
    if _asked:
        return _asked == "all" or mode in _asked.split(",")
    others = [other for other in modes if other != EXEC]
    return mode == EXEC or mode == others[zlib.crc32(test.encode()) % len(others)]
