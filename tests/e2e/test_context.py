"""Tests that processes that the function starts get its context."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipe_testing.command import PipeInit

POOL = """
import copy, multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(context):
    return [context.aws_request_id, context.identity.cognito_identity_id, context.get_remaining_time_in_millis() > 0]

def handler(event, context):
    found = {}
    for method in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            found[method] = pool.submit(work, context).result()
    return found
"""


@pytest.mark.unmeasured
def test_a_context_goes_to_another_process(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(POOL)
    (tmp_path / "context.json").write_text('{"request_id": "r-7", "identity": {"cognito_identity_id": "i-7"}}')
    finished = pipe_init("run", "index.handler", "-q", "--context", "context.json", cwd=tmp_path)
    assert finished.stderr == b""
    assert json.loads(finished.stdout) == dict.fromkeys(("fork", "spawn", "forkserver"), ["r-7", "i-7", True])
