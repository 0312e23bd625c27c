"""Tests of the policy's decisions about requests whose time is over, and about results that are too large.

Each test plays a history (policy_history.py) and checks the outcomes. N is the number of requests that the worker runs
at once.
"""

from __future__ import annotations

import pytest

from pipe_init.kernel.plain_classes import replace
from pipe_init.policy.ladder import Phase
from pipe_testing.policy_history import KILL, OUTCOME, TERM, TIMES, serving

one_and_several = pytest.mark.parametrize("n", [1, 3], ids=["one", "several"])


def test_a_crash_by_being_asked_costs_the_other_requests_as_any_death() -> None:
    history = serving(3, 3.0, 9.0, 9.0).until(3.0).die()
    assert history.ends == {1: "TIMED_OUT", 2: "DIED", 3: "DIED"}


@one_and_several
class TestTimeout:
    """Check a worker that answers too late, or never."""

    def test_the_whole_ladder(self, n: int) -> None:
        history = serving(n, 3.0).until(2.75)
        assert history.dumps == []
        assert history.until(3.0).dumps == ["signal"] and history.ends == {}
        assert history.until(3.5).ends == {1: "TIMED_OUT"}
        history.until(5.5)
        assert TERM in history.signals
        history.until(7.5)
        assert history.signals == [TERM, KILL] and history.dumps == ["signal"]
        history.die()
        assert (history.policy.phase, history.policy.deadline, history.policy.ended) == (Phase.NONE, None, False)

    def test_only_a_worker_that_reads_while_it_runs_is_asked_to_give_up_first(self, n: int) -> None:
        history = serving(n, 3.0).until(3.5)
        assert (history.cancelled, history.signals) == (([], [TERM]) if n == 1 else ([1], []))

    def test_stacks_that_keep_coming_are_waited_for_within_a_limit(self, n: int) -> None:
        history, deadlines = serving(n, 3.0).until(3.0), []
        for now in (3.0625, 3.125, 3.1875, 3.28125, 3.390625):
            history.until(now).dump()
            deadlines.append(history.policy.deadline)
        assert deadlines == [3.1875, 3.25, 3.3125, 3.40625, 3.5]
        assert history.until(3.5).ends == {1: "TIMED_OUT"}

    def test_stacks_that_come_late_or_unasked_change_nothing(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.dump()
        assert history.policy.deadline == 3.0
        history.until(3.5)
        before = history.policy.deadline
        history.dump()
        assert history.policy.deadline == before

    @pytest.mark.parametrize("dies_at", [3.0, 3.125, 3.25])
    @pytest.mark.parametrize("cooperative", [False, True])
    def test_one_that_dies_of_being_asked_leaves_a_timeout(self, n: int, dies_at: float, cooperative: bool) -> None:
        """Check a worker that the signal for its stacks crashes: faulthandler may crash, or the function has set it."""
        history = serving(n, 3.0, cooperative=cooperative).until(dies_at).die()
        assert history.ends == {1: "TIMED_OUT"}
        history.until(20.0)
        assert history.ends == {1: "TIMED_OUT"} and history.signals == []

    def test_new_requests_wait_for_the_next_worker(self, n: int) -> None:
        history = serving(n, 3.0).until(3.125)
        history.submit()
        history.until(3.625).submit()
        assert history.sent == [1]
        assert history.until(5.5).die().sent == [2]
        history.ready()
        assert history.sent == [2, 3]

    def test_a_cooperative_worker_is_asked_by_a_frame_and_cancelled_first(self, n: int) -> None:
        history = serving(n, 3.0, cooperative=True).until(3.0)
        assert history.dumps == ["frame"]
        history.until(3.0625).dump()
        history.until(3.1875)
        assert (history.ends, history.cancelled, history.signals) == ({1: "TIMED_OUT"}, [1], [])
        assert history.until(5.1875).signals == [TERM]

    def test_a_cooperative_worker_that_does_not_answer_is_asked_by_signal(self, n: int) -> None:
        history = serving(n, 3.0, cooperative=True).until(3.25)
        assert history.dumps == ["frame", "signal"] and history.ends == {}
        history.until(3.5)
        assert history.ends == {1: "TIMED_OUT"} and history.cancelled == [1]

    def test_the_next_worker_need_not_be_a_cooperative_one(self, n: int) -> None:
        history = serving(n, 3.0, cooperative=True).die()
        history.submit()
        assert not history.policy.cooperative

    def test_a_stream_is_cancelled_before_its_worker_is_ended(self, n: int) -> None:
        history = serving(n, 3.0)
        history.stream(1)
        history.until(3.5)
        assert history.ends == {1: "TIMED_OUT"} and history.cancelled == [1] and history.signals == []
        assert not history.until(3.75).answer(1)
        assert history.policy.phase is Phase.SERVING


class TestBehind:
    """Check requests in the window of a worker that runs one request at a time."""

    def test_they_go_to_the_next_worker(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).until(3.5).die()
        assert history.ends == {1: "TIMED_OUT"} and history.sent == [2]
        history.ready()
        history.answer(2)
        assert history.sent == [2, 3]

    def test_a_worker_that_was_only_slow_goes_on_with_them(self) -> None:
        history = serving(1, 3.0, 3.0).until(3.25)
        assert not history.answer(1)
        assert history.ends == {1: "TIMED_OUT"} and history.told_begun == [1, 2]
        assert (history.policy.phase, history.policy.deadline) == (Phase.SERVING, 6.25)
        assert history.answer(2)

    def test_one_that_survives_sigterm_and_answers_goes_on_with_them(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).until(3.5)
        assert history.signals == [TERM]
        assert not history.answer(1)
        assert history.answer(2)
        assert history.until(5.75).answer(3) and history.signals == [TERM]

    def test_after_a_late_answer_the_next_may_have_begun_and_is_never_sent_again(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).until(3.5)
        history.answer(1)
        history.die()
        assert history.ends == {1: "TIMED_OUT", 2: "DIED"} and history.sent == [3]

    def test_after_sigkill_too_and_what_it_answered_counts(self) -> None:
        history = serving(1, 3.0, 3.0, 3.0).until(5.5)
        assert history.signals == [TERM, KILL]
        assert not history.answer(1)
        assert history.told_begun == [1], "the lane takes any action then for that of a violation"
        assert history.answer(2)
        assert history.die().ends == {1: "TIMED_OUT", 2: OUTCOME, 3: "DIED"}

    def test_none_can_have_an_outcome_before_the_late_one(self) -> None:
        history = serving(1, 3.0, 3.0).until(3.5)
        history.forge(2)
        assert history.ends == {1: "TIMED_OUT", 2: "VIOLATION"} and history.signals == [TERM, KILL]

    def test_a_killed_worker_with_nothing_behind_is_not_listened_to(self) -> None:
        history = serving(1, 3.0).until(5.5)
        history.forge(7)
        assert history.policy.phase is Phase.KILLED and history.signals == [TERM, KILL]


@one_and_several
class TestLateOutcome:
    """Check that the outcome of a request whose time is over never counts, but shows that the worker was only slow."""

    def test_before_its_stacks_are_there(self, n: int) -> None:
        history = serving(n, 3.0).until(3.25)
        assert not history.answer(1)
        assert history.ends == {1: "TIMED_OUT"}
        assert (history.policy.phase, history.policy.deadline) == (Phase.SERVING, None)

    def test_the_worker_is_fed_and_stopped_as_any_other(self, n: int) -> None:
        history = serving(n, 3.0).until(3.0)
        history.submit()
        history.until(3.25).answer(1)
        assert history.told_begun == [1, 2]
        history.finish()
        history.until(6.25).answer(2)
        assert history.ends == {1: "TIMED_OUT", 2: "TIMED_OUT"} and history.stopped

    def test_twice_is_a_violation(self, n: int) -> None:
        history = serving(n, 3.0, 9.0).until(3.25)
        history.answer(1)
        history.forge(1)
        assert history.ends == {1: "TIMED_OUT", 2: "VIOLATION"} and history.signals == [KILL]


class TestNeighbours:
    """Check the other requests that run in a worker when one of its requests is late."""

    def test_those_that_expire_together_are_asked_for_once(self) -> None:
        history = serving(3, 3.0, 3.0, 9.0).until(3.5)
        assert history.ends == {1: "TIMED_OUT", 2: "TIMED_OUT"}
        assert (history.dumps, history.cancelled) == (["signal"], [1, 2])

    @pytest.mark.parametrize("second", [3.25, 3.5])
    def test_one_that_expires_while_the_stacks_are_waited_for_joins(self, second: float) -> None:
        history = serving(3, 3.0, second, 9.0).until(3.5)
        assert history.ends == {1: "TIMED_OUT", 2: "TIMED_OUT"} and history.dumps == ["signal"]

    def test_one_that_expires_later_is_asked_for_again_and_has_its_own_grace(self) -> None:
        history = serving(3, 3.0, 4.0).until(4.5)
        assert history.dumps == ["signal", "signal"] and history.cancelled == [1, 2]
        assert history.until(6.25).signals == []
        assert history.until(6.5).signals == [TERM]

    def test_they_go_on_and_nothing_new_is_sent(self) -> None:
        history = serving(3, 3.0, 9.0, 9.0).until(3.25)
        history.submit()
        assert history.answer(2)
        history.until(8.0).submit()
        assert history.sent == [1, 2, 3] and history.answer(3)

    def test_the_worker_is_not_ended_before_they_are_done(self) -> None:
        history = serving(3, 1.0, 9.0)
        history.until(8.0)
        assert history.signals == [] and history.answer(2)
        history.submit()
        assert history.until(8.0).signals == [TERM]
        assert history.die().sent == [3]

    def test_the_grace_time_runs_from_the_cancel(self) -> None:
        history = serving(3, 1.0, 9.0).until(2.5)
        history.answer(2)
        assert history.until(3.25).signals == []
        assert history.until(3.5).signals == [TERM]

    def test_all_late_outcomes_must_come(self) -> None:
        history = serving(3, 3.0, 3.0, 9.0, 9.0).until(4.0)
        assert not history.answer(2)
        assert history.sent == [1, 2, 3]
        assert not history.answer(1)
        assert history.sent == [1, 2, 3, 4] and history.until(6.0).signals == []

    def test_one_late_outcome_does_not_stand_for_an_earlier_one(self) -> None:
        history = serving(3, 3.0, 4.0).until(4.25)
        history.answer(2)
        assert history.policy.phase is Phase.DRAINING
        assert history.until(5.5).signals == [TERM]

    def test_after_sigterm_a_late_outcome_saves_none_of_several(self) -> None:
        history = serving(3, 3.0).until(5.5)
        history.submit()
        history.answer(1)
        assert history.until(7.5).signals == [TERM, KILL]
        assert history.die().sent == [2]

    def test_that_ignore_everything_are_replaced_for_what_waits(self) -> None:
        history = serving(3, 1.0, 1.0, 1.0, 3.0).until(3.5)
        assert history.signals == [TERM]
        history.die()
        history.ready()
        assert history.told_begun == [4] and history.policy.deadline == 6.5


@one_and_several
class TestTooLargeAnAnswer:
    """Check a streamed result that exceeds its limit."""

    def test_it_is_answered_at_once_and_the_worker_goes_on_if_it_comes_to_an_end(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.cut(1)
        history.cut(1)
        history.submit()
        assert history.ends == {1: "TOO_LARGE"} and history.cancelled == [1] and history.sent == [1]
        assert not history.until(2.0).answer(1)
        assert history.policy.phase is Phase.SERVING and history.told_begun == [1, 2]

    def test_one_that_goes_on_is_ended(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.cut(1)
        assert history.until(2.75).signals == []
        assert history.until(3.0).signals == [TERM]
        assert history.until(5.0).signals == [TERM, KILL]

    def test_of_a_worker_that_is_dead_it_is_its_last_answer(self, n: int) -> None:
        history = serving(n, 3.0)
        history.see_dead()
        history.cut(1)
        assert history.ends == {1: "TOO_LARGE"} and history.cancelled == []
        history.die()
        assert history.ends == {1: "TOO_LARGE"}

    def test_the_time_may_have_been_over_before(self, n: int) -> None:
        history = serving(n, 3.0).until(3.0)
        history.cut(1)
        assert history.until(3.5).ends == {1: "TIMED_OUT"}


def test_too_large_an_answer_leaves_what_is_behind_to_the_next_worker() -> None:
    history = serving(1, 3.0, 3.0).until(1.0)
    history.cut(1)
    assert history.until(5.0).die().sent == [2]


def test_the_neighbours_of_too_large_an_answer_go_on() -> None:
    history = serving(3, 3.0, 9.0)
    history.cut(1)
    assert history.until(8.0).signals == [] and history.answer(2)
    assert history.until(8.0).signals == [TERM]


def test_an_answer_is_late_by_the_policys_own_settings() -> None:
    history = serving(1, 3.0, times=replace(TIMES, dump_wait=4.0))
    assert history.until(6.75).ends == {}
    assert history.until(7.0).ends == {1: "TIMED_OUT"}
