"""Skip tests that need what a machine may lack, such as a program or a module.

With PIPE_INIT_CI=1 a missing tool is a failure, so that a skip can never hide a test for good.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module, util
from typing import Any

import pytest


def under_ci() -> bool:
    """Tell whether everything that the tests can use must be present."""
    return os.environ.get("PIPE_INIT_CI") == "1"


def require(condition: object, missing: str) -> None:
    """Return if `condition` holds. Otherwise skip the test, or fail it under CI, and name what is `missing`."""
    if condition:
        return
    if under_ci():
        pytest.fail(f"{missing} (a failure because PIPE_INIT_CI=1)", pytrace=False)
    pytest.skip(missing)


def require_module(name: str) -> Any:
    """Import the module `name` and return it. If it is not installed, skip the test, or fail it under CI."""
    require(util.find_spec(name.partition(".")[0]), f"needs the module {name}, which is not installed")
    return import_module(name)


def require_tool(name: str) -> str:
    """Return the path of the program `name`. If it is not found, skip the test, or fail it under CI."""
    path = shutil.which(name)
    require(path, f"needs the program {name}, which is not on PATH")
    assert path is not None
    return path
