"""Collect the dead children of one function, kill the processes that they left behind, and end the template.

The processes that a dead worker has left behind must not disturb the lane's next request. So the lane waits until they
are gone. This module must not know requests, or how workers are started.
"""

from __future__ import annotations

import time
from _signal import SIGKILL
from collections import deque
from collections.abc import Callable, Sequence

from ..kernel.host import Host
from ..kernel.reaper import Death
from ..log.journal import Journal
from ..model import Settings
from ..policy.actions import Action, Lose, Signal, Sweep
from ..policy.ladder import Ladder, Phase
from ..workers.child import Child
from ..workers.worker_source import WorkerSource
from .lane import Lane

SWEEP_SECONDS = 1.0
"""The longest time that a lane waits for the end of the processes that its worker has left behind."""


class TemplateKeeper(Ladder):
    """Ends the template after the last worker has ended and no new one is needed.

    Before that, a worker's policy ends a template that hangs while it forks the worker.
    """

    def __init__(self, source: WorkerSource, settings: Settings, free: Callable[[Child], object]) -> None:
        """Make a keeper for the source's template, which need not exist yet.

        Args:
            source: Starts workers. It may also start a template, which forks them.
            settings: The settings of the function's workers.
            free: Kills the processes that keep a killed template from ending.
        """
        super().__init__(settings)
        self._source = source
        self._free = free

    def finish(self, at_once: bool) -> None:
        """Make the template end. Call this in each step as soon as no worker is needed any more.

        Args:
            at_once: Whether to kill the template instead of waiting for its end.
        """
        link, now = self._source.link, time.monotonic()
        if link is None:
            return
        if self.phase is Phase.NONE:
            link.end_input()  # at the end of its input, a template ends without SIGTERM
            self.enter(Phase.TERMINATING, now + self.settings.grace)
        if at_once and self.phase is Phase.TERMINATING:
            self._perform(self.kill(now))

    def tick(self, now: float) -> None:
        """Perform the actions that are due at this time."""
        if self.deadline is not None and now >= self.deadline:
            self._perform(self.climb(now))

    def bury(self, death: Death) -> None:
        """Record the death of the source's own child, and close its pipes."""
        self._source.bury(death)
        self.enter(Phase.NONE)

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            link = self._source.link
            assert link is not None, "only an existing template is ended"
            if isinstance(action, Signal):
                link.child.signal(action.number)
            elif isinstance(action, Sweep):
                self._free(link.child)
            elif isinstance(action, Lose):
                self._source.lose()
                self.enter(Phase.NONE)


class Collector:
    """Collect the dead processes of one function.

    Attributes:
        keeper: Ends the source's template.
        waiting: The lanes that wait, each with the time when its wait ends at the latest.
    """

    def __init__(
        self,
        host: Host,
        source: WorkerSource,
        lanes: Sequence[Lane],
        journal: Journal,
        settings: Settings,
        is_alone: bool,
    ) -> None:
        """Prepare to collect.

        Args:
            host: The engine's access to the process that it runs in.
            source: Starts the workers.
            lanes: The function's lanes. Each has a worker, or none.
            journal: The init's log.
            settings: The settings of the function's workers.
            is_alone: Whether there is never more than one worker, and no template. Then the worker has left behind
                every other child.
        """
        self.keeper = TemplateKeeper(source, settings, self.free)
        self._host = host
        self._source = source
        self._lanes = lanes
        self._journal = journal
        self._is_alone = is_alone
        self.waiting: deque[tuple[Lane, float]] = deque()

    @property
    def deadline(self) -> float | None:
        """Return when `resume` is due at the latest; None if no lane waits."""
        return self.waiting[0][1] if self.waiting else None

    def collect(self) -> None:
        """Collect the children that are dead. Call this after each wake-up, and call `resume` after it."""
        self._source.hear_reports()  # a dead child may be a worker that the template has just forked
        reaped = self._host.collect(self._known())
        if reaped.more:
            self._host.wakeup.wake()
        for death in reaped.deaths:
            self._bury(death)
        self._source.check_new_children()

    def resume(self, now: float) -> None:
        """Let a waiting lane go on if its worker's processes are gone, or if the lane has waited long enough."""
        is_left = bool(self.waiting) and self._sweep()
        while self.waiting and (not is_left or now >= self.waiting[0][1]):
            self.waiting.popleft()[0].died()

    def free(self, child: Child) -> None:
        """Kill processes that may keep a killed child from ending, such as a tracer that a worker has left behind."""
        self._sweep()
        if child.is_own():
            child.signal(SIGKILL)  # once more, because a forked worker may only now be a child of the init
            self._host.sweep_below(child.pid)

    def end_all(self) -> None:
        """Kill and collect all remaining children. Call this only when no worker is left."""
        if not self._host.end_all():
            self._journal.tell("pipe-init: processes that the function left behind do not end")

    def _bury(self, death: Death) -> None:
        """Record the death of a worker or of the source's own child.

        Ignore any other dead child, because a worker has left it behind.
        """
        self._source.hear_reports()
        if death.pid == self._source.pid:
            self.keeper.bury(death)
            if len(self._lanes) > 1:  # otherwise the single worker may still use its orphans
                self._sweep()
            return
        for lane in self._lanes:
            if lane.pid == death.pid:
                lane.bury(death)
                if self._is_alone:
                    self.end_all()
                self.waiting.append((lane, time.monotonic() + (0.0 if self._is_alone else SWEEP_SECONDS)))
                return

    def _sweep(self) -> bool:
        """Kill the processes that dead workers have left behind. Return whether there were any.

        If a function has several workers, a living worker's orphans are the worker's own children. So this kills no
        process of a living worker.
        """
        return self._host.sweep(self._known_now, self._is_alone)

    def _known_now(self) -> set[int]:
        self._source.hear_reports()  # learn the pid of a worker that the template has just forked
        return self._known()

    def _known(self) -> set[int]:
        """Return the known pids of the workers and of the source's own child."""
        return {self._source.pid, *(lane.pid for lane in self._lanes)} - {0}
