"""The decisions for a worker that serves several requests at once: histories told event by event, and any events.

No process, no clock: `now` is a number that the test chooses.
"""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_init.model import Settings
from pipe_init.policy.actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from pipe_init.policy.concurrent import ConcurrentPolicy
from pipe_init.policy.policy import MANY as UNLIMITED
from pipe_init.policy.policy import Phase, Policy, Ticket

TIMES = Settings(
    start_timeout=8.0,
    grace=2.0,
    stop_timeout=4.0,
    dump_wait=0.5,
    dump_quiet=0.125,
    backoff=0.25,
    backoff_limit=1.0,
    start_attempts=4,
    window_requests=3,
    window_bytes=100,
)
"""Binary fractions, so that sums of times are exact."""

TERM, KILL = Signal(signal.SIGTERM), Signal(signal.SIGKILL)


def ticket(id: int, timeout: float = 3.0, size: int = 0) -> Ticket:
    return Ticket(id, timeout, size)


def serving(*timeouts: float, times: Settings = TIMES) -> ConcurrentPolicy:
    """A policy at time 0 with a ready worker that serves requests 1, 2, … with these timeouts in seconds."""
    policy = ConcurrentPolicy(times)
    for id, timeout in enumerate(timeouts or (1.0,), 1):
        policy.submit(ticket(id, timeout), 0.0)
    policy.ready(0.0)
    if not timeouts:
        policy.outcome(1, 0.0)
    assert policy.phase is Phase.SERVING
    return policy


def draining(*timeouts: float, times: Settings = TIMES) -> ConcurrentPolicy:
    """As `serving`, and those requests have timed out, been answered and cancelled whose timeout is the shortest."""
    policy = serving(*timeouts, times=times)
    for _ in range(2):
        assert policy.deadline is not None
        policy.tick(policy.deadline)
    assert policy.phase is Phase.DRAINING
    return policy


class TestSeveralAtOnce:
    """Nothing goes wrong."""

    def test_one_is_sent_before_ready_and_then_as_many_as_the_window_has(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        assert policy.submit(ticket(1), 0.0) == [Start(), Send(1)]
        assert [policy.submit(ticket(id), 0.0) for id in (2, 3, 4)] == [[], [], []]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.STARTING, 8.0, 4)
        assert policy.ready(1.0) == [Begin(1), Send(2), Begin(2), Send(3), Begin(3)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 4.0, 4)

    def test_outcomes_count_in_any_order_and_each_makes_room_for_the_next(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0, 3.0)
        assert policy.outcome(3, 1.0) == (True, [Send(4), Begin(4)])
        assert policy.outcome(1, 1.0) == (True, [Send(5), Begin(5)])
        for id in (5, 2, 4):
            assert policy.outcome(id, 2.0) == (True, [])
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, None, 0)

    def test_each_has_its_own_clock_and_the_deadline_is_the_next_of_all(self) -> None:
        policy = serving(9.0, 2.0, 5.0)
        policy.submit(ticket(4, 1.5), 0.0)
        deadlines = [policy.deadline]
        for id, now in ((2, 1.0), (4, 2.0), (3, 2.0), (1, 2.0)):
            policy.outcome(id, now)
            deadlines.append(policy.deadline)
        assert deadlines == [2.0, 2.5, 5.0, 9.0, None]

    def test_a_shorter_request_brings_the_deadline_forward_and_a_longer_one_does_not(self) -> None:
        policy = serving(3.0)
        policy.submit(ticket(2, 9.0), 1.0)
        assert policy.deadline == 3.0
        policy.submit(ticket(3, 1.0), 1.0)
        assert policy.deadline == 2.0

    def test_as_many_are_sent_as_the_window_has_bytes_but_one_always(self) -> None:
        policy = serving()
        sent = [policy.submit(ticket(id, size=size), 0.0) for id, size in ((2, 60), (3, 40), (4, 101), (5, 1))]
        assert sent == [[Send(2), Begin(2)], [Send(3), Begin(3)], [], []]
        assert policy.outcome(3, 0.0) == (True, [])
        assert policy.outcome(2, 0.0) == (True, [Send(4), Begin(4)])
        assert policy.outcome(4, 0.0) == (True, [Send(5), Begin(5)])

    @pytest.mark.parametrize(("requests", "size", "sent"), [(2, 1000, [2]), (64, 30, [2]), (1, 1000, []), (64, 1, [])])
    def test_the_workers_own_window_counts_where_it_is_smaller(self, requests: int, size: int, sent: list[int]) -> None:
        policy = ConcurrentPolicy(TIMES)
        for id in (1, 2, 3):
            policy.submit(ticket(id, size=15), 0.0)
        policy.hello(requests, size)
        assert policy.ready(0.0) == [Begin(1), *(action for id in sent for action in (Send(id), Begin(id)))]

    def test_bytes_do_not_add_up_over_a_long_life(self) -> None:
        policy = serving()
        for id in range(10, 1000, 10):
            assert policy.submit(ticket(id, size=50), 0.0) == [Send(id), Begin(id)]
            assert policy.submit(ticket(id + 1, size=50), 0.0) == [Send(id + 1), Begin(id + 1)]
            assert policy.outcome(id + 1, 0.0) == (True, [])
            assert policy.outcome(id, 0.0) == (True, [])

    def test_a_worker_that_has_room_gets_a_request_by_the_short_way(self) -> None:
        policy = serving(9.0)
        assert policy.submit_if_idle(ticket(2, 3.0, 7), 5.0)
        assert (policy.deadline, policy.in_flight) == (8.0, 2)
        assert policy.submit_if_idle(ticket(3), 5.0)
        assert not policy.submit_if_idle(ticket(4), 5.0)
        assert policy.in_flight == 3
        assert policy.outcome(2, 6.0) == (True, [])

    def test_nothing_overtakes_by_the_short_way(self) -> None:
        policy = serving(9.0)
        assert policy.submit(ticket(2, size=101), 0.0) == []
        assert not policy.submit_if_idle(ticket(3), 0.0)

    def test_finish_waits_for_all(self) -> None:
        policy = serving(3.0, 3.0)
        assert policy.finish(1.0) == []
        assert policy.outcome(2, 1.0) == (True, [])
        assert policy.outcome(1, 1.0) == (True, [Stop()])
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 5.0)
        assert policy.died(2.0) == []
        assert policy.ended


