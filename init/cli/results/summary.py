"""Sum up many events in two lines: how many there were, how many failed and why, and how long they took.

Its size does not grow with the number of events. It knows neither workers nor where its lines are written.
"""

from __future__ import annotations

import math

PRECISION_BITS = 7
"""Leading bits of a duration that count: a percentile is at most 1/128 off."""

LONGEST = 2**63 - 1
"""The longest duration that is counted, in microseconds. A worker may claim any number."""

MAX_KINDS = 20
"""Kinds of failure that are counted separately. The function names its errors, so there may be any number of kinds."""

MAX_NAME = 80
"""Characters of such a name that are shown."""

OTHERS = "others"


class Durations:
    """Count durations in a histogram whose buckets grow with what they hold."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._buckets = [0] * (_bucket(LONGEST) + 1)

    def add(self, microseconds: int) -> None:
        """Count one more duration."""
        microseconds = max(0, min(microseconds, LONGEST))
        self.count += 1
        self.longest = max(self.longest, microseconds)
        self._buckets[_bucket(microseconds)] += 1

    def percentile(self, share: float) -> int:
        """Return the duration, in microseconds, that `share` of all do not exceed; 0 if there are none."""
        wanted, seen = max(1, math.ceil(share * self.count)), 0
        for number, count in enumerate(self._buckets):
            seen += count
            if seen >= wanted:
                return min(_middle(number), self.longest)
        return 0


class Summary:
    """The outcomes of a run so far."""

    def __init__(self) -> None:
        self.durations = Durations()
        self.done = 0
        self._failures: dict[str, int] = {}

    def count(self, failure: str, microseconds: int | None) -> None:
        """Count one more event.

        Args:
            failure: the kind of its failure; "" if it succeeded.
            microseconds: how long it took; None if it never began.
        """
        self.done += 1
        if failure:
            name = failure if failure in self._failures or len(self._failures) < MAX_KINDS else OTHERS
            self._failures[name] = self._failures.get(name, 0) + 1
        if microseconds is not None:
            self.durations.add(microseconds)

    def text(self) -> str:
        """Return one line, or two if there were failures; without the last line break."""
        failed, durations = sum(self._failures.values()), self.durations
        lines = [f"pipe-init: {self.done:,} event{'' if self.done == 1 else 's'} done, {failed:,} failed"]
        if durations.count:
            shown = (durations.percentile(0.5), durations.percentile(0.99), durations.longest)
            lines[0] += ", p50 {} ms, p99 {} ms, longest {} ms".format(*map(_milliseconds, shown))
        if failed:
            most_first = sorted(self._failures.items(), key=lambda item: (item[0] == OTHERS, -item[1]))
            lines.append("pipe-init: failed: " + ", ".join(f"{count:,} {_shown(name)}" for name, count in most_first))
        return "\n".join(lines)


def _bucket(value: int) -> int:
    shift = max(0, value.bit_length() - PRECISION_BITS)
    return (shift << (PRECISION_BITS - 1)) + (value >> shift)


def _middle(bucket: int) -> int:
    """Return the middle of the values that _bucket puts there."""
    half = 1 << (PRECISION_BITS - 1)
    shift = max(0, (bucket >> (PRECISION_BITS - 1)) - 1)
    return ((bucket - shift * half) << shift) + ((1 << shift) >> 1)


def _shown(name: str) -> str:
    """Return a name without characters that could control a terminal or begin a new line."""
    return "".join(character if character.isprintable() else "?" for character in name[:MAX_NAME])


def _milliseconds(microseconds: int) -> str:
    value = microseconds / 1000
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
