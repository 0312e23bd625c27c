"""The policy's decisions: histories told event by event, and any events in any order at any time.

No process, no clock: `now` is a number that the test chooses.
"""

from __future__ import annotations

import copy
import signal
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_init.model import Settings
from pipe_init.policy.actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from pipe_init.policy.policy import MANY as UNLIMITED
from pipe_init.policy.policy import UNUSED_BACKOFF_LIMIT, Phase, Policy, Ticket

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


def serving(*ids: int, times: Settings = TIMES) -> Policy:
    """A policy at time 0 with a ready worker that has been sent these requests, as far as the window allows."""
    policy = Policy(times)
    for id in ids or (1,):
        policy.submit(ticket(id), 0.0)
    policy.ready(0.0)
    if not ids:
        policy.outcome(1, 0.0)
    assert policy.phase is Phase.SERVING
    return policy


def answers(actions: list[Action]) -> list[tuple[int, Cause]]:
    return [(action.id, action.cause) for action in actions if isinstance(action, Answer)]


class TestOneWorker:
    """Nothing goes wrong."""

    def test_a_request_from_start_to_stop(self) -> None:
        policy = Policy(TIMES)
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.NONE, None, 0)
        assert policy.submit(ticket(1), 10.0) == [Start(), Send(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.STARTING, 18.0, 1)
        assert policy.ready(11.0) == [Begin(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 14.0, 1)
        assert policy.outcome(1, 12.0) == (True, [])
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, None, 0)
        assert policy.finish(13.0) == [Stop()]
        assert (policy.phase, policy.deadline, policy.ended) == (Phase.STOPPING, 17.0, False)
        assert policy.closed(13.5) == []
        assert policy.died(14.0) == []
        assert (policy.phase, policy.deadline, policy.ended) == (Phase.NONE, None, True)

    def test_nothing_is_started_for_nothing(self) -> None:
        policy = Policy(TIMES)
        assert policy.finish(0.0) == []
        assert policy.ended

    def test_the_next_request_begins_with_the_outcome_of_the_one_before(self) -> None:
        policy = serving(1, 2)
        assert policy.deadline == 3.0
        assert policy.outcome(1, 2.5) == (True, [Begin(2)])
        assert policy.deadline == 5.5
        assert policy.outcome(2, 3.0) == (True, [])

    def test_finish_waits_for_what_is_there(self) -> None:
        policy = serving(1, 2)
        assert policy.finish(1.0) == []
        assert policy.outcome(1, 1.0) == (True, [Begin(2)])
        assert policy.outcome(2, 1.0) == (True, [Stop()])

    def test_after_finish_no_request_is_taken(self) -> None:
        policy = serving(1)
        policy.finish(1.0)
        assert policy.finishing
        with pytest.raises(ValueError, match="no request is taken any more"):
            policy.submit(ticket(2), 1.0)
        assert policy.in_flight == 1

    def test_an_idle_worker_gets_a_request_by_the_short_way(self) -> None:
        policy = serving()
        assert policy.submit_if_idle(ticket(2, 3.0, 7), 5.0)
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 8.0, 1)
        assert not policy.submit_if_idle(ticket(3), 5.0)
        assert policy.outcome(2, 6.0) == (True, [])

    def test_a_tick_before_the_deadline_does_nothing(self) -> None:
        policy = serving(1)
        assert policy.tick(2.999) == []
        assert policy.phase is Phase.SERVING

    def test_a_tick_without_a_deadline_does_nothing(self) -> None:
        policy = serving()
        assert policy.deadline is None
        assert policy.tick(1e9) == []
        assert policy.phase is Phase.SERVING

    def test_an_idle_worker_that_dies_is_not_replaced_before_it_is_needed(self) -> None:
        policy = serving()
        assert policy.died(5.0) == []
        assert (policy.phase, policy.deadline, policy.ended) == (Phase.NONE, None, False)
        assert policy.submit(ticket(2), 6.0) == [Start(), Send(2)]


class TestWindow:
    def test_one_request_is_sent_before_ready(self) -> None:
        policy = Policy(TIMES)
        assert policy.submit(ticket(1), 0.0) == [Start(), Send(1)]
        assert policy.submit(ticket(2), 0.0) == []
        assert policy.ready(0.0) == [Begin(1), Send(2)]

    def test_as_many_are_sent_as_the_window_has_requests(self) -> None:
        policy = serving(1)
        sent = [policy.submit(ticket(id), 0.0) for id in (2, 3, 4)]
        assert sent == [[Send(2)], [Send(3)], []]
        assert policy.outcome(1, 0.0) == (True, [Begin(2), Send(4)])

    def test_as_many_are_sent_as_the_window_has_bytes(self) -> None:
        policy = serving()
        sent = [policy.submit(ticket(id, size=size), 0.0) for id, size in ((2, 60), (3, 40), (4, 1))]
        assert sent == [[Send(2), Begin(2)], [Send(3)], []]
        assert policy.outcome(2, 0.0) == (True, [Begin(3), Send(4)])

    def test_one_request_always_fits(self) -> None:
        policy = serving()
        assert policy.submit(ticket(2, size=101), 0.0) == [Send(2), Begin(2)]
        assert policy.submit(ticket(3), 0.0) == []

    def test_nothing_overtakes_a_request_that_does_not_fit(self) -> None:
        policy = serving(1)
        assert policy.submit(ticket(2, size=101), 0.0) == []
        assert policy.submit(ticket(3), 0.0) == []
        assert policy.outcome(1, 0.0) == (True, [Send(2), Begin(2)])

    @pytest.mark.parametrize(("requests", "size", "sent"), [(2, 1000, [2]), (64, 40, [2]), (1, 1000, []), (64, 1, [])])
    def test_the_workers_own_window_counts_where_it_is_smaller(self, requests: int, size: int, sent: list[int]) -> None:
        policy = Policy(TIMES)
        for id in (1, 2, 3, 4):
            policy.submit(ticket(id, size=15), 0.0)
        policy.hello(requests, size)
        assert policy.ready(0.0) == [Begin(1), *map(Send, sent)]

    def test_the_workers_larger_window_does_not_count(self) -> None:
        policy = Policy(TIMES)
        for id in range(1, 10):
            policy.submit(ticket(id), 0.0)
        policy.hello(64, 2**20)
        assert policy.ready(0.0) == [Begin(1), Send(2), Send(3)]

    def test_bytes_do_not_add_up_over_a_long_life(self) -> None:
        policy = serving()
        for id in range(10, 1000, 10):
            assert policy.submit(ticket(id, size=50), 0.0) == [Send(id), Begin(id)]
            assert policy.submit(ticket(id + 1, size=50), 0.0) == [Send(id + 1)]
            assert policy.died(0.0) == [Answer(id, Cause.DIED), Start(), Send(id + 1)]
            assert policy.ready(0.0) == [Begin(id + 1)]
            assert policy.outcome(id + 1, 0.0) == (True, [])