class TestTimeout:
    def test_the_whole_ladder_of_a_worker_that_ignores_everything(self) -> None:
        policy = serving(3.0)
        policy.submit(ticket(2), 1.0)
        assert policy.outcome(2, 2.0) == (True, [])
        assert policy.tick(3.0) == [Dump()]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.DRAINING, 3.5, 1)
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.DRAINING, 5.5, 0)
        assert policy.tick(5.5) == [TERM]
        assert (policy.phase, policy.deadline) == (Phase.TERMINATING, 7.5)
        assert policy.tick(7.5) == [KILL]
        assert policy.phase is Phase.KILLED
        assert policy.died(7.5) == []
        assert (policy.phase, policy.deadline, policy.ended) == (Phase.NONE, None, False)

    def test_those_that_expire_together_are_asked_for_once(self) -> None:
        policy = serving(3.0, 3.0, 9.0)
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.TIMED_OUT), Cancel(1), Cancel(2)]

    def test_who_expires_while_the_stacks_are_waited_for_joins(self) -> None:
        policy = serving(3.0, 3.25, 9.0)
        assert policy.tick(3.0) == [Dump()]
        assert policy.deadline == 3.25
        assert policy.tick(3.25) == []
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.TIMED_OUT), Cancel(1), Cancel(2)]

    def test_who_expires_with_the_last_moment_of_waiting_joins_too(self) -> None:
        policy = serving(3.0, 3.5)
        policy.tick(3.0)
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.TIMED_OUT), Cancel(1), Cancel(2)]

    def test_who_expires_later_is_asked_for_again_and_has_its_own_grace(self) -> None:
        policy = draining(3.0, 4.0)
        assert policy.deadline == 4.0
        assert policy.tick(4.0) == [Dump()]
        assert policy.tick(4.5) == [Answer(2, Cause.TIMED_OUT), Cancel(2)]
        assert policy.deadline == 6.5
        assert policy.tick(6.5) == [TERM]

    def test_stacks_that_keep_coming_are_waited_for_within_a_limit(self) -> None:
        policy = serving(3.0, 9.0)
        policy.tick(3.0)
        deadlines = []
        for now in (3.0625, 3.25, 3.4375, 3.49):
            assert policy.dumped(now) == []
            deadlines.append(policy.deadline)
        assert deadlines == [3.1875, 3.375, 3.5, 3.5]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]

    def test_stacks_that_nobody_waits_for_change_nothing(self) -> None:
        policy = serving(3.0, 9.0)
        policy.dumped(1.0)
        assert policy.deadline == 3.0
        policy.tick(3.0)
        policy.tick(3.5)
        policy.dumped(3.75)
        assert policy.deadline == 9.0

    def test_neighbours_go_on_and_nothing_new_is_sent(self) -> None:
        policy = serving(3.0, 9.0, 9.0)
        policy.tick(3.0)
        assert not policy.submit_if_idle(ticket(4), 3.25)
        assert policy.submit(ticket(4), 3.25) == []
        assert policy.outcome(2, 3.25) == (True, [])
        policy.tick(3.5)
        assert policy.submit(ticket(5), 3.75) == []
        assert policy.outcome(3, 8.0) == (True, [])
        assert (policy.phase, policy.in_flight) == (Phase.DRAINING, 2)

    def test_the_worker_is_not_ended_before_its_neighbours_are_done(self) -> None:
        policy = draining(1.0, 9.0)
        policy.submit(ticket(3), 2.0)
        assert policy.deadline == 9.0, "no grace runs out before"
        assert policy.outcome(2, 8.0) == (True, [])
        assert policy.deadline is not None and policy.deadline <= 8.0
        assert policy.tick(8.0) == [TERM]
        assert policy.died(8.5) == [Start(), Send(3)]

    def test_the_grace_time_runs_from_the_cancel(self) -> None:
        policy = draining(1.0, 9.0)
        assert policy.outcome(2, 2.5) == (True, [])
        assert policy.deadline == 3.5
        assert policy.tick(3.0) == []
        assert policy.tick(3.5) == [TERM]

    def test_a_worker_that_has_hung_requests_only_is_replaced_for_what_waits(self) -> None:
        policy = serving(1.0, 1.0, 1.0, 3.0)
        policy.tick(1.0)
        policy.tick(1.5)
        policy.tick(3.5)
        assert policy.died(3.75) == [Start(), Send(4)]
        assert policy.ready(4.0) == [Begin(4)]
        assert policy.deadline == 7.0


class TestCooperativeWorker:
    def test_it_is_asked_by_frame_and_only_then_by_signal(self) -> None:
        policy = serving(3.0, 9.0)
        policy.cooperative = True
        assert policy.tick(3.0) == [Dump(by_signal=False)]
        assert policy.deadline == 3.25
        assert policy.tick(3.25) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]

    def test_its_answer_is_enough(self) -> None:
        policy = serving(3.0, 9.0)
        policy.cooperative = True
        policy.tick(3.0)
        assert policy.dumped(3.0625) == []
        assert policy.tick(3.1875) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]


