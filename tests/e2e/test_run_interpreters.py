"""Tests of the function's environment and interpreter: variables, virtual environments, and unsuitable interpreters."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pipe_testing import modes
from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.shown import error, only_unmeasured, shown
from pipe_testing.tools import require

MODES = modes.ON_REQUEST


def environment_of(pipe_init: PipeInit, show: Path, *arguments: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a function sees."""
    finished = pipe_init("run", "index.handler", "-q", "-e", shown("dict(os.environ)"), *arguments, cwd=show, env=env)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("arguments", [(), ("-E", "LC_TIME=C")], ids=["early worker", "worker of its own"])
def test_platform_variables_are_removed_except_those_that_functions_read(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...]
) -> None:
    kept = """FC_FUNC_CODE_PATH FC_FUNCTION_MEMORY_SIZE FC_RUNTIME_VERSION FC_ACCOUNT_ID FC_FUNCTION_HANDLER
        FC_FUNCTION_NAME FC_SERVICE_NAME FC_VER_ID FC_QUALIFIER FC_REGION FC_INSTANCE_ID""".split()
    gone = ["FC_SECRET", "_FC_ANYTHING", "FC_ACCESS_KEY_ID", "FC_"]
    env = {**dict.fromkeys(kept, "kept"), **dict.fromkeys(gone, "gone"), "OTHER_FC_": "other"}
    seen = environment_of(pipe_init, show, *arguments, env=env)
    assert sorted(name for name in seen if name.startswith(("FC_", "_FC_"))) == sorted(kept)
    assert seen["OTHER_FC_"] == "other"


def test_platform_variables_that_are_given_are_there(pipe_init: PipeInit, show: Path) -> None:
    assert environment_of(pipe_init, show, "-E", "FC_SECRET=wanted", env={"FC_SECRET": "ours"})["FC_SECRET"] == "wanted"


def test_variables_come_from_files_then_options_the_last_one_counts(pipe_init: PipeInit, show: Path) -> None:
    (show / "one").write_text("A=file one\nB=file one\nC=file one\nOURS\n")
    (show / "two").write_text("B=file two\nC=file two\n")
    arguments = ("--env-file", "one", "-E", "C=option", "--env-file", "two", "-E", "D=", "-E", "E=1", "-E", "E=2=3")
    seen = environment_of(pipe_init, show, *arguments, "-E", "FC_OURS", env={"OURS": "ours", "FC_OURS": "passed on"})
    names = ("A", "B", "C", "D", "E", "OURS", "FC_OURS")
    assert [seen[name] for name in names] == ["file one", "file two", "option", "", "2=3", "ours", "passed on"]


def test_many_variables_and_odd_bytes_get_through(pipe_init: PipeInit, show: Path) -> None:
    long = "é" * 40_000
    assert environment_of(pipe_init, show, "-E", f"LONG={long}", env={})["LONG"] == long
    event = shown("list(os.environb[b'ODD'])")
    odd = os.fsdecode(b"ODD=\xff\x01")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", odd, cwd=show).stdout == b"[255, 1]\n"


def test_time_zone_is_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    event = shown("time.localtime(0).tm_hour")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", "TZ=XYZ-9", cwd=show).stdout == b"9\n"


def test_hash_seed_is_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    code = "print(hash('some text'))"
    seeded = {**unmeasured(), "PYTHONHASHSEED": "7"}
    expected = subprocess.run([sys.executable, "-c", code], env=seeded, capture_output=True, check=True).stdout
    event = shown("hash('some text')")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", "PYTHONHASHSEED=7", cwd=show).stdout == expected


def test_loader_variables_are_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    require(platform.libc_ver()[0] == "glibc", "needs glibc, whose loader has LD_DEBUG")
    finished = pipe_init("run", "index.quick", "-q", "-E", "LD_DEBUG=statistics", cwd=show)
    assert finished.stdout == b'"done"\n'
    assert b"runtime linker statistics" in finished.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a virtual environment in which neither pipe-init nor msgpack is installed."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, env=unmeasured())
    return folder


IMPORTS = """
import sys

def handler(event, context):
    try:
        import msgpack
    except ImportError as error:
        found = str(error)
    else:
        found = msgpack.NAME
    return [sys.prefix, list(sys.version_info[:2]), found]
"""


