"""Follow one worker of a lane from its start to its end, and collect what its requests' errors and reports need.

It must not know requests, or what the policy decides.
"""

from __future__ import annotations

from ..kernel import procfs
from ..kernel.death import Death
from ..policy.errors import WorkerEnd
from ..workers.link import Link
from ..workers.observer import NeverForked


class Worker:
    """A worker that was started.

    Attributes:
        link: The conversation with it.
        end: What is known of its end.
    """

    def __init__(self, link: Link, end: WorkerEnd) -> None:
        self.link = link
        self.end = end
        # Bytes of memory that it may have had before exec. A worker that a template forked had no exec.
        self._copied = procfs.resident() if link.child.forker is None else 0
        self._peak_at_ready = self._peak = 0  # bytes, as it reports them

    def ready(self, peak: int) -> None:
        """Take the peak of its memory in bytes that it reports with READY."""
        self._peak_at_ready = self._peak = peak

    def answered(self, peak: int) -> int:
        """Take the peak that it reports with an outcome. Return by how much it has grown since READY.

        A worker that lies about its memory seems not to grow.
        """
        self._peak = max(self._peak, peak)
        return peak - self._peak_at_ready

    def ask_for_stacks(self, by_signal: bool) -> None:
        """Ask the worker for its stacks, by the dump signal or by a frame."""
        self.end.stacks, self.end.stage = {}, self.link.child.stage
        self.end.asked = self.link.ask_for_stacks(by_signal) or self.end.asked

    def signal(self, number: int) -> None:
        """Send a signal that makes the worker end."""
        self.end.forced, self.end.closed = True, self.link.ended or self.link.deaf
        self.end.sent.add(int(number))
        self.link.child.signal(number)

    def look(self) -> None:
        """Collect what can be known of the worker while it lives, for an answer in its place."""
        self.end.dump = bytes(self.link.child.dump)
        self.end.peak_memory = self.link.child.peak_memory() or self.end.peak_memory

    def bury(self, death: Death) -> None:
        """Collect what a dead worker has left: its last words, and how it died."""
        end, child = self.end, self.link.child
        end.death, end.peak_memory, end.stage = death, self._peak_of_the_dead(death), child.stage
        end.evidence = None if child.group is None else child.group.evidence()
        self.link.read_last_words()
        end.exec_error = self.link.pipes.exec_error()

    def lost(self, reason: NeverForked | None) -> None:
        """Collect why the worker's death will not be seen, as WorkerObserver.lost.

        The worker may live, because a template can die between a fork and its report. So this closes the alive pipe,
        which kills the worker. What the worker has said counts.
        """
        end = self.end
        if reason is None:
            end.unseen = True
        else:
            end.death, end.start_error, end.farewell = reason.death, reason.start_error, reason.farewell
            end.exec_error, end.stage, end.of_template = reason.exec_error, self.link.child.stage, True
            end.violation = end.violation or reason.violation
        self.link.pipes.disown()
        self.link.read_last_words()

    def _peak_of_the_dead(self, death: Death) -> int:
        """Return the peak of the worker's memory in bytes.

        The kernel's figure includes the time before exec, when the worker was a copy of this process. Only a figure
        above the copy's memory is surely the worker's own. Otherwise the worker's own claim is closer, if it is lower.
        """
        if not self._peak or death.peak_memory > self._copied:
            return death.peak_memory
        return min(self._peak, death.peak_memory)
