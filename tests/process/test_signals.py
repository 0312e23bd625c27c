"""Tests of which signals are collected, and that the descriptor reports each. The signals are real."""

from __future__ import annotations

import os
import select
import signal

import pytest

from pipe_init.kernel.signals import ENDING
from pipe_testing.supervision import installed_signals


def readable(descriptor: int, milliseconds: int = 0) -> bool:
    """Tell whether there is something to read now or within these milliseconds."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(milliseconds))


@pytest.mark.parametrize("number", ENDING)
def test_an_ending_signal_is_collected(number: int) -> None:
    with installed_signals() as signals:
        assert not readable(signals.descriptor)
        signal.raise_signal(number)
        assert signals.endings == [number]
        assert readable(signals.descriptor)


def test_two_endings_stay_in_order() -> None:
    with installed_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert signals.endings == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", ENDING)
def test_a_third_ending_waits_for_nothing(number: int) -> None:
    pid = os.fork()
    if pid == 0:
        with installed_signals():
            for _ in range(3):
                signal.raise_signal(number)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + number


def test_a_child_that_ends_is_no_ending() -> None:
    with installed_signals() as signals:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert readable(signals.descriptor, 10_000)
        assert signals.endings == []
    os.waitpid(pid, 0)


def test_draining_makes_it_unreadable_until_the_next() -> None:
    with installed_signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signals.drain()
        assert not readable(signals.descriptor)
        signals.drain()
        signal.raise_signal(signal.SIGTERM)
        assert readable(signals.descriptor)


def test_waking() -> None:
    with installed_signals() as signals:
        signals.wake()
        assert readable(signals.descriptor)
        signals.drain()
        assert not readable(signals.descriptor)
        assert signals.endings == []


def test_a_full_descriptor_loses_no_signal() -> None:
    with installed_signals() as signals:
        for _ in range(2**17):  # more than a pipe holds
            signals.wake()
        signal.raise_signal(signal.SIGTERM)
        assert signals.endings == [signal.SIGTERM]
        signals.drain()
        assert not readable(signals.descriptor)


@pytest.mark.parametrize("number", ENDING)
def test_what_the_parent_has_ignored_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with installed_signals() as signals:
            signal.raise_signal(number)
            assert signals.endings == []
            assert not readable(signals.descriptor)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_the_descriptors_are_not_inherited() -> None:
    with installed_signals() as signals:
        assert not os.get_inheritable(signals.descriptor)
        assert not os.get_blocking(signals.descriptor)


def test_what_the_parent_has_blocked_is_collected() -> None:
    """Check with every signal blocked, as a supervisor may start pipe-init."""
    wanted = {signal.SIGCHLD, *ENDING}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*wanted, signal.SIGUSR1})
    try:
        with installed_signals() as signals:
            assert not wanted & signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            signal.raise_signal(signal.SIGTERM)
            assert signals.endings == [signal.SIGTERM]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
