"""Choose the lane for the next request, from the states of the lanes' policies.

This module knows neither processes nor clocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model import REQUEST, Function
from ..policy.ladder import Phase
from ..policy.policy import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lane import Lane

SPARES = 7
"""If each request gets its own process, the number of processes that stand by for the next requests.

A function with more workers than this has as many processes standing by as it has workers."""

BATCH = 4
"""The number of processes to start together, so that they stand by. A template needs an extra fork for each batch."""

AHEAD_US = 2000
"""Microseconds of work that may wait in a busy worker. With less, the worker would often sleep between requests."""

_IDLE, _STARTING, _ABSENT, _BUSY, _BACKING_OFF, _ENDING = range(6)
"""States of a lane, from the best to the worst for a new request. A lane that is ENDING takes no request."""

_NONE, _STARTED, _SERVING = Phase.NONE, Phase.STARTING, Phase.SERVING
"""The phases as variables of this module. Each request compares them for every lane, and Enum look-ups are slow."""


def lanes_for(function: Function) -> int:
    """Return the number of lanes for a function: one for each worker, and one for each process that stands by."""
    if function.isolation == REQUEST and function.settings.prestart:
        return function.workers + max(SPARES, function.workers)
    return function.workers


class Dispatcher:
    """Choose among the lanes of one function.

    A single lane gets every request, and the requests wait in its policy. With several lanes, an idle worker comes
    first. A worker that is starting, or must be started, comes next. The last choice is the lane with the fewest
    requests, if they will soon be done.
    """

    def __init__(self, lanes: Sequence[Lane], function: Function) -> None:
        self._lanes = lanes
        self._busy_at_most = function.workers
        self._each_its_own = function.isolation == REQUEST
        self._window = function.settings.window_requests
        self._concurrent = function.concurrency > 1

    @property
    def failed(self) -> Lane | None:
        """Return a lane whose policy knows why no lane takes requests any more; None if any lane takes requests."""
        if not all(lane.policy.finishing for lane in self._lanes):
            return None
        return next((lane for lane in self._lanes if lane.policy.failure is not None), None)

    def to_start(self) -> list[Lane]:
        """Return the lanes that should start a worker now, so that it stands by.

        Return no lanes until a whole batch of workers is missing, or until no worker stands by.
        """
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
        """Return whether a worker would soon get a new request."""
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
                busy += 1  # even after the outcome, because the worker's process may still exist
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
        """Return the most requests that a lane may have: as many as its worker runs at once, or will soon finish."""
        if lane.policy.phase is not _SERVING:
            return 1
        if self._concurrent:
            return self._window
        return min(self._window, lane.policy.limit, 1 + int(AHEAD_US / max(lane.busy_us, 1.0)))


def _state(policy: Policy) -> int:
    """Return the state of a lane's worker. The result does not depend on the lane's requests."""
    phase = policy.phase
    if phase is _SERVING:
        return _IDLE
    if phase is _STARTED:
        return _STARTING
    if phase is _NONE:
        return _ABSENT if policy.deadline is None else _BACKING_OFF
    return _ENDING
