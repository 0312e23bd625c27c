"""Find and end the processes that a program leaves behind when it ends.

As PID 1, the init ends every other process of its PID namespace. With --subreaper, it ends every descendant of the
program. Otherwise it ends only the program's process group. This file does not wait. plain_init.py decides how long to
wait.
"""

from __future__ import annotations

import os
import signal

from ..kernel import killing, procfs, reaper

FAREWELL = (signal.SIGTERM, signal.SIGCONT)
"""The signals that ask a process to end. The second is needed because a stopped process acts on SIGTERM only after
SIGCONT."""


class Leftovers:
    """The processes that a program leaves behind.

    Args:
        group: The program's process group.
        has_all_orphans: Whether the init ends all orphans that it adopts, including those outside the group.
    """

    def __init__(self, group: int, has_all_orphans: bool) -> None:
        self._group = group
        self._has_all_orphans = has_all_orphans
        self._is_pid_1 = os.getpid() == 1
        self._asked: set[int] = set()

    @property
    def exist(self) -> bool:
        """Return whether any such process is left."""
        return reaper.has_children() if self._has_all_orphans else self._is_group_left()

    def forget(self, pid: int) -> None:
        """Forget an orphan that has ended, because the kernel may give its pid to another orphan."""
        self._asked.discard(pid)

    def ask_everybody(self) -> None:
        """If the init is PID 1, ask all other processes of its PID namespace to end."""
        if self._is_pid_1:
            for number in FAREWELL:
                killing.signal_child(-1, number)

    def ask_new_orphans(self) -> None:
        """Ask each orphan that was not asked yet to end.

        Skip the program's process group, because reaper.reap has asked it already. PID 1 has asked all processes.
        """
        if not self._has_all_orphans or self._is_pid_1:
            return
        for pid in set(reaper.children()) - self._asked:
            self._asked.add(pid)
            if os.getpgid(pid) != self._group:
                for number in FAREWELL:
                    killing.signal_child(pid, number)

    def kill(self) -> None:
        """Send SIGKILL to all processes that are left now. Call this again for orphans that appear after it."""
        if self._is_pid_1:
            killing.signal_child(-1, signal.SIGKILL)
            return
        if self._is_group_left():
            killing.signal_group(self._group, signal.SIGKILL)
        if self._has_all_orphans:
            killing.kill(reaper.children())

    def _is_group_left(self) -> bool:
        return reaper.has_child_in(self._group) or procfs.has_member_below(self._group)
