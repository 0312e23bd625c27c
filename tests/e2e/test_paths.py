"""Tests that the init imports nothing from PYTHONPATH, the working directory or the user's site-packages.

The command runs where such a folder holds a module with the name of each module of the standard library. It also runs
where pipe-init itself is installed in such a folder. tests/unit/test_module_path.py tests the list of folders.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.installed import NEEDED, bare_python, put_into, site_packages
from pipe_testing.patience import HANGS

pytestmark = pytest.mark.unmeasured


def loaded_by_the_interpreter(*arguments: str, cwd: Path) -> set[str]:
    """Return the modules that an interpreter imports by itself. Only the interpreter decides where it finds them."""
    (cwd / "shown.py").write_text("import sys; print(*sys.modules)")
    done = subprocess.run([sys.executable, *arguments, "shown"], cwd=cwd, env=unmeasured(), capture_output=True)
    return set(done.stdout.decode().split())


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """Make a folder with a namesake of every module. Each ends the process that imports it."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    early = loaded_by_the_interpreter("-m", cwd=tmp_path)
    for name in {*sys.stdlib_module_names, *NEEDED} - early - {"__main__", "this", "antigravity"}:
        (folder / f"{name}.py").write_text(f"import os\nos.write(2, b'TAKEN: {name}\\n')\nos._exit(77)\n")
    return folder


