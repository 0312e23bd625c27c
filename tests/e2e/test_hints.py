"""Tests of hints on the command line: one line after the error, shown once, that changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit

PARSED = "the event is parsed already; with --raw, or --platform fc, the handler gets bytes to parse"


def test_one_line_after_the_error_that_changes_nothing(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("import json\ndef handler(event, context):\n    return json.loads(event)\n")
    finished = pipe_init("run", "index.handler", "--log-style", "none", cwd=tmp_path)
    error, line = finished.stderr.decode().splitlines()
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert json.loads(error)["errorType"] == "TypeError" and line == f"pipe-init: hint: {PARSED}"
    quiet = pipe_init("run", "index.handler", "-q", cwd=tmp_path)
    assert len(quiet.stderr.splitlines()) == quiet.returncode == 1
    right = pipe_init("run", "index.handler", "--raw", "--log-style", "none", "-e", "[1]", cwd=tmp_path)
    assert (right.returncode, right.stdout, right.stderr) == (0, b"[1]", b"")


def test_with_many_events_a_hint_is_said_once(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("import json\ndef handler(event, context):\n    return json.loads(event)\n")
    finished = pipe_init("run", "index.handler", "--events", "-", cwd=tmp_path, stdin=b"{}\n" * 300)
    assert len(finished.stdout.splitlines()) == 300 and finished.returncode == 1
    assert finished.stderr.decode().splitlines() == [f"pipe-init: hint: {PARSED}"]


@pytest.mark.parametrize("name", ["index.py", "index.handlr", "index"])
def test_a_handler_that_is_spelled_another_way(pipe_init: PipeInit, tmp_path: Path, name: str) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    return 1\n")
    finished = pipe_init("run", name, "--log-style", "none", cwd=tmp_path)
    assert finished.returncode == 3
    assert finished.stderr.decode().splitlines()[-1].startswith("pipe-init: hint: try `pipe-init run index.handler`")
