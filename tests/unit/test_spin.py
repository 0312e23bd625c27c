"""Tests of when to spin and when to sleep, with simulated waits: the tests choose when answers come, and what a wake-up
costs.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe_runtime.wire.spin import EVERY, RARELY, Spin

US = 1e-6
CAP = 200 * US


class World:
    """Simulate a process that waits for answers. It spins and sleeps as its Spin object decides.

    Attributes:
        looks: The number of waits that began with spinning.
        looked: The seconds of CPU time that spinning has taken.
        waited: The seconds that all waits have taken.
    """

    def __init__(self, cap: float = CAP) -> None:
        self.spin = Spin(cap)
        self.reset()

    def reset(self) -> None:
        self.looks, self.looked, self.waited = 0, 0.0, 0.0

    def wait(self, answer: float, wake_up: float, times: int = 1) -> None:
        """Wait for an answer that comes after `answer` seconds. If the process sleeps then, add `wake_up` seconds."""
        for _ in range(times):
            limit = self.spin.limit
            assert 0.0 <= limit <= CAP
            found = answer < limit
            took = answer if found else answer + wake_up
            self.looks += limit > 0
            self.looked += min(limit, answer)
            self.waited += took
            self.spin.unlearned += found
            if not found or self.spin.unlearned >= EVERY:
                self.spin.learn(took)


@pytest.mark.parametrize("answer", [1 * US, 10 * US, 60 * US, 150 * US])
def test_it_looks_for_what_comes_soon_where_a_wake_up_is_dear(answer: float) -> None:
    world = World()
    world.wait(answer, 60 * US, 100)
    world.reset()
    world.wait(answer, 60 * US, 10 * RARELY)
    assert world.looks > 0.99 * 10 * RARELY
    assert world.waited < 1.05 * 10 * RARELY * answer + 20 * 60 * US


@pytest.mark.parametrize("wake_up", [0.0, 0.5 * US])
def test_it_sleeps_where_a_wake_up_costs_nothing(wake_up: float) -> None:
    world = World()
    world.wait(30 * US, wake_up, 100)
    world.reset()
    world.wait(30 * US, wake_up, 10 * RARELY)
    assert world.looks <= 10


@pytest.mark.parametrize("answer", [300 * US, 1000 * US, 1.0])
def test_it_never_looks_for_what_comes_too_late(answer: float) -> None:
    world = World()
    world.wait(answer, 60 * US, 100)
    world.reset()
    world.wait(answer, 60 * US, 10 * RARELY)
    assert world.looked <= 0.01 * 10 * RARELY * answer


def test_it_does_not_pay_much_for_little() -> None:
    world = World()
    world.wait(190 * US, 10 * US, 100)
    world.reset()
    world.wait(190 * US, 10 * US, 10 * RARELY)
    assert world.looked < 0.02 * world.waited


def test_it_follows_a_change() -> None:
    world = World()
    for answer, looks in ((10 * US, True), (1000 * US, False), (10 * US, True), (1.0, False), (20 * US, True)):
        world.wait(answer, 60 * US, RARELY)
        world.reset()
        world.wait(answer, 60 * US, RARELY)
        assert (world.looks > 0.9 * RARELY) is looks, answer


def test_it_sleeps_when_wake_ups_become_free() -> None:
    world = World()
    world.wait(30 * US, 60 * US, 1000)
    world.wait(30 * US, 0.0, 40 * RARELY)
    world.reset()
    world.wait(30 * US, 0.0, RARELY)
    assert world.looks <= 2


def test_a_pause_now_and_then_changes_nothing() -> None:
    world = World()
    world.wait(10 * US, 60 * US, 100)
    world.reset()
    for _ in range(50):
        world.wait(10 * US, 60 * US, 19)
        world.wait(5.0, 60 * US)
    assert world.looks > 0.95 * 50 * 20


def test_without_a_cap_it_never_looks() -> None:
    world = World(0.0)
    world.wait(1 * US, 60 * US, 1000)
    assert world.looks == 0


@given(st.lists(st.floats(0, 100, allow_nan=False)), st.floats(0, CAP))
def test_it_never_looks_longer_than_the_cap(waits: list[float], cap: float) -> None:
    spin = Spin(cap)
    for waited in waits:
        spin.learn(waited)
        assert 0.0 <= spin.limit <= cap
