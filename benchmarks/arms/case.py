"""Define the event that every arm sends, the handler that gets it, and the answer that must come back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

HANDLER = "index.handler"
CODE_DIR = str(Path(__file__).resolve().parents[2] / "examples" / "hello")
EVENT = b'{"name": "world"}'
ANSWER = b'"hello world"'
TIMEOUT = 60.0
"""The seconds that a request may take."""


def request_ids() -> Iterator[str]:
    """Yield request ids that look like a UUID and cost almost nothing, so that they do not count in a measurement."""
    return (f"00000000-0000-4000-8000-{number:012x}" for number in count(1))
