"""Tests of a function's confinement without a cgroup: what each process has for itself, and what cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipe_init.limits.confinement import PER_PROCESS, Confinement, cgroup_folders
from pipe_init.limits.rlimits import NONE, CannotLimit, CannotUseCgroup, Limits

EVERYTHING = Limits(memory=2**30, pids=8, cpu_seconds=3, open_files=64, file_bytes=2**20)


def test_no_limits() -> None:
    confinement = Confinement()
    assert confinement.limits == NONE and confinement.per_process() == {}
    assert confinement.counts_each_worker
    assert confinement.group() is None and confinement.group(for_template=True) is None
    confinement.release(None)
    assert confinement.close()


def test_what_a_worker_cannot_inherit_from_a_template() -> None:
    assert Confinement(EVERYTHING).per_process() == {"cpu_seconds": 3, "open_files": 64}
    assert EVERYTHING.without(*PER_PROCESS) == Limits(memory=2**30, pids=8, file_bytes=2**20)
    assert EVERYTHING.without() is EVERYTHING


def test_without_a_cgroup_processes_are_counted_together() -> None:
    assert not Confinement(Limits(pids=8)).counts_each_worker
    assert Confinement(Limits(memory=2**30)).counts_each_worker


def test_a_limit_that_needs_a_cgroup() -> None:
    with pytest.raises(CannotLimit, match="--cgroup"):
        Confinement.open(Limits(cpus=0.5), [], None)


def test_a_folder_that_is_no_cgroup(tmp_path: Path) -> None:
    with pytest.raises(CannotUseCgroup, match="is no cgroup"):
        Confinement.open(NONE, [str(tmp_path)], None)


def test_a_cgroup_of_our_own_that_cannot_be_used_is_not_needed(tmp_path: Path) -> None:
    reasons: list[str] = []
    confinement = Confinement.open(Limits(memory=2**30), [str(tmp_path)], reasons.append)
    assert len(reasons) == 1 and "is no cgroup" in reasons[0]
    assert confinement.group() is None
    with pytest.raises(CannotLimit, match="--cgroup"):
        Confinement.open(Limits(cpus=0.5), [str(tmp_path)], reasons.append)
    assert len(reasons) == 2


def test_folders_that_the_user_names_come_first() -> None:
    assert cgroup_folders(NONE, ["/one", "/two"]) == ["/one", "/two"]
    assert cgroup_folders(Limits(cpu_seconds=3), []) == []
