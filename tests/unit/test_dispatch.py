"""Tests of which lane gets the next request: an idle lane first, then a lane that starts a worker, then a busy lane.

The lanes have real policies, and the tests report events to them. There is no process and no clock.
"""

from __future__ import annotations

import itertools

import pytest

from pipe_init.engine.dispatch import AHEAD_US, BATCH, SPARES, Dispatcher, lanes_for
from pipe_init.kernel.plain_classes import replace
from pipe_init.model import PROCESS, REQUEST, Function, Settings
from pipe_init.policy.actions import Cause
from pipe_init.policy.ladder import Phase
from pipe_init.policy.policy import Policy
from pipe_init.policy.tickets import Ticket

SETTINGS = Settings(backoff=0.25, start_attempts=2, window_requests=4)
PHASES = [phase for phase in vars(Phase).values() if isinstance(phase, Phase)]
ONE_EACH = replace(SETTINGS, window_requests=1, max_requests=1, prestart=True)
SLOW = AHEAD_US * 2.0
QUICK = 1.0

ids = itertools.count(1)


class Lane:
    """A lane as Dispatcher sees it.

    Attributes:
        busy_us: The microseconds that a request takes here.
    """

    def __init__(self, settings: Settings = SETTINGS, busy_us: float = SLOW, together: bool = False) -> None:
        self.policy = Policy(settings, settings.window_requests if together else 1)
        self.busy_us = busy_us

    def submit(self, count: int = 1) -> Lane:
        """Give requests to the lane. If it has no worker, it starts one."""
        for _ in range(count):
            self.policy.submit(Ticket(next(ids), 60.0), 0.0)
        return self

    def ready(self) -> Lane:
        """Report that the lane's worker is ready."""
        self.policy.begin(0.0)
        if self.policy.phase is Phase.NONE:
            self.submit()
            self.ready()
            self.policy.outcome(next(iter(self.policy._requests.running)), 0.0)
        self.policy.hello(64, 1 << 20)
        self.policy.ready(0.0, 64)
        return self

    def paced(self, limit: int) -> Lane:
        """Report that the log is read more slowly than it is written."""
        self.policy.pace(limit, 0.0)
        return self

    def dies(self) -> Lane:
        """Report that the worker has died."""
        self.policy.gone()
        self.policy.died(0.0)
        return self

    def ends(self) -> Lane:
        """Tell the lane to take no more requests."""
        self.policy.finish(0.0)
        return self


def spread(*lanes: Lane, isolation: str = PROCESS, workers: int = 0, concurrency: int = 1) -> Dispatcher:
    settings = lanes[0].policy.settings
    return Dispatcher(lanes, function(settings, isolation, workers or len(lanes), concurrency))


def function(settings: Settings, isolation: str = PROCESS, workers: int = 1, concurrency: int = 1) -> Function:
    return Function([], {}, {}, settings, isolation=isolation, workers=workers, concurrency=concurrency)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_lane_for_each_worker_and_for_those_that_stand_by(workers: int) -> None:
    assert lanes_for(function(SETTINGS, workers=workers)) == workers
    assert lanes_for(function(SETTINGS, REQUEST, workers)) == workers
    assert lanes_for(function(ONE_EACH, REQUEST, workers)) == workers + max(workers, SPARES)


class TestASingleLane:
    """Check that a single lane takes everything. Its own policy lets requests wait."""

    def test_it_is_chosen_however_much_it_has(self) -> None:
        lane = Lane()
        for _ in range(10):
            assert spread(lane).choose() is lane
            lane.submit()

    def test_there_is_room_up_to_the_window(self) -> None:
        lane = Lane()
        for _ in range(SETTINGS.window_requests):
            assert spread(lane).has_room()
            lane.submit()
        assert not spread(lane).has_room()

    def test_there_is_less_room_while_the_log_is_not_read(self) -> None:
        lane = Lane().paced(1)
        assert spread(lane).has_room()
        lane.submit()
        assert not spread(lane).has_room()
        assert not spread(Lane().paced(0)).has_room()

    def test_it_is_not_chosen_once_it_is_finishing(self) -> None:
        lane = Lane().ends()
        assert spread(lane).choose() is None
        assert not spread(lane).has_room()


