"""Start workers, each with an interpreter of its own (exec), inside the limits that the function has.

It must not know when a worker is wanted, or what it says. template.py starts workers in the other way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipe_runtime.wire.messages import HELLO

from ..kernel.death import Death
from ..kernel.host import Host
from ..limits.confinement import Confinement
from ..limits.rlimits import OPEN_FILES
from ..model import Function
from . import launch
from .child import Child
from .hello import worker_hello
from .link import Link
from .observer import WorkerObserver

if TYPE_CHECKING:
    from ..limits.cgroup import Group


class TemplateBusy(OSError):
    """The template takes no further request for a worker now, and nothing is wrong with it: ask again soon."""


class WorkerSource:
    """Where workers come from. A subclass that forks them from a process of its own answers for that, too.

    Attributes:
        link: The conversation with the template that forks workers; None while there is no template.
    """

    link: Link | None = None

    @property
    def pid(self) -> int:
        """Return the pid of a child that is no worker yet, or that forks them; 0 if there is none."""
        return 0

    def start(self, observer: WorkerObserver) -> Link:
        """Start a worker and send it HELLO.

        Args:
            observer: Hears what the worker says.

        Raises:
            TemplateBusy: None can be started just now.
            OSError: No process, descriptor or memory is left.
        """
        raise NotImplementedError

    def hear_reports(self) -> None:
        """Learn the pids of the workers that were forked by now."""

    def check_new_children(self) -> None:
        """Give up workers that are not children of the init. Call it after all deaths were handled."""

    def bury(self, death: Death) -> None:
        """Let go of the child `pid`, which is dead and collected."""

    def lose(self) -> None:
        """Let go of a template that was killed and does not end."""

    def close(self) -> None:
        """End what was started and no worker needs."""


class ExecSource(WorkerSource):
    """Starts each worker as a program of its own."""

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
        """Return the pid of the process that was started ahead; 0 once it is a worker, or if there was none."""
        return 0 if self._early is None else self._early.pid

    def start(self, observer: WorkerObserver) -> Link:
        """Start a worker, as WorkerSource.start. Its pid is known."""
        function, (process, self._early) = self._function, (self._early, None)
        confinement = function.confinement
        with new_group(confinement) as group:
            already = () if process is not None else (OPEN_FILES,)
            if process is None:
                process = launch.start(
                    function.command,
                    function.environment,
                    joins=() if group is None else group.join_descriptors,
                    adopts=self._several,
                    open_files=confinement.limits.open_files,
                )
            take_charge(process, self._host, confinement, group, already)
        link = Link(Child(process, confinement, group), self._host.poller, observer)
        link.send(HELLO, metadata=self._hello)
        return link

    def bury(self, death: Death) -> None:
        """Let go of the process that was started ahead, which is dead and collected."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def close(self) -> None:
        """End the process that was started ahead, if no worker came of it."""
        if self._early is not None:
            self._early.dismiss()
            self._early = None


@contextmanager
def new_group(confinement: Confinement, for_template: bool = False) -> Iterator[Group | None]:
    """Make a cgroup for one more process, if the function's processes have any. Remove it if the block fails.

    Args:
        confinement: The function's limits.
        for_template: As for Confinement.group.

    Raises:
        OSError: No cgroup can be made now.
    """
    group = confinement.group(for_template)
    try:
        yield group
    except OSError:
        confinement.release(group)
        raise


def take_charge(
    process: launch.ProcessPipes, host: Host, confinement: Confinement, group: Group | None, but: Collection[str]
) -> None:
    """Hold a new process to its limits, and have its death noticed. If that is impossible, end the process.

    Args:
        process: The process.
        host: Takes charge of it.
        confinement: Its limits.
        group: Its cgroup, if it has one.
        but: The names of limits that are left out.

    Raises:
        OSError: It is impossible.
    """
    try:
        confinement.apply(process.pid, group, but)
        host.add(process.pid)
    except OSError:
        process.dismiss()  # no function may run beyond a limit that its user relies on
        raise
