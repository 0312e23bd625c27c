"""Send signals to children of this process, to their groups, and to all that descends from them.

A pid is only signalled while its number cannot belong to another process. This module knows neither workers nor
requests.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterable

from . import procfs


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to the process group that the uncollected child `pid` leads, or is about to lead.

    Returns:
        Whether it was sent. If not, all that is left of the group belongs to another user.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return signal_child(pid, number)  # it was forked a moment ago and has not made its group yet
    except PermissionError:
        return False
    return True


def signal_child(pid: int, number: int) -> bool:
    """Send a signal to the uncollected child `pid` alone.

    Returns:
        Whether it was sent. If not, the child belongs to another user, or other code has collected it.
    """
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(pids: Iterable[int], keep: Collection[int] = ()) -> bool:
    """Send SIGKILL to these children and to all that descends from them; return whether there were any.

    After procfs.SEARCH_SECONDS only the children themselves are killed; the next call finds the others.

    Args:
        pids: Uncollected children, or -1 for every process.
        keep: Processes to leave alone, together with what descends from them.
    """
    found, ends = list(pids), time.monotonic() + procfs.SEARCH_SECONDS
    for pid in found:
        if pid > 0:
            sweep_below(pid, keep, ends)
        signal_child(pid, signal.SIGKILL)
    return bool(found)


def sweep_below(pid: int, keep: Collection[int] = (), ends: float | None = None) -> None:
    """Kill what descends from the uncollected child `pid`, the youngest first, as far as proc(5) tells.

    If only the child were killed, its children would fall to us one round later, and a long chain would take a round
    for each link. And a tracer among them would keep the child itself from being collected.

    Args:
        pid: The child. It is not killed.
        keep: As for `kill`.
        ends: The time.monotonic() at which to stop; None for procfs.SEARCH_SECONDS from now.
    """
    if ends is None:
        ends = time.monotonic() + procfs.SEARCH_SECONDS
    found = [(0, pid)]
    for _, parent in found:  # the list grows
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
        return  # it has ended, or there are no descriptors left: the next round finds it
    try:
        if procfs.parent_of(pid) == parent:  # else the number may have been reused before the pidfd was opened
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(pidfd)
