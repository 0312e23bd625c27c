"""Decide how long to look for the peer's next bytes before going to sleep, from what recent waits have taken.

To wake a process up on another CPU can take longer than a small function does. So it can pay to look again and again
for a while ("to spin") instead of sleeping. Whether it pays depends on the machine, the function and everything else
that runs, so it is measured: most waits go the way that has been better of late, and a few try the other way. Both the
init and the runtime use this. It must not know clocks or descriptors: its caller looks, sleeps, and tells the time.
"""

from __future__ import annotations

PRICE = 5.0
"""Seconds of CPU time that one second of earlier answers is worth."""

RARELY = 256
"""One wait of so many tries the other way. So the trials do not show in the 99th percentile."""

SOON = 8
"""Waits until the next trial, after what was known of the other way has lost its meaning."""

MARGIN = 20e-6
"""Seconds to look beyond twice the usual wait."""


class Spin:
    """What one side knows about its waits. Times are in seconds.

    Args:
        cap: The longest time to look in one wait; 0 for never.

    Attributes:
        limit: How long to look in the next wait before sleeping; 0: sleep at once.
    """

    __slots__ = ("limit", "_cap", "_looked", "_slept", "_trial_in")

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self._looked = self._slept = 0.0  # the usual wait, if it begins with a look, and if not; 0: not known
        self._trial_in = SOON
        self.limit = 0.0

    def learn(self, waited: float) -> None:
        """Note how long a wait has taken, and set `limit` for the next one."""
        cap = self._cap
        if not cap:
            return
        if self.limit:
            self._looked = _follow(self._looked, waited)
        else:
            self._slept = _follow(self._slept, waited)
        looked, slept = self._looked, self._slept
        if slept > 2 * cap and not 0.0 < looked <= cap:
            self.limit, self._looked, self._trial_in = 0.0, 0.0, SOON  # no look can find what comes that late
            return
        pays = 0.0 < looked <= cap and (slept - looked) * PRICE > looked
        self._trial_in -= 1
        if self._trial_in > 0:
            self.limit = min(cap, 2 * looked + MARGIN) if pays else 0.0
        else:
            self._trial_in = RARELY if looked and slept else SOON
            self.limit = 0.0 if pays else cap


def _follow(usual: float, waited: float) -> float:
    """Return the usual wait, after another one. Single long waits count for little: something else came in between."""
    if not usual:
        return waited
    if waited < usual:
        return usual + (waited - usual) / 4
    return usual + (min(waited, 2 * usual) - usual) / 8
