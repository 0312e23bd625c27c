"""Fixtures for the tests of the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipe_testing.shown import SHOW, WRONG


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """Make a folder whose index.handler evaluates the text in the event, and whose wrong.handler executes it."""
    (tmp_path / "index.py").write_text(SHOW)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path
