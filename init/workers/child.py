"""Act on one child process and its cgroup: signal it, limit it, measure it.

It must not know what the process says; that is link.py.
"""

from __future__ import annotations

from signal import SIGCONT, SIGKILL
from typing import TYPE_CHECKING

from ..kernel import killing, procfs, reaper
from ..limits.confinement import Confinement
from ..model import AFTER_FORK, BEFORE_FORK, WHILE_LOADING
from .launch import DUMP_SIGNAL, Process

if TYPE_CHECKING:
    from ..limits.cgroup import Evidence, Group


class Child:
    """A process that was started, or that a template was asked to fork.

    No process is signalled that is not an uncollected child of the init: a template may name any pid.

    Attributes:
        process: The process and its pipes.
        group: The process's cgroup, if it has one.
        forker: The template that forks the process; None if the process was executed.
        can_dump: Whether the process has said that it writes its stacks when it is sent the dump signal.
        dump: What has come of its stacks through the dump pipe, since they were asked for.
        is_ready: Whether the process has said READY.
        closed: Whether `close` was called.
    """

    def __init__(
        self,
        process: Process,
        confinement: Confinement,
        group: Group | None,
        forker: Child | None = None,
    ) -> None:
        """Take charge of a process.

        Args:
            process: As the attribute.
            confinement: The limits of the process.
            group: As the attribute.
            forker: As the attribute.
        """
        self.process = process
        self.group = group
        self.forker = forker
        self.can_dump = self.is_ready = self.closed = False
        self.dump = bytearray()
        self._confinement = confinement
        self._alone = 0

    @property
    def pid(self) -> int:
        """Return the process's pid; 0 until the template has reported it."""
        return self.process.pid

    @property
    def stage(self) -> str:
        """Return how far the process has come on its way to READY: one of the stages of model.py."""
        if self.forker is None or not self.forker.is_ready:
            return WHILE_LOADING
        return AFTER_FORK if self.pid else BEFORE_FORK

    def is_own(self) -> bool:
        """Return whether the process is an uncollected child of the init."""
        return self.pid > 0 and not self.closed and reaper.is_own_child(self.pid)

    def signal(self, number: int) -> None:
        """Signal the process's group, and wake it up so that it can act. SIGKILL goes to its cgroup, too.

        If the process is not forked yet, the template hangs and is signalled.
        """
        if not self.pid and self.forker is not None:
            self.forker.signal(number)
        elif self.is_own():
            killing.signal_group(self.pid, number)
            if number != SIGKILL:
                killing.signal_group(self.pid, SIGCONT)
            elif self.group is not None:
                self.group.kill()

    def signal_for_stacks(self) -> bool:
        """Send the dump signal, and wake the process up. Return whether it can tell.

        If the process is not forked yet, the template is asked.
        """
        if not self.pid and self.forker is not None:
            return self.forker.signal_for_stacks()
        if not self.can_dump or not self.is_own():
            return False
        self.dump.clear()
        killing.signal_child(self.pid, DUMP_SIGNAL)
        killing.signal_group(self.pid, SIGCONT)
        return True

    def limit(self) -> None:
        """Set the limits that a forked process has not inherited, once it is ready and a child of the init.

        Our runtime sets these limits itself before, as HELLO says. The function may have changed them; this undoes it.
        Before READY they would take from the process what it needs to become a worker.
        """
        if self.forker is not None and self.is_ready and self._confinement.per_process() and self.is_own():
            try:
                self._confinement.apply_per_process(self.pid)
            except OSError:
                self.signal(SIGKILL)  # no function may run beyond a limit that its user relies on

    def peak_memory(self) -> int:
        """Return the peak of the process's resident memory in bytes; 0 if it is not known."""
        return procfs.high_water_mark(self.pid) if self.is_own() else 0

    def count_for(self, id: int) -> None:
        """Count the cgroup's events for request `id` from now on; 0 if several requests are open."""
        self._alone = id
        if id and self.group is not None:
            self.group.mark()

    def evidence(self, id: int) -> Evidence | None:
        """Return what the cgroup tells of request `id`, which was just answered; None if there is no cgroup.

        Events are left out if other requests were sent with it: a worker runs ahead of what the init reads of it.
        """
        if self.group is None:
            return None
        evidence = self.group.evidence()
        return evidence if self._alone == id else evidence._replace(oom_kills=0, pids_refused=0)

    def close(self) -> None:
        """Close the init's ends of the pipes, and give the cgroup back."""
        self.closed = True
        self.process.close()
        self._confinement.release(self.group)
