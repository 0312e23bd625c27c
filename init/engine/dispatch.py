"""Which lane gets the next request. It looks at what the lanes' policies say; it knows no process and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from ..model import REQUEST, Function
from ..policy.policy import Phase, Policy

SPARES = 7
"""Processes that stand by, beside those that serve, if each request has one of its own; more, if more serve."""

BATCH = 4
"""Of them, so many are started together: a template needs one more fork for each batch."""

AHEAD_US = 2000
"""Microseconds of work that may wait in a worker while others could take it: as long as handing it over pays."""


class HasPolicy(Protocol):
    """A lane, as it is looked at here. busy_us: how long a request of its takes, in microseconds, of late."""

    policy: Policy

    @property
    def busy_us(self) -> float:
        """See above."""


SomeLane = TypeVar("SomeLane", bound=HasPolicy)


def lanes_for(function: Function) -> int:
    """How many lanes a function needs: workers, and those that stand by to be the next."""
    if function.isolation == REQUEST and function.settings.prestart:
        return function.workers + max(SPARES, function.workers)
    return function.workers


class Spread(Generic[SomeLane]):
    """The lanes of one function, and who is next.

    A single lane takes everything: its own policy lets requests wait. Of several, one that is idle comes first, then
    one that has to be started, then the one that has least to do, if what waits there is short.
    """

    def __init__(self, lanes: Sequence[SomeLane], function: Function) -> None:
        self._lanes = lanes
        self._busy_at_most = function.workers
        self._each_its_own = function.isolation == REQUEST
        self._window = function.settings.window_requests
        self._together = function.concurrency > 1

    @property
    def failed(self) -> SomeLane | None:
        """One that can tell why no lane takes a request any more; None if one does."""
        if not all(lane.policy.finishing for lane in self._lanes):
            return None
        return next((lane for lane in self._lanes if lane.policy.failure is not None), None)

    def to_start(self) -> list[SomeLane]:
        """Lanes that are to start a worker ahead, now: as soon as a batch is missing, or nobody stands by."""
        if not self._each_its_own:
            return []
        missing, ready, busy, standing_by = [], False, 0, 0
        for lane in self._lanes:
            policy = lane.policy
            phase = policy.phase
            if phase is _NONE:
                if policy.deadline is None and not policy.finishing:
                    missing.append(lane)
            elif policy.in_flight:
                busy += 1
            elif phase is _SERVING or phase is _STARTED:
                ready = True
                standing_by += 1
        wanted = missing[: max(0, max(SPARES, busy) - standing_by)]
        return wanted if len(wanted) >= BATCH or not ready else []

    def has_room(self) -> bool:
        """Whether a request would be sent soon."""
        if len(self._lanes) == 1:
            policy = self._lanes[0].policy
            return not policy.finishing and policy.in_flight < min(self._window, policy.limit)
        return self.choose() is not None

    def choose(self) -> SomeLane | None:
        """The lane for the next request; None: it is to wait."""
        if len(self._lanes) == 1:
            return self._lanes[0] if not self._lanes[0].policy.finishing else None
        if not self._lanes[0].policy.limit:
            return None  # as for all the others
        return self._fresh() if self._each_its_own else self._least_busy()

    def _fresh(self) -> SomeLane | None:
        """A worker that has served nothing, or will be one."""
        busy, best, best_rank = 0, None, _GOING
        for lane in self._lanes:
            policy = lane.policy
            rank = _rank(policy)
            if policy.in_flight or (rank == _GOING and policy.was_used):  # it may still be there: nobody is to meet it
                busy += 1
                if busy == self._busy_at_most:
                    return None
            elif rank < best_rank and not policy.finishing:
                best, best_rank = lane, rank
        return best

    def _least_busy(self) -> SomeLane | None:
        best, best_score = None, (_GOING, 0)
        for lane in self._lanes:
            policy = lane.policy
            load, rank = policy.in_flight, _rank(policy)
            if policy.finishing or rank == _GOING or (load and load >= self._depth(lane)):
                continue
            if not load and not rank:
                return lane
            score = (rank if not load else _BUSY, load)
            if score < best_score:
                best, best_score = lane, score
        return best

    def _depth(self, lane: SomeLane) -> int:
        """Requests that a worker may have: what it serves at once, or what it is done with soon."""
        if lane.policy.phase is not Phase.SERVING:
            return 1
        return (
            self._window
            if self._together
            else min(self._window, lane.policy.limit, 1 + int(AHEAD_US / max(lane.busy_us, 1.0)))
        )


_IDLE, _STARTING, _ABSENT, _BUSY, _BACKING_OFF, _GOING = range(6)
"""Of a lane, the better the lower. The last one takes no request: its worker is on its way out."""


def _rank(policy: Policy) -> int:
    """Of a lane without a request."""
    phase = policy.phase
    if phase is _SERVING:
        return _IDLE
    if phase is _STARTED:
        return _STARTING
    if phase is _NONE:
        return _ABSENT if policy.deadline is None else _BACKING_OFF
    return _GOING


_NONE, _STARTED, _SERVING = Phase.NONE, Phase.STARTING, Phase.SERVING
"""By names of this module's own: all lanes are looked at for each request, and an Enum's members are slow to get at."""
