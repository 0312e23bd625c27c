"""A handler that uses the CPU for a given time: the event is the number of microseconds."""

from __future__ import annotations

from time import perf_counter_ns


def handler(event: int, context: object) -> None:
    """Use the CPU for `event` microseconds, then return."""
    end = perf_counter_ns() + event * 1000
    while perf_counter_ns() < end:
        pass
