"""Tests of a start with too few descriptors or too little memory: a line says so, and the exit code is documented."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipe_init.kernel import shortage
from pipe_testing.command import PipeInit
from pipe_testing.environment import unmeasured
from pipe_testing.installed import bare_python, put_into, site_packages
from pipe_testing.patience import HANGS

pytestmark = [pytest.mark.heavy, pytest.mark.unmeasured]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the command with an interpreter that loads nothing else. A .pth file of setuptools needs descriptors."""
    python = bare_python(tmp_path_factory.mktemp("bare") / "venv")
    put_into(site_packages(python))
    return [str(python), *PipeInit().command[-1:]]


def with_descriptors(count: int, *arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Run a command that may have this many open descriptors. Return its exit code, stdout and stderr."""
    done = subprocess.run(
        arguments,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)),
        cwd=cwd,
        env=unmeasured(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    return done.returncode, done.stdout, done.stderr


COMMANDS = {
    "exec": ["exec", "--", "/bin/echo", "done"],
    "exec, the long way": ["exec", "--grace=1", "--", "/bin/echo", "done"],
    "run": ["run", "index.handler", "-q", "-e", '"done"'],
    "run, many": ["run", "index.handler", "-q", "--events", "events", "-w", "2"],
}


TRIED = [(what, count) for what in COMMANDS for count in range(3, 21) if what != "run, many" or count in (4, 12, 18)]
"""Runs of many events are tried with a few counts only, because they wait between attempts to start a worker."""


@pytest.mark.parametrize(("what", "count"), TRIED)
def test_descriptors(what: str, count: int, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    return event\n")
    (tmp_path / "events").write_text('"done"\n' * 3)
    code, stdout, stderr = with_descriptors(count, *command, *COMMANDS[what], cwd=tmp_path)
    if with_descriptors(count, command[0], "-c", "pass", cwd=tmp_path)[0] != 0:
        assert code != 0 and not stdout, "not even the interpreter starts"
        return
    assert "Traceback" not in stderr
    if code == 0:
        assert (stdout.strip('"\n'), stderr) == ("done", "")
    elif what.startswith("exec"):
        assert (code, stdout) == (126, "")
        assert stderr == f"pipe-init: cannot start: Too many open files (the limit is {count}, see ulimit -n)\n"
    else:
        assert code in (3, 126)
        assert f"Too many open files (the limit is {count}, see ulimit -n)" in stdout + stderr


@pytest.mark.parametrize("what", ["exec", "exec, the long way"])
def test_a_plain_init_needs_no_more_than_six(what: str, command: list[str], tmp_path: Path) -> None:
    """Check with a program that needs few descriptors itself."""
    for count in (6, 20):
        assert with_descriptors(count, *command, *COMMANDS[what], cwd=tmp_path) == (0, "done\n", "")


class TestWhy:
    def test_the_limit_is_told(self) -> None:
        limit = os.sysconf("SC_OPEN_MAX")
        error = OSError(errno.EMFILE, "Too many open files")
        assert shortage.describe(error) == f"Too many open files (the limit is {limit}, see ulimit -n)"

    def test_other_errors_speak_for_themselves(self) -> None:
        assert shortage.describe(OSError(errno.ENOENT, "No such file or directory", "x")) == "No such file or directory"
        assert shortage.describe(OSError("no number")) == "no number"


class TestEnd:
    @pytest.mark.parametrize(
        ("error", "line"),
        [
            ("OSError(24, 'Too many open files')", r"Too many open files \(the limit is \d+, see ulimit -n\)"),
            ("OSError(12, 'Cannot allocate memory')", "Cannot allocate memory"),
            ("MemoryError()", "Cannot allocate memory"),
            ("ImportError('libz.so.1: failed to map segment')", "libz.so.1: failed to map segment"),
        ],
    )
    @pytest.mark.parametrize(("arguments", "code"), [("['exec', 'true']", 126), ("['run', 'x']", 3), ("[]", 3)])
    def test_what_is_short_is_told(self, error: str, line: str, arguments: str, code: int) -> None:
        program = f"from pipe_init.kernel.shortage import end; end({error}, {arguments})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=unmeasured(), text=True)
        assert done.returncode == code
        assert re.fullmatch(f"pipe-init: cannot start: {line}\n", done.stderr)

    def test_any_other_error_is_raised(self) -> None:
        error = PermissionError(errno.EACCES, "Permission denied")
        with pytest.raises(PermissionError):
            shortage.end(error, ["exec"])
