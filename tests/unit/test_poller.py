"""Tests of both pollers with bare pipes: what is ready, what has stopped waiting, and deadlines."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipe_init.kernel.poller import EpollPoller, Poller

Ends = tuple[int, int]

each_kind = pytest.mark.parametrize("kind", [Poller, EpollPoller])


@pytest.fixture
def pipes() -> Iterator[list[Ends]]:
    """Yield two pipes, each as (end to read, end to write)."""
    pipes = [os.pipe(), os.pipe()]
    yield pipes
    for end in (*pipes[0], *pipes[1]):
        os.close(end)


@pytest.fixture
def one(pipes: list[Ends]) -> Ends:
    """Return the first pipe."""
    return pipes[0]


@pytest.fixture
def other(pipes: list[Ends]) -> Ends:
    """Return the second pipe."""
    return pipes[1]


@each_kind
@pytest.mark.parametrize("spin", [0, 50])
def test_it_returns_what_is_ready(kind: type[Poller], one: Ends, other: Ends, spin: int) -> None:
    poller = kind(spin)
    poller.add(one[0])
    poller.add(other[0])
    for _ in range(3):  # from the second time on, the poller spins before it sleeps
        os.write(other[1], b"x")
        assert poller.wait(None) == poller.look() == {other[0]: select.POLLIN}
        os.read(other[0], 1)
        assert poller.look() == {}
    os.write(one[1], b"x")
    os.write(other[1], b"x")
    assert poller.wait(None) == {one[0]: select.POLLIN, other[0]: select.POLLIN}


@each_kind
def test_it_does_not_wait_for_what_was_removed(kind: type[Poller], one: Ends, other: Ends) -> None:
    poller = kind(50)
    poller.add(one[0])
    poller.add(other[0])
    poller.add(other[1], events=select.POLLOUT)
    assert poller.wait(None) == {other[1]: select.POLLOUT}
    os.write(other[1], b"x")
    os.write(one[1], b"x")
    poller.remove(other[1])
    poller.remove(other[1])
    assert set(poller.wait(None)) == {one[0], other[0]}
    poller.remove(other[0])
    assert set(poller.wait(None)) == {one[0]}


@each_kind
def test_it_tells_what_is_ready_in_the_order_in_which_it_was_added(kind: type[Poller], one: Ends, other: Ends) -> None:
    poller, handled = kind(), list[int]()
    descriptors = [other[0], one[0], other[1]]
    for descriptor in descriptors:
        poller.add(descriptor, partial(handled.append, descriptor), select.POLLIN | select.POLLOUT)
    for first, second in (one, other), (other, one):
        os.write(first[1], b"x")
        os.write(second[1], b"x")
        assert list(poller.wait(None)) == list(poller.look()) == descriptors
        os.read(one[0], 1)
    assert handled == [], "a poller calls no handler"
    for descriptor in poller.look():
        handler = poller.handlers[descriptor]
        assert handler is not None
        handler()
    assert handled == [other[0], other[1]]
    poller.remove(other[0])
    assert other[0] not in poller.handlers


@each_kind
def test_it_waits_for_a_callers_descriptor_once(kind: type[Poller], one: Ends, other: Ends) -> None:
    poller = kind()
    poller.add(one[0])
    os.write(other[1], b"x")
    assert poller.wait(None, {other[0]: select.POLLIN}) == {other[0]: select.POLLIN}
    os.write(one[1], b"x")
    assert poller.wait(None) == {one[0]: select.POLLIN}


@each_kind
@pytest.mark.parametrize("spin", [0, 50])
def test_it_returns_at_the_deadline_and_not_earlier(kind: type[Poller], one: Ends, spin: int) -> None:
    poller = kind(spin)
    poller.add(one[0])
    os.write(one[1], b"x")
    poller.wait(None)
    os.read(one[0], 1)
    for seconds in (0.02, 0.0, -1.0):
        deadline = time.monotonic() + seconds
        assert poller.wait(deadline) == {}
        assert time.monotonic() >= deadline


@each_kind
def test_it_does_not_spin_when_events_are_rare(kind: type[Poller], one: Ends) -> None:
    poller = kind(1000)
    poller.add(one[0])
    os.write(one[1], b"x")
    poller.wait(None)  # something came at once
    os.read(one[0], 1)
    poller.wait(time.monotonic() + 0.01)  # nothing came
    before = time.thread_time()
    for _ in range(50):
        poller.wait(time.monotonic() + 0.003)
    # If it spun, each wait would take a millisecond of CPU time.
    assert time.thread_time() - before < 0.025


def test_a_caller_may_wait_for_a_file(tmp_path: Path) -> None:
    """Check with a file, as with `run --events FILE`."""
    with open(tmp_path / "file", "wb") as file:
        assert Poller().wait(None, {file.fileno(): select.POLLIN}) == {file.fileno(): select.POLLIN}


def test_an_epoll_poller_is_readable_whenever_something_is_ready(one: Ends) -> None:
    inner, outer = EpollPoller(), Poller()
    outer.add(inner.fileno())
    inner.add(one[0])
    assert outer.look() == {}
    os.write(one[1], b"x")
    assert outer.look() == {inner.fileno(): select.POLLIN}
    os.read(one[0], 1)
    assert outer.look() == {}
    os.write(one[1], b"x")
    inner.remove(one[0])
    assert outer.look() == {}
    inner.close()
