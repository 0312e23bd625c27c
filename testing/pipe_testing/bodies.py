"""Run a handler of a few lines once in a real runtime, and collect what it logs.

This module knows RuntimeProcess only.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from pipe_testing.runtime import RuntimeProcess

RECORD = r"\[%s\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tr-1\t%s"
"""A pattern for a log record of the first request in the text form. The level and the message are filled in by `%`."""


def logs(folder: Path, body: str, event: object = None) -> RuntimeProcess:
    """Run a handler with this body once and stop the runtime. Return the runtime, with the LOG frames in `lines`."""
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
