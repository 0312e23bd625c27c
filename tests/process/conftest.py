"""Fixtures for the tests of one component with real processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the reading and the writing end of a pipe of the test's own."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)
