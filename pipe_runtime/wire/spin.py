"""Decide how long to poll for the peer's next bytes before sleeping, from how long recent waits have taken.

The kernel may take longer to wake up a process on another CPU than a small function takes to run. So it can pay to poll
again and again for a while ("to spin") instead of sleeping. Whether it pays depends on the machine, on the function and
on everything else that runs. So each side measures both ways: most waits go the way that has been faster lately, and a
few try the other way. The init and the runtime both use this module. It must not know clocks or descriptors: its caller
polls, sleeps, and reports the times.
"""

from __future__ import annotations

PRICE = 5.0
"""How many seconds of CPU time spinning may cost for each second by which answers come earlier."""

RARELY = 512
"""One of so many waits tries the other way. This is rare enough not to show in the 99th percentile."""

SOON = 8
"""How many waits come before the next try if the other way has not been measured, or not lately."""

EVERY = 8
"""Of the waits that end while spinning, Spin learns from one in so many, because learning takes time too."""

MARGIN = 20e-6
"""How many seconds to spin beyond twice the usual wait."""


class Spin:
    """What one side has learned about its waits. Times are in seconds.

    Args:
        cap: The longest time to spin in one wait; 0 for never.

    Attributes:
        limit: How long to spin in the next wait before sleeping. 0: sleep at once.
        unlearned: The number of waits in a row that ended while spinning, and that `learn` was not told of. The caller
            counts them, and calls `learn` when there are EVERY of them.
    """

    __slots__ = ("limit", "unlearned", "_cap", "_looked", "_slept", "_trial_in")

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._looked = self._slept = 0.0  # the usual wait that begins with spinning, and the one that does not
        self._trial_in = SOON
        self.limit = 0.0
        self.unlearned = 0

    def learn(self, waited: float) -> None:
        """Learn from a wait that has just ended, and set `limit` for the next one.

        Args:
            waited: How long the wait took. If it ended while spinning, it stands for all that were not learned from.
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
            self.limit, self._looked, self._trial_in = 0.0, 0.0, SOON  # spinning cannot reach what comes that late
            return
        pays = 0.0 < looked <= cap and (slept - looked) * PRICE > looked
        if self._trial_in > 0:
            self.limit = min(cap, 2 * looked + MARGIN) if pays else 0.0
        else:
            self._trial_in = RARELY if looked and slept else SOON
            self.limit = 0.0 if pays else cap
            self.unlearned = EVERY - 1  # learn from this one


def _follow(usual: float, waited: float) -> float:
    """Return the usual wait, after one more. A single long wait counts little: something else may have delayed it."""
    if not usual:
        return waited
    if waited < usual:
        return usual + (waited - usual) / 4
    return usual + (min(waited, 2 * usual) - usual) / 8
