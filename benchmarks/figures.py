"""Numbers from times, and what a terminal can show of them. Pure functions; times are nanoseconds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#@"
FROM_US = 2.0
TO_US = 8192.0
PER_DOUBLING = 4
"""Columns of the histogram for each doubling of the time."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the ascending values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle of the values, in any order."""
    return quantile(sorted(values), 0.5)


def histogram(times: Sequence[float]) -> list[int]:
    """How many of the times fall into each column, from FROM_US to TO_US; what lies outside goes to the ends."""
    counts = [0] * round(math.log2(TO_US / FROM_US) * PER_DOUBLING)
    for time in times:
        column = int(math.log2(max(time / 1000 / FROM_US, 1.0)) * PER_DOUBLING)
        counts[min(column, len(counts) - 1)] += 1
    return counts


def bars(counts: Sequence[float]) -> str:
    """One character for each count, the highest as high as can be; anything above zero shows."""
    steps = BARS if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else PLAIN_BARS
    top = max(counts, default=0) or 1
    return "".join(steps[math.ceil(count / top * (len(steps) - 1))] for count in counts)


def axis() -> str:
    """The line below a histogram: the time at each second doubling, in microseconds."""
    width = 2 * PER_DOUBLING
    marks = [f"{FROM_US * 4**mark:.0f}" for mark in range(round(math.log2(TO_US / FROM_US)) // 2)]
    return "".join(mark.ljust(width) for mark in marks) + "µs"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns; the first column is text, the others are numbers. The first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
