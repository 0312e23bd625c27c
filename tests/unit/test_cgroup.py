"""Tests of what a cgroup's files mean. The files are the test's own, with texts that the kernel writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipe_init.limits.cgroup import Evidence, Group, field, number
from pipe_init.limits.rlimits import Limits

MIB = 2**20


class TestFiles:
    """Check a group of version 2 whose files hold texts that the kernel writes."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.kill"):
            (tmp_path / name).touch()
        (tmp_path / "cgroup.procs").touch()
        (tmp_path / "memory.peak").write_text("104857600\n")
        (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 1\n")
        (tmp_path / "pids.peak").write_text("7\n")
        (tmp_path / "pids.events").write_text("max 5\n")
        return tmp_path

    def test_limits_are_written(self, folder: Path) -> None:
        group = Group([str(folder)], Limits(memory=100 * MIB, pids=7, cpus=0.5))
        try:
            written = {name: (folder / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")}
            assert written == {"memory.max": str(100 * MIB), "pids.max": "7", "cpu.max": "50000 100000"}
            assert (folder / "memory.swap.max").read_text() == "0"
            assert (folder / "memory.oom.group").read_text() == "1"
        finally:
            group.close()
        assert (folder / "cgroup.kill").read_text() == "1"

    def test_what_is_not_limited_is_not_written(self, folder: Path) -> None:
        group = Group([str(folder)], Limits(pids=3))
        group.close()
        assert (folder / "memory.max").read_text() == (folder / "cpu.max").read_text() == ""

    def test_evidence_counts_from_the_mark(self, folder: Path) -> None:
        group = Group([str(folder)], Limits(memory=100 * MIB))
        try:
            assert group.evidence() == Evidence(100 * MIB, 7, 0, 0, True)
            (folder / "memory.events").write_text("oom_kill 3\n")
            (folder / "pids.events").write_text("max 9\n")
            assert group.evidence() == Evidence(100 * MIB, 7, 1, 4, True)
            group.mark()
            assert group.evidence() == Evidence(100 * MIB, 7, 0, 0, True)
        finally:
            group.close()

    def test_an_older_kernel_tells_less(self, folder: Path) -> None:
        for name in ("memory.peak", "pids.peak", "memory.oom.group", "memory.swap.max"):
            (folder / name).unlink()
        group = Group([str(folder)], Limits(memory=MIB))
        group.close()
        assert group.evidence() == Evidence(None, None, 0, 0, True)

    @pytest.mark.parametrize(("text", "value"), [("12\n", 12), ("max\n", None), ("", None), ("-1", None)])
    def test_number(self, text: str, value: int | None) -> None:
        assert number(text) == value

    def test_field(self) -> None:
        text = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"
        assert field(text, "oom_kill") == 4
        assert field(text, "oom") == field("", "max") == field("max x\n", "max") == 0
