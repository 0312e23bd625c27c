"""Tests of which rlimits a worker gets for the limits that were asked for. No process is limited here."""

from __future__ import annotations

import resource

import pytest

from pipe_init.limits import rlimits
from pipe_init.limits.rlimits import CannotLimit, Limits
from pipe_runtime import limits as runtime_limits

MIB = 2**20
FULL = Limits(1 * MIB, 5, 2, 0.5, 64, 3 * MIB, 4 * MIB, 5 * MIB)


def test_what_is_asked_of_setrlimit() -> None:
    assert rlimits.rlimits(Limits()) == []
    assert rlimits.rlimits(FULL, tasks=30) == [
        (resource.RLIMIT_DATA, MIB, MIB),
        (resource.RLIMIT_NPROC, 35, 35),
        (resource.RLIMIT_CPU, 2, 3),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_FSIZE, 3 * MIB, 3 * MIB),
    ]


def test_what_a_cgroup_holds_is_left_to_it() -> None:
    assert FULL.for_cgroup() == {"memory", "pids", "cpus"}
    asked = {which for which, _, _ in rlimits.rlimits(FULL, FULL.for_cgroup())}
    assert asked == {resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE}


@pytest.mark.parametrize(
    ("hard", "expected"), [(resource.RLIM_INFINITY, (5, 6)), (9, (5, 6)), (6, (5, 6)), (5, (5, 5)), (2, (2, 2))]
)
def test_a_hard_limit_that_pipe_init_did_not_set(
    monkeypatch: pytest.MonkeyPatch, hard: int, expected: tuple[int, int]
) -> None:
    given: list[tuple[int, int]] = []

    def prlimit(pid: int, which: int, wanted: tuple[int, int] | None = None) -> tuple[int, int]:
        assert (pid, which) == (77, resource.RLIMIT_CPU)
        given.extend([wanted] if wanted else [])
        return hard, hard

    monkeypatch.setattr(resource, "prlimit", prlimit)
    rlimits.apply(77, Limits(cpu_seconds=5))
    assert given == [expected]


def test_a_share_of_the_cpus_needs_a_cgroup() -> None:
    rlimits.check(Limits(cpus=1.0), {"cpus"})
    with pytest.raises(CannotLimit, match="--cgroup"):
        rlimits.check(Limits(cpus=1.0), {"memory", "pids"})


def test_both_sides_know_the_time_between_the_two_signals() -> None:
    assert rlimits.CPU_GRACE == runtime_limits.CPU_GRACE