@pytest.mark.parametrize("form", ["folder", "program", "relative", "variable"])
def test_python_of_a_virtual_environment(pipe_init: PipeInit, bare: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "index.py").write_text(IMPORTS)
    program = bare / "bin" / "python"
    given = {"folder": bare, "program": program, "relative": os.path.relpath(bare, tmp_path)}
    arguments = ["--python", str(given[form])] if form in given else []
    env = {**only_unmeasured(), "PIPE_INIT_PYTHON": None if arguments else str(program)}
    finished = pipe_init("run", "index.handler", "-q", *arguments, cwd=tmp_path, env=env)
    expected = [str(bare), list(sys.version_info[:2]), "No module named 'msgpack'"]
    assert json.loads(finished.stdout or b"null") == expected, finished.stderr


def test_function_gets_the_msgpack_of_its_own_interpreter(pipe_init: PipeInit, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(IMPORTS)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    python = bare / "bin" / "python"
    place = subprocess.run([python, "-c", code], env=unmeasured(), capture_output=True, check=True, text=True)
    module = Path(place.stdout.strip()) / "msgpack.py"
    module.write_text("NAME = 'the one of this environment'\n")
    try:
        finished = pipe_init("run", "index.handler", "-q", "--python", str(bare), cwd=tmp_path, env=only_unmeasured())
    finally:
        module.unlink()
    assert json.loads(finished.stdout)[2] == "the one of this environment"


def other_interpreters() -> Iterator[tuple[Path, tuple[int, int]]]:
    """Yield interpreters of other versions, from PATH or next to the one that runs the tests."""
    beside = Path(sys.base_prefix).parent.glob("*/bin/python3")
    named = (Path(folder) / f"python3.{minor}" for folder in os.get_exec_path() for minor in range(6, 16))
    seen = {sys.version_info[:2]}
    for path in [*beside, *named]:
        if not os.access(path, os.X_OK):
            continue
        asked = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], env=unmeasured(), capture_output=True, check=False
        )
        if asked.returncode == 0:
            major, minor = map(int, asked.stdout.split())
            if (major, minor) not in seen:
                seen.add((major, minor))
                yield path, (major, minor)


def test_python_of_another_version_runs_on_msgpack_without_its_c_code(pipe_init: PipeInit, tmp_path: Path) -> None:
    found = next((item for item in other_interpreters() if item[1] >= (3, 10)), None)
    require(found, "needs another Python, 3.10 or newer, than the one that runs the tests")
    assert found is not None
    (tmp_path / "index.py").write_text(IMPORTS)
    finished = pipe_init("run", "index.handler", "-q", "--python", str(found[0]), cwd=tmp_path, env=only_unmeasured())
    assert json.loads(finished.stdout or b"null")[1] == list(found[1]), finished.stderr


def test_python_that_is_too_old_is_told_so(pipe_init: PipeInit, tmp_path: Path) -> None:
    # Few machines have an interpreter that old, so this program pretends to be one.
    pretends = tmp_path / "python3.9"
    code = (
        "import runpy, sys; sys.version_info = 3, 9, 2; del sys.argv[0]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    pretends.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    pretends.chmod(0o755)
    old = next((str(path) for path, version in other_interpreters() if version < (3, 10)), str(pretends))
    (tmp_path / "index.py").write_text(IMPORTS)
    finished = pipe_init("run", "index.handler", "-q", "--python", old, cwd=tmp_path, env=only_unmeasured())
    assert (finished.returncode, finished.stdout) == (3, b"")
    assert "is too old, 3.10 or newer is needed" in finished.stderr.decode()


def test_safe_path_does_not_hide_the_runtime(pipe_init: PipeInit, show: Path, bare: Path) -> None:
    arguments = ("--python", str(bare), "-E", "PYTHONSAFEPATH=1", "-E", "PYTHONPATH=")
    finished = pipe_init("run", "index.quick", "-q", *arguments, cwd=show, env=only_unmeasured())
    assert finished.stdout == b'"done"\n', finished.stderr


def test_python_that_is_missing(pipe_init: PipeInit, show: Path) -> None:
    (show / "empty").mkdir()
    for path in ("nowhere", "./nowhere", "empty"):
        finished = pipe_init("run", "index.quick", "-q", "--python", path, cwd=show)
        assert (finished.returncode, finished.stdout) == (127, b"")
        assert str(error(finished)["errorMessage"]).startswith("Cannot execute ")
        assert path.removeprefix("./") in str(error(finished)["errorMessage"])


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_python_that_cannot_be_executed(pipe_init: PipeInit, show: Path, mode: int) -> None:
    program = show / "program"
    program.write_text("neither a binary nor a script")
    program.chmod(mode)
    finished = pipe_init("run", "index.quick", "-q", "--python", str(program), cwd=show)
    assert (finished.returncode, finished.stdout) == (126, b"")
    assert f"Cannot execute {program}: " in str(error(finished)["errorMessage"])
