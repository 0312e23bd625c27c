"""Tests of the policy's promises for any events in any order, with one request at a time and with several.

`History` checks the promises at each step. Each request has exactly one end. No request goes to a second worker if the
first may have begun it. No request waits forever, and each timer that fires causes an action or a new state.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_init.kernel.plain_classes import replace
from pipe_init.model import Settings
from pipe_init.policy.ladder import Phase
from pipe_testing.policy_history import KILL, TIMES, History, serving

SOME_TIMES = st.sampled_from(
    [
        TIMES,
        replace(TIMES, window_requests=8, window_bytes=1000),
        replace(TIMES, window_requests=1, start_attempts=1),
        replace(TIMES, grace=0.0),
        replace(TIMES, dump_wait=4.0),
        replace(TIMES, window_requests=8, max_requests=3),
        replace(TIMES, max_requests=1, prestart=True),
        Settings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2, 0, False, 4, 50),
    ]
)

ONE_OR_MORE = st.sampled_from([1, 1, 2, 8])

ORDINARY = ["wait", "pace", "tick", "dump", "begin", "retire", "cut", "stream", "obey_cancel"]
ORDINARY += ["submit"] * 8 + ["ready"] * 5 + ["answer"] * 3 + ["due"] * 4
DEADLY = [*["die"] * 4, "see_dead", "close", "violate", "forge", "postpone"]
FINAL = ["finish", "interrupt", "abandon", "hurry", "fail_to_load", "fail_to_execute"]


def happen(history: History, event: str, number: int) -> None:
    """Let an event happen if it can. The number, from 0 to 15, varies it."""
    policy = history.policy
    running, open = history.running, history.alive and not history.deaf
    if event == "wait":
        history.now += number / 4
    elif event == "submit":
        history.submit([0.25, 1.0, 3.0, 9.0][number // 4], [0, 1, 20, 200][number % 4])
    elif event == "pace":
        history.pace([0, 1, 2, 2**63][number // 4])
    elif event in ("begin", "finish", "interrupt", "abandon", "hurry", "tick"):
        getattr(history, event)()
    elif event == "due":
        if policy.deadline is not None:
            history.until(policy.deadline)
    elif not history.alive:
        return
    elif event in ("die", "see_dead", "dump"):
        getattr(history, event)()
    elif event == "retire":
        if history.is_ready and not history.is_gone:
            history.retire()
    elif event == "ready":
        if open and not history.is_ready:
            serves = 1 if number == 15 else None
            requests, size = [64, 64, 2, 1][number % 4], [2**20, 2**20, 50, 0][number // 4]
            history.ready(requests, size, number % 3 == 0, serves)
    elif event in ("fail_to_execute", "postpone"):
        if not history.is_ready and not history.deaf and policy.phase is Phase.STARTING:
            getattr(history, event)()
    elif event == "fail_to_load":
        if open and policy.phase is Phase.STARTING:
            history.fail_to_load()
    elif not open:
        return
    elif event in ("violate", "close"):
        getattr(history, event)()
    elif event == "forge":
        if not history.is_ready or number not in running:
            history.forge(number)
    elif event == "answer" and history.is_ready and running:
        history.answer(running[number % len(running)])
    elif event == "obey_cancel" and history.is_ready:
        for id in [id for id in history.inside if id in history.cancelled]:
            history.answer(id)
    elif event == "stream" and history.is_ready and running:
        history.stream(running[number % len(running)])
    elif event == "cut" and history.is_ready and running:
        id = running[number % len(running)]
        if id not in history.ends:
            history.cut(id)


@settings(max_examples=1000)
@given(
    times=SOME_TIMES,
    concurrency=ONE_OR_MORE,
    events=st.lists(
        st.tuples(st.sampled_from(ORDINARY * 2 + DEADLY + FINAL), st.integers(0, 15)), min_size=25, max_size=60
    ),
    final_from=st.integers(0, 40),
)
def test_the_promises_hold_for_any_events_in_any_order_at_any_time(
    times: Settings, concurrency: int, events: list[tuple[str, int]], final_from: int
) -> None:
    """Check any events. Allow FINAL events only late in the history, because few events can come after them."""
    if concurrency > 1:
        times = replace(times, window_requests=concurrency)
    history = History(times, concurrency)
    for at, (event, number) in enumerate(events):
        if event not in FINAL or at >= final_from:
            happen(history, event, number)
            history.check()
    history.come_to_an_end()


@given(
    concurrency=ONE_OR_MORE,
    timeouts=st.lists(st.sampled_from([0.5, 1.5, 2.0, 4.0, 9.0]), min_size=1, max_size=6),
    interrupted=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    answers=st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 5)), max_size=8),
    cooperative=st.booleans(),
)
def test_after_an_interrupt_the_end_comes_within_a_bounded_time(
    concurrency: int,
    timeouts: list[float],
    interrupted: float,
    answers: list[tuple[float, int]],
    cooperative: bool,
) -> None:
    """Check that the worker is killed in time, whatever it does.

    The time allows for the grace time of the requests, the wait for stacks, the time to stop, and the grace time of the
    ladder.
    """
    history = serving(concurrency, *timeouts, times=replace(TIMES, window_requests=10), cooperative=cooperative)
    history.until(interrupted).interrupt()
    for wait, which in answers:
        history.until(history.now + wait)
        if history.alive and history.running and KILL not in history.signals:
            history.answer(history.running[which % len(history.running)])
    while history.alive and KILL not in history.signals:
        assert history.policy.deadline is not None
        history.until(history.policy.deadline)
    times = history.times
    allowed = sum(wait for wait, _ in answers) + interrupted + times.grace * 2 + times.dump_wait + times.stop_timeout
    assert history.now <= allowed
    history.come_to_an_end()


@pytest.mark.parametrize("concurrency", [1, 3])
@given(events=st.lists(st.tuples(st.sampled_from(ORDINARY + DEADLY), st.integers(0, 15)), max_size=30))
def test_a_killed_worker_is_seen_dead_or_given_up(concurrency: int, events: list[tuple[str, int]]) -> None:
    history = serving(concurrency, 3.0, 3.0)
    for event, number in events:
        happen(history, event, number)
    history.hurry()
    for _ in range(100):
        if history.policy.deadline is None:
            break
        history.until(history.policy.deadline)
    assert history.policy.ended or history.is_gone
