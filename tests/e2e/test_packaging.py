"""Tests that the installed files are the tracked files, and that the tests run against the installed files.

They look at the installed distribution, which is the wheel that tox built from the tree. Outside tox there may be none;
under CI there must be one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path, PurePosixPath

import pytest

from pipe_testing import tools
from pipe_testing.command import PipeInit

TREE = Path(__file__).resolve().parents[2]
PACKAGES = {"init": "pipe_init", "pipe_runtime": "pipe_runtime"}  # folder in the tree -> package

UNDER_TOX = "TOX_ENV_NAME" in os.environ
needs_wheel = pytest.mark.skipif(
    not UNDER_TOX and not tools.under_ci(), reason="needs the installed wheel: run it with tox"
)


@pytest.fixture
def distribution() -> metadata.Distribution:
    """Return the installed distribution of pipe-init."""
    return metadata.distribution("pipe-init")


@pytest.fixture
def tracked(require_tool: Callable[[str], str]) -> dict[PurePosixPath, Path]:
    """Return the files that git tracks in the packages' folders, by their path in the wheel."""
    if not (TREE / ".git").exists():
        pytest.skip("not a git checkout: nothing to compare the wheel with")
    # safe.directory: git refuses a checkout that another user owns, such as a clone that root uses in a container.
    git = [require_tool("git"), "-c", "safe.directory=*", "-C", str(TREE)]
    listing = subprocess.run([*git, "ls-files", "-z", "--", *PACKAGES], capture_output=True, check=True)
    paths = [PurePosixPath(os.fsdecode(name)) for name in listing.stdout.split(b"\0") if name]
    return {PurePosixPath(PACKAGES[path.parts[0]], *path.parts[1:]): TREE / path for path in paths}


def package_files(distribution: metadata.Distribution) -> dict[PurePosixPath, Path]:
    """Return the files that the wheel put into the packages, by their path in the wheel."""
    assert distribution.files is not None
    return {
        PurePosixPath(file): Path(str(file.locate()))
        for file in distribution.files
        if file.parts[0] in PACKAGES.values() and file.suffix != ".pyc"
    }


@needs_wheel
def test_wheel_holds_exactly_the_tracked_files(
    distribution: metadata.Distribution, tracked: dict[PurePosixPath, Path]
) -> None:
    installed = set(package_files(distribution))
    missing, extra = set(tracked) - installed, installed - set(tracked)
    assert not missing, "tracked but not in the wheel: is the package listed in setup.cfg?"
    assert not extra, "in the wheel but not tracked: `git add` it, or remove the old folder build/"


@needs_wheel
def test_wheel_is_built_from_these_files(
    distribution: metadata.Distribution, tracked: dict[PurePosixPath, Path]
) -> None:
    installed = package_files(distribution)
    stale = [str(path) for path in tracked if installed[path].read_bytes() != tracked[path].read_bytes()]
    assert not stale, "another content in the tree than in the wheel: install it again"


@needs_wheel
def test_wheel_holds_type_markers_and_licence(distribution: metadata.Distribution) -> None:
    assert distribution.files is not None
    names = {str(file) for file in distribution.files}
    assert {"pipe_init/py.typed", "pipe_runtime/py.typed"} <= names
    # The place of the licence in the metadata depends on the version of setuptools.
    assert any(re.fullmatch(r"pipe_init-[^/]+\.dist-info/(licenses/)?LICENSE", name) for name in names)


@needs_wheel
def test_wheel_needs_msgpack_and_click_and_no_more(distribution: metadata.Distribution) -> None:
    needs = [need for need in distribution.requires or [] if "extra ==" not in need]
    assert sorted(re.split(r"[^A-Za-z0-9_.-]", need)[0] for need in needs) == ["click", "msgpack"]


@needs_wheel
def test_wheel_installs_the_command_as_it_is(distribution: metadata.Distribution) -> None:
    """Check that the command is no entry point, whose script imports a module before pipe-init's own code runs."""
    assert not list(distribution.entry_points), "install the wheel again"
    first, _, rest = Path(sys.executable).with_name("pipe-init").read_text().partition("\n")
    assert Path(first.removeprefix("#!")).parent == Path(sys.executable).parent
    assert rest == (TREE / "bin" / "pipe-init").read_text().partition("\n")[2], "install the wheel again"


@needs_wheel
@pytest.mark.parametrize("package", PACKAGES.values())
def test_tests_import_the_installed_package(package: str) -> None:
    here = import_module(package).__file__
    assert here is not None and Path(here).is_relative_to(sysconfig.get_path("purelib"))
    assert origin_in_a_child(package).is_relative_to(sysconfig.get_path("purelib"))


@needs_wheel
def test_runtime_is_the_installed_one(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(
        "def handler(event):\n    import pipe_runtime.main\n    return pipe_runtime.main.__file__\n"
    )
    run = pipe_init("run", "index.handler", "-q", "-C", str(tmp_path))
    assert run.returncode == 0, run.stderr.decode()
    assert Path(json.loads(run.stdout)).is_relative_to(sysconfig.get_path("purelib"))


def origin_in_a_child(package: str) -> Path:
    """Return from where an interpreter imports `package` if it starts here as the init starts the runtime's."""
    code = f"import {package}; print({package}.__file__)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return Path(child.stdout.strip())