def run(command: Sequence[str | Path], cwd: Path, variables: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command and return its exit code, stdout and stderr."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**unmeasured(), **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    return done.returncode, done.stdout, done.stderr


MODULE = [sys.executable, "-m", "pipe_init"]
ISOLATED = [sys.executable, "-I", "-m", "pipe_init"]

RUNS = {
    "exec": (["exec", "--", "/bin/echo", "done"], 0),
    "exec, the long way": (["exec", "--grace=1", "-v", "--", "/bin/echo", "done"], 0),
    "run": (["run", "index.handler", "-q", "-e", '"done"'], 0),
    "run from a template": (["run", "index.handler", "-q", "-w", "2", "--events", "events"], 0),
    "run that fails": (["run", "index.fails"], 1),
    "run that hangs": (["run", "index.hangs", "-q", "-t", "0.2"], 124),
    "help": (["run", "-h"], 0),
    "wrong usage": (["run", "index.handler", "--nothing"], 2),
    "version": (["--version"], 0),
}
PRINT_DONE = ("exec", "exec, the long way", "run", "run from a template")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Make a folder with a function."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "events").write_text('"done"\n"done"\n')
    (folder / "index.py").write_text(
        "def handler(event, context):\n    return event\n"
        "def fails(event, context):\n    raise ValueError('on purpose')\n"
        "def hangs(event, context):\n    while True: pass\n"
    )
    return folder


@pytest.mark.parametrize("what", RUNS)
def test_nothing_is_imported_from_pythonpath(what: str, shadows: Path, code: Path) -> None:
    arguments, expected = RUNS[what]
    returncode, stdout, stderr = run([*PipeInit().command, *arguments], code, {"PYTHONPATH": str(shadows)})
    assert "TAKEN" not in stderr
    assert returncode == expected, stderr
    assert ("done" in stdout) == (what in PRINT_DONE)


@pytest.mark.parametrize("what", ["exec", "exec, the long way", "run"])
@pytest.mark.parametrize("way", ["-m, PYTHONPATH", "-m, working directory", "-I -m"])
def test_nothing_is_imported_when_started_as_a_module(what: str, way: str, shadows: Path, code: Path) -> None:
    """Check `python -m`: the interpreter decides which pipe_init runs, and imports what it needs for that."""
    arguments = [*RUNS[what][0]]
    if what == "run":
        arguments += ["-C", str(code)]
    variables = {"PYTHONPATH": f":{shadows}"} if "working" not in way else {}
    if way != "-I -m":
        (shadows / "pipe_init.py").unlink()
    returncode, stdout, stderr = run([*(ISOLATED if way == "-I -m" else MODULE), *arguments], shadows, variables)
    assert "TAKEN" not in stderr
    assert (returncode, stdout.strip().strip('"')) == (0, "done"), stderr


def test_a_function_gets_the_modules_that_pythonpath_names(tmp_path: Path) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    names = {"resource", "select", "struct", "json", "msgpack", "click", "token"} - set(sys.builtin_module_names)
    for name in names:
        (folder / f"{name}.py").write_text("WHOSE = 'the program'\n")
    (tmp_path / "index.py").write_text(
        "import os, sys\n"
        f"import {', '.join(names)}\n"
        "def handler(event, context):\n"
        "    library = os.path.dirname(os.__file__)\n"
        f"    found = {{module.WHOSE for module in ({', '.join(names)})}}\n"
        "    return [sorted(found), sys.path[:2], sys.path.index(library) > 1, os.environ['PYTHONPATH']]\n"
    )
    for start in (PipeInit().command, ISOLATED):
        for options in ([], ["--start-method", "template"]):
            command = [*start, "run", "index.handler", "-q", *options]
            returncode, stdout, stderr = run(command, tmp_path, {"PYTHONPATH": str(folder)})
            assert (returncode, stderr) == (0, "")
            assert json.loads(stdout) == [["the program"], [str(tmp_path), str(folder)], True, str(folder)]


def test_a_program_gets_its_variables(tmp_path: Path) -> None:
    variables = {"PYTHONHOME": "/nowhere", "PYTHONPATH": ":a:b", "PYTHONSAFEPATH": "", "PYTHONSTARTUP": "c"}
    for name in variables:
        command = [*ISOLATED, "exec", "--", "/bin/sh", "-c", f'echo "${{{name}-unset}}"']
        assert run(command, tmp_path, variables) == (0, f"{variables[name]}\n", "")


def test_a_pythonhome_that_keeps_the_runtime_from_starting_is_the_functions(code: Path) -> None:
    returncode, stdout, stderr = run([*ISOLATED, "run", "index.handler", "-q"], code, {"PYTHONHOME": "/nowhere"})
    assert (returncode, stdout) == (3, "")
    assert "No module named 'encodings'" in stderr and "while it was loading the handler" in stderr
    variables = {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    assert run([*ISOLATED, "run", "index.handler", "-q"], code, variables) == (0, "{}\n", "")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return the Python of a virtual environment in which nothing is installed. It has the user's site-packages."""
    return bare_python(tmp_path / "venv", users=True)


class TestInstalledElsewhere:
    """Check that pipe-init runs if it is installed only in a folder that it otherwise avoids."""

    def check(self, python: Path, code: Path, variables: Mapping[str, str]) -> None:
        for arguments in (RUNS["exec"][0], RUNS["exec, the long way"][0], RUNS["run"][0]):
            returncode, stdout, stderr = run([python, "-m", "pipe_init", *arguments], code, variables)
            assert (returncode, stdout.strip().strip('"')) == (0, "done"), stderr

    def test_in_a_folder_of_pythonpath(self, bare: Path, code: Path, tmp_path: Path) -> None:
        put_into(tmp_path / "target")
        self.check(bare, code, {"PYTHONPATH": str(tmp_path / "target")})

    def test_in_two(self, bare: Path, code: Path, tmp_path: Path) -> None:
        put_into(tmp_path / "ours", ["pipe_init"])
        put_into(tmp_path / "theirs", NEEDED[1:])
        self.check(bare, code, {"PYTHONPATH": f"{tmp_path}/ours:{tmp_path}/theirs"})

    def test_in_the_users_site_packages(self, bare: Path, code: Path, tmp_path: Path) -> None:
        variables = {"PYTHONUSERBASE": str(tmp_path / "base")}
        _, folder, _ = run([bare, "-c", "import site; print(site.USER_SITE)"], code, variables)
        put_into(Path(folder.strip()))
        self.check(bare, code, variables)

    def test_in_a_folder_that_a_pth_file_names(self, bare: Path, code: Path, tmp_path: Path) -> None:
        Path(site_packages(bare), "ours.pth").write_text(f"{tmp_path / 'tree'}\n")
        put_into(tmp_path / "tree")
        self.check(bare, code, {"PYTHONPATH": str(tmp_path)})

    def test_in_a_zip_file(self, bare: Path, code: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
            archive.writestr("__main__.py", "from pipe_init.__main__ import main\nmain()\n")
            for name in ("pipe_init", "pipe_runtime", "click"):
                spec = util.find_spec(name)
                assert spec is not None and spec.submodule_search_locations
                root = Path(spec.submodule_search_locations[0])
                for file in root.rglob("*.py"):
                    archive.write(file, Path(name, file.relative_to(root)))
        for what in ("exec", "exec, the long way"):
            returncode, stdout, stderr = run([bare, "app.pyz", *RUNS[what][0]], tmp_path)
            assert (returncode, stdout) == (0, "done\n"), stderr