class TestSeveralLanes:
    """Check workers that serve many requests each."""

    def test_none_is_chosen_while_the_log_waits_in_a_full_buffer(self) -> None:
        assert spread(Lane().ready().paced(0), Lane().paced(0)).choose() is None

    def test_nothing_waits_in_a_worker_while_the_log_waits(self) -> None:
        lanes = [Lane(busy_us=QUICK).ready().paced(1) for _ in range(2)]
        for lane in lanes:
            assert spread(*lanes).choose() is lane
            lane.submit()
        assert spread(*lanes).choose() is None

    def test_an_idle_worker_comes_before_one_that_is_to_be_started(self) -> None:
        idle = Lane().ready()
        assert spread(Lane(), idle, Lane()).choose() is idle

    def test_the_first_of_several_idle_ones(self) -> None:
        lanes = [Lane().ready() for _ in range(3)]
        assert spread(*lanes).choose() is lanes[0]

    def test_a_new_worker_comes_before_a_second_request_for_one(self) -> None:
        new = Lane()
        assert spread(Lane(busy_us=QUICK).ready().submit(), new).choose() is new

    def test_a_worker_that_starts_without_a_request_is_as_good_as_a_new_one(self) -> None:
        starting = Lane(replace(SETTINGS, prestart=True))
        starting.policy.begin(0.0)
        assert starting.policy.phase is Phase.STARTING
        assert spread(Lane().ready().submit(), starting).choose() is starting

    def test_one_that_starts_is_given_no_second_request(self) -> None:
        assert spread(Lane(busy_us=QUICK).submit(), Lane(busy_us=QUICK).submit()).choose() is None

    def test_requests_queue_after_short_ones_only(self) -> None:
        quick, slow = Lane(busy_us=QUICK).ready().submit(), Lane(busy_us=SLOW).ready().submit()
        assert spread(slow, quick).choose() is quick
        assert spread(slow, slow).choose() is None
        assert not spread(slow, slow).has_room()

    def test_the_one_that_has_least_to_do(self) -> None:
        lanes = [Lane(busy_us=QUICK).ready().submit(count) for count in (3, 1, 2)]
        assert spread(*lanes).choose() is lanes[1]

    @pytest.mark.parametrize("busy_us", [AHEAD_US / 2, AHEAD_US / 3])
    def test_no_more_waits_than_is_done_soon(self, busy_us: float) -> None:
        lanes = [Lane(busy_us=busy_us).ready() for _ in range(2)]
        given = 0
        while (lane := spread(*lanes).choose()) is not None:
            lane.submit()
            given += 1
        assert given == min(SETTINGS.window_requests, 1 + int(AHEAD_US / busy_us)) * len(lanes)

    def test_nothing_queues_after_the_first_request_of_a_lane(self) -> None:
        first = Lane(busy_us=float("inf")).ready().submit()
        assert spread(first, Lane(busy_us=SLOW).ready().submit()).choose() is None

    def test_the_window_is_the_limit_however_short_they_are(self) -> None:
        lanes = [Lane(busy_us=0.0).ready().submit(SETTINGS.window_requests) for _ in range(2)]
        assert spread(*lanes).choose() is None

    def test_workers_that_serve_several_at_once_are_filled_however_long_it_takes(self) -> None:
        lanes = [Lane(busy_us=SLOW, together=True).ready() for _ in range(2)]
        for _ in range(SETTINGS.window_requests * len(lanes)):
            lane = spread(*lanes, concurrency=SETTINGS.window_requests).choose()
            assert lane is not None
            lane.submit()
        assert [lane.policy.in_flight for lane in lanes] == [SETTINGS.window_requests] * len(lanes)
        assert spread(*lanes, concurrency=SETTINGS.window_requests).choose() is None

    def test_one_that_backs_off_comes_last(self) -> None:
        failed, quick = Lane().submit().dies(), Lane(busy_us=QUICK).ready().submit()
        assert failed.policy.phase is Phase.NONE and failed.policy.deadline is not None
        new = Lane()
        assert spread(failed, quick, new).choose() is new
        assert spread(failed, quick).choose() is quick

    def test_one_that_backs_off_without_a_request_is_better_than_none(self) -> None:
        failed = Lane(replace(SETTINGS, prestart=True))
        failed.policy.begin(0.0)
        failed.dies()
        assert failed.policy.phase is Phase.NONE and failed.policy.deadline is not None
        busy = Lane(busy_us=SLOW).ready().submit()
        assert spread(failed, busy).choose() is failed

    @pytest.mark.parametrize("phase", PHASES[PHASES.index(Phase.DRAINING) :])
    def test_one_that_is_on_its_way_out_is_not_chosen(self, phase: Phase) -> None:
        lane = Lane().ready()
        lane.policy.phase = phase
        busy = Lane(busy_us=SLOW).ready().submit()
        assert spread(lane, busy).choose() is None

    def test_one_that_is_finishing_is_not_chosen(self) -> None:
        other = Lane()
        assert spread(Lane().ready().ends(), other).choose() is other


