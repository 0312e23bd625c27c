"""Hearing a runtime that answers in any order. Knows RuntimeProcess; no engine."""

from __future__ import annotations

import json
from typing import Any

from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CHUNK, CREDIT, DUMP, END, ERROR, LOG, RESULT
from pipe_testing.runtime import RuntimeProcess

STREAM = 1024 * 1024
"""What these tests grant to each stream of the runtime's."""


def outcomes(runtime: RuntimeProcess, *ids: int) -> dict[int, Frame]:
    """The outcome of each of these requests, which are the next ones to come; LOG frames are in `lines`."""
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
    """What each of these requests returned, from JSON."""
    frames = outcomes(runtime, *ids)
    assert all(frames[id].kind == RESULT for id in ids), frames
    return [json.loads(frames[id].payload) for id in ids]


def error_of(runtime: RuntimeProcess, id: int) -> str:
    """The error type of a request that fails next."""
    return str(outcomes(runtime, id)[id].metadata["error_type"])


def wait_for_line(runtime: RuntimeProcess, text: str) -> Frame:
    """The next frame that is no LOG frame must not come before this line; returns it."""
    while True:
        frame = runtime.next()
        assert frame.kind == LOG, frame
        if text in frame.payload.decode():
            return frame


def stacks(runtime: RuntimeProcess) -> list[dict[str, Any]]:
    """Ask for stacks; what it answers."""
    runtime.send(DUMP)
    while (frame := runtime.next()).kind != DUMP:
        assert frame.kind == LOG, frame
    return list(frame.metadata["stacks"])
