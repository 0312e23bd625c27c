"""Start workers by exec, each with its own interpreter, within the function's limits.

This module must not know when a worker is needed, or what a worker sends. template.py starts workers as forks of a
template instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pipe_runtime.wire.connection import STREAM_BYTES
from pipe_runtime.wire.frames import FrameWriter
from pipe_runtime.wire.messages import HELLO, VERSION

from ..kernel.host import Host
from ..kernel.reaper import Death
from ..kernel.shortage import describe
from ..limits.rlimits import OPEN_FILES
from ..model import REQUEST, TEMPLATE, Function, Metadata
from . import launch
from .child import Child
from .link import Link
from .observer import Observer


class TemplateBusy(OSError):
    """The template takes no more requests for workers at present. Ask again soon: it may be replaced by then."""


class WorkerSource:
    """Starts each worker by exec. A subclass may fork workers from a template instead.

    Attributes:
        link: The conversation with the template; None while there is no template.
    """

    link: Link | None = None

    def __init__(
        self, function: Function, host: Host, early: launch.ProcessPipes | None = None, several: bool = False
    ) -> None:
        """Prepare to start workers.

        Args:
            function: The function that the workers serve.
            host: Collects the workers' processes, and waits for their pipes.
            early: A process that was started early, with the function's command and environment; None for none.
            several: Whether several workers may exist at a time.

        Raises:
            LocalProtocolError: See worker_hello.
        """
        self._early = early
        self._function = function
        self._host = host
        self._several = several
        self._hello = worker_hello(function, several)

    @property
    def pid(self) -> int:
        """Return the pid of the source's own child: an unused early process, or a template; 0 if there is none."""
        return 0 if self._early is None else self._early.pid

    def start(self, observer: Observer) -> Link:
        """Start a worker and send it HELLO.

        Args:
            observer: Gets the reports about the worker.

        Raises:
            TemplateBusy: No worker can be started at present.
            OSError: No process, descriptor or memory is left.
        """
        function, (early, self._early) = self._function, (self._early, None)
        if early is not None:
            return self._connect(observer, lambda joins: early, self._hello)
        files = function.limits.open_files

        def execute(joins: Sequence[int]) -> launch.ProcessPipes:
            return launch.start(function.command, function.environment, joins, adopts=self._several, open_files=files)

        return self._connect(observer, execute, self._hello, without=(OPEN_FILES,))

    def hear_reports(self) -> None:
        """Read the template's reports, with the pids of the workers that it has forked."""

    def check_new_children(self) -> None:
        """Give up workers that are not children of the init. Call this after all deaths were handled."""

    def bury(self, death: Death) -> None:
        """Give up the source's own child, which is dead and collected."""
        if self._early is not None:
            self._early.close()
            self._early = None

    def lose(self) -> None:
        """Give up a template that was killed and does not end."""

    def close(self) -> None:
        """End a process that was started early but never used as a worker."""
        if self._early is not None:
            self._early.dismiss()
            self._early = None

    def _connect(
        self,
        observer: Observer,
        start: Callable[[Sequence[int]], launch.ProcessPipes],
        hello: Metadata,
        without: Collection[str] = (),
        for_template: bool = False,
        forker: Child | None = None,
    ) -> Link:
        """Start a process within the function's limits, and send it HELLO.

        Args:
            observer: Gets the reports about the process.
            start: Starts the process. The argument is a sequence of descriptors of cgroup.procs files, through which
                the process joins its cgroups. If the init is the parent, the init sets the limits, and watches for the
                process's death.
            hello: HELLO's metadata.
            without: The names of limits that are not set.
            for_template: See Confinement.group.
            forker: See Child.

        Raises:
            OSError: The process cannot be started, or its limits cannot be set. In both cases no process is left.
        """
        confinement, pipes, group = self._function.confinement, None, None
        try:
            group = confinement.group(for_template)
            pipes = start(() if group is None else group.join_descriptors)
            if pipes.pid:
                confinement.apply(pipes.pid, without)
                self._host.add(pipes.pid)
            link = Link(Child(pipes, confinement, group, forker), self._host.poller, observer)
        except OSError as error:
            error.strerror = describe(error)
            if pipes is not None:
                pipes.dismiss()  # a function must not run without a limit that its user has set
            confinement.release(group)
            raise
        link.send(HELLO, metadata=hello)
        return link


def worker_hello(function: Function, several: bool = False) -> Metadata:
    """Return the metadata of HELLO to a worker. docs/protocol.md says what each field means.

    Args:
        function: The function that the worker serves.
        several: Whether the function may have several workers at a time.

    Raises:
        LocalProtocolError: The function's configuration does not fit into a frame's head.
    """
    hello: dict[str, object] = {
        "versions": [VERSION],
        "software": "pipe-init",
        "dump_fd": launch.DUMP_FD,
        "dump_signal": int(launch.DUMP_SIGNAL),
        "spin_us": function.spin_us,
        "stream_bytes": STREAM_BYTES,
        **function.hello,
    }
    if function.start_method == TEMPLATE:
        hello.update(function.confinement.per_process())
        if several:
            hello["adopts_orphans"] = True  # so that the init can tell which worker has left an orphan
    if function.isolation == REQUEST:
        hello["rehearse"] = True
    FrameWriter().encode(HELLO, 0, hello, b"")
    return hello
