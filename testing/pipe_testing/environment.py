"""Make environments for the processes that tests start."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """Return this process's environment without the variables that start coverage in a child.

    Coverage imports half of the standard library before our first line runs. Some tests check what a fresh
    interpreter has loaded, or which json.py an import finds. They need a child without coverage.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
