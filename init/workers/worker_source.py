"""Start workers, each with an interpreter of its own (exec), inside the limits that the function has.

It must not know when a worker is wanted, or what it says. template.py starts workers in the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from pipe_runtime.wire.messages import HELLO

from ..kernel.death import Death
from ..kernel.host import Host
from ..limits.rlimits import OPEN_FILES
from ..model import Function
from . import launch
from .child import Child
from .hello import worker_hello
from .link import Link
from .observer import Observer


class TemplateBusy(OSError):
    """The template takes no further request for a worker now, and nothing is wrong with it: ask again soon."""


class WorkerSource:
    """Starts each worker as a program of its own. A subclass may fork workers from a template instead.

    Attributes:
        link: The conversation with the template; None while there is no template.
    """

    link: Link | None = None

    def __init__(
        self, function: Function, host: Host, early: launch.ProcessPipes | None = None, several: bool = False
    ) -> None:
        """Prepare to start workers.

        Args:
            function: What they serve.
            host: Takes charge of their processes, and waits for their pipes.
            early: A process that was started ahead with the function's command and environment.
            several: Whether several workers may be there at a time.

        Raises:
            LocalProtocolError: As worker_hello.
        """
        self._early = early
        self._function = function
        self._host = host
        self._several = several
        self._hello = worker_hello(function, several)

    @property
    def pid(self) -> int:
        """Return the pid of a child that is no worker yet, or that forks them; 0 if there is none."""
        return 0 if self._early is None else self._early.pid

    def start(self, observer: Observer) -> Link:
        """Start a worker and send it HELLO.

        Args:
            observer: Hears what the worker says.

        Raises:
            TemplateBusy: None can be started just now.
            OSError: No process, descriptor or memory is left.
        """
        function, (early, self._early) = self._function, (self._early, None)
        if early is not None:
            return self._connect(observer, lambda joins: early, self._hello)
        files = function.limits.open_files
        execute = partial(launch.start, function.command, function.environment, adopts=self._several, open_files=files)
        return self._connect(observer, execute, self._hello, but=(OPEN_FILES,))

    def hear_reports(self) -> None:
        """Learn the pids of the workers that were forked by now."""

    def check_new_children(self) -> None:
        """Give up workers that are not children of the init. Call it after all deaths were handled."""

    def bury(self, death: Death) -> None:
        """Let go of the child `pid`, which is dead and collected."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def lose(self) -> None:
        """Let go of a template that was killed and does not end."""

    def close(self) -> None:
        """End what was started and no worker needs."""
        if self._early is not None:
            self._early.dismiss()
            self._early = None

    def _connect(
        self,
        observer: Observer,
        start: Callable[[Sequence[int]], launch.ProcessPipes],
        hello: Mapping[str, Any],
        but: Collection[str] = (),
        for_template: bool = False,
        forker: Child | None = None,
    ) -> Link:
        """Start a process within the function's limits, and send it HELLO.

        Args:
            observer: Hears what it says.
            start: Start it, in the cgroups whose cgroup.procs files have these descriptors. If the init is its parent,
                the init holds it to the limits, and has its death noticed.
            hello: HELLO's metadata.
            but: The names of limits that are left out.
            for_template: As for Confinement.group.
            forker: As for Child.

        Raises:
            OSError: It cannot be started, or cannot be held to its limits. Then it has ended.
        """
        confinement, pipes = self._function.confinement, None
        group = confinement.group(for_template)
        try:
            pipes = start(() if group is None else group.join_descriptors)
            if pipes.pid:
                confinement.apply(pipes.pid, but)
                self._host.add(pipes.pid)
        except OSError:
            if pipes is not None:
                pipes.dismiss()  # no function may run beyond a limit that its user relies on
            confinement.release(group)
            raise
        link = Link(Child(pipes, confinement, group, forker), self._host.poller, observer)
        link.send(HELLO, metadata=hello)
        return link
