"""Tests of the policy's decisions while no worker fails, and when workers do not start.

Each test plays a history (policy_history.py) and checks the outcomes. N is the number of requests that the worker runs
at once.
"""

from __future__ import annotations

import pytest

from pipe_init.kernel.plain_classes import replace
from pipe_init.policy.actions import Cause
from pipe_init.policy.ladder import Phase
from pipe_init.policy.policy import UNUSED_BACKOFF_LIMIT
from pipe_init.policy.tickets import MANY
from pipe_testing.policy_history import KILL, OUTCOME, TERM, TIMES, History, serving

one_and_several = pytest.mark.parametrize("n", [1, 3], ids=["one", "several"])


@one_and_several
class TestAWorker:
    """Check a worker from its start to its stop."""

    def test_a_request_from_start_to_stop(self, n: int) -> None:
        history = History(concurrency=n)
        history.now = 10.0
        history.submit()
        assert (history.policy.phase, history.policy.deadline, history.sent) == (Phase.STARTING, 18.0, [1])
        history.until(11.0).ready()
        assert (history.policy.phase, history.policy.deadline, history.told_begun) == (Phase.SERVING, 14.0, [1])
        history.until(12.0)
        assert history.answer(1)
        assert (history.policy.phase, history.policy.deadline) == (Phase.SERVING, None)
        history.finish()
        assert history.stopped and (history.policy.phase, history.policy.deadline) == (Phase.STOPPING, 16.0)
        history.close()
        history.die()
        assert history.policy.ended and history.ends == {1: OUTCOME} and history.signals == []

    def test_nothing_is_started_for_nothing(self, n: int) -> None:
        history = History(concurrency=n)
        history.finish()
        assert history.policy.ended and history.starts == 0

    def test_finish_waits_for_what_is_there(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.finish()
        history.answer(1)
        assert not history.stopped
        history.answer(2)
        assert history.stopped

    def test_after_finish_no_request_is_taken(self, n: int) -> None:
        history = serving(n, 3.0)
        history.finish()
        assert history.policy.finishing and history.submit() == 0 and history.policy.in_flight == 1

    def test_one_that_does_not_stop_is_forced(self, n: int) -> None:
        history = serving(n)
        history.finish()
        assert history.until(3.75).signals == []
        assert history.until(4.0).signals == [TERM]
        assert history.until(6.0).signals == [TERM, KILL]

    def test_an_idle_worker_that_dies_is_not_replaced_before_it_is_needed(self, n: int) -> None:
        history = serving(n).until(5.0).die()
        assert (history.starts, history.policy.deadline, history.policy.ended) == (1, None, False)
        history.submit()
        assert history.starts == 2 and history.sent == [2]

    def test_an_idle_worker_gets_a_request_by_the_short_way(self, n: int) -> None:
        history = serving(n).until(5.0)
        history.submit(size=7)
        assert history.told_begun == [1, 2] and history.policy.deadline == 8.0
        assert history.answer(2)

    def test_an_old_timer_does_not_end_a_later_request(self, n: int) -> None:
        history = serving(n, 3.0).until(2.75)
        history.answer(1)
        history.submit()
        assert history.until(5.5).dumps == [] and history.until(5.75).dumps != []


class TestOrder:
    """Check in which order, and when, requests begin."""

    def test_of_one_at_a_time_the_next_begins_with_the_outcome_before(self) -> None:
        history = serving(1, 3.0, 3.0).until(2.5)
        assert history.sent == [1, 2] and history.told_begun == [1]
        history.answer(1)
        assert history.told_begun == [1, 2] and history.policy.deadline == 5.5

    def test_of_several_each_begins_at_once_and_makes_room_for_another(self) -> None:
        history = serving(3, *[3.0] * 5).until(1.0)
        assert history.told_begun == [1, 2, 3] and history.sent == [1, 2, 3]
        for id, begun in ((3, 4), (1, 5)):
            assert history.answer(id)
            assert history.told_begun[-1] == begun
        for id in (5, 2, 4):
            assert history.answer(id)
        assert history.policy.deadline is None and history.policy.in_flight == 0

    def test_of_several_each_has_its_own_clock(self) -> None:
        history = serving(4, 9.0, 2.0, 5.0, times=replace(TIMES, window_requests=4))
        history.submit(1.5)
        deadlines = [history.policy.deadline]
        for id in (4, 2, 3, 1):
            history.answer(id)
            deadlines.append(history.policy.deadline)
        assert deadlines == [1.5, 2.0, 5.0, 9.0, None]

    def test_the_clock_starts_when_a_ready_worker_begins(self) -> None:
        history = History()
        history.submit(1.0)
        history.until(7.75).ready()
        history.submit(1.0)
        history.until(8.5).answer(1)
        assert history.policy.deadline == 9.5


@one_and_several
class TestWindow:
    """Check how many requests, and how many bytes, a worker is sent at a time."""

    def test_one_request_is_sent_before_ready_and_then_the_windows(self, n: int) -> None:
        history = History(concurrency=n)
        for _ in range(4):
            history.submit()
        assert history.sent == [1]
        history.ready()
        assert history.sent == [1, 2, 3]
        history.answer(1)
        assert history.sent == [1, 2, 3, 4]

    def test_as_many_are_sent_as_the_window_has_bytes(self, n: int) -> None:
        history = serving(n)
        for size in (60, 40, 1):
            history.submit(size=size)
        assert history.sent == [1, 2, 3]
        history.answer(2)
        assert history.sent == [1, 2, 3, 4]

    def test_one_request_always_fits_and_nothing_overtakes_it(self, n: int) -> None:
        history = serving(n, 3.0)
        history.submit(size=101)
        history.submit()
        assert history.sent == [1]
        history.answer(1)
        assert history.sent == [1, 2]
        history.answer(2)
        assert history.sent == [1, 2, 3]

    @pytest.mark.parametrize(("requests", "size", "sent"), [(2, 1000, 2), (64, 40, 2), (1, 1000, 1), (64, 1, 1)])
    def test_the_workers_own_window_counts_where_it_is_smaller(
        self, n: int, requests: int, size: int, sent: int
    ) -> None:
        history = History(concurrency=n)
        for _ in range(4):
            history.submit(size=15)
        history.ready(requests, size)
        assert len(history.sent) == sent

    def test_bytes_do_not_add_up_over_a_long_life(self, n: int) -> None:
        history = serving(n)
        for _ in range(100):
            first, second = history.submit(size=50), history.submit(size=50)
            assert history.sent[-2:] == [first, second]
            history.answer(first)
            history.answer(second)
            history.submit(size=100)
            history.die()
            history.submit()
            history.ready()
            history.answer(history.sent[-1])

    def test_after_so_many_requests_it_is_replaced(self, n: int) -> None:
        history = serving(n, *[3.0] * 4, times=replace(TIMES, max_requests=3))
        assert history.sent == [1, 2, 3]
        for id in (1, 2, 3):
            history.answer(id)
        assert history.stopped
        history.die()
        assert history.starts == 2 and history.sent == [4]

    def test_one_that_is_retired_finishes_what_it_has(self, n: int) -> None:
        history = serving(n, 3.0, 3.0)
        history.retire()
        history.submit()
        assert history.sent == [1, 2]
        history.answer(1)
        history.answer(2)
        assert history.stopped
        assert history.die().sent == [3]

    def test_none_is_sent_while_the_log_is_not_read(self, n: int) -> None:
        history = serving(n, 3.0).until(1.0)
        history.pace(0)
        history.submit()
        history.answer(1)
        assert history.sent == [1] and history.policy.deadline is None
        history.until(50.0).pace(1)
        assert history.sent == [1, 2] and history.policy.deadline == 53.0, "its clock begins with it"

    def test_the_clock_of_what_runs_goes_on_while_the_log_is_not_read(self, n: int) -> None:
        history = serving(n, 3.0)
        history.pace(0)
        assert history.until(3.5).ends == {1: "TIMED_OUT"}

    def test_what_waits_for_the_log_is_answered_at_the_end(self, n: int) -> None:
        history = serving(n)
        history.pace(0)
        history.submit()
        history.finish()
        assert not history.stopped, "it will be begun"
        history.interrupt()
        assert history.ends[2] == "STOPPED" and history.stopped


def test_one_of_several_gets_no_more_than_it_serves() -> None:
    history = History(concurrency=3)
    for _ in range(3):
        history.submit()
    history.ready(serves=2)
    assert history.sent == [1, 2]


def test_one_at_a_time_while_lines_wait_for_their_reader() -> None:
    history = serving(1, 3.0, 3.0)
    history.pace(1)
    history.submit()
    history.answer(1)
    assert history.sent == [1, 2], "what was sent is begun"
    history.answer(2)
    history.submit()
    assert history.sent == [1, 2, 3]
    history.pace(MANY)
    assert history.sent == [1, 2, 3, 4]


def test_several_at_once_all_begin_while_the_log_is_read_at_all() -> None:
    history = serving(3, 3.0)
    history.pace(1)
    history.submit()
    history.submit()
    assert history.told_begun == [1, 2, 3]


class TestPrestart:
    """Check that `Policy.begin` starts a worker before a request needs one. Only runs with several lanes call it."""

    TIMES = replace(TIMES, max_requests=1, prestart=True)

    def test_it_is_started_when_it_is_wanted(self) -> None:
        history = History(self.TIMES)
        history.begin()
        history.ready()
        assert history.starts == 1 and history.policy.deadline is None and not history.policy.was_used
        history.submit()
        assert history.policy.was_used
        history.answer(1)
        history.begin()
        assert history.stopped and history.starts == 1
        history.die()
        history.begin()
        history.begin()
        assert history.starts == 2

    def test_only_where_it_is_a_setting(self) -> None:
        history = History()
        history.begin()
        assert history.starts == 0

    def test_with_the_last_request_nothing_more_is_started(self) -> None:
        history = History(self.TIMES)
        history.begin()
        history.ready()
        history.finish()
        history.die()
        history.begin()
        assert history.policy.ended and history.starts == 1

    def test_who_ends_unused_comes_back_ever_later(self) -> None:
        history, waits = History(self.TIMES), []
        for _ in range(8):
            history.begin()
            history.ready()
            history.die()
            assert history.policy.deadline is not None
            waits.append(history.policy.deadline - history.now)
            history.begin()
            assert not history.alive
            history.until(history.policy.deadline)
        assert waits == sorted(waits) and (waits[0], waits[-1]) == (TIMES.backoff, UNUSED_BACKOFF_LIMIT)
        history.begin()
        history.ready()
        history.answer(history.submit())
        history.die()
        history.begin()
        history.ready()
        history.die()
        assert history.policy.deadline == history.now + TIMES.backoff, "one that was used makes up for it"

    def test_what_cannot_start_is_given_up(self) -> None:
        history = History(self.TIMES)
        for _ in range(TIMES.start_attempts):
            history.begin()
            history.die()
            history.until(history.now + TIMES.backoff_limit)
        assert history.policy.failure is Cause.START_FAILED and history.policy.ended

    def test_a_template_has_no_requests_and_is_ended_by_the_same_ladder(self) -> None:
        history = History(replace(TIMES, prestart=True))
        history.begin()
        history.ready()
        history.finish()
        assert history.stopped
        history.until(TIMES.stop_timeout)
        assert history.signals == [TERM]
        history.until(TIMES.stop_timeout + TIMES.grace)
        assert history.signals == [TERM, KILL]
        history.until(100.0)
        assert history.swept and history.lost and history.policy.ended


@one_and_several
class TestStart:
    """Check workers that do not start."""

    def test_back_off_doubles_up_to_its_limit_and_then_it_is_over(self, n: int) -> None:
        history, waits = History(replace(TIMES, start_attempts=6), n), []
        history.submit()
        for _ in range(5):
            history.die()
            assert history.policy.deadline is not None and history.ends == {}
            waits.append(history.policy.deadline - history.now)
            history.until(history.policy.deadline)
            assert history.sent == [1]
        assert waits == [0.25, 0.5, 1.0, 1.0, 1.0]
        history.submit()
        history.die()
        assert history.ends == {1: "START_FAILED", 2: "START_FAILED"}
        assert history.policy.ended and history.submit() == 0

    def test_a_start_that_succeeds_is_a_new_beginning(self, n: int) -> None:
        history = History(concurrency=n)
        for _ in range(10):
            id = history.submit()
            for _ in range(TIMES.start_attempts - 1):
                history.die()
                history.until(history.now + TIMES.backoff_limit)
            history.ready()
            history.die()
            assert history.ends[id] == "DIED" and not history.policy.finishing

    def test_requests_wait_while_it_backs_off(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.die()
        history.submit()
        history.finish()
        assert history.until(0.125).starts == 1
        assert history.until(0.25).starts == 2
        history.ready()
        assert history.sent == [1, 2]

    def test_it_backs_off_even_if_nothing_waits_yet(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.violate()
        history.die()
        history.submit()
        assert history.until(0.125).starts == 1
        assert history.until(0.25).sent == [2]

    def test_a_finish_while_it_backs_off_for_nothing_ends_it(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.violate()
        history.die()
        history.finish()
        assert history.policy.ended and history.policy.deadline is None

    def test_a_start_that_takes_too_long_costs_the_request_that_waited_for_it(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        assert history.until(8.0).dumps == ["signal"] and history.ends == {}
        assert history.until(8.5).ends == {1: "START_TIMED_OUT"} and history.signals == [TERM]
        assert history.until(10.5).signals == [TERM, KILL]
        history.die()
        assert history.until(10.75).sent == [2]

    def test_starts_that_take_too_long_end_it_as_well(self, n: int) -> None:
        history = History(replace(TIMES, start_attempts=2), n)
        for _ in range(3):
            history.submit()
        history.until(8.5).die()
        history.until(17.25).die()
        assert history.ends == dict.fromkeys((1, 2, 3), "START_TIMED_OUT") and history.policy.ended

    def test_the_first_fault_of_a_start_is_the_one_that_counts(self, n: int) -> None:
        history = History(replace(TIMES, start_attempts=1), n)
        history.submit()
        history.submit()
        history.until(8.25).violate()
        history.die()
        assert history.ends == dict.fromkeys((1, 2), "START_TIMED_OUT")

    def test_ready_that_comes_too_late_does_not_get_the_request_run_twice(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.until(8.25).ready()
        assert not history.answer(1)
        history.until(8.5)
        assert history.ends == {1: "START_TIMED_OUT"} and history.signals == [TERM]
        history.die()
        assert history.policy.deadline == 8.75, "it was not ready in time: a failed start"

    def test_a_stream_that_closes_before_ready(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.until(1.0).close()
        assert history.policy.loading
        assert history.until(3.0).signals == [TERM]
        history.die()
        assert history.until(3.25).sent == [1] and history.ends == {}

    def test_a_handler_that_cannot_be_loaded_is_not_tried_again(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        assert history.policy.loading
        history.until(1.0).fail_to_load()
        assert history.ends == {1: "NOT_LOADED", 2: "NOT_LOADED"} and history.policy.failure is Cause.NOT_LOADED
        history.close()
        assert history.until(3.0).signals == [TERM]
        assert history.until(5.0).signals == [TERM, KILL]
        history.die()
        assert history.policy.ended and history.starts == 1

    def test_a_program_that_cannot_be_executed_is_not_tried_again(self, n: int) -> None:
        history = History(concurrency=n)
        history.submit()
        history.submit()
        history.fail_to_execute()
        assert history.ends == {1: "START_FAILED", 2: "START_FAILED"} and history.starts == 1

    def test_a_start_that_has_to_wait_is_no_failed_one(self, n: int) -> None:
        history = History(replace(TIMES, start_attempts=1), n)
        history.submit()
        history.postpone()
        assert not history.policy.finishing
        assert history.until(TIMES.backoff).sent == [1]
        history.ready()
        history.answer(1)
        history.die()
        history.until(100.0).submit()
        history.postpone()
        assert not history.policy.finishing, "a start that comes about ends the wait"

    def test_who_has_to_wait_for_ever_has_failed(self, n: int) -> None:
        history = History(replace(TIMES, start_attempts=2), n)
        history.submit()
        while not history.ends:
            history.postpone()
            history.until(history.policy.deadline or history.now)
        assert history.ends == {1: "START_FAILED"} and history.policy.ended
        assert 2 * TIMES.start_timeout <= history.now <= 2 * TIMES.start_timeout + 4 * TIMES.backoff_limit
