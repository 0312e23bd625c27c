"""Find and end the processes that a program leaves behind when it ends.

As PID 1 the init ends every other process of the PID namespace. As a subreaper it ends every descendant of the program.
Otherwise it ends only the program's process group. This file does not wait: plain_init.py decides how long.
"""

from __future__ import annotations

import os
import signal

from ..kernel import killing, procfs, reaper

FAREWELL = (signal.SIGTERM, signal.SIGCONT)
"""A stopped process acts on SIGTERM only after it is continued."""


class Leftovers:
    """The processes that a program leaves behind.

    Args:
        group: The program's process group.
        has_all_orphans: Whether this init ends all orphans that it adopts, also those outside the group.
    """

    def __init__(self, group: int, has_all_orphans: bool) -> None:
        self._group = group
        self._has_all_orphans = has_all_orphans
        self._is_pid_1 = os.getpid() == 1
        self._asked: set[int] = set()

    @property
    def exist(self) -> bool:
        """Return whether there are any."""
        return reaper.has_children() if self._has_all_orphans else self._is_group_left()

    def forget(self, pid: int) -> None:
        """Forget an orphan that has ended, because the kernel may give its pid to another one."""
        self._asked.discard(pid)

    def ask_everybody(self) -> None:
        """As PID 1, send SIGTERM to all other processes of this PID namespace."""
        if self._is_pid_1:
            for number in FAREWELL:
                killing.signal_child(-1, number)

    def ask_new_orphans(self) -> None:
        """Send SIGTERM to each orphan that has had none.

        The reaper sends it to the program's group, and PID 1 has sent it to everybody.
        """
        if not self._has_all_orphans or self._is_pid_1:
            return
        for pid in set(reaper.children()) - self._asked:
            self._asked.add(pid)
            if os.getpgid(pid) != self._group:
                for number in FAREWELL:
                    killing.signal_child(pid, number)

    def kill(self) -> None:
        """Send SIGKILL to all that exist now. The next look may find their children."""
        if self._is_pid_1:
            killing.signal_child(-1, signal.SIGKILL)
            return
        if self._is_group_left():
            killing.signal_group(self._group, signal.SIGKILL)
        if self._has_all_orphans:
            killing.kill(reaper.children())

    def _is_group_left(self) -> bool:
        return reaper.has_child_in(self._group) or procfs.has_member_below(self._group)
