"""Tests of the policy's decisions when a worker dies or breaks the protocol, and when pipe-init is asked to end.

Each test plays a history (policy_history.py) and checks the outcomes. N is the number of requests that the worker runs
at once.
"""

from __future__ import annotations

import pytest

from pipe_init.kernel.plain_classes import replace
from pipe_init.policy.ladder import Phase
from pipe_testing.policy_history import KILL, OUTCOME, TERM, TIMES, History, serving

one_and_several = pytest.mark.parametrize("n", [1, 3], ids=["one", "several"])

STARTING_OR_BACKING_OFF = pytest.mark.parametrize("backing_off", [False, True], ids=["starting", "backing-off"])


class TestDeath:
    """Check the death of a worker that runs one request at a time."""

    def test_of_one_at_a_time_the_oldest_gets_the_error_and_the_others_move(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).die()
        assert history.ends == {1: "DIED"} and history.sent == [2]
        history.ready()
        history.answer(2)
        assert history.sent == [2, 3]

    def test_of_several_all_that_may_have_begun_get_the_error(self) -> None:
        history = serving(3, *[3.0] * 5)
        history.answer(2)
        history.die()
        assert history.ends == {2: OUTCOME, 1: "DIED", 3: "DIED", 4: "DIED"} and history.sent == [5]

    def test_a_moved_request_is_alone_and_not_moved_again(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).die()
        history.ready()
        history.submit()
        assert history.sent == [2]
        assert history.die().ends == {1: "DIED", 2: "DIED"}
        assert history.sent == [3]

    def test_a_request_stays_a_moved_one_when_its_second_worker_does_not_start(self) -> None:
        history = serving(1, 3.0, 3.0).die().die()
        history.submit()
        history.until(0.25).ready()
        assert history.sent == [2]
        history.answer(2)
        assert history.sent == [2, 3]

    def test_order_is_kept(self) -> None:
        history = serving(1, *[3.0] * 5).die()
        history.ready()
        for id in (2, 3, 4, 5):
            assert history.answer(id)
        assert history.sent == [2, 3, 4, 5]

    def test_one_that_was_answered_already_is_not_answered_again(self) -> None:
        history = serving(3, 3.0, 9.0, 9.0, 9.0).until(4.0).die()
        assert history.ends == {1: "TIMED_OUT", 2: "DIED", 3: "DIED"}
        history.ready()
        history.forge(1)
        assert history.ends[4] == "VIOLATION", "another worker's request"

    def test_a_neighbour_of_one_that_is_late(self) -> None:
        assert serving(3, 3.0, 9.0).until(3.25).die().ends == {1: "TIMED_OUT", 2: "DIED"}

    def test_last_words_count_but_the_dead_get_nothing(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0, 3.0)
        history.see_dead()
        for id in (1, 2, 3):
            assert history.answer(id)
        assert history.sent == [1, 2, 3]
        assert history.die().sent == [4]

    def test_a_late_outcome_among_the_last_words_feeds_nothing(self) -> None:
        history = serving(3, 3.0, 9.0, 9.0, 9.0).until(4.0)
        history.see_dead()
        assert not history.answer(1)
        assert history.sent == [1, 2, 3]

    def test_what_is_answered_after_a_closed_stream_has_begun(self) -> None:
        # This happens if the init sees the closed stream of a dead worker before it reads the worker's last answers.
        history = serving(1, 3.0, 3.0, 3.0).until(1.0)
        history.close()
        assert history.answer(1)
        assert history.until(3.0).signals == [TERM]
        history.see_dead()
        assert history.answer(2)
        assert history.told_begun == [1, 2, 3]
        assert history.die().ends[3] == "DIED"


