"""Count the events of a long run, to show on a terminal how far it is, and to sum it up in the end.

The summary has two lines: how many events there were, how many failed and why, and how long they took. What is kept
does not grow with the number of events. This module knows no workers.
"""

from __future__ import annotations

import math
import time
from collections import Counter

from ...log.journal import EMPTY, Journal

PRECISION_BITS = 7
"""Leading bits of a duration that count: a percentile is at most 1/128 off."""

LONGEST = 2**63 - 1
"""The longest duration that is counted, in microseconds. A worker may claim any number."""

MAX_KINDS = 20
"""Kinds of failure that are counted separately. The function names its errors, so there may be any number of kinds."""

MAX_NAME = 80
"""Characters of such a name that are shown."""

OTHERS = "others"

_CLEAR_LINE = b"\r\x1b[K"
_REFRESH_SECONDS = 0.1


class Durations:
    """Count durations in a histogram. The longer they are, the more of them share a bucket."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._buckets: Counter[int] = Counter()  # by the middle of the durations that each holds

    def add(self, microseconds: int) -> None:
        """Count one more duration."""
        microseconds = max(0, min(microseconds, LONGEST))
        self.count += 1
        self.longest = max(self.longest, microseconds)
        self._buckets[_bucket(microseconds)] += 1

    def percentile(self, share: float) -> int:
        """Return the duration, in microseconds, that `share` of all do not exceed; 0 if there are none."""
        wanted, seen = max(1, math.ceil(share * self.count)), 0
        for middle, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted:
                return min(middle, self.longest)
        return 0


class Summary:
    """The outcomes of a run so far, and a line on a terminal that says how many there are.

    While the terminal accepts no output, for example after Ctrl-S, the line stays as it is.

    Args:
        journal: What writes to the terminal.
        is_live: Whether the line is shown. Beside results on a terminal it is not.
    """

    def __init__(self, journal: Journal, is_live: bool = True) -> None:
        self.durations = Durations()
        self._done = 0
        self._failures: dict[str, int] = {}
        self._journal = journal
        self._is_live = is_live
        self._shown = False
        self._start = self._last = time.monotonic()

    def count(self, failure: str, microseconds: int | None) -> None:
        """Count one more event that has its outcome, and show the line if it was not shown just now.

        Args:
            failure: The kind of its failure; "" if it succeeded.
            microseconds: How long it took; None if it never began.
        """
        self._done += 1
        if failure:
            name = failure if failure in self._failures or len(self._failures) < MAX_KINDS else OTHERS
            self._failures[name] = self._failures.get(name, 0) + 1
        if microseconds is not None:
            self.durations.add(microseconds)
        if self._is_live and time.monotonic() - self._last >= _REFRESH_SECONDS:
            self._show()

    def clear(self) -> None:
        """Remove the line, so that another one can be written."""
        if self._shown:
            self._journal.put(_CLEAR_LINE)
            self._shown = False

    def text(self) -> str:
        """Return the summary: one line, or two if there were failures; without the last line break."""
        durations, lines = self.durations, [f"pipe-init: {self._counts()}"]
        if durations.count:
            shown = (durations.percentile(0.5), durations.percentile(0.99), durations.longest)
            lines[0] += ", p50 {} ms, p99 {} ms, longest {} ms".format(*map(_milliseconds, shown))
        if self._failures:
            most_first = sorted(self._failures.items(), key=lambda item: (item[0] == OTHERS, -item[1]))
            lines.append("pipe-init: failed: " + ", ".join(f"{count:,} {_shown(name)}" for name, count in most_first))
        return "\n".join(lines)

    def _show(self) -> None:
        self._last = time.monotonic()
        if self._journal.level == EMPTY:
            rate = self._done / max(self._last - self._start, 1e-9)
            self._journal.put(_CLEAR_LINE + f"{self._counts()}, {rate:,.0f}/s".encode())
            self._shown = True

    def _counts(self) -> str:
        failed = sum(self._failures.values())
        return f"{self._done:,} event{'' if self._done == 1 else 's'} done, {failed:,} failed"


def _bucket(value: int) -> int:
    """Return the middle of the values that have the same leading bits."""
    shift = max(0, value.bit_length() - PRECISION_BITS)
    return (value >> shift << shift) + ((1 << shift) >> 1)


def _shown(name: str) -> str:
    """Return a name without characters that could control a terminal or begin a new line."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME])


def _milliseconds(microseconds: int) -> str:
    value = microseconds / 1000
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