class TestTimeout:
    def test_the_whole_ladder(self) -> None:
        policy = serving(1)
        assert policy.tick(3.0) == [Dump()]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.DUMPING, 3.5, 1)
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), TERM]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.TERMINATING, 5.5, 0)
        assert policy.tick(5.5) == [KILL]
        assert (policy.phase, policy.deadline) == (Phase.KILLED, 5.5 + policy.settings.kill_wait)
        assert policy.died(5.5) == []
        assert (policy.phase, policy.deadline, policy.ended) == (Phase.NONE, None, False)

    def test_stacks_that_keep_coming_are_waited_for_within_a_limit(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        deadlines = []
        for now in (3.0625, 3.125, 3.25, 3.4375, 3.49):
            assert policy.dumped(now) == []
            deadlines.append(policy.deadline)
        assert deadlines == [3.1875, 3.25, 3.375, 3.5, 3.5]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), TERM]

    def test_stacks_that_nobody_asked_for_change_nothing(self) -> None:
        policy = serving(1)
        assert policy.dumped(1.0) == []
        assert policy.deadline == 3.0

    def test_a_worker_that_dies_of_the_signal_needs_no_more(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.died(3.6) == []
        assert policy.submit(ticket(2), 4.0) == [Start(), Send(2)]

    def test_a_worker_that_dies_while_it_is_asked_leaves_a_timeout(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        assert policy.died(3.1) == [Answer(1, Cause.TIMED_OUT)]

    def test_those_behind_go_to_the_next_worker(self) -> None:
        policy = serving(1, 2, 3)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.died(4.0) == [Start(), Send(2)]
        assert policy.in_flight == 2

    def test_new_requests_wait_for_the_next_worker(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        assert policy.submit(ticket(2), 3.1) == []
        policy.tick(3.5)
        assert policy.submit(ticket(3), 3.6) == []
        assert policy.died(4.0) == [Start(), Send(2)]

    def test_the_clock_of_a_request_starts_when_it_is_the_oldest_and_the_worker_is_ready(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1, timeout=1.0), 0.0)
        assert policy.tick(7.9) == []
        policy.ready(7.9)
        policy.submit(ticket(2, timeout=1.0), 7.9)
        assert policy.tick(8.5) == []
        policy.outcome(1, 8.5)
        assert policy.deadline == 9.5

    def test_an_old_timer_does_not_end_a_later_request(self) -> None:
        policy = serving(1)
        policy.outcome(1, 2.9)
        policy.submit(ticket(2), 2.9)
        assert policy.tick(3.0) == []
        assert policy.phase is Phase.SERVING


class TestCooperativeWorker:
    """One that answers DUMP and hears of CANCEL while a request runs."""

    def test_it_is_asked_by_frame_and_cancelled_first(self) -> None:
        policy = serving(1, 2)
        policy.cooperative = True
        assert policy.tick(3.0) == [Dump(by_signal=False)]
        policy.dumped(3.0625)
        assert policy.deadline == 3.1875
        assert policy.tick(3.1875) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.CANCELLING, 5.1875, 1)
        assert policy.submit(ticket(3), 4.0) == []
        assert policy.tick(5.1875) == [TERM]
        assert policy.died(6.0) == [Start(), Send(2)]

    def test_it_stays_if_its_request_ends_then(self) -> None:
        policy = serving(1, 2)
        policy.cooperative = True
        policy.tick(3.0)
        policy.dumped(3.0)
        policy.tick(3.125)
        assert policy.outcome(1, 3.25) == (False, [Begin(2)])
        assert (policy.phase, policy.deadline) == (Phase.SERVING, 6.25)
        assert policy.outcome(2, 3.5) == (True, [])

    def test_without_an_answer_it_is_asked_by_signal(self) -> None:
        policy = serving(1)
        policy.cooperative = True
        policy.tick(3.0)
        assert policy.deadline == 3.25
        assert policy.tick(3.25) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]

    def test_its_death_while_it_is_cancelled(self) -> None:
        policy = serving(1, 2)
        policy.cooperative = True
        policy.tick(3.0)
        policy.dumped(3.0)
        policy.tick(3.125)
        assert policy.died(3.5) == [Start(), Send(2)]

    def test_the_next_worker_need_not_be_one(self) -> None:
        policy = serving(1)
        policy.cooperative = True
        policy.died(1.0)
        policy.submit(ticket(2), 1.0)
        assert not policy.cooperative


