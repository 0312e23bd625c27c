"""Put pipe-init into other places than the tests' own environment: virtual environments and folders.

The packages are linked, not copied. This module knows which packages belong together, and nothing of what they do.
"""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from pipe_testing.environment import unmeasured

NEEDED = ("pipe_init", "pipe_runtime", "click", "msgpack")


def bare_python(folder: Path, users: bool = False) -> Path:
    """Make a virtual environment in which nothing is installed, and return the path of its interpreter.

    Args:
        folder: Where to make it.
        users: Whether the interpreter also looks into the site-packages of the user and of the system.
    """
    venv.EnvBuilder(symlinks=True, system_site_packages=users).create(folder)
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    """Return the site-packages folder of an interpreter."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, check=True, env=unmeasured(), text=True)
    return Path(done.stdout.strip())


def put_into(folder: Path, names: Sequence[str] = NEEDED) -> None:
    """Link packages into a folder, as if they were installed there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        spec = util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"{name} is not installed")
        (folder / name).symlink_to(spec.submodule_search_locations[0], target_is_directory=True)