class TestAProcessForEachRequest:
    """Check that there are never more than `workers` processes at a time."""

    def test_one_that_is_ready_comes_before_one_that_starts_and_a_new_one(self) -> None:
        new, starting, ready = Lane(), Lane(ONE_EACH), Lane(ONE_EACH).ready()
        starting.policy.begin(0.0)
        assert starting.policy.phase is Phase.STARTING
        assert spread(new, starting, ready, isolation=REQUEST).choose() is ready
        assert spread(starting, new, isolation=REQUEST).choose() is starting
        assert spread(new, isolation=REQUEST, workers=1).choose() is new

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_never_more_than_so_many_are_busy(self, workers: int) -> None:
        lanes = [Lane(ONE_EACH).ready() for _ in range(lanes_for(function(ONE_EACH, REQUEST, workers)))]
        for _ in range(workers):
            lane = spread(*lanes, isolation=REQUEST, workers=workers).choose()
            assert lane is not None and not lane.policy.in_flight
            lane.submit()
        assert spread(*lanes, isolation=REQUEST, workers=workers).choose() is None
        assert not spread(*lanes, isolation=REQUEST, workers=workers).has_room()

    def test_no_request_waits_for_another_one(self) -> None:
        busy = Lane(ONE_EACH, busy_us=QUICK).ready().submit()
        assert spread(busy, Lane(ONE_EACH).ready().submit(), isolation=REQUEST, workers=9).choose() is None

    def test_one_that_has_served_is_not_chosen(self) -> None:
        served = Lane(ONE_EACH).ready().submit()
        served.policy.outcome(next(iter(served.policy._requests.running)), 0.0)
        assert served.policy.phase is Phase.STOPPING
        fresh = Lane(ONE_EACH).ready()
        assert spread(served, fresh, isolation=REQUEST, workers=2).choose() is fresh
        assert spread(served, fresh, isolation=REQUEST, workers=1).choose() is None  # the process may still be there
        assert spread(served, served, isolation=REQUEST, workers=1).choose() is None

    def test_one_that_stood_by_and_is_on_its_way_out_takes_no_place(self) -> None:
        leaving, fresh = Lane(ONE_EACH).ready(), Lane(ONE_EACH).ready()
        leaving.policy.closed(0.0)
        assert spread(leaving, fresh, isolation=REQUEST, workers=1).choose() is fresh
        assert spread(leaving, leaving, isolation=REQUEST, workers=1).choose() is None  # there is no request either

    def test_one_that_backs_off_comes_last(self) -> None:
        failed, new = Lane(ONE_EACH), Lane(ONE_EACH)
        failed.policy.begin(0.0)
        failed.dies()
        assert failed.policy.deadline is not None
        assert spread(failed, new, isolation=REQUEST, workers=1).choose() is new
        assert spread(failed, Lane().ends(), isolation=REQUEST, workers=1).choose() is failed


class TestForGood:
    """Check lanes that have no worker and will never have one."""

    def broken(self) -> Lane:
        lane = Lane().submit()
        lane.policy.not_loaded(0.0)
        return lane.dies()

    def test_it_is_not_chosen_while_another_one_is_left(self) -> None:
        other = Lane()
        assert spread(self.broken(), other).choose() is other
        assert spread(self.broken(), other).failed is None

    def test_once_all_have_failed_the_first_that_knows_why_can_tell(self) -> None:
        lanes = [Lane().ends(), self.broken(), self.broken()]
        assert spread(*lanes).choose() is None
        assert spread(*lanes).failed is lanes[1]
        assert lanes[1].policy.failure is Cause.NOT_LOADED

    def test_lanes_that_were_told_to_finish_have_not_failed(self) -> None:
        assert spread(Lane().ends(), Lane().ready().ends()).failed is None

    def test_too_many_failed_starts(self) -> None:
        lane = Lane().submit().dies()
        lane.policy.tick(1.0)
        lane.dies()
        assert lane.policy.ended
        assert spread(lane).failed is lane
        assert lane.policy.failure is Cause.START_FAILED


class TestStartingAhead:
    @staticmethod
    def spread(*lanes: Lane) -> Dispatcher:
        return Dispatcher(lanes, function(ONE_EACH, REQUEST))

    def test_all_at_the_beginning(self) -> None:
        lanes = [Lane(ONE_EACH) for _ in range(3)]
        assert self.spread(*lanes).to_start() == lanes

    def test_none_while_another_stands_by_and_few_are_missing(self) -> None:
        assert self.spread(Lane(ONE_EACH).ready(), *[Lane(ONE_EACH) for _ in range(BATCH - 1)]).to_start() == []

    def test_a_batch_of_them(self) -> None:
        missing = [Lane(ONE_EACH) for _ in range(BATCH)]
        assert self.spread(Lane(ONE_EACH).ready(), *missing).to_start() == missing

    def test_no_more_stand_by_than_serve_unless_these_are_few(self) -> None:
        lanes = [Lane(ONE_EACH) for _ in range(64)]
        assert self.spread(*lanes).to_start() == lanes[:SPARES]
        busy = [Lane(ONE_EACH).submit() for _ in range(SPARES + 3)]
        assert self.spread(*busy, *lanes).to_start() == lanes[: SPARES + 3]
        assert self.spread(*busy[:2], *(Lane(ONE_EACH).ready() for _ in range(SPARES)), *lanes).to_start() == []

    def test_none_for_workers_that_stay(self) -> None:
        assert Dispatcher([Lane(SETTINGS), Lane(SETTINGS)], function(SETTINGS, workers=2)).to_start() == []
