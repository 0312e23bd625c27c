"""Read the answers of a runtime that may answer its requests in any order.

This module knows RuntimeProcess. It does not know how a runtime serves several requests at once.
"""

from __future__ import annotations

import json
from typing import Any

from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CHUNK, CREDIT, DUMP, END, ERROR, LOG, RESULT
from pipe_testing.runtime import RuntimeProcess

STREAM = 1024 * 1024
"""The credit in bytes that these tests grant to each stream that the runtime sends."""


def outcomes(runtime: RuntimeProcess, *ids: int) -> dict[int, Frame]:
    """Return the outcome of each of these requests. LOG frames that come meanwhile are in `runtime.lines`."""
    found: dict[int, Frame] = {}
    runtime.lines = []
    while set(found) != set(ids):
        frame = runtime.next()
        if frame.kind == LOG:
            runtime.lines.append(frame)
        elif frame.kind == RESULT and frame.metadata.get("stream"):
            continue
        elif frame.kind in (RESULT, ERROR, END):
            assert frame.id in ids and frame.id not in found, frame
            found[frame.id] = frame
        else:
            assert frame.kind in (CHUNK, CREDIT), frame
    return found


def values(runtime: RuntimeProcess, *ids: int) -> list[Any]:
    """Return what each of these requests returned, decoded from JSON."""
    frames = outcomes(runtime, *ids)
    assert all(frames[id].kind == RESULT for id in ids), frames
    return [json.loads(frames[id].payload) for id in ids]


def error_of(runtime: RuntimeProcess, id: int) -> str:
    """Return the error type of a request, which must be the next to end and must fail."""
    return str(outcomes(runtime, id)[id].metadata["error_type"])


def wait_for_line(runtime: RuntimeProcess, text: str) -> Frame:
    """Return the LOG frame that holds this text. Only LOG frames may come before it."""
    while True:
        frame = runtime.next()
        assert frame.kind == LOG, frame
        if text in frame.payload.decode():
            return frame


def stacks(runtime: RuntimeProcess) -> list[dict[str, Any]]:
    """Ask the runtime for the stacks of its requests, and return its answer."""
    runtime.send(DUMP)
    while (frame := runtime.next()).kind != DUMP:
        assert frame.kind == LOG, frame
    return list(frame.metadata["stacks"])
