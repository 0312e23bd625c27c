"""Cgroups for a test: folders of its own in this machine's hierarchies, removed at its end.

Which there are is the machine's nature and no tool that could be installed: without them a test skips, under CI too.
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
    """{controller: mount point} of version 1, and under "" that of version 2."""
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
    """A new folder in each hierarchy; "" is version 2's. Skips where there is none, or none can be made.

    At the end they are gone, or the test fails: something was left in them.
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
    """Of a test that has failed: all are ours, in a folder that we have made."""
    if pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        processes.end_children()
