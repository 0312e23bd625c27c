"""Tests that the stack of a function that timed out shows source lines, with one event and with many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Make a code directory with a module in it, and another file next to the directory."""
    folder = tmp_path / "code"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("first\n    second  \nth\xe4rd", encoding="utf-8")
    (tmp_path / "secret.py").write_text("secret\n")
    return folder


HANGS = """
import time

def wait():
    time.sleep(1000)  # for ever

def handler(event, context):
    wait()
"""


@pytest.mark.unmeasured
def test_a_timeout_on_the_command_line(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "index.py").write_text(HANGS)
    arguments = ("run", "index.handler", "-t", "0.3", "--grace", "0.2", "-q", "--code-dir", "../code")
    (tmp_path / "here").mkdir()
    done = pipe_init(*arguments, "--error-style", "text", cwd=tmp_path / "here")
    assert done.returncode == 124
    file = tmp_path / "code" / "index.py"
    expected = (
        "Traceback (most recent call last):\n"
        f'  File "{file}", line 8, in handler\n    wait()\n'
        f'  File "{file}", line 5, in wait\n    time.sleep(1000)  # for ever\n'
    )
    assert done.stderr.decode().startswith(expected)
    done = pipe_init(*arguments, "--events", "-", cwd=tmp_path / "here", stdin=b"1\n")
    assert json.loads(done.stdout)["stackTrace"][-1].endswith("in wait\n    time.sleep(1000)  # for ever\n")
