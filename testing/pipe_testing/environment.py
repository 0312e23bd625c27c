"""Environments for the processes that tests start."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """Return this process's environment without what starts coverage in a child.

    Coverage imports half the standard library before the first line of ours. A test of what a fresh
    interpreter has loaded, or of which json.py an import finds, needs a child without it.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
