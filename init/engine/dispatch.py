"""Choose the lane for the next request, by what the lanes' policies say. It knows neither processes nor clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..model import REQUEST, Function
from ..policy.ladder import Phase
from ..policy.policy import Policy

if TYPE_CHECKING:
    from .lane import Lane

SPARES = 7
"""If each request has a process of its own: the processes that stand by. With more workers it is as many as those."""

BATCH = 4
"""How many of them are started together: a template forks once more for each batch."""

AHEAD_US = 2000
"""Microseconds of work that may wait in a busy worker. Less is not worth the wait for the worker's next wake-up."""

_IDLE, _STARTING, _ABSENT, _BUSY, _BACKING_OFF, _ENDING = range(6)
"""States of a lane, the best one for a new request first. A lane that is ENDING takes no request."""

_NONE, _STARTED, _SERVING = Phase.NONE, Phase.STARTING, Phase.SERVING
"""Phases under names of this module: every lane is looked at for each request, and a look-up in an Enum is slow."""


def lanes_for(function: Function) -> int:
    """Return how many lanes a function needs: one for each worker, and for those that stand by to be the next."""
    if function.isolation == REQUEST and function.settings.prestart:
        return function.workers + max(SPARES, function.workers)
    return function.workers


class Dispatcher:
    """Choose among the lanes of one function.

    A single lane takes every request: its own policy lets them wait. Of several lanes, an idle one comes first, then
    one whose worker has to be started, then the one with the fewest requests, if what it has is soon done.
    """

    def __init__(self, lanes: Sequence[Lane], function: Function) -> None:
        self._lanes = lanes
        self._busy_at_most = function.workers
        self._each_its_own = function.isolation == REQUEST
        self._window = function.settings.window_requests
        self._concurrent = function.concurrency > 1

    @property
    def failed(self) -> Lane | None:
        """Return a lane that knows why none takes a request any more; None while one does."""
        if not all(lane.policy.finishing for lane in self._lanes):
            return None
        return next((lane for lane in self._lanes if lane.policy.failure is not None), None)

    def to_start(self) -> list[Lane]:
        """Return the lanes whose workers should be started ahead: as soon as a batch is missing, or none stands by."""
        if not self._each_its_own:
            return []
        states = [_BUSY if lane.policy.in_flight else _state(lane.policy) for lane in self._lanes]
        missing = [
            lane
            for lane, state in zip(self._lanes, states, strict=True)
            if state == _ABSENT and not lane.policy.finishing
        ]
        standing_by = states.count(_IDLE) + states.count(_STARTING)
        wanted = missing[: max(0, max(SPARES, states.count(_BUSY)) - standing_by)]
        return wanted if len(wanted) >= BATCH or not standing_by else []

    def has_room(self) -> bool:
        """Return whether a request would be sent soon."""
        if len(self._lanes) == 1:
            policy = self._lanes[0].policy
            return not policy.finishing and policy.in_flight < min(self._window, policy.limit)
        return self.choose() is not None

    def choose(self) -> Lane | None:
        """Return the lane for the next request; None if the request must wait."""
        lanes, each_its_own = self._lanes, self._each_its_own
        if len(lanes) == 1:
            return lanes[0] if not lanes[0].policy.finishing else None
        if not lanes[0].policy.limit:
            return None  # the log's buffer is full, for all lanes
        busy, best, best_score = 0, None, (_ENDING, 0)
        for lane in lanes:
            policy = lane.policy
            load, state = policy.in_flight, _state(policy)
            if each_its_own and (load or (state == _ENDING and policy.was_used)):
                busy += 1  # even after its outcome: no other request may run while its process may still be there
                if busy == self._busy_at_most:
                    return None
            elif not policy.finishing and state != _ENDING and (not load or load < self._depth(lane)):
                score = (_BUSY, load) if load else (state, 0)
                if score < best_score:
                    best, best_score = lane, score
                    if state == _IDLE and not load and not each_its_own:
                        return lane
        return best

    def _depth(self, lane: Lane) -> int:
        """Return how many requests a lane may have: what its worker serves at once, or what is soon done."""
        if lane.policy.phase is not _SERVING:
            return 1
        if self._concurrent:
            return self._window
        return min(self._window, lane.policy.limit, 1 + int(AHEAD_US / max(lane.busy_us, 1.0)))


def _state(policy: Policy) -> int:
    """Return the state of a lane, apart from the requests that it has."""
    phase = policy.phase
    if phase is _SERVING:
        return _IDLE
    if phase is _STARTED:
        return _STARTING
    if phase is _NONE:
        return _ABSENT if policy.deadline is None else _BACKING_OFF
    return _ENDING