class TestLateOutcome:
    """The outcome of a request whose time is over never counts; the worker lives on if it comes while it drains."""

    def test_before_the_stacks_are_there(self) -> None:
        policy = serving(3.0, 9.0, 9.0, 9.0)
        policy.tick(3.0)
        assert policy.outcome(1, 3.25) == (False, [Answer(1, Cause.TIMED_OUT), Send(4), Begin(4)])
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 9.0, 3)

    def test_after_its_answer(self) -> None:
        policy = draining(3.0, 9.0, 9.0, 9.0)
        assert policy.outcome(1, 4.0) == (False, [Send(4), Begin(4)])
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 9.0, 3)
        assert policy.tick(5.5) == []

    def test_all_of_them_must_come(self) -> None:
        policy = draining(3.0, 3.0, 9.0, 9.0)
        assert policy.outcome(2, 4.0) == (False, [])
        assert policy.outcome(1, 4.0) == (False, [Send(4), Begin(4)])
        assert policy.phase is Phase.SERVING

    def test_one_in_time_for_its_stacks_does_not_stand_for_an_earlier_one(self) -> None:
        policy = draining(3.0, 4.0)
        assert policy.tick(4.0) == [Dump()]
        assert policy.outcome(2, 4.25) == (False, [Answer(2, Cause.TIMED_OUT)])
        assert (policy.phase, policy.deadline) == (Phase.DRAINING, 5.5)
        assert policy.tick(5.5) == [TERM]

    def test_when_nothing_else_is_there(self) -> None:
        policy = draining(3.0)
        assert policy.outcome(1, 5.0) == (False, [])
        assert (policy.phase, policy.deadline) == (Phase.SERVING, None)
        assert policy.submit(ticket(2), 6.0) == [Send(2), Begin(2)]

    def test_a_worker_that_was_only_slow_is_stopped_as_any_other(self) -> None:
        policy = draining(3.0)
        assert policy.finish(4.0) == []
        assert policy.outcome(1, 5.0) == (False, [Stop()])

    def test_twice_is_a_violation(self) -> None:
        policy = draining(3.0, 9.0)
        policy.outcome(1, 4.0)
        assert policy.outcome(1, 4.0) == (False, [Answer(2, Cause.VIOLATION), KILL])

    def test_after_the_signal_it_saves_nobody(self) -> None:
        policy = draining(3.0)
        policy.tick(5.5)
        policy.submit(ticket(2), 5.5)
        assert policy.outcome(1, 6.0) == (False, [])
        assert (policy.phase, policy.deadline) == (Phase.TERMINATING, 7.5)
        assert policy.died(6.5) == [Start(), Send(2)]


class TestTooLargeAnAnswer:
    def test_its_neighbours_go_on_and_nothing_new_is_sent(self) -> None:
        policy = serving(3.0, 4.0)
        assert policy.cut(1, 1.0) == [Answer(1, Cause.TOO_LARGE), Cancel(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.DRAINING, 4.0, 1)
        assert policy.submit(ticket(3), 1.0) == []
        assert policy.outcome(2, 2.0) == (True, [])
        assert (policy.phase, policy.deadline) == (Phase.DRAINING, 3.0)
        assert policy.outcome(1, 2.5) == (False, [Send(3), Begin(3)])
        assert policy.phase is Phase.SERVING

    def test_who_goes_on_is_ended_when_its_neighbours_are_done(self) -> None:
        policy = serving(3.0, 9.0)
        policy.cut(1, 1.0)
        policy.outcome(2, 8.0)
        assert policy.deadline == 3.0
        assert policy.tick(8.0) == [TERM]

    def test_of_a_worker_that_is_dead_it_is_its_last_answer(self) -> None:
        policy = serving(3.0)
        policy.gone()
        assert policy.cut(1, 1.0) == [Answer(1, Cause.TOO_LARGE)]
        assert policy.died(1.0) == []


class TestDeath:
    def test_all_that_may_have_begun_get_the_error_and_the_rest_goes_to_the_next_worker(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0, 3.0)
        policy.outcome(2, 1.0)
        lost = [Answer(id, Cause.DIED) for id in (1, 3, 4)]
        assert policy.died(2.0) == [*lost, Start(), Send(5)]
        assert policy.in_flight == 1

    def test_who_was_answered_already_is_not_answered_again(self) -> None:
        policy = draining(3.0, 9.0, 9.0, 9.0)
        lost = [Answer(id, Cause.DIED) for id in (2, 3)]
        assert policy.died(4.0) == [*lost, Start(), Send(4)]
        assert policy.ready(5.0) == [Begin(4)]
        assert policy.outcome(1, 5.0) == (False, [Answer(4, Cause.VIOLATION), KILL]), "another worker's request"

    def test_who_has_timed_out_stays_timed_out(self) -> None:
        policy = serving(3.0, 9.0)
        policy.tick(3.0)
        assert policy.died(3.25) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.DIED)]

    def test_last_words_count_but_the_dead_get_nothing(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0)
        policy.gone()
        assert policy.outcome(3, 1.0) == (True, [])
        assert policy.outcome(1, 1.0) == (True, [])
        assert policy.died(1.0) == [Answer(2, Cause.DIED), Start(), Send(4)]

    def test_the_dead_get_nothing_by_the_short_way_either(self) -> None:
        policy = serving()
        policy.gone()
        assert not policy.submit_if_idle(ticket(2), 1.0)

    def test_a_late_outcome_among_the_last_words_feeds_nobody(self) -> None:
        policy = draining(3.0, 9.0, 9.0, 9.0)
        policy.gone()
        assert policy.outcome(1, 4.0) == (False, [])

    def test_ready_among_the_last_words_means_that_the_request_may_have_begun(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        policy.gone()
        assert policy.ready(1.0) == [Begin(1)]
        assert policy.died(1.0) == [Answer(1, Cause.DIED), Start(), Send(2)]

    def test_a_closed_stream_gives_the_worker_time_to_end(self) -> None:
        policy = serving(1.0, 1.0)
        assert policy.closed(0.5) == []
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 2.5)
        assert policy.outcome(2, 0.75) == (True, []), "a worker that reads no more may still write"
        assert policy.tick(2.5) == [TERM]
        assert policy.tick(4.5) == [KILL]
        assert policy.died(5.0) == [Answer(1, Cause.DIED)]

    def test_a_stream_closed_while_the_stacks_are_waited_for(self) -> None:
        policy = serving(3.0, 9.0)
        policy.tick(3.0)
        assert policy.closed(3.25) == []
        assert policy.deadline == 3.5
        policy.dumped(3.25)
        assert policy.deadline == 3.375
        assert policy.tick(3.375) == [Answer(1, Cause.TIMED_OUT), TERM]
        assert policy.died(3.5) == [Answer(2, Cause.DIED)]

    def test_a_stream_closed_while_it_drains(self) -> None:
        policy = draining(3.0, 9.0)
        assert policy.closed(4.0) == []
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 6.0)
        assert policy.died(4.5) == [Answer(2, Cause.DIED)]

    def test_an_idle_worker_that_dies_is_not_replaced_before_it_is_needed(self) -> None:
        policy = serving()
        assert policy.died(5.0) == []
        assert policy.submit(ticket(2), 6.0) == [Start(), Send(2)]