class TestLateOutcome:
    """The outcome of a request whose time is over never counts; what happens to the worker depends on how late."""

    def test_a_worker_that_was_only_slow_lives_on(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        assert policy.outcome(1, 3.25) == (False, [Answer(1, Cause.TIMED_OUT), Begin(2)])
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.SERVING, 6.25, 1)
        assert policy.outcome(2, 4.0) == (True, [])

    def test_a_worker_that_was_only_slow_is_fed_and_stopped_as_any_other(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        policy.submit(ticket(2), 3.0)
        assert policy.outcome(1, 3.25) == (False, [Answer(1, Cause.TIMED_OUT), Send(2), Begin(2)])
        policy.finish(3.5)
        policy.tick(6.25)
        assert policy.outcome(2, 6.25) == (False, [Answer(2, Cause.TIMED_OUT), Stop()])

    def test_the_same_outcome_twice_is_a_violation(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        policy.outcome(1, 3.25)
        assert policy.outcome(1, 3.25) == (False, [Answer(2, Cause.VIOLATION), KILL])

    def test_who_survives_the_signal_and_answers_lives_on(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.outcome(1, 3.6) == (False, [])
        assert (policy.phase, policy.deadline) == (Phase.SERVING, None)

    def test_after_the_signal_the_request_behind_has_begun_and_is_never_sent_again(self) -> None:
        policy = serving(1, 2, 3)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.outcome(1, 3.6) == (False, [Begin(2)])
        assert policy.died(4.0) == [Answer(2, Cause.DIED), Start(), Send(3)]

    def test_after_the_signal_the_outcome_of_the_request_behind_counts(self) -> None:
        policy = serving(1, 2, 3)
        policy.tick(3.0)
        policy.tick(3.5)
        policy.outcome(1, 3.6)
        assert policy.outcome(2, 3.7) == (True, [Begin(3)])
        assert policy.died(4.0) == [Answer(3, Cause.DIED)]

    def test_after_sigkill_too(self) -> None:
        policy = serving(1, 2, 3)
        for now in (3.0, 3.5, 5.5):
            policy.tick(now)
        assert policy.phase is Phase.KILLED
        assert policy.outcome(1, 5.5) == (False, [])
        assert policy.outcome(2, 5.5) == (True, [])
        assert policy.died(6.0) == [Answer(3, Cause.DIED)]

    def test_the_request_behind_cannot_have_an_outcome_first(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.outcome(2, 3.6) == (False, [KILL, Answer(2, Cause.VIOLATION)])
        assert policy.died(4.0) == []

    def test_a_worker_with_nothing_behind_that_was_killed_is_not_listened_to(self) -> None:
        policy = serving(1)
        for now in (3.0, 3.5, 5.5):
            policy.tick(now)
        assert policy.outcome(7, 5.5) == (False, [])
        assert policy.phase is Phase.KILLED


class TestTooLargeAnAnswer:
    def test_it_is_answered_at_once_and_the_worker_goes_on_if_it_comes_to_an_end(self) -> None:
        policy = serving(1, 2)
        assert policy.cut(1, 1.0) == [Answer(1, Cause.TOO_LARGE), Cancel(1)]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.CANCELLING, 3.0, 1)
        assert policy.cut(1, 1.5) == []
        assert policy.outcome(1, 2.0) == (False, [Begin(2)])
        assert (policy.phase, policy.deadline) == (Phase.SERVING, 5.0)

    def test_who_goes_on_is_ended(self) -> None:
        policy = serving(1, 2)
        policy.cut(1, 1.0)
        assert policy.tick(3.0) == [TERM]
        assert policy.tick(5.0) == [KILL]
        assert policy.died(5.5) == [Start(), Send(2)]

    def test_of_a_worker_that_is_dead_it_is_its_last_answer(self) -> None:
        policy = serving(1, 2)
        policy.gone()
        assert policy.cut(1, 1.0) == [Answer(1, Cause.TOO_LARGE)]
        assert policy.died(1.0) == [Start(), Send(2)]

    def test_the_time_may_have_been_over_before(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        assert policy.cut(1, 3.0) == []
        assert answers(policy.tick(3.5)) == [(1, Cause.TIMED_OUT)]


class TestDeath:
    def test_the_oldest_request_gets_the_error_and_the_others_move(self) -> None:
        policy = serving(1, 2, 3)
        assert policy.died(1.0) == [Answer(1, Cause.DIED), Start(), Send(2)]
        assert policy.ready(1.5) == [Begin(2)]
        assert policy.outcome(2, 2.0) == (True, [Send(3), Begin(3)])

    def test_nothing_is_sent_behind_a_moved_request(self) -> None:
        policy = serving(1, 2)
        policy.died(1.0)
        policy.submit(ticket(3), 1.0)
        assert policy.ready(1.0) == [Begin(2)]
        assert policy.outcome(2, 1.0) == (True, [Send(3), Begin(3)])

    def test_a_moved_request_is_not_moved_again(self) -> None:
        policy = serving(1, 2, 3)
        policy.died(1.0)
        policy.ready(1.0)
        assert policy.died(2.0) == [Answer(2, Cause.DIED), Start(), Send(3)]

    def test_a_request_stays_a_moved_one_when_its_second_worker_does_not_start(self) -> None:
        policy = serving(1, 2)
        policy.died(1.0)
        assert policy.died(1.0) == []
        policy.submit(ticket(3), 1.0)
        assert policy.tick(1.25) == [Start(), Send(2)]
        assert policy.ready(1.5) == [Begin(2)]
        assert policy.outcome(2, 1.5) == (True, [Send(3), Begin(3)])

    def test_order_is_kept(self) -> None:
        policy = serving(1, 2, 3)
        policy.submit(ticket(4), 0.5)
        order = []
        for action in policy.died(1.0) + policy.ready(1.0):
            order += [action.id] if isinstance(action, Send) else []
        for _ in range(2):
            order += [action.id for action in policy.outcome(order[-1], 2.0)[1] if isinstance(action, Send)]
        assert order == [2, 3, 4]

    def test_a_closed_stream_gives_the_worker_time_to_end(self) -> None:
        policy = serving(1, 2)
        assert policy.closed(1.0) == []
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 3.0)
        assert policy.submit(ticket(3), 1.5) == []
        assert policy.died(2.0) == [Answer(1, Cause.DIED), Start(), Send(2)]

    def test_what_is_answered_after_a_closed_stream_has_begun(self) -> None:
        # So it is where the worker is found deaf, being dead, before its last answers are read.
        policy = serving(1, 2, 3)
        policy.closed(1.0)
        assert policy.outcome(1, 1.0) == (True, [Begin(2)])
        assert policy.tick(3.0) == [TERM]
        policy.gone()
        assert policy.outcome(2, 3.5) == (True, [Begin(3)])
        assert policy.died(4.0) == [Answer(3, Cause.DIED)]

    def test_a_worker_that_closed_its_stream_and_stays_is_forced(self) -> None:
        policy = serving(1, 2)
        policy.closed(1.0)
        assert policy.tick(3.0) == [TERM]
        assert policy.tick(5.0) == [KILL]
        assert policy.died(5.5) == [Answer(1, Cause.DIED), Start(), Send(2)]

    def test_closing_the_stream_does_not_restart_the_ladder(self) -> None:
        policy = serving(1)
        policy.tick(3.0)
        policy.tick(3.5)
        assert policy.closed(5.0) == []
        assert (policy.phase, policy.deadline) == (Phase.TERMINATING, 5.5)

    def test_last_words_count_but_the_dead_get_nothing(self) -> None:
        policy = serving(1, 2, 3)
        policy.submit(ticket(4), 0.5)
        policy.gone()
        assert policy.outcome(1, 1.0) == (True, [Begin(2)])
        assert policy.outcome(2, 1.0) == (True, [Begin(3)])
        assert policy.outcome(3, 1.0) == (True, [])
        assert policy.died(1.0) == [Start(), Send(4)]

    def test_the_dead_are_not_signalled_whatever_they_said(self) -> None:
        policy = serving(1)
        policy.gone()
        assert policy.violation(1.0) == [Answer(1, Cause.VIOLATION)]
        assert policy.died(1.0) == []

    def test_the_dead_are_not_stopped(self) -> None:
        policy = serving(1)
        policy.finish(1.0)
        policy.gone()
        assert policy.outcome(1, 1.0) == (True, [])
        assert policy.died(1.0) == []
        assert policy.ended

    def test_ready_among_the_last_words_means_that_the_request_may_have_begun(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        policy.gone()
        assert policy.ready(1.0) == [Begin(1)]
        assert policy.died(1.0) == [Answer(1, Cause.DIED), Start(), Send(2)]


class TestViolation:
    def test_it_ends_the_worker_and_all_that_it_may_have_begun(self) -> None:
        policy = serving(1, 2)
        policy.submit(ticket(3, size=101), 0.5)
        assert policy.violation(1.0) == [Answer(1, Cause.VIOLATION), KILL, Answer(2, Cause.VIOLATION)]
        assert (policy.phase, policy.in_flight) == (Phase.KILLED, 1)
        assert policy.died(1.5) == [Start(), Send(3)]

    def test_a_killed_worker_that_does_not_end_is_given_up(self) -> None:
        policy = serving(1)
        assert policy.violation(1.0) == [Answer(1, Cause.VIOLATION), KILL]
        steps = []
        while policy.deadline is not None:
            now = policy.deadline
            steps += policy.tick(now)
        assert steps[-1] == Lose() and set(map(type, steps[:-1])) == {Sweep}
        assert now >= 1.0 + policy.settings.lose_wait
        policy.submit(ticket(2), now)
        policy.gone()
        assert policy.died(now) == [Start(), Send(2)]

    def test_nothing_that_the_worker_says_later_counts(self) -> None:
        policy = serving(1, 2)
        policy.violation(1.0)
        for said in (policy.ready(1.0), policy.closed(1.0), policy.dumped(1.0), policy.violation(1.0)):
            assert said == []
        for id in (1, 2, 3):
            assert policy.outcome(id, 1.0) == (False, [])
        assert policy.phase is Phase.KILLED

    @pytest.mark.parametrize("id", [2, 3, 99])
    def test_an_outcome_that_is_not_the_oldest_requests(self, id: int) -> None:
        policy = serving(1, 2)
        assert policy.outcome(id, 1.0) == (False, [Answer(1, Cause.VIOLATION), KILL, Answer(2, Cause.VIOLATION)])

    def test_an_outcome_for_nothing(self) -> None:
        policy = serving()
        assert policy.outcome(1, 1.0) == (False, [KILL])

    def test_an_outcome_before_ready(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        assert policy.outcome(1, 1.0) == (False, [Answer(1, Cause.VIOLATION), KILL])

    def test_before_ready_the_request_may_have_begun_unseen_and_the_start_has_failed(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.violation(1.0) == [Answer(1, Cause.VIOLATION), KILL]
        assert policy.died(1.0) == []
        assert policy.deadline == 1.25
        assert policy.tick(1.25) == [Start(), Send(2)]

    def test_during_the_ladder_the_first_reason_stays(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        assert policy.violation(3.1) == [Answer(1, Cause.TIMED_OUT), KILL, Answer(2, Cause.VIOLATION)]

    def test_of_a_worker_that_has_closed_its_stream(self) -> None:
        policy = serving(1)
        policy.closed(1.0)
        assert policy.violation(1.5) == [Answer(1, Cause.VIOLATION), KILL]


class TestStart:
    def test_back_off_doubles_up_to_its_limit_and_then_it_is_over(self) -> None:
        policy = Policy(replace(TIMES, start_attempts=6))
        assert policy.submit(ticket(1), 0.0) == [Start(), Send(1)]
        now, waited = 0.0, []
        for _ in range(5):
            assert policy.died(now) == []
            assert policy.phase is Phase.NONE and policy.deadline is not None
            waited.append(policy.deadline - now)
            now = policy.deadline
            assert policy.tick(now) == [Start(), Send(1)]
        assert waited == [0.25, 0.5, 1.0, 1.0, 1.0]
        policy.submit(ticket(2), now)
        assert policy.died(now) == [Answer(1, Cause.START_FAILED), Answer(2, Cause.START_FAILED)]
        assert policy.ended and policy.finishing and policy.deadline is None
        with pytest.raises(ValueError):
            policy.submit(ticket(3), now)

    def test_a_start_that_succeeds_is_a_new_beginning(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        for _ in range(10):
            for _ in range(TIMES.start_attempts - 1):
                assert policy.died(0.0) == []
                assert policy.tick(9.0) == [Start(), Send(1)]
            policy.ready(0.0)
            policy.submit(ticket(1), 0.0)
            assert policy.died(0.0) == [Answer(1, Cause.DIED), Start(), Send(1)]

    def test_requests_wait_while_it_backs_off(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.died(0.0)
        assert policy.submit(ticket(2), 0.1) == []
        assert policy.finish(0.1) == []
        assert policy.tick(0.2) == []
        assert policy.tick(0.25) == [Start(), Send(1)]
        assert not policy.ended

    def test_it_backs_off_even_if_nobody_waits_yet(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.violation(0.0)
        policy.died(0.0)
        assert policy.submit(ticket(2), 0.1) == []
        assert policy.tick(0.25) == [Start(), Send(2)]

    def test_a_finish_while_it_backs_off_for_nobody_ends_it(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.violation(0.0)
        policy.died(0.0)
        assert policy.deadline == 0.25
        assert policy.finish(0.1) == []
        assert policy.ended and policy.deadline is None

    def test_a_start_that_takes_too_long_costs_the_request_that_waited_for_it(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.tick(8.0) == [Dump()]
        assert policy.tick(8.5) == [Answer(1, Cause.START_TIMED_OUT), TERM]
        assert policy.tick(10.5) == [KILL]
        assert policy.died(11.0) == []
        assert policy.tick(11.25) == [Start(), Send(2)]

    def test_starts_that_take_too_long_end_it_as_well(self) -> None:
        policy = Policy(replace(TIMES, start_attempts=2))
        for id in (1, 2, 3):
            policy.submit(ticket(id), 0.0)
        policy.tick(8.0)
        policy.tick(8.5)
        policy.died(9.0)
        assert policy.tick(9.25) == [Start(), Send(2)]
        policy.tick(17.25)
        assert policy.died(17.5) == [Answer(2, Cause.START_TIMED_OUT), Answer(3, Cause.START_TIMED_OUT)]
        assert policy.ended

    def test_ready_that_comes_too_late_does_not_get_the_request_run_twice(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.tick(8.0)
        assert policy.ready(8.25) == []
        assert policy.outcome(1, 8.25) == (False, [])
        assert policy.tick(8.5) == [Answer(1, Cause.START_TIMED_OUT), TERM]
        assert policy.died(9.0) == []
        assert policy.deadline == 9.25, "it was not ready in time: a failed start"

    def test_a_stream_that_closes_before_ready(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.closed(1.0)
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 3.0)
        assert policy.died(1.5) == []
        assert policy.tick(1.75) == [Start(), Send(1)]

    def test_a_handler_that_cannot_be_loaded_is_not_tried_again(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.not_loaded(1.0) == [Answer(1, Cause.NOT_LOADED), Answer(2, Cause.NOT_LOADED)]
        assert (policy.phase, policy.deadline, policy.finishing) == (Phase.STOPPING, 3.0, True)
        assert policy.died(1.5) == []
        assert policy.ended

    def test_a_worker_that_could_not_load_and_stays_is_forced(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.not_loaded(1.0)
        assert policy.closed(1.5) == []
        assert policy.deadline == 3.0
        assert policy.tick(3.0) == [TERM]
        assert policy.tick(5.0) == [KILL]
        assert policy.died(5.5) == []
        assert policy.ended

    def test_a_start_that_has_to_wait_is_no_failed_one(self) -> None:
        policy = Policy(replace(TIMES, start_attempts=1))
        assert policy.submit(ticket(1), 0.0) == [Start(), Send(1)]
        assert policy.postponed(0.5) == []
        assert policy.deadline == 0.5 + TIMES.backoff and not policy.finishing
        assert policy.tick(policy.deadline) == [Start(), Send(1)]

    def test_who_has_to_wait_for_ever_has_failed(self) -> None:
        policy = Policy(replace(TIMES, start_attempts=2))
        policy.submit(ticket(1), 0.0)
        now, starts, answers = 0.0, 1, []
        while not answers:
            answers = [action for action in policy.postponed(now) if isinstance(action, Answer)]
            if not answers:
                assert policy.deadline is not None and policy.deadline > now
                now, starts = policy.deadline, starts + 1
                assert policy.tick(now) == [Start(), Send(1)]
        assert answers == [Answer(1, Cause.START_FAILED)] and policy.ended
        assert 2 * TIMES.start_timeout <= now <= 2 * TIMES.start_timeout + 4 * TIMES.backoff_limit

    def test_a_start_that_comes_about_ends_the_wait(self) -> None:
        policy = Policy(replace(TIMES, start_attempts=1))
        policy.submit(ticket(1), 0.0)
        policy.postponed(0.0)
        policy.tick(TIMES.backoff)
        policy.ready(TIMES.backoff)
        policy.outcome(1, TIMES.backoff)
        policy.died(TIMES.backoff)
        policy.submit(ticket(2), 100.0)
        assert policy.postponed(100.0) == [] and not policy.finishing

    def test_who_stands_by_and_ends_unused_comes_back_ever_later(self) -> None:
        policy = Policy(replace(TIMES, prestart=True, max_requests=1))
        now, waits = 0.0, []
        for _ in range(8):
            assert policy.begin(now) == [Start()]
            policy.ready(now)
            policy.died(now)
            assert policy.deadline is not None
            waits.append(policy.deadline - now)
            now = policy.deadline
            policy.tick(now)
        assert waits == sorted(waits) and waits[0] == pytest.approx(TIMES.backoff)
        assert waits[-1] == pytest.approx(UNUSED_BACKOFF_LIMIT)
        policy.begin(now)
        policy.ready(now)
        policy.submit(ticket(1), now)
        policy.outcome(1, now)
        policy.died(now)
        policy.begin(now)
        policy.ready(now)
        policy.died(now)
        assert policy.deadline == pytest.approx(now + TIMES.backoff), "one that was used makes up for it"

    def test_a_program_that_cannot_be_executed_is_not_tried_again(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.exec_failed(0.5) == [Answer(1, Cause.START_FAILED), Answer(2, Cause.START_FAILED)]
        assert policy.ended and policy.deadline is None


class TestInterrupt:
    def test_before_anything(self) -> None:
        policy = Policy(TIMES)
        assert policy.interrupt(0.0) == []
        assert policy.ended

    def test_an_idle_worker_is_stopped(self) -> None:
        policy = serving()
        assert policy.interrupt(1.0) == [Stop()]
        assert policy.died(2.0) == []
        assert policy.ended

    def test_what_was_not_sent_is_answered_and_the_rest_may_finish(self) -> None:
        policy = serving(1, 2)
        policy.submit(ticket(3, size=101), 0.0)
        assert policy.interrupt(0.5) == [Answer(3, Cause.STOPPED)]
        assert policy.deadline == 2.5
        assert policy.outcome(1, 1.0) == (True, [Begin(2)])
        assert policy.outcome(2, 1.5) == (True, [Stop()])

    def test_all_of_the_rest_together_has_the_grace_time(self) -> None:
        policy = serving(1, 2, 3)
        policy.interrupt(0.5)
        policy.outcome(1, 2.0)
        assert policy.deadline == 2.5
        assert policy.tick(2.5) == [Dump()]
        assert policy.tick(3.0) == [Answer(2, Cause.STOPPED), TERM]
        assert policy.died(3.5) == [Answer(3, Cause.STOPPED)]
        assert policy.ended

    def test_no_request_gets_more_time_by_it(self) -> None:
        policy = serving(1)
        policy.interrupt(2.0)
        assert policy.deadline == 3.0
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), TERM]

    def test_again_gives_no_more_time(self) -> None:
        policy = serving(1, 2)
        policy.interrupt(0.0)
        assert policy.interrupt(0.5) == []
        assert policy.deadline == 2.0
        policy.outcome(1, 1.0)
        assert policy.deadline == 2.0

    def test_after_the_grace_time_a_late_outcome_saves_nobody(self) -> None:
        policy = serving(1, 2)
        policy.interrupt(0.5)
        assert policy.tick(2.5) == [Dump()]
        assert policy.outcome(1, 2.6) == (False, [])
        assert policy.tick(3.0) == [Answer(1, Cause.STOPPED), TERM]
        assert policy.died(3.5) == [Answer(2, Cause.DIED)]

    def test_while_the_worker_starts(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.interrupt(1.0) == [Answer(2, Cause.STOPPED)]
        assert policy.deadline == 3.0
        assert policy.ready(2.0) == [Begin(1)]
        assert policy.deadline == 3.0
        assert policy.outcome(1, 2.5) == (True, [Stop()])

    def test_while_the_worker_does_not_start(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.interrupt(1.0)
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.STOPPED), TERM]
        assert policy.died(3.5) == []
        assert policy.ended

    def test_a_worker_that_dies_then_is_not_replaced(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.interrupt(1.0)
        assert policy.died(1.5) == [Answer(1, Cause.STOPPED)]
        assert policy.ended

    def test_while_it_backs_off(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.died(0.0)
        assert policy.interrupt(0.1) == [Answer(1, Cause.STOPPED)]
        assert policy.ended and policy.deadline is None

    def test_while_it_asks_for_stacks(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        policy.submit(ticket(3), 3.1)
        assert policy.interrupt(3.2) == [Answer(3, Cause.STOPPED)]
        assert policy.deadline == 3.5
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), TERM]
        assert policy.died(4.0) == [Answer(2, Cause.STOPPED)]
        assert policy.ended

    def test_while_it_stops(self) -> None:
        policy = serving()
        policy.finish(1.0)
        assert policy.interrupt(2.0) == []
        assert policy.deadline == 5.0
        assert policy.tick(5.0) == [TERM]


class TestTold:
    """A worker that hears of a cancellation is told that it is given up, and has time to tidy up before SIGTERM."""

    @pytest.mark.parametrize("how", ["cooperative", "streams"])
    def test_an_interrupt_after_half_of_the_grace_time(self, how: str) -> None:
        policy = serving(1, 2)
        if how == "streams":
            policy.streams(1)
        else:
            policy.cooperative = True
        assert policy.interrupt(0.5) == []
        assert policy.deadline == 1.5
        stopped = [Answer(1, Cause.STOPPED), Answer(2, Cause.STOPPED)]
        assert policy.tick(1.5) == [*stopped, Cancel(1), Cancel(2), Stop()]
        assert (policy.phase, policy.deadline, policy.in_flight) == (Phase.STOPPING, 2.5, 0)
        assert policy.outcome(1, 1.75) == (False, [])
        assert policy.outcome(2, 1.75) == (False, [])
        assert policy.tick(2.5) == [TERM]
        assert policy.tick(4.5) == [KILL]

    def test_a_stream_that_begins_after_the_interrupt(self) -> None:
        policy = serving(1)
        policy.interrupt(0.5)
        assert policy.deadline == 2.5
        policy.streams(1)
        assert policy.deadline == 1.5
        assert policy.outcome(1, 1.0) == (True, [Stop()])

    def test_the_request_behind_a_stream_does_not_hear(self) -> None:
        policy = serving(1, 2)
        policy.streams(1)
        policy.interrupt(0.5)
        assert policy.outcome(1, 1.0) == (True, [Begin(2)])
        assert policy.deadline == 2.5
        assert policy.tick(2.5) == [Dump()]

    def test_abandoned_it_is_told_at_once(self) -> None:
        policy = serving(1, 2)
        policy.streams(1)
        stopped = [Answer(1, Cause.STOPPED), Answer(2, Cause.STOPPED)]
        assert policy.abandon(0.5) == [*stopped, Cancel(1), Cancel(2), Stop()]
        assert (policy.phase, policy.deadline) == (Phase.STOPPING, 2.5)
        assert policy.interrupt(1.0) == []
        assert policy.deadline == 2.5
        assert policy.hurry(1.5) == [KILL]

    def test_abandoned_one_that_does_not_hear_gets_the_signal_at_once(self) -> None:
        policy = serving(1, 2)
        assert policy.abandon(0.5) == [Answer(1, Cause.STOPPED), TERM, Answer(2, Cause.STOPPED), Cancel(2)]
        assert policy.deadline == 2.5
        assert policy.tick(2.5) == [KILL]
        assert policy.died(2.5) == []
        assert policy.ended

    def test_abandoned_while_it_is_late_nothing_behind_begins(self) -> None:
        policy = serving(1, 2)
        policy.streams(1)
        policy.tick(3.0)
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert policy.abandon(3.75) == [Answer(2, Cause.STOPPED), Cancel(2)]
        assert policy.outcome(1, 4.0) == (False, [Stop()])
        assert policy.outcome(2, 4.0) == (False, [])

    def test_abandoned_while_it_starts(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.abandon(1.0) == [Answer(2, Cause.STOPPED), Answer(1, Cause.STOPPED), TERM]
        assert policy.died(1.5) == []
        assert policy.ended

    def test_abandoned_after_it_has_closed_its_stream_at_its_start(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        assert policy.closed(1.0) == []
        assert policy.deadline is not None
        assert policy.tick(policy.deadline) == [TERM]
        assert policy.abandon(4.0) == [Answer(1, Cause.STOPPED)]

    def test_abandoned_without_a_request(self) -> None:
        policy = serving()
        assert policy.abandon(1.0) == [Stop()]

    def test_a_stream_is_cancelled_before_its_worker_is_ended(self) -> None:
        policy = serving(1, 2)
        policy.streams(1)
        assert policy.tick(3.0) == [Dump()]
        assert policy.tick(3.5) == [Answer(1, Cause.TIMED_OUT), Cancel(1)]
        assert policy.outcome(1, 3.75) == (False, [Begin(2)])
        assert policy.outcome(2, 4.0) == (True, [])


class TestHurry:
    def test_before_anything(self) -> None:
        policy = Policy(TIMES)
        assert policy.hurry(0.0) == []
        assert policy.ended

    def test_everything_is_answered_at_once(self) -> None:
        policy = serving(1, 2)
        policy.submit(ticket(3, size=101), 0.0)
        assert sorted(answers(policy.hurry(1.0))) == [(id, Cause.STOPPED) for id in (1, 2, 3)]
        assert (policy.phase, policy.in_flight) == (Phase.KILLED, 0)
        assert policy.died(1.5) == []
        assert policy.ended

    def test_twice_kills_once(self) -> None:
        policy = serving(1)
        assert policy.hurry(1.0) == [Answer(1, Cause.STOPPED), KILL]
        assert policy.hurry(1.0) == []

    def test_while_the_worker_starts(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        assert policy.hurry(1.0) == [Answer(1, Cause.STOPPED), KILL]

    def test_while_it_backs_off(self) -> None:
        policy = Policy(TIMES)
        policy.submit(ticket(1), 0.0)
        policy.died(0.0)
        assert policy.hurry(0.1) == [Answer(1, Cause.STOPPED)]
        assert policy.ended

    def test_during_the_ladder_a_timeout_stays_a_timeout(self) -> None:
        policy = serving(1, 2)
        policy.tick(3.0)
        assert policy.hurry(3.1) == [Answer(1, Cause.TIMED_OUT), KILL, Answer(2, Cause.STOPPED)]

    def test_after_sigkill_those_behind_need_not_wait_for_the_death(self) -> None:
        policy = serving(1, 2)
        for now in (3.0, 3.5, 5.5):
            policy.tick(now)
        assert policy.hurry(5.6) == [Answer(2, Cause.STOPPED)]

    @pytest.mark.parametrize("how", ["finish", "closed"])
    def test_a_worker_that_is_stopping_is_killed(self, how: str) -> None:
        policy = serving()
        getattr(policy, how)(1.0)
        assert policy.hurry(2.0) == [KILL]


MANY = 500
"""More decisions in a row than any end may take."""

SOME_TIMES = st.sampled_from(
    [
        TIMES,
        replace(TIMES, window_requests=8, window_bytes=1000),
        replace(TIMES, window_requests=1, start_attempts=1),
        replace(TIMES, grace=0.0),
        replace(TIMES, window_requests=8, max_requests=3),
        replace(TIMES, max_requests=1, prestart=True),
        Settings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2, 4, 50),
    ]
)


class TestReplacement:
    """A worker that has had its share of requests, or has grown, makes room for another one."""

    def test_after_so_many_requests_it_is_told_to_stop(self) -> None:
        policy = serving(1, 2, times=replace(TIMES, window_requests=8, max_requests=3))
        assert policy.submit(Ticket(3, 5.0), 1.0) == [Send(3)]
        assert policy.submit(Ticket(4, 5.0), 1.0) == []
        assert policy.outcome(1, 2.0) == (True, [Begin(2)])
        assert policy.outcome(2, 2.0) == (True, [Begin(3)])
        assert policy.outcome(3, 2.0) == (True, [Stop()])
        assert policy.died(3.0) == [Start(), Send(4)]

    def test_the_short_way_counts_too(self) -> None:
        policy = serving(1, times=replace(TIMES, max_requests=2))
        policy.outcome(1, 1.0)
        assert policy.submit_if_idle(Ticket(2, 5.0), 1.0)
        assert not policy.submit_if_idle(Ticket(3, 5.0), 1.0)
        assert policy.submit(Ticket(3, 5.0), 1.0) == []
        assert policy.outcome(2, 2.0) == (True, [Stop()])

    def test_one_that_is_retired_finishes_what_it_has(self) -> None:
        policy = serving(1, 2, times=replace(TIMES, window_requests=8))
        assert policy.retire(1.0) == []
        assert policy.submit(Ticket(3, 5.0), 1.0) == []
        assert policy.outcome(1, 2.0) == (True, [Begin(2)])
        assert policy.outcome(2, 2.0) == (True, [Stop()])
        assert policy.died(3.0) == [Start(), Send(3)]

    def test_without_requests_the_next_one_is_started_when_it_is_needed(self) -> None:
        policy = serving(1, times=replace(TIMES, max_requests=1))
        assert policy.outcome(1, 1.0) == (True, [Stop()])
        assert policy.died(2.0) == []
        assert policy.submit(Ticket(2, 5.0), 3.0) == [Start(), Send(2)]


class TestPace:
    """The log is not read as fast as it is written: fewer requests are sent, or none."""

    TIMES = replace(TIMES, window_requests=8)

    def test_one_at_a_time(self) -> None:
        policy = serving(1, 2, times=self.TIMES)
        assert policy.pace(1, 0.0) == []
        assert policy.submit(ticket(3), 0.0) == policy.submit(ticket(4), 0.0) == []
        assert policy.outcome(1, 1.0) == (True, [Begin(2)]), "what was sent is begun"
        assert policy.outcome(2, 2.0) == (True, [Send(3), Begin(3)])
        assert policy.outcome(3, 2.5) == (True, [Send(4), Begin(4)])

    def test_none_until_it_goes_on(self) -> None:
        policy = serving(1, times=self.TIMES)
        assert policy.pace(0, 0.0) == []
        assert not policy.submit_if_idle(ticket(2), 0.0)
        assert policy.submit(ticket(2), 0.0) == policy.submit(ticket(3), 0.0) == []
        assert policy.outcome(1, 1.0) == (True, []) and policy.deadline is None
        assert not policy.submit_if_idle(ticket(4), 1.5)
        assert policy.pace(1, 50.0) == [Send(2), Begin(2)]
        assert policy.deadline == 53.0, "its clock begins with it"
        assert policy.pace(UNLIMITED, 51.0) == [Send(3)]

    def test_the_clock_of_what_runs_goes_on(self) -> None:
        policy = serving(1, times=self.TIMES)
        policy.pace(0, 0.0)
        assert policy.deadline == 3.0
        assert policy.tick(3.0) == [Dump()]

    def test_what_waits_is_answered_at_the_end(self) -> None:
        policy = serving(times=self.TIMES)
        policy.pace(0, 0.0)
        policy.submit(ticket(2), 0.0)
        assert policy.finish(1.0) == [] and not policy.ended, "it will be begun"
        assert policy.interrupt(2.0) == [Answer(2, Cause.STOPPED), Stop()]


class TestPrestart:
    """A worker is there before it is needed, when whoever looks at several lanes says so."""

    TIMES = replace(TIMES, max_requests=1, prestart=True)

    def test_it_is_started_when_it_is_wanted(self) -> None:
        policy = Policy(self.TIMES)
        assert policy.begin(0.0) == [Start()]
        assert policy.ready(1.0) == [] and policy.deadline is None
        assert policy.submit_if_idle(Ticket(1, 5.0), 2.0)
        assert policy.outcome(1, 3.0) == (True, [Stop()])
        assert policy.begin(3.5) == []
        assert policy.died(4.0) == []
        assert policy.begin(5.0) == [Start()]
        assert policy.begin(5.0) == []

    def test_only_where_it_is_a_setting(self) -> None:
        assert Policy(TIMES).begin(0.0) == []

    def test_one_that_ends_unused_is_not_followed_at_once(self) -> None:
        policy = Policy(self.TIMES)
        policy.begin(0.0)
        policy.ready(1.0)
        assert policy.died(2.0) == []
        assert policy.deadline == 2.0 + TIMES.backoff
        assert policy.begin(2.0) == []
        assert policy.tick(2.0 + TIMES.backoff) == []
        assert policy.begin(2.0 + TIMES.backoff) == [Start()]

    def test_with_the_last_request_nothing_more_is_started(self) -> None:
        policy = Policy(self.TIMES)
        policy.begin(0.0)
        policy.ready(1.0)
        assert policy.finish(2.0) == [Stop()]
        assert policy.died(3.0) == [] and policy.ended
        assert policy.begin(4.0) == []

    def test_what_cannot_start_is_given_up(self) -> None:
        policy = Policy(self.TIMES)
        policy.begin(0.0)
        while policy.failure is None:
            policy.died(policy.deadline or 0.0)
            policy.tick(policy.deadline or 0.0)
            policy.begin(0.0)
        assert policy.failure is Cause.START_FAILED and policy.ended


class History:
    """What is told to a policy, and a model that knows what an honest worker may have begun by then.

    The worker is a serial one: with READY it begins the oldest request, and with an outcome the next one. Once it
    has broken the protocol, or lied about the order, it may have begun everything that it was sent.
    """

    def __init__(self, times: Settings) -> None:
        self.times = times
        self.policy = Policy(times)
        self.now = 0.0
        self.tickets: dict[int, Ticket] = {}
        self.ends: dict[int, str] = {}
        self.begun: set[int] = set()
        self.told_begun: set[int] = set()
        self.moved: set[int] = set()
        self.cancelled: set[int] = set()
        self.window = (times.window_requests, times.window_bytes)
        self.queue: deque[int] = deque()
        self.taken = 0
        self.alive = self.ready = self.deaf = self.stopped = self.gone = self.killed = self.wild = False

    # Performing what the policy decides

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            getattr(self, f"on_{type(action).__name__.lower()}")(action)

    def on_start(self, action: Start) -> None:
        assert not self.alive and not self.policy.ended
        self.alive = True
        self.ready = self.deaf = self.stopped = self.gone = self.killed = self.wild = False
        self.queue.clear()
        self.taken = 0

    def on_send(self, action: Send) -> None:
        id = action.id
        assert self.alive and not self.gone and not self.stopped and not self.killed
        assert id not in self.ends, "sent, though it has its outcome"
        assert id not in self.begun, "sent, though a worker may have begun it"
        assert id not in self.queue
        self.taken += 1
        assert not self.times.max_requests or self.taken <= self.times.max_requests, "more than it may be sent"
        assert len(self.queue) < self.policy.limit, "more than the pace allows"
        if self.queue:
            assert self.ready, "more than one request before READY"
            assert id not in self.moved, "a moved request behind another"
            assert not self.moved & set(self.queue), "a request behind a moved one"
            assert len(self.queue) < self.window[0]
            assert sum(self.tickets[each].size for each in [*self.queue, id]) <= self.window[1]
        self.queue.append(id)
        self.work()

    def on_begin(self, action: Begin) -> None:
        assert self.alive and self.ready
        assert action.id == self.queue[0] and action.id not in self.told_begun and action.id not in self.ends
        self.told_begun.add(action.id)

    def on_answer(self, action: Answer) -> None:
        self.end(action.id, action.cause.name)

    def on_dump(self, action: Dump) -> None:
        assert self.alive and not self.gone and not self.killed

    def on_cancel(self, action: Cancel) -> None:
        assert self.alive and self.ready and not self.gone and not self.stopped and not self.killed
        assert action.id in self.queue and action.id in self.ends, "cancelled before it was answered"
        assert action.id not in self.cancelled
        self.cancelled.add(action.id)

    def on_sweep(self, action: Sweep) -> None:
        assert self.alive and self.killed or self.gone

    def on_lose(self, action: Lose) -> None:
        assert self.alive and self.killed or self.gone
        self.policy.gone()
        self.die()

    def on_stop(self, action: Stop) -> None:
        assert self.alive and not self.gone and not self.stopped and not self.killed
        assert set(self.queue) <= set(self.ends), "told to stop with work to do"
        assert set(self.queue) <= self.cancelled, "told to stop, and not to give up its requests"
        self.stopped = True

    def on_signal(self, action: Signal) -> None:
        assert self.alive and not self.gone and not self.killed
        self.killed = action == KILL

    def end(self, id: int, how: str) -> None:
        assert id in self.tickets
        assert id not in self.ends, f"two ends: {self.ends[id]} and {how}"
        self.ends[id] = how

    def work(self) -> None:
        """The worker begins what it can."""
        if self.wild:
            self.begun |= set(self.queue)
        elif self.ready and self.queue:
            self.begun.add(self.queue[0])

    # Events: each takes a number to vary it, and does nothing where it cannot happen

    def time_passes(self, number: int) -> None:
        self.now += number / 4

    def submit(self, number: int) -> None:
        made = Ticket(len(self.tickets) + 1, [0.25, 1.0, 3.0, 9.0][number // 4], [0, 1, 40, 200][number % 4])
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

    def begin(self, number: int) -> None:
        self.perform(self.policy.begin(self.now))
        if self.times.prestart and not self.policy.finishing:
            assert self.alive or self.policy.deadline is not None

    def retire(self, number: int) -> None:
        if self.alive and self.ready and not self.gone:
            self.perform(self.policy.retire(self.now))

    def pace(self, number: int) -> None:
        self.perform(self.policy.pace([0, 1, 2, UNLIMITED][number // 4], self.now))

    def finish(self, number: int = 0) -> None:
        self.perform(self.policy.finish(self.now))

    def interrupt(self, number: int) -> None:
        self.perform(self.policy.interrupt(self.now))

    def abandon(self, number: int) -> None:
        self.perform(self.policy.abandon(self.now))
        assert set(self.tickets) == set(self.ends)

    def stream(self, number: int) -> None:
        if self.alive and not self.deaf and self.ready and self.queue:
            self.policy.streams(self.queue[0])

    def hurry(self, number: int) -> None:
        self.perform(self.policy.hurry(self.now))
        assert set(self.tickets) == set(self.ends)

    def tick(self, number: int) -> None:
        if self.gone:
            return
        deadline = self.policy.deadline
        actions = self.policy.tick(self.now)
        if deadline is None or self.now < deadline:
            assert actions == [] and self.policy.deadline == deadline
        self.perform(actions)

    def tick_at_deadline(self, number: int = 0) -> None:
        if self.policy.deadline is None or self.gone:
            return
        before = self.policy.phase, self.policy.deadline
        self.now = max(self.now, self.policy.deadline)
        actions = self.policy.tick(self.now)
        self.perform(actions)
        assert actions or (self.policy.phase, self.policy.deadline) != before, "a busy loop"

    def get_ready(self, number: int) -> None:
        if not self.alive or self.deaf:
            return
        if self.ready:
            assert self.policy.ready(self.now) == []
            return
        requests, size = [64, 64, 2, 1][number % 4], [2**20, 2**20, 50, 0][number // 4]
        self.window = min(requests, self.times.window_requests), min(size, self.times.window_bytes)
        self.ready = True
        self.work()
        self.policy.hello(requests, size)
        self.policy.cooperative = number % 3 == 0
        self.perform(self.policy.ready(self.now))

    def answer_the_oldest(self, number: int) -> None:
        if self.alive and not self.deaf and self.ready and self.queue:
            self.tell_outcome(self.queue.popleft())

    def answer_anything(self, number: int) -> None:
        if self.alive and not self.deaf:
            self.wild = self.wild or not self.ready or not self.queue or self.queue[0] != number
            self.work()
            if number in self.queue:
                self.queue.remove(number)
            self.tell_outcome(number)

    def tell_outcome(self, id: int) -> None:
        self.work()
        counts, actions = self.policy.outcome(id, self.now)
        if counts:
            assert not self.wild
            self.end(id, "OUTCOME")
        self.perform(actions)

    def answer_too_much(self, number: int) -> None:
        if self.alive and not self.deaf and self.ready and self.queue and self.queue[0] not in self.ends:
            self.perform(self.policy.cut(self.queue[0], self.now))

    def break_the_protocol(self, number: int) -> None:
        if self.alive and not self.deaf:
            self.wild = True
            self.work()
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
            assert self.policy.phase is Phase.DUMPING or self.policy.deadline == before

    def be_seen_dead(self, number: int) -> None:
        if self.alive:
            self.gone = True
            self.policy.gone()

    def die(self, number: int = 0) -> None:
        if self.alive:
            if self.ready and not self.wild:
                self.moved |= set(self.queue) - self.begun
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
        if policy.phase in (Phase.STARTING, Phase.STOPPING, Phase.DUMPING, Phase.TERMINATING):
            assert policy.deadline is not None
        if policy.in_flight and policy.limit and policy.phase is not Phase.KILLED and not self.gone:
            assert policy.deadline is not None, "it would wait for ever"
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


ORDINARY = ["time_passes", "pace", "tick", "write_stacks", "begin", "retire", "answer_too_much", "stream"]
ORDINARY += ["submit"] * 8 + ["get_ready"] * 5 + ["answer_the_oldest"] * 3 + ["tick_at_deadline"] * 4
DEADLY = [*["die"] * 6, "be_seen_dead", "close_the_stream", "break_the_protocol", "answer_anything"]
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
    counts=st.integers(1, 6),
    seconds=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.75]), min_size=6, max_size=6),
    data=st.data(),
)
def test_after_an_interrupt_the_end_comes_within_a_bounded_time(
    counts: int, seconds: list[float], data: st.DataObject
) -> None:
    """However the worker goes on: grace for the requests, stacks, grace before force; or grace and the stop timeout."""
    policy = serving(*range(1, counts + 1), times=replace(TIMES, window_requests=10))
    now = 1.0
    policy.interrupt(now)
    done = 0
    while policy.phase is not Phase.KILLED:
        assert policy.deadline is not None
        if done < counts and now + seconds[done] < policy.deadline and data.draw(st.booleans()):
            now += seconds[done]
            done += 1
            policy.outcome(done, now)
        else:
            now = policy.deadline
            policy.tick(now)
    assert now <= 1.0 + TIMES.grace + max(TIMES.dump_wait, TIMES.stop_timeout) + TIMES.grace


@given(data=st.data())
def test_a_hanging_worker_is_off_the_ladder_in_three_steps(data: st.DataObject) -> None:
    times: Any = st.sampled_from([0.0, 0.125, 2.0])
    policy = serving(1, times=Settings(grace=data.draw(times), dump_wait=data.draw(times), dump_quiet=data.draw(times)))
    steps = []
    while policy.phase is not Phase.KILLED:
        assert policy.deadline is not None
        steps.append(policy.tick(policy.deadline))
    assert steps == [[Dump()], [Answer(1, Cause.TIMED_OUT), TERM], [KILL]]
