"""Compute figures from measured times, and draw them for a terminal. All functions are pure. Times are nanoseconds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#@"
FROM_US = 2.0
TO_US = 8192.0
PER_DOUBLING = 4
"""The number of columns in the histogram for each doubling of the time."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value such that at least `share` (0 to 1) of the values are not above it.

    Args:
        ordered: The values in ascending order.
        share: The share of the values.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle of the values, which may be in any order."""
    return quantile(sorted(values), 0.5)


def histogram(times: Sequence[float]) -> list[int]:
    """Count the times in each column from FROM_US to TO_US. Times outside are counted in the first or last column."""
    counts = [0] * round(math.log2(TO_US / FROM_US) * PER_DOUBLING)
    for time in times:
        column = int(math.log2(max(time / 1000 / FROM_US, 1.0)) * PER_DOUBLING)
        counts[min(column, len(counts) - 1)] += 1
    return counts


def bars(counts: Sequence[float]) -> str:
    """Return a text with one bar for each count. The highest count has full height, and 0 alone has no bar."""
    steps = BARS if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else PLAIN_BARS
    top = max(counts, default=0) or 1
    return "".join(steps[math.ceil(count / top * (len(steps) - 1))] for count in counts)


def axis() -> str:
    """Return the line below a histogram: the time in microseconds at every second doubling."""
    width = 2 * PER_DOUBLING
    marks = [f"{FROM_US * 4**mark:.0f}" for mark in range(round(math.log2(TO_US / FROM_US)) // 2)]
    return "".join(mark.ljust(width) for mark in marks) + "µs"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines of aligned columns. The first row is the heading; the first column holds text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
