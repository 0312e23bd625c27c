"""Make cgroups for a test in this machine's hierarchies, and remove them at the end of the test.

Whether a machine has cgroups that can be written does not depend on what is installed. Without them a test skips,
even under CI.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipe_testing import processes

_numbers = itertools.count(1)


def hierarchies() -> dict[str, Path]:
    """Return the mount point of each version 1 controller by its name, and that of version 2 under ""."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = Path(before.split()[4])
        if kind == "cgroup2":
            found.setdefault("", point)
        elif kind == "cgroup":
            found.update((name, point) for name in options.split()[-1].split(",") if name in ("memory", "pids", "cpu"))
    return found


@contextmanager
def folders(*controllers: str) -> Iterator[list[str]]:
    """Yield the path of a new folder in each of these hierarchies. "" stands for version 2.

    Skip the test if a hierarchy is missing or the folder cannot be made. Remove the folders at the end of the block.
    Fail the test if it has left groups of its own inside them.
    """
    mounted = hierarchies()
    if not set(controllers) <= mounted.keys():
        pytest.skip(f"this machine has no cgroup hierarchy for {controllers}")
    name = f"pipe-init-test-{os.getpid()}-{next(_numbers)}"
    made: list[Path] = []
    try:
        for controller in controllers:
            folder = mounted[controller] / name
            try:
                folder.mkdir()
            except OSError as error:
                pytest.skip(f"no cgroup can be made here: {error}")
            made.append(folder)
        yield [str(folder) for folder in made]
    finally:
        left = [below for folder in made for below in folder.iterdir() if below.is_dir()]
        for group in [*left, *made]:
            _end_members(group)
            group.rmdir()
        assert not left, f"groups were left: {left}"


def _end_members(group: Path) -> None:
    """Kill the processes that a failed test has left in a group. They are all children of this process."""
    if pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        processes.end_children()
