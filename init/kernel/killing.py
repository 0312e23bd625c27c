"""Send signals to children of this process, to their process groups, and to all their descendants.

When a parent has collected a dead child with wait(2), the kernel may give the child's pid to another process. So the
functions here signal a pid only while that cannot happen. This module knows neither workers nor requests.
"""

from __future__ import annotations

import _signal as signal
import os
import time
from collections.abc import Collection, Iterable

from . import procfs


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to the process group that the uncollected child `pid` leads, or is about to lead.

    Returns:
        Whether the signal was sent. If not, all processes that are left in the group belong to another user.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return signal_child(pid, number)  # the child has just been forked, and has not made its group yet
    except PermissionError:
        return False
    return True


def signal_child(pid: int, number: int) -> bool:
    """Send a signal to the uncollected child `pid` alone.

    Returns:
        Whether the signal was sent. If not, the child belongs to another user, or other code has collected it.
    """
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(pids: Iterable[int], keep: Collection[int] = ()) -> bool:
    """Send SIGKILL to children and to all their descendants. Return whether `pids` had any.

    After procfs.SEARCH_SECONDS, kill only the children themselves. The caller's next call can kill the descendants.

    Args:
        pids: Uncollected children, or -1 for every process.
        keep: Processes to leave alone, together with their descendants.
    """
    found, ends = list(pids), time.monotonic() + procfs.SEARCH_SECONDS
    for pid in found:
        if pid > 0:
            sweep_below(pid, keep, ends)
        signal_child(pid, signal.SIGKILL)
    return bool(found)


def sweep_below(pid: int, keep: Collection[int] = (), ends: float | None = None) -> None:
    """Kill the descendants of the uncollected child `pid` that proc(5) shows. Kill children before their parents.

    If the init killed only the child, the child's children would become children of the init. Then a chain of
    descendants would take one round for each generation. Also, the init cannot collect the child while one of its
    descendants traces it.

    Args:
        pid: The child. This function does not kill the child itself.
        keep: As for `kill`.
        ends: The time.monotonic() at which to stop; None for procfs.SEARCH_SECONDS from now.
    """
    if ends is None:
        ends = time.monotonic() + procfs.SEARCH_SECONDS
    found = [(0, pid)]
    for _, parent in found:  # the loop appends to the list
        if time.monotonic() >= ends:
            break
        found += [(parent, child) for child in procfs.children_of(parent) if child not in keep]
    for parent, child in reversed(found[1:]):
        _kill_child_of(parent, child)
        if time.monotonic() >= ends:
            break


def _kill_child_of(parent: int, pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return  # the process has ended, or no descriptor is left; in that case the next round finds the process
    try:
        if procfs.parent_of(pid) == parent:  # else the kernel may have reused the pid before the pidfd was opened
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(pidfd)