class TestViolation:
    def test_it_ends_the_worker_and_all_that_it_may_have_begun(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0)
        lost = [Answer(id, Cause.VIOLATION) for id in (1, 2, 3)]
        assert policy.violation(1.0) == [*lost, KILL]
        assert (policy.phase, policy.in_flight) == (Phase.KILLED, 1)
        assert policy.died(1.5) == [Start(), Send(4)]

    @pytest.mark.parametrize("id", [3, 99])
    def test_an_outcome_for_nothing(self, id: int) -> None:
        policy = serving(3.0, 3.0, 3.0)
        policy.outcome(3, 0.0)
        assert policy.outcome(id, 1.0) == (False, [Answer(1, Cause.VIOLATION), Answer(2, Cause.VIOLATION), KILL])

    def test_an_outcome_for_a_request_that_was_not_sent(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0)
        counts, actions = policy.outcome(4, 1.0)
        assert not counts and KILL in actions and policy.in_flight == 1

    def test_nothing_that_the_worker_says_later_counts(self) -> None:
        policy = serving(3.0, 3.0)
        policy.violation(1.0)
        for said in (policy.ready(1.0), policy.closed(1.0), policy.dumped(1.0), policy.violation(1.0)):
            assert said == []
        for id in (1, 2, 3):
            assert policy.outcome(id, 1.0) == (False, [])
        assert policy.phase is Phase.KILLED

    def test_who_has_timed_out_stays_timed_out(self) -> None:
        policy = serving(3.0, 9.0)
        policy.tick(3.0)
        assert policy.violation(3.25) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.VIOLATION), KILL]

    def test_before_ready_the_start_has_failed(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.outcome(1, 1.0) == (False, [Answer(1, Cause.VIOLATION), KILL])
        assert policy.died(1.0) == []
        assert policy.tick(1.25) == [Start(), Send(2)]

    def test_the_dead_are_not_signalled(self) -> None:
        policy = serving(3.0, 3.0)
        policy.gone()
        assert policy.violation(1.0) == [Answer(1, Cause.VIOLATION), Answer(2, Cause.VIOLATION)]

    def test_a_killed_worker_that_does_not_end_is_given_up(self) -> None:
        policy = serving(3.0)
        policy.violation(1.0)
        steps = []
        while policy.deadline is not None:
            steps += policy.tick(policy.deadline)
        assert steps[-1] == Lose() and set(map(type, steps[:-1])) == {Sweep}


class TestStart:
    def test_a_request_sent_to_a_worker_that_was_never_ready_is_sent_again_in_its_order(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.died(0.0) == []
        assert policy.tick(0.25) == [Start(), Send(1)]
        assert policy.ready(1.0) == [Begin(1), Send(2), Begin(2)]

    def test_failed_starts_in_a_row_end_it(self) -> None:
        policy = ConcurrentPolicy(replace(TIMES, start_attempts=2))
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        policy.died(0.0)
        policy.tick(0.25)
        assert policy.died(1.0) == [Answer(1, Cause.START_FAILED), Answer(2, Cause.START_FAILED)]
        assert policy.ended and policy.finishing

    def test_a_start_that_takes_too_long_costs_the_request_that_waited_for_it(self) -> None:
        policy = ConcurrentPolicy(replace(TIMES, start_attempts=2))
        for id in (1, 2, 3):
            policy.submit(ticket(id), 0.0)
        assert policy.tick(8.0) == [Dump()]
        assert policy.ready(8.25) == []
        assert policy.tick(8.5) == [Answer(1, Cause.START_TIMED_OUT), TERM]
        assert policy.died(9.0) == []
        assert policy.tick(9.25) == [Start(), Send(2)]
        policy.tick(17.25)
        assert policy.died(17.5) == [Answer(2, Cause.START_TIMED_OUT), Answer(3, Cause.START_TIMED_OUT)]
        assert policy.ended

    def test_an_outcome_that_comes_when_the_start_was_given_up_does_not_count(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.tick(8.0)
        policy.ready(8.25)
        assert policy.outcome(1, 8.25) == (False, [Answer(1, Cause.START_TIMED_OUT)])
        assert policy.tick(8.5) == [TERM]

    def test_a_handler_that_cannot_be_loaded_is_not_tried_again(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.loading
        assert policy.not_loaded(1.0) == [Answer(1, Cause.NOT_LOADED), Answer(2, Cause.NOT_LOADED)]
        assert policy.died(1.5) == []
        assert policy.ended

    def test_a_program_that_cannot_be_executed_is_not_tried_again(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.exec_failed(0.5) == [Answer(1, Cause.START_FAILED), Answer(2, Cause.START_FAILED)]
        assert policy.ended


class TestInterrupt:
    def test_what_was_not_sent_is_answered_and_the_rest_has_the_grace_time_together(self) -> None:
        policy = serving(9.0, 9.0, 9.0, 9.0)
        assert policy.interrupt(1.0) == [Answer(4, Cause.STOPPED)]
        assert policy.deadline == 3.0
        assert policy.outcome(2, 2.0) == (True, [])
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.STOPPED), Answer(3, Cause.STOPPED), Cancel(1), Cancel(3)]
        assert policy.tick(3.5) == [TERM], "the grace time is over"
        assert policy.died(4.0) == []
        assert policy.ended

    def test_who_is_done_in_time_is_done(self) -> None:
        policy = serving(9.0, 9.0)
        policy.interrupt(1.0)
        assert policy.outcome(2, 2.0) == (True, [])
        assert policy.outcome(1, 2.0) == (True, [Stop()])

    def test_no_request_gets_more_time_by_it(self) -> None:
        policy = serving(2.0, 9.0)
        policy.interrupt(1.0)
        assert policy.tick(2.0) == [Dump()]
        assert policy.tick(2.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert policy.deadline == 3.0
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(2, Cause.STOPPED), Cancel(2)]
        assert policy.tick(3.5) == [TERM]

    def test_while_it_drains_the_missing_have_no_more_time_than_that(self) -> None:
        policy = draining(1.0, 9.0)
        policy.submit(ticket(3), 1.5)
        assert policy.interrupt(1.0) == [Answer(3, Cause.STOPPED)]
        assert policy.deadline == 3.0
        assert policy.outcome(2, 2.0) == (True, [])
        assert policy.deadline == 3.0
        assert policy.tick(3.0) == [TERM]

    def test_while_the_stacks_are_waited_for(self) -> None:
        policy = serving(1.0, times=replace(TIMES, dump_wait=4.0))
        policy.tick(1.0)
        policy.interrupt(1.25)
        assert policy.deadline == 5.0
        assert policy.tick(5.0) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert policy.tick(5.0) == [TERM]

    def test_a_worker_that_turns_out_well_is_stopped_in_good_order(self) -> None:
        policy = serving(9.0, 9.0)
        policy.interrupt(1.0)
        policy.tick(3.0)
        assert policy.outcome(1, 3.25) == (False, [Answer(1, Cause.STOPPED)])
        assert policy.outcome(2, 3.25) == (False, [Answer(2, Cause.STOPPED), Stop()])

    def test_a_worker_that_dies_then_is_not_replaced(self) -> None:
        policy = serving(9.0, 9.0)
        policy.interrupt(1.0)
        assert policy.died(1.5) == [Answer(1, Cause.DIED), Answer(2, Cause.DIED)]
        assert policy.ended

    def test_while_the_worker_starts(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.interrupt(1.0) == [Answer(2, Cause.STOPPED)]
        assert policy.ready(2.0) == [Begin(1)]
        assert policy.deadline == 3.0
        assert policy.outcome(1, 2.5) == (True, [Stop()])

    def test_while_the_worker_does_not_start(self) -> None:
        policy = ConcurrentPolicy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.interrupt(1.0)
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.STOPPED), TERM]
        assert policy.died(3.5) == []
        assert policy.ended


class TestTold:
    """Workers that hear of a cancellation are told that they are given up, all requests at a time."""

    def test_an_interrupt_after_half_of_the_grace_time(self) -> None:
        policy = serving(3.0, 9.0)
        policy.cooperative = True
        policy.interrupt(0.5)
        assert policy.deadline == 1.5
        stopped = [Answer(1, Cause.STOPPED), Answer(2, Cause.STOPPED)]
        assert policy.tick(1.5) == [*stopped, Cancel(1), Cancel(2), Stop()]
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 2.5)
        assert policy.outcome(2, 1.75) == (False, [])
        assert policy.outcome(1, 1.75) == (False, [])
        assert policy.tick(2.5) == [TERM]

    def test_abandoned_it_is_told_at_once_and_a_late_request_is_not_cancelled_twice(self) -> None:
        policy = serving(1.0, 9.0)
        policy.cooperative = True
        policy.tick(1.0)
        policy.tick(1.25)
        assert policy.tick(1.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert policy.abandon(1.75) == [Answer(2, Cause.STOPPED), Cancel(2), Stop()]
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 3.75)

    def test_abandoned_one_that_does_not_hear_gets_the_signal_at_once(self) -> None:
        policy = serving(3.0, 9.0)
        assert policy.abandon(0.5) == [Answer(1, Cause.STOPPED), Answer(2, Cause.STOPPED), TERM]


class TestHurry:
    def test_everything_is_answered_at_once(self) -> None:
        policy = serving(3.0, 3.0, 3.0, 3.0)
        answers = [Answer(id, Cause.STOPPED) for id in (4, 1, 2, 3)]
        assert policy.hurry(1.0) == [*answers, KILL]
        assert policy.hurry(1.0) == []
        assert policy.died(1.5) == []
        assert policy.ended

    def test_who_has_timed_out_stays_timed_out(self) -> None:
        policy = serving(3.0, 9.0)
        policy.tick(3.0)
        assert policy.hurry(3.25) == [Answer(1, Cause.TIMED_OUT), Answer(2, Cause.STOPPED), KILL]

    def test_while_it_drains(self) -> None:
        policy = draining(3.0, 9.0)
        assert policy.hurry(4.0) == [Answer(2, Cause.STOPPED), KILL]

    def test_after_sigkill_nobody_waits_for_the_death(self) -> None:
        policy = serving(3.0, 3.0)
        policy.closed(1.0)
        policy.tick(3.0)
        policy.tick(5.0)
        assert policy.hurry(5.0) == [Answer(1, Cause.STOPPED), Answer(2, Cause.STOPPED)]


MANY = 500
"""More decisions in a row than any end may take."""

SOME_TIMES = st.sampled_from(
    [
        TIMES,
        replace(TIMES, window_requests=8, window_bytes=1000),
        replace(TIMES, window_requests=1, start_attempts=1),
        replace(TIMES, grace=0.0),
        replace(TIMES, dump_wait=4.0),
        Settings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2, 4, 50),
    ]
)


