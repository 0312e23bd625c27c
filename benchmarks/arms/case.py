"""What every arm sends and must get back: one event, one handler, one answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

HANDLER = "index.handler"
CODE_DIR = str(Path(__file__).resolve().parents[2] / "examples" / "hello")
EVENT = b'{"name": "world"}'
ANSWER = b'"hello world"'
TIMEOUT = 60.0
"""Seconds that a request may take."""


def request_ids() -> Iterator[str]:
    """Ids in the form of a UUID, without the cost of making one: it would be the caller's, not the way's."""
    return (f"00000000-0000-4000-8000-{number:012x}" for number in count(1))
