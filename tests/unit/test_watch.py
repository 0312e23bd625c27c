"""Waiting for descriptors, with bare pipes."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import pytest

from pipe_init.kernel.poller import Watch

Ends = tuple[int, int]


@pytest.fixture
def pipes() -> Iterator[list[Ends]]:
    """Two pipes, each (to read, to write)."""
    pipes = [os.pipe(), os.pipe()]
    yield pipes
    for end in (*pipes[0], *pipes[1]):
        os.close(end)


@pytest.fixture
def always(pipes: list[Ends]) -> Ends:
    """The pipe that is waited for in any case."""
    return pipes[0]


@pytest.fixture
def other(pipes: list[Ends]) -> Ends:
    """Another one."""
    return pipes[1]


@pytest.mark.parametrize("spin", [0, 50])
def test_what_is_ready_is_told(always: Ends, other: Ends, spin: int) -> None:
    watch = Watch(always[0], spin)
    watch.add(other[0])
    for _ in range(3):  # from the second time on, it looks before it sleeps
        os.write(other[1], b"x")
        assert watch.wait(None) == {other[0]: select.POLLIN}
        os.read(other[0], 1)
    os.write(always[1], b"x")
    os.write(other[1], b"x")
    assert watch.wait(None) == {always[0]: select.POLLIN, other[0]: select.POLLIN}


def test_what_is_removed_is_not_waited_for(always: Ends, other: Ends) -> None:
    watch = Watch(always[0], 50)
    watch.add(other[0])
    watch.add(other[1], select.POLLOUT)
    assert watch.wait(None) == {other[1]: select.POLLOUT}
    os.write(other[1], b"x")
    os.write(always[1], b"x")
    watch.remove(other[1])
    watch.remove(other[1])
    assert set(watch.wait(None)) == {always[0], other[0]}
    watch.remove(other[0])
    assert set(watch.wait(None)) == {always[0]}


def test_what_has_an_owner_is_forgotten_with_it(always: Ends, other: Ends) -> None:
    watch = Watch(always[0], 0)
    watch.add(other[0], owner="mine")
    watch.add(other[1], select.POLLOUT, owner="mine")
    os.write(always[1], b"x")
    os.write(other[1], b"x")
    ready = watch.wait(None)
    assert set(ready) == {always[0], *other} and watch.owners(ready) == ["mine"]
    watch.forget("another's")
    assert set(watch.wait(None)) == {always[0], *other}
    watch.forget("mine")
    assert set(watch.wait(None)) == {always[0]}


def test_one_more_for_once(always: Ends, other: Ends) -> None:
    watch = Watch(always[0], 0)
    os.write(other[1], b"x")
    assert watch.wait(None, {other[0]: select.POLLIN}) == {other[0]: select.POLLIN}
    os.write(always[1], b"x")
    assert watch.wait(None) == {always[0]: select.POLLIN}


@pytest.mark.parametrize("spin", [0, 50])
def test_a_deadline_is_not_missed_nor_early(always: Ends, spin: int) -> None:
    watch = Watch(always[0], spin)
    os.write(always[1], b"x")
    watch.wait(None)
    os.read(always[0], 1)
    for seconds in (0.02, 0.0, -1.0):
        deadline = time.monotonic() + seconds
        assert watch.wait(deadline) == {}
        assert time.monotonic() >= deadline


def test_who_waits_long_does_not_spin(always: Ends) -> None:
    watch = Watch(always[0], 1000)
    os.write(always[1], b"x")
    watch.wait(None)  # that was fast
    os.read(always[0], 1)
    watch.wait(time.monotonic() + 0.01)  # that was not
    before = time.thread_time()
    for _ in range(50):
        watch.wait(time.monotonic() + 0.003)
    # Spinning, each wait would take a millisecond of CPU.
    assert time.thread_time() - before < 0.025
