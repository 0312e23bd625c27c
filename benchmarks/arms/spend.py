"""Handle an event by using the CPU for as many microseconds as it says."""

from __future__ import annotations

from time import perf_counter_ns


def handler(event: int, context: object) -> None:
    """Return after `event` microseconds."""
    end = perf_counter_ns() + event * 1000
    while perf_counter_ns() < end:
        pass
