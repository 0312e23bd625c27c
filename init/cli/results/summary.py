"""Count the events of a long run. Show the progress on a terminal, and a summary at the end.

The summary tells how many events there were, how long they took, how many failed, and why. The memory for it does not
grow with the number of events. This module knows no workers.
"""

from __future__ import annotations

import math
import time
from collections import Counter

from ...log.journal import EMPTY, Journal

PRECISION_BITS = 7
"""The number of leading bits that the histogram keeps of a duration. So a percentile is wrong by at most 1/128."""

MAX_KINDS = 20
"""The most kinds of failure to count separately. The function names its errors, so there may be any number of kinds."""

MAX_NAME = 80
"""The most characters to show of the name of such a kind."""

OTHERS = "others"

_CLEAR_LINE = b"\r\x1b[K"
_REFRESH_SECONDS = 0.1


class Durations:
    """Count durations in a histogram. The buckets for longer durations are wider."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._buckets: Counter[int] = Counter()  # {the middle of a bucket: the number of durations in it}

    def add(self, microseconds: int) -> None:
        """Count one more duration."""
        self.count += 1
        self.longest = max(self.longest, microseconds)
        self._buckets[_bucket(microseconds)] += 1

    def percentile(self, share: float) -> int:
        """Return the duration in microseconds that a `share` of all durations do not exceed; 0 if there are none."""
        wanted, seen = max(1, math.ceil(share * self.count)), 0
        for middle, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted:
                return min(middle, self.longest)
        return 0


class Summary:
    """Count the outcomes of a run, and show a progress line with the counts on a terminal.

    While the terminal accepts no output, for example after Ctrl-S, the line does not change.

    Args:
        journal: The log, which goes to the terminal.
        is_live: Whether to show the progress line. It is not shown if the results go to a terminal too.
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
        """Count one more event that has its outcome, and update the progress line, but not too often.

        Args:
            failure: The kind of the event's failure; "" if the event succeeded.
            microseconds: The duration of the event; None if it never began.
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
        """Remove the progress line, so that another line can be written there."""
        if self._shown:
            self._journal.put(_CLEAR_LINE)
            self._shown = False

    def text(self) -> str:
        """Return the summary without its last line break: one line, or two lines if there were failures."""
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
    """Return the middle of a value's bucket. All values with the same leading bits are in the same bucket."""
    shift = max(0, value.bit_length() - PRECISION_BITS)
    return (value >> shift << shift) + ((1 << shift) >> 1)


def _shown(name: str) -> str:
    """Return a name without characters that could control a terminal or begin a new line."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME])


def _milliseconds(microseconds: int) -> str:
    value = microseconds / 1000
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