class TestPace:
    """The log is not read as fast as it is written."""

    def test_while_it_is_read_at_all_the_window_alone_counts(self) -> None:
        policy = serving(3.0)
        assert policy.pace(1, 0.0) == []
        assert policy.submit_if_idle(ticket(2), 0.0)
        assert policy.submit(ticket(3), 0.0) == [Send(3), Begin(3)]

    def test_none_is_begun_until_it_goes_on(self) -> None:
        policy = serving(3.0)
        assert policy.pace(0, 0.0) == []
        assert not policy.submit_if_idle(ticket(2), 0.0)
        assert policy.submit(ticket(2), 0.0) == []
        assert policy.outcome(1, 1.0) == (True, [])
        assert policy.pace(1, 50.0) == [Send(2), Begin(2)]
        assert policy.deadline == 53.0


class History:
    """What is told to a policy, and a model of a worker that begins at once what it gets, once it is ready.

    inside: what the worker was sent and has not answered. begun: {id: when}. expired: those of which the policy has
    been told, by a tick, that their time is over. wild: the worker has broken the protocol.
    """

    def __init__(self, times: Settings) -> None:
        self.times = times
        self.policy = ConcurrentPolicy(times)
        self.now = 0.0
        self.tickets: dict[int, Ticket] = {}
        self.ends: dict[int, str] = {}
        self.begun: dict[int, float] = {}
        self.expired: set[int] = set()
        self.cancelled: set[int] = set()
        self.window = (times.window_requests, times.window_bytes)
        self.inside: list[int] = []
        self.tell_at = self.force_at = float("inf")
        self.alive = self.ready = self.deaf = self.stopped = self.gone = self.killed = self.wild = False

    # Performing what the policy decides

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            getattr(self, f"on_{type(action).__name__.lower()}")(action)

    def on_start(self, action: Start) -> None:
        assert not self.alive and not self.policy.ended
        self.alive = True
        self.ready = self.deaf = self.stopped = self.gone = self.killed = self.wild = False
        self.inside.clear()

    def on_send(self, action: Send) -> None:
        id = action.id
        assert self.alive and not self.gone and not self.stopped and not self.killed
        assert id not in self.ends, "sent, though it has its outcome"
        assert id not in self.begun, "sent, though a worker may have begun it"
        assert id not in self.inside
        assert all(each < id for each in self.inside), "out of order"
        assert not self.expired & set(self.inside), "sent to a worker that drains"
        assert len(self.inside) < self.policy.limit, "more than the pace allows"
        if self.inside:
            assert self.ready, "more than one request before READY"
            assert len(self.inside) < self.window[0]
            assert sum(self.tickets[each].size for each in [*self.inside, id]) <= self.window[1]
        self.inside.append(id)

    def on_begin(self, action: Begin) -> None:
        assert self.alive and self.ready
        assert action.id in self.inside and action.id not in self.begun and action.id not in self.ends
        self.begun[action.id] = self.now

    def on_answer(self, action: Answer) -> None:
        id, cause = action.id, action.cause
        if cause is Cause.TIMED_OUT:
            assert self.now >= self.begun[id] + self.tickets[id].timeout, "too early"
            assert id in self.expired
        if cause is Cause.DIED:
            assert id in self.begun and not self.alive and id not in self.expired
        if cause is Cause.STOPPED:
            assert self.force_at < float("inf")
        self.end(id, cause.name)

    def on_cancel(self, action: Cancel) -> None:
        assert self.alive and not self.gone and not self.stopped and not self.killed
        assert action.id in self.inside and action.id in self.ends, "not answered, or it has its late outcome"
        assert action.id not in self.cancelled
        self.cancelled.add(action.id)

    def on_dump(self, action: Dump) -> None:
        assert self.alive and not self.gone and not self.killed

    def on_sweep(self, action: Sweep) -> None:
        assert self.alive and self.killed or self.gone

    def on_lose(self, action: Lose) -> None:
        assert self.alive and self.killed or self.gone
        self.policy.gone()
        self.die()

    def on_stop(self, action: Stop) -> None:
        assert self.alive and not self.gone and not self.stopped and not self.killed
        assert set(self.inside) <= set(self.ends), "told to stop with work to do"
        assert set(self.inside) <= self.cancelled, "told to stop, and not to give up its requests"
        self.stopped = True

    def on_signal(self, action: Signal) -> None:
        assert self.alive and not self.gone and not self.killed
        if action == TERM and not self.deaf and self.ready:
            assert not set(self.inside) - set(self.ends), "a neighbour's work is lost"
        self.killed = action == KILL

    def end(self, id: int, how: str) -> None:
        assert id in self.tickets
        assert id not in self.ends, f"two ends: {self.ends[id]} and {how}"
        self.ends[id] = how

    # Events: each takes a number to vary it, and does nothing where it cannot happen

    def time_passes(self, number: int) -> None:
        self.now += number / 4

    def submit(self, number: int) -> None:
        made = Ticket(len(self.tickets) + 1, [0.25, 1.0, 3.0, 9.0][number // 4], [0, 1, 20, 200][number % 4])
        if self.policy.finishing:
            with pytest.raises(ValueError):
                self.policy.submit(made, self.now)
        else:
            self.tickets[made.id] = made
            self.perform(self.submitted(made))

    def submitted(self, made: Ticket) -> list[Action]:
        """By the short way where that goes, which must do what the long one does, or nothing."""
        twin, before = copy.deepcopy(self.policy), copy.deepcopy(vars(self.policy))
        actions = twin.submit(copy.copy(made), self.now)
        if self.policy.submit_if_idle(made, self.now):
            assert actions == [Send(made.id), Begin(made.id)]
            assert vars(self.policy) == vars(twin)
            return actions
        assert vars(self.policy) == before
        return self.policy.submit(made, self.now)

    def pace(self, number: int) -> None:
        self.perform(self.policy.pace([0, 1, 2, UNLIMITED][number // 4], self.now))

    def finish(self, number: int = 0) -> None:
        self.perform(self.policy.finish(self.now))

    def interrupt(self, number: int) -> None:
        self.limit_patience()
        self.perform(self.policy.interrupt(self.now))

    def limit_patience(self) -> None:
        if self.force_at == float("inf"):
            self.force_at = self.now + self.times.grace
            self.tell_at = self.now + self.times.grace / 2

    def patience(self) -> float:
        """Until when a request may go on after somebody wanted an end."""
        return self.tell_at if self.policy.cooperative else self.force_at

    def abandon(self, number: int) -> None:
        self.limit_patience()
        self.tell_at = self.now
        self.perform(self.policy.abandon(self.now))
        assert set(self.tickets) == set(self.ends)

    def stream(self, number: int) -> None:
        if self.alive and not self.deaf and self.ready and self.inside:
            self.policy.streams(self.inside[number % len(self.inside)])

    def hurry(self, number: int) -> None:
        self.limit_patience()
        self.perform(self.policy.hurry(self.now))
        assert set(self.tickets) == set(self.ends)

    def tick(self, number: int = 0) -> None:
        if self.gone:
            return
        policy = self.policy
        before = policy.phase, policy.deadline
        if policy.phase in (Phase.SERVING, Phase.DRAINING):
            over = {id for id in self.inside if min(self.over_at(id), self.patience()) <= self.now}
            assert not over - self.expired or (policy.deadline is not None and policy.deadline <= self.now), "missed"
            self.expired |= over
        actions = policy.tick(self.now)
        if before[1] is None or self.now < before[1]:
            assert actions == [] and policy.deadline == before[1]
        else:
            assert actions or (policy.phase, policy.deadline) != before, "a busy loop"
        self.perform(actions)

    def over_at(self, id: int) -> float:
        return self.begun[id] + self.tickets[id].timeout

    def tick_at_deadline(self, number: int = 0) -> None:
        if self.policy.deadline is not None:
            self.now = max(self.now, self.policy.deadline)
            self.tick()

    def get_ready(self, number: int) -> None:
        if not self.alive or self.deaf:
            return
        if self.ready:
            assert self.policy.ready(self.now) == []
            return
        requests, size = [64, 64, 2, 1][number % 4], [2**20, 2**20, 50, 0][number // 4]
        self.window = min(requests, self.times.window_requests), min(size, self.times.window_bytes)
        self.ready = True
        self.policy.hello(requests, size)
        self.policy.cooperative = number % 3 == 0
        self.perform(self.policy.ready(self.now))

    def answer_one(self, number: int) -> None:
        """Any request that the worker has; it counts unless its time is over, or the worker is not believed."""
        if self.alive and not self.deaf and self.ready and self.inside:
            id = self.inside.pop(number % len(self.inside))
            in_time = id in self.begun and id not in self.expired and id not in self.ends
            counts, actions = self.policy.outcome(id, self.now)
            assert counts == in_time
            if counts:
                self.end(id, "OUTCOME")
            assert counts or self.wild or Signal(signal.SIGKILL) not in actions, "a late outcome is no violation"
            self.perform(actions)

    def obey_cancel(self, number: int) -> None:
        for id in [id for id in self.inside if id in self.cancelled]:
            self.answer_one(self.inside.index(id))

    def answer_anything(self, number: int) -> None:
        if self.alive and not self.deaf and not (self.ready and number in self.inside):
            self.wild = True
            counts, actions = self.policy.outcome(number, self.now)
            assert not counts
            self.perform(actions)
            if number in self.inside:
                self.inside.remove(number)

    def answer_too_much(self, number: int) -> None:
        if self.alive and not self.deaf and self.ready and self.inside:
            id = self.inside[number % len(self.inside)]
            if id not in self.ends:
                actions = self.policy.cut(id, self.now)
                self.expired |= {id} if actions else set()
                self.perform(actions)

    def break_the_protocol(self, number: int) -> None:
        if self.alive and not self.deaf:
            self.wild = True
            self.perform(self.policy.violation(self.now))
            assert self.policy.phase is Phase.KILLED

    def fail_to_load(self, number: int) -> None:
        if self.alive and not self.deaf and self.policy.phase is Phase.STARTING:
            self.deaf = True
            self.perform(self.policy.not_loaded(self.now))
            assert set(self.tickets) == set(self.ends)

    def close_the_stream(self, number: int) -> None:
        if self.alive and not self.deaf:
            self.deaf = True
            self.perform(self.policy.closed(self.now))

    def write_stacks(self, number: int) -> None:
        if self.alive:
            before = self.policy.deadline
            assert self.policy.dumped(self.now) == []
            assert self.policy.phase in (Phase.DUMPING, Phase.DRAINING) or self.policy.deadline == before

    def be_seen_dead(self, number: int) -> None:
        if self.alive:
            self.gone = True
            self.policy.gone()

    def die(self, number: int = 0) -> None:
        if self.alive:
            self.alive = self.gone = False
            self.perform(self.policy.died(self.now))

    def fail_to_execute(self, number: int) -> None:
        if self.alive and not self.ready and not self.deaf:
            self.alive = self.gone = False
            self.perform(self.policy.exec_failed(self.now))
            assert self.policy.ended and set(self.tickets) == set(self.ends)

    # What always holds

    def check(self) -> None:
        policy = self.policy
        assert policy.in_flight == len(self.tickets) - len(self.ends)
        assert (policy.phase is Phase.NONE) == (not self.alive)
        if policy.phase in (Phase.STARTING, Phase.DRAINING, Phase.STOPPING, Phase.DUMPING, Phase.TERMINATING):
            assert policy.deadline is not None
        if policy.in_flight and policy.limit and policy.phase is not Phase.KILLED and not self.gone:
            assert policy.deadline is not None, "it would wait for ever"
        if policy.phase is Phase.SERVING:
            due = [min(self.over_at(id), self.patience()) for id in self.inside]
            assert policy.deadline == min(due, default=None)
        if policy.ended:
            assert policy.finishing and policy.deadline is None
            assert not self.alive and set(self.tickets) == set(self.ends)

    def come_to_an_end(self) -> None:
        """Whatever has happened: with no more requests, and workers that only ever hang, there is an end."""
        self.finish()
        self.perform(self.policy.pace(UNLIMITED, self.now))
        for _ in range(MANY):
            self.check()
            if self.policy.ended:
                return
            if self.policy.deadline is not None and not self.gone:
                self.tick_at_deadline()
            else:
                self.die()
        raise AssertionError("it does not end")


ORDINARY = ["time_passes", "pace", "tick", "write_stacks", "obey_cancel", "answer_too_much", "stream"]
ORDINARY += ["submit"] * 8 + ["get_ready"] * 5 + ["answer_one"] * 3 + ["tick_at_deadline"] * 5
DEADLY = [*["die"] * 3, "be_seen_dead", "close_the_stream", "break_the_protocol", "answer_anything"]
FINAL = ["finish", "interrupt", "abandon", "hurry", "fail_to_load", "fail_to_execute"]


@settings(max_examples=600)
@given(
    times=SOME_TIMES,
    events=st.lists(
        st.tuples(st.sampled_from(ORDINARY * 2 + DEADLY + FINAL), st.integers(0, 15)), min_size=25, max_size=60
    ),
    final_from=st.integers(0, 40),
)
def test_the_promises_hold_for_any_events_in_any_order_at_any_time(
    times: Settings, events: list[tuple[str, int]], final_from: int
) -> None:
    """One end for each request, none begun twice, never stuck. FINAL events come late, or little would happen."""
    history = History(times)
    for at, (event, number) in enumerate(events):
        if event not in FINAL or at >= final_from:
            getattr(history, event)(number)
            history.check()
    history.come_to_an_end()


@given(
    timeouts=st.lists(st.sampled_from([0.5, 1.5, 2.0, 4.0, 9.0]), min_size=1, max_size=6),
    interrupted=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    data=st.data(),
)
def test_after_an_interrupt_the_end_comes_within_a_bounded_time(
    timeouts: list[float], interrupted: float, data: st.DataObject
) -> None:
    """However the worker goes on: grace for the requests, stacks, then the time to stop, or not even that; force."""
    policy = serving(*timeouts, times=replace(TIMES, window_requests=10))
    now, unanswered = interrupted, list(range(1, len(timeouts) + 1))
    while policy.deadline is not None and policy.deadline < interrupted:
        policy.tick(policy.deadline)
    policy.interrupt(now)
    while policy.phase is not Phase.KILLED:
        assert policy.deadline is not None
        wait: st.SearchStrategy[Any] = st.booleans()
        if unanswered and not data.draw(wait):
            place: st.SearchStrategy[Any] = st.integers(0, len(unanswered) - 1)
            policy.outcome(unanswered.pop(data.draw(place)), now)
        else:
            now = max(now, policy.deadline)
            policy.tick(now)
    assert now <= interrupted + TIMES.grace + TIMES.dump_wait + TIMES.stop_timeout + TIMES.grace


ALIKE = ["submit"] * 6 + ["ready"] * 4 + ["outcome"] * 5 + ["tick"] * 3 + ["died"] * 2
ALIKE += ["closed", "violation", "gone", "wrong", "finish", "interrupt", "hurry", "not_loaded", "exec_failed"]


@settings(max_examples=300)
@given(events=st.lists(st.tuples(st.sampled_from(ALIKE), st.sampled_from([0.0, 0.125, 0.5])), max_size=40))
def test_with_one_request_at_a_time_it_decides_as_policy_does_until_one_times_out(
    events: list[tuple[str, float]],
) -> None:
    times = replace(TIMES, window_requests=1)
    both: tuple[Policy, Policy] = (Policy(times), ConcurrentPolicy(times))
    now, last, sent = 0.0, 0, 0

    def told(event: str) -> list[object]:
        """What each says to `event`."""
        if event == "submit":
            return [policy.submit(ticket(last, 1000.0), now) for policy in both]
        if event in ("outcome", "wrong"):
            return [policy.outcome(sent if event == "outcome" else last + 1, now) for policy in both]
        if event == "gone":
            return [policy.gone() for policy in both]  # type: ignore[func-returns-value]
        return [getattr(policy, event)(now) for policy in both]

    for event, passes in events:
        now += passes
        phase = both[0].phase
        if phase is Phase.NONE and event not in ("submit", "tick", "finish", "interrupt", "hurry"):
            continue
        if event in ("not_loaded", "exec_failed") and phase is not Phase.STARTING:
            continue
        if event == "outcome" and (not sent or phase is Phase.DUMPING):
            continue  # of a start that was given up: Policy keeps its answer back until the stacks are there
        if event == "submit" and both[0].finishing:
            continue
        if event == "tick" and (both[0].deadline is None or phase is Phase.SERVING):
            continue
        if event == "tick":
            now = max(now, both[0].deadline or 0.0)
        last += event == "submit"
        serial, concurrent = told(event)
        assert serial == concurrent, event
        actions = serial[1] if isinstance(serial, tuple) else serial or []
        assert isinstance(actions, list)
        for action in actions:
            sent = action.id if isinstance(action, Send) else sent
        for name in ("phase", "deadline", "in_flight", "loading", "finishing", "ended"):
            assert getattr(both[0], name) == getattr(both[1], name), (event, name)