@one_and_several
class TestDeathOfAny:
    """Check rules about a worker's death that are the same for one request at a time and for several."""

    def test_the_dead_get_nothing_by_the_short_way_either(self, n: int) -> None:
        history = serving(n)
        history.see_dead()
        history.submit()
        assert history.sent == [1]

    def test_the_dead_are_neither_signalled_nor_stopped(self, n: int) -> None:
        history = serving(n, 3.0)
        history.finish()
        history.see_dead()
        assert history.answer(1)
        history.violate()
        assert not history.stopped and history.signals == []
        history.die()
        assert history.policy.ended

    def test_ready_among_the_last_words_means_that_the_request_may_have_begun(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        history.see_dead()
        history.ready()
        assert history.die().ends == {1: "DIED"} and history.sent == [2]

    def test_a_closed_stream_gives_the_worker_time_to_end(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.close()
        history.submit()
        assert history.sent == [1] and history.until(2.75).signals == []
        assert history.until(3.0).signals == [TERM]
        assert history.until(5.0).signals == [TERM, KILL]
        assert history.die().ends == {1: "DIED"} and history.sent == [2]

    def test_closing_the_stream_does_not_restart_the_ladder(self, n: int) -> None:
        history = serving(n, 3.0).until(5.5)
        before = history.policy.phase, history.policy.deadline
        history.close()
        assert (history.policy.phase, history.policy.deadline) == before

    def test_a_stream_closed_while_the_stacks_are_waited_for(self, n: int) -> None:
        history = serving(n, 3.0).until(3.25)
        history.close()
        history.dump()
        assert history.until(3.375).ends == {1: "TIMED_OUT"} and history.signals == [TERM]

    def test_a_stream_closed_while_no_stacks_come_does_not_delay_the_answer(self, n: int) -> None:
        history = serving(n, 3.0).until(3.25)
        history.close()
        assert history.until(3.5).ends == {1: "TIMED_OUT"}

    def test_a_late_outcome_saves_no_worker_that_has_closed_its_stream(self, n: int) -> None:
        history = serving(n, 3.0).until(3.5 if n == 1 else 5.5)
        assert history.signals == [TERM]
        history.close()
        history.answer(1)
        assert history.policy.phase is Phase.TERMINATING

    def test_a_stream_closed_after_the_stacks(self, n: int) -> None:
        history = serving(n, 3.0, cooperative=True).until(3.75)
        history.close()
        assert history.until(5.75).signals == [TERM]
        assert history.die().ends == {1: "TIMED_OUT"}


@one_and_several
class TestViolation:
    """Check a worker that breaks the protocol."""

    def test_it_ends_the_worker_and_all_that_it_may_have_begun(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.submit(size=101)
        history.until(1.0).violate()
        assert history.ends == {1: "VIOLATION", 2: "VIOLATION"} and history.signals == [KILL]
        assert history.die().sent == [3]

    def test_a_killed_worker_that_does_not_end_is_given_up(self, n: int) -> None:
        history = serving(n, 3.0)
        history.violate()
        history.submit()
        history.until(TIMES.lose_wait - TIMES.kill_wait)
        assert history.swept > 1 and not history.lost
        assert history.until(2.0).lost and history.starts == 2

    def test_nothing_that_the_worker_says_later_counts(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.violate()
        history.close()
        history.dump()
        history.violate()
        for id in (1, 2, 3):
            history.forge(id)
        assert history.ends == {1: "VIOLATION", 2: "VIOLATION"} and history.policy.phase is Phase.KILLED

    @pytest.mark.parametrize("id", [4, 99])
    def test_an_outcome_for_a_request_that_it_does_not_run(self, n: int, id: int) -> None:
        history = serving(n, 3.0, 3.0, 3.0, 3.0)
        history.forge(id)
        assert history.ends == dict.fromkeys((1, 2, 3), "VIOLATION") and history.signals == [KILL]
        assert history.die().sent == [4]

    def test_an_outcome_for_nothing(self, n: int) -> None:
        history = serving(n)
        history.forge(1)
        assert history.signals == [KILL] and history.ends == {1: OUTCOME}

    def test_before_ready_the_request_may_have_begun_unseen_and_the_start_has_failed(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        history.forge(1)
        assert history.ends == {1: "VIOLATION"} and history.signals == [KILL]
        history.die()
        assert history.starts == 1
        assert history.until(0.25).sent == [2]

    def test_during_the_ladder_the_first_reason_stays(self, n: int) -> None:
        history = serving(n, 3.0, 9.0).until(3.125)
        history.violate()
        assert history.ends == {1: "TIMED_OUT", 2: "VIOLATION"} and history.signals == [KILL]

    def test_of_a_worker_that_has_closed_its_stream(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.close()
        history.violate()
        assert history.ends == {1: "VIOLATION"} and history.signals == [KILL]


@one_and_several
class TestInterrupt:
    """Check a signal that asks pipe-init to end, with a worker that cannot be told of a cancellation."""

    def test_before_anything(self, n: int) -> None:
        history = History(concurrency=n)
        history.interrupt()
        assert history.policy.ended and history.starts == 0

    def test_an_idle_worker_is_stopped(self, n: int) -> None:
        history = serving(n)
        history.interrupt()
        assert history.stopped
        history.die()
        assert history.policy.ended

    def test_what_was_not_sent_is_answered_and_the_rest_may_finish(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.submit(size=101)
        history.interrupt()
        assert history.ends == {3: "STOPPED"}
        assert history.until(1.0).answer(1)
        assert history.until(1.5).answer(2)
        assert history.stopped

    def test_all_of_the_rest_together_has_the_grace_time(self, n: int) -> None:
        history = serving(n, 9.0, 9.0, 9.0).until(0.5)
        history.interrupt()
        assert history.until(2.0).answer(1)
        assert history.until(2.25).dumps == []
        assert history.until(2.5).dumps == ["signal"]
        assert history.until(3.0).ends[2] == "STOPPED" and history.signals == [TERM]
        history.die()
        assert history.ends == {1: OUTCOME, 2: "STOPPED", 3: "STOPPED"} and history.policy.ended

    def test_no_request_gets_more_time_by_it(self, n: int) -> None:
        history = serving(n, 3.0).until(2.0)
        history.interrupt()
        assert history.until(3.5).ends == {1: "TIMED_OUT"}

    def test_again_gives_no_more_time(self, n: int) -> None:
        history = serving(n, 9.0)
        history.interrupt()
        history.until(0.5).interrupt()
        assert history.policy.deadline == 2.0

    def test_after_the_grace_time_a_late_outcome_saves_none(self, n: int) -> None:
        history = serving(n, 9.0, 9.0).until(0.5)
        history.interrupt()
        assert not history.until(2.625).answer(1)
        assert history.until(3.0).signals == [TERM] and not history.stopped
        assert history.ends[1] == "STOPPED"
        history.die()
        assert history.policy.ended

    def test_while_the_worker_starts(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        history.until(1.0).interrupt()
        assert history.ends == {2: "STOPPED"}
        history.until(2.0).ready()
        assert history.policy.deadline == 3.0
        assert history.until(2.5).answer(1)
        assert history.stopped

    def test_while_the_worker_does_not_start(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.until(1.0).interrupt()
        assert history.until(3.5).ends == {1: "STOPPED"} and history.signals == [TERM]
        history.die()
        assert history.policy.ended

    @STARTING_OR_BACKING_OFF
    def test_a_worker_that_dies_then_is_not_replaced(self, n: int, backing_off: bool) -> None:
        history = History(concurrency=n)
        history.submit()
        if backing_off:
            history.die()
        history.until(0.125).interrupt()
        if not backing_off:
            history.die()
        assert history.ends == {1: "STOPPED"} and history.policy.ended and history.policy.deadline is None

    def test_while_it_asks_for_stacks(self, n: int) -> None:
        history = serving(n, 3.0).until(3.125)
        history.submit()
        history.interrupt()
        assert history.ends == {2: "STOPPED"} and history.policy.deadline == 3.5
        assert history.until(3.5).ends[1] == "TIMED_OUT"
        assert TERM in history.until(5.5).signals
        history.die()
        assert history.policy.ended

    def test_while_it_stops(self, n: int) -> None:
        history = serving(n)
        history.until(1.0).finish()
        history.interrupt()
        assert history.until(4.75).signals == []
        assert history.until(5.0).signals == [TERM]


def test_an_interrupt_ends_the_wait_for_late_requests() -> None:
    history = serving(3, 1.0, 9.0).until(1.5)
    history.interrupt()
    history.until(2.0).answer(2)
    assert history.until(3.25).signals == []
    assert history.until(3.5).signals == [TERM]


def test_an_interrupt_while_the_stacks_of_several_take_long() -> None:
    history = serving(3, 1.0, times=replace(TIMES, dump_wait=4.0)).until(1.25)
    history.interrupt()
    assert history.until(4.75).ends == {}
    assert history.until(5.0).ends == {1: "TIMED_OUT"} and history.signals == [TERM]


@one_and_several
class TestTold:
    """Check that a worker that can be told of a cancellation gets CANCEL, and time to tidy up before SIGTERM."""

    @pytest.mark.parametrize("how", ["cooperative", "streams"])
    def test_an_interrupt_after_half_of_the_grace_time(self, n: int, how: str) -> None:
        history = serving(n, 3.0, 3.0, cooperative=how == "cooperative").until(0.5)
        if how == "streams":
            for id in history.running:
                history.stream(id)
        history.interrupt()
        assert history.until(1.25).ends == {}
        assert history.until(1.5).ends == {1: "STOPPED", 2: "STOPPED"}
        assert history.cancelled == [1, 2] and history.stopped and history.policy.deadline == 2.5
        for id in (1, 2):
            assert not history.answer(id)
        assert history.until(2.5).signals == [TERM]
        assert history.until(4.5).signals == [TERM, KILL]

    def test_a_stream_that_begins_after_the_interrupt(self, n: int) -> None:
        history = serving(n, 3.0).until(0.5)
        history.interrupt()
        history.stream(1)
        assert history.policy.deadline == 1.5
        assert history.until(1.0).answer(1)
        assert history.stopped

    def test_abandoned_it_is_told_at_once(self, n: int) -> None:
        history = serving(n, 3.0, 3.0, cooperative=True).until(0.5)
        history.abandon()
        assert history.ends == {1: "STOPPED", 2: "STOPPED"}
        assert history.cancelled == [1, 2] and history.stopped and history.policy.deadline == 2.5
        history.until(1.0).interrupt()
        assert history.policy.deadline == 2.5
        history.hurry()
        assert history.signals == [KILL]

    def test_abandoned_one_that_does_not_hear_gets_the_signal_at_once(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.abandon()
        assert history.ends == {1: "STOPPED", 2: "STOPPED"} and history.signals == [TERM]
        assert 2 in history.cancelled, "if it survives, it does not begin what is behind"
        assert history.until(2.0).signals == [TERM, KILL]
        history.die()
        assert history.policy.ended and history.starts == 1

    def test_abandoned_while_it_is_late_nothing_is_cancelled_twice(self, n: int) -> None:
        history = serving(n, 3.0, 9.0, cooperative=True).until(3.75)
        assert history.cancelled == [1]
        history.abandon()
        assert history.ends == {1: "TIMED_OUT", 2: "STOPPED"} and history.cancelled == [1, 2] and history.stopped
        for id in (1, 2):
            assert not history.answer(id)

    def test_abandoned_while_it_starts(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        history.abandon()
        assert history.ends == {1: "STOPPED", 2: "STOPPED"} and history.signals == [TERM]
        history.die()
        assert history.policy.ended

    def test_abandoned_when_ready_came_too_late_it_is_not_told(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.until(8.25).ready(cooperative=True)
        history.abandon()
        assert history.signals == [TERM] and not history.stopped

    def test_abandoned_after_it_has_closed_its_stream_at_its_start(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.close()
        assert history.until(2.0).signals == [TERM]
        history.abandon()
        assert history.ends == {1: "STOPPED"}

    def test_abandoned_without_a_request(self, n: int) -> None:
        history = serving(n)
        history.abandon()
        assert history.stopped and history.signals == []


def test_a_neighbour_that_does_not_stream_does_not_hear() -> None:
    history = serving(2, 3.0, 3.0).until(0.5)
    history.stream(1)
    history.interrupt()
    assert history.policy.deadline == 2.5


def test_the_request_behind_a_stream_does_not_hear() -> None:
    history = serving(1, 3.0, 3.0).until(0.5)
    history.stream(1)
    history.interrupt()
    history.until(1.0).answer(1)
    assert history.told_begun == [1, 2] and history.policy.deadline == 2.5
    assert history.until(2.5).dumps == ["signal"]


@one_and_several
class TestHurry:
    """Check a second signal, which asks for an end at once."""

    def test_before_anything(self, n: int) -> None:
        history = History(concurrency=n)
        history.hurry()
        assert history.policy.ended

    def test_everything_is_answered_at_once(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.submit(size=101)
        history.hurry()
        history.hurry()
        assert history.ends == dict.fromkeys((1, 2, 3), "STOPPED") and history.signals == [KILL]
        history.die()
        assert history.policy.ended

    @STARTING_OR_BACKING_OFF
    def test_while_the_worker_starts(self, n: int, backing_off: bool) -> None:
        history = History(concurrency=n)
        history.submit()
        if backing_off:
            history.die()
        history.hurry()
        assert history.ends == {1: "STOPPED"} and history.policy.ended == backing_off
        assert history.signals == ([] if backing_off else [KILL])

    def test_during_the_ladder_a_timeout_stays_a_timeout(self, n: int) -> None:
        history = serving(n, 3.0, 9.0).until(3.125)
        history.hurry()
        assert history.ends == {1: "TIMED_OUT", 2: "STOPPED"} and history.signals == [KILL]

    def test_after_sigkill_nothing_waits_for_the_death(self, n: int) -> None:
        history = serving(n, 9.0, 9.0).until(1.0)
        history.close()
        history.until(5.0)
        assert history.signals == [TERM, KILL] and history.ends == {}
        history.hurry()
        assert history.ends == {1: "STOPPED", 2: "STOPPED"}

    @pytest.mark.parametrize("how", ["finish", "close"])
    def test_a_worker_that_is_stopping_is_killed(self, n: int, how: str) -> None:
        history = serving(n)
        getattr(history, how)()
        history.hurry()
        assert history.signals == [KILL]
