"""Act on one child process and its cgroup: signal it, limit it, measure it, and record how it ended.

This module must not know the frames that the process writes. link.py reads them.
"""

from __future__ import annotations

from _signal import SIGCONT, SIGKILL

from ..kernel import killing, procfs, reaper
from ..kernel.plain_classes import replace
from ..kernel.reaper import Death
from ..limits.confinement import Confinement
from ..model import AFTER_FORK, BEFORE_FORK, WHILE_LOADING, WorkerEnd
from .launch import DUMP_SIGNAL, ProcessPipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits.cgroup import Evidence, Group


class Child:
    """A process that the init has started, or has asked a template to fork.

    This class signals only uncollected children of the init, because a template may report any pid.

    Attributes:
        pipes: The process, as a pid and pipes.
        group: The process's cgroup, if it has one.
        forker: The template that forks the process; None if the process was executed.
        can_dump: Whether the process has said in HELLO that it writes its stacks at the dump signal.
        end: What is known of the process's end. `end.dump` has the bytes that came through the dump pipe since the
            init last asked for the stacks.
        is_ready: Whether the process has sent READY.
        peak_at_ready: The peak memory in bytes that the process reported in READY. A process can report less than it
            uses.
        peak: The highest peak memory in bytes that the process has reported.
    """

    def __init__(
        self,
        pipes: ProcessPipes,
        confinement: Confinement,
        group: Group | None,
        forker: Child | None = None,
    ) -> None:
        """Take charge of a process.

        Args:
            pipes: The process, as a pid and pipes.
            confinement: The limits of the process.
            group: The process's cgroup, if it has one.
            forker: The template that forks the process; None if the process was executed.
        """
        self.pipes = pipes
        self.group = group
        self.forker = forker
        self.can_dump = self.is_ready = False
        self.end = WorkerEnd()
        self._confinement = confinement
        self._alone = 0  # the id of the request for which the cgroup counts events; 0 if several are open
        # Bytes of memory that the process may have had before exec. A worker that a template forked had no exec.
        self._copied = procfs.resident() if forker is None else 0
        self.peak_at_ready = self.peak = 0

    @property
    def pid(self) -> int:
        """Return the process's pid; 0 until the template has reported it."""
        return self.pipes.pid

    @property
    def stage(self) -> str:
        """Return the stage of the process's start: one of the stages in model.py."""
        if self.forker is None or not self.forker.is_ready:
            return WHILE_LOADING
        return AFTER_FORK if self.pid else BEFORE_FORK

    def is_own(self) -> bool:
        """Return whether the process is an uncollected child of the init."""
        return self.pid > 0 and not self.pipes.closed and reaper.is_own_child(self.pid)

    def signal(self, number: int) -> None:
        """Signal the process's group. Wake stopped processes, so that they handle the signal.

        Send SIGKILL to the whole cgroup, too. If the template has not forked the process yet, the template hangs. Then
        signal the template.
        """
        if not self.pid and self.forker is not None:
            self.forker.signal(number)
        elif self.is_own():
            killing.signal_group(self.pid, number)
            if number != SIGKILL:
                killing.signal_group(self.pid, SIGCONT)
            elif self.group is not None:
                self.group.kill()

    def force(self, number: int, closed: bool) -> None:
        """Send a signal that makes the process end, and record it. `closed` says whether it has closed its stream."""
        self.end.closed = closed
        self.end.sent.add(int(number))
        self.signal(number)

    def signal_for_stacks(self) -> bool:
        """Send the dump signal, and wake a stopped process. Return whether the process can write its stacks.

        If the template has not forked the process yet, send the signal to the template.
        """
        if not self.pid and self.forker is not None:
            return self.forker.signal_for_stacks()
        if not self.can_dump or not self.is_own():
            return False
        self.end.dump.clear()
        killing.signal_child(self.pid, DUMP_SIGNAL)
        killing.signal_group(self.pid, SIGCONT)
        return True

    def limit(self) -> None:
        """Set the limits that a forked process has not inherited, if it is ready and a child of the init.

        The runtime has already set these limits, as HELLO asks. Set them again, because the function may have changed
        them. Before READY, the limits could keep the process from becoming a worker.
        """
        if self.forker is not None and self.is_ready and self._confinement.per_process() and self.is_own():
            try:
                self._confinement.apply_per_process(self.pid)
            except OSError:
                self.signal(SIGKILL)  # a function must not run without a limit that its user has set

    def ready(self, peak: int) -> None:
        """Record the peak memory in bytes that the worker reports in READY."""
        self.peak_at_ready = self.peak = peak

    def measure(self) -> None:
        """Read the living process's peak memory from the kernel, for an answer that the init gives in its place.

        If the process is no uncollected child of the init, do nothing.
        """
        if self.is_own():
            self.end.peak_memory = procfs.high_water_mark(self.pid) or self.end.peak_memory

    def bury(self, death: Death) -> None:
        """Record how the process died, what its cgroup counted, and why its exec failed, if it did.

        Call this before the init reads the data that the process left in its pipes. The kernel's figure of the peak
        memory includes the time before exec, when the process was a copy of the init. So only a figure above the memory
        of that copy is certainly the program's own. If it is not above, the lower of the kernel's figure and the
        worker's own figure is recorded.
        """
        end, peak = self.end, death.peak_memory
        end.death, end.stage, end.exec_error = death, self.stage, self.pipes.exec_error()
        end.peak_memory = peak if not self.peak or peak > self._copied else min(self.peak, peak)
        end.evidence = None if self.group is None else self.group.evidence()

    def lost(self, template: WorkerEnd | None) -> None:
        """Record why the init will not see this worker die. `template` is the argument of Observer.lost.

        The worker may be alive, because a template can die between a fork and its report. So this method closes the
        alive pipe, and the kernel kills the worker. The init still reads the data that the worker has sent.
        """
        end = self.end
        if template is None:
            end.unseen = True
        else:
            end.death, end.start_error, end.exec_error = template.death, template.start_error, template.exec_error
            end.farewell, end.violation = template.farewell, end.violation or template.violation
            end.stage, end.of_template = self.stage, True
        self.pipes.disown()

    def count_for(self, id: int) -> None:
        """Count the cgroup's events for request `id` from now on; 0 if several requests are open."""
        self._alone = id
        if id and self.group is not None:
            self.group.mark()

    def evidence(self, id: int) -> Evidence | None:
        """Return the cgroup's counts for request `id`, which was just answered; None if there is no cgroup.

        If the worker also had other requests, leave out the counted events. The worker may have begun another request
        before the init read the answer.
        """
        if self.group is None:
            return None
        evidence = self.group.evidence()
        return evidence if self._alone == id else replace(evidence, oom_kills=0, pids_refused=0)

    def close(self) -> None:
        """Close the init's ends of the pipes, and release the cgroup."""
        self.pipes.close()
        self._confinement.release(self.group)
