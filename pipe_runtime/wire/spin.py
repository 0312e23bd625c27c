"""Decide how long to poll for the peer's next bytes before sleeping, from how long recent waits have taken.

The kernel may take longer to wake up a process on another CPU than a small function takes to run. So it can pay to poll
again and again for a while ("to spin") instead of sleeping. Whether it pays depends on the machine, on the function and
on everything else that runs. So each side measures its waits with spinning and its waits without. Most waits use the
way that has been better lately, and a few try the other way. The init and the runtime both use this module. It must
not know clocks or descriptors: its caller polls, sleeps, and reports how long each wait took.
"""

from __future__ import annotations

PRICE = 5.0
"""How many seconds of CPU time the spinning may cost for each second by which it shortens the waits."""

RARELY = 512
"""One wait in this many tries the other way. This is rare enough not to show in the 99th percentile of latency."""

SOON = 8
"""If the other way was not measured yet, or not lately, the next wait that tries it comes after this many waits."""

EVERY = 8
"""Of the waits that end while spinning, Spin learns from one in this many, because learning takes time too."""

MARGIN = 20e-6
"""How many seconds to spin beyond twice the usual wait."""


class Spin:
    """What one side has learned about its waits. Times are in seconds.

    Args:
        cap: The longest time to spin in one wait; 0 for never.

    Attributes:
        limit: How long to spin in the next wait before sleeping. 0: sleep at once.
        unlearned: The number of waits since the last call of `learn`, all of which ended while spinning. The caller
            counts them. It calls `learn` when the number has reached EVERY.
    """

    __slots__ = ("limit", "unlearned", "_cap", "_looked", "_slept", "_trial_in")

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._looked = self._slept = 0.0  # the usual wait with spinning, and without; 0.0 if not measured
        self._trial_in = SOON
        self.limit = 0.0
        self.unlearned = 0

    def learn(self, waited: float) -> None:
        """Learn from a wait that has just ended, and set `limit` for the next one.

        Args:
            waited: How long the wait took. If the wait ended while spinning, it stands for all that `unlearned` counts.
        """
        cap = self._cap
        if not cap:
            return
        self._trial_in -= self.unlearned or 1
        self.unlearned = 0
        if self.limit:
            self._looked = _follow(self._looked, waited)
        else:
            self._slept = _follow(self._slept, waited)
        looked, slept = self._looked, self._slept
        if slept > 2 * cap and not 0.0 < looked <= cap:
            self.limit, self._looked, self._trial_in = 0.0, 0.0, SOON  # the wait is too long for spinning
            return
        pays = 0.0 < looked <= cap and (slept - looked) * PRICE > looked
        if self._trial_in > 0:
            self.limit = min(cap, 2 * looked + MARGIN) if pays else 0.0
        else:
            self._trial_in = RARELY if looked and slept else SOON
            self.limit = 0.0 if pays else cap
            self.unlearned = EVERY - 1  # so the caller calls `learn` after the very next wait


def _follow(usual: float, waited: float) -> float:
    """Return the new usual wait after one more wait. A single long wait changes it little, as it may be an accident."""
    if not usual:
        return waited
    if waited < usual:
        return usual + (waited - usual) / 4
    return usual + (min(waited, 2 * usual) - usual) / 8
