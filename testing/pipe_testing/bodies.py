"""Handlers of a few lines, run once in a real runtime for what they log. Knows RuntimeProcess only."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from pipe_testing.runtime import RuntimeProcess

RECORD = r"\[%s\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tr-1\t%s"
"""A log record of the first request in the runtime's text form, with places for its level and its message."""


def logs(folder: Path, body: str, event: object = None) -> RuntimeProcess:
    """Run a handler with this body once, to the end of the runtime; its LOG frames are in `lines`."""
    source = "import os, sys\ndef handler(event, context):\n" + indent(body)
    with RuntimeProcess(folder, source) as runtime:
        runtime.start()
        assert runtime.lines == []
        runtime.call(event)
        lines = runtime.lines
        assert runtime.stop() == 0
        assert runtime.lines == []
        runtime.lines = lines
    assert all(line.id == 1 for line in lines)
    return runtime


def indent(body: str) -> str:
    return "".join("    " + line for line in dedent(body).strip("\n").splitlines(keepends=True)) + "\n"
