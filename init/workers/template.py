"""Start workers as forks of a template, a process that has loaded the function. Replace a template that has died.

If the system allows no template, start each worker by exec. This module must not know when a worker is needed, or what
a worker sends. template_socket.py decodes the template's reports of forks. This module handles the template's frames.
"""

from __future__ import annotations

import os
from _signal import SIGKILL
from collections.abc import Sequence

from pipe_runtime.wire.errors import ProtocolError
from pipe_runtime.wire.frames import Frame

from ..kernel import procfs
from ..kernel.host import Host
from ..kernel.reaper import Death
from ..limits.confinement import PER_PROCESS
from ..log.journal import Journal
from ..model import Function, Metadata, WorkerEnd
from .child import Child
from .launch import CONTROL_FD, ProcessPipes
from .link import Link
from .observer import Observer
from .template_socket import SocketsForbidden, TemplateSocket
from .worker_source import TemplateBusy, WorkerSource

JOURNAL_SOURCE = -1
"""The source number under which the journal gets the template's raw lines. Lanes have the numbers from 0 on."""

FAREWELL = 200
"""The most characters to keep of the message with which a template ends."""


class TemplateSource(WorkerSource, Observer):
    """Let a template fork workers, and start the template when it is needed."""

    def __init__(self, function: Function, host: Host, journal: Journal, several: bool) -> None:
        """Prepare to start a template. It is started when the first worker is needed.

        Args:
            function: The function that the workers serve.
            host: Collects the template's process, and waits for pipes and for the control socket.
            journal: The init's log.
            several: Whether several workers may exist at a time.

        Raises:
            LocalProtocolError: See worker_hello.
        """
        super().__init__(function, host, several=several)
        self._journal = journal
        self._socket: TemplateSocket | None = None
        self._is_forbidden = False  # whether the system allows no template
        self._last_ticket = 0
        self._expected: dict[int, tuple[Observer, Link]] = {}  # workers by ticket, until they are children of the init
        self._forked: list[Child] = []  # workers whose pid was reported and that have not ended
        self._new_children: list[tuple[Observer, Child]] = []  # children of the init, if the template's report is true
        self._is_heard = False  # whether the init still reads the template's reports

    @property
    def pid(self) -> int:
        """Return the template's pid; 0 if there is no template."""
        return 0 if self.link is None else self.link.child.pid

    # Workers

    def start(self, observer: Observer) -> Link:
        """Ask the template for a worker (see WorkerSource.start). The template's report will give the worker's pid."""
        if self._socket is None and not self._is_forbidden:
            self._start_template()
        socket = self._socket
        if socket is None or self.link is None:
            return super().start(observer)
        if violation := self.link.child.end.violation:
            if self._is_heard:  # after a false report, kill the template only now: its workers have left its group
                self.violated(violation)
            raise TemplateBusy
        ticket = self._last_ticket = self._last_ticket + 1
        link = self._connect(observer, lambda joins: socket.fork(ticket, joins), self._hello, forker=self.link.child)
        self._expected[ticket] = observer, link
        return link

    def hear_reports(self) -> None:
        """Read the template's reports, with the pids of the workers that it has forked."""
        template = self.link
        if self._socket is None or template is None or not self._is_heard:
            return
        try:
            reports = self._socket.reports()
        except ProtocolError as error:
            self.violated(str(error))
            return
        if self._socket.ended:  # the template will report no more workers
            self._stop_hearing()
            if not procfs.is_ending(self.pid):  # log nothing: without /proc, it may have ended as usual
                why = "the template closed its control socket; does the function close all descriptors?"
                template.child.end.violation = why
                template.child.signal(SIGKILL)
        for report in reports:
            observer, link = self._expected[report.ticket]
            child = link.child
            if report.ours or not report.pid:
                del self._expected[report.ticket]
            if child.pipes.closed:
                continue  # the lane has given up the worker meanwhile, and the kernel has killed its process
            if report.ours:
                self._new_children.append((observer, child))
                child.limit()
            elif report.pid:
                self._forked = [other for other in self._forked if not other.pipes.closed]
                if report.pid == self.pid or any(report.pid == other.pid for other in self._forked):
                    why = f"a report of a worker whose pid {report.pid} is another process's"
                    template.child.end.violation = why
                    observer.lost(WorkerEnd(violation=why))
                    continue
                child.pipes.pid = report.pid
                self._forked.append(child)
                link.flush()
            else:
                observer.lost(WorkerEnd(start_error=OSError(report.errno, os.strerror(report.errno))))

    def check_new_children(self) -> None:
        """Give up workers that the template has falsely reported as children of the init.

        Call this after the deaths of all collected children were handled.
        """
        children, self._new_children = self._new_children, []
        for observer, child in children:
            if not child.pipes.closed and not child.is_own():
                observer.lost(None)

    def _not_forked(self) -> list[tuple[Observer, Child]]:
        """Return the workers that the template has not forked yet."""
        expected = ((observer, link.child) for observer, link in self._expected.values())
        return [(observer, child) for observer, child in expected if not child.pipes.closed and not child.pid]

    # Start and end of the template

    def _start_template(self) -> None:
        """Start a template. If the system forbids that, start workers by exec from now on."""
        hello = {**self._hello, "template": {"control_fd": CONTROL_FD}}
        try:
            self.link = self._connect(self, self._open_socket, hello, without=PER_PROCESS, for_template=True)
        except SocketsForbidden as error:
            self._journal.tell(f"pipe-init: no template can be started here ({error.strerror}); workers start by exec")
            self._is_forbidden = True
        except OSError:
            self._let_go()
            raise

    def _open_socket(self, joins: Sequence[int]) -> ProcessPipes:
        socket = self._socket = TemplateSocket(self._function.command, self._function.environment, joins)
        self._is_heard = True
        self._host.poller.add(socket.control, self._hear)
        return socket.pipes

    def _hear(self) -> None:
        self.hear_reports()
        self.check_new_children()

    def bury(self, death: Death) -> None:
        """Record the death of the template, which is collected, and give up the workers that it has not forked.

        The workers that it has forked live on.
        """
        link = self.link
        assert link is not None, "only an existing template can die"
        link.child.bury(death)
        link.read_last_words()
        self.hear_reports()
        if death.signal != SIGKILL:
            link.child.end.violation = ""  # the template ended before the init could kill it for a violation
        self._let_go()
        expected = self._not_forked()
        self._expected.clear()
        for observer, _ in expected:
            observer.lost(link.child.end)

    def lose(self) -> None:
        """Give up a template that was killed and does not end."""
        self._journal.tell(f"pipe-init: the template (pid {self.pid}) was killed and does not end; going on without it")
        self._let_go()

    def _let_go(self) -> None:
        self._stop_hearing()
        self._journal.all_over((), JOURNAL_SOURCE)
        if self._socket is not None:
            self._socket.close()
        if self.link is not None:
            self.link.close()
        self._socket = self.link = None

    def _stop_hearing(self) -> None:
        self._is_heard = False
        if self._socket is not None:
            self._host.poller.remove(self._socket.control)

    # Frames of the template

    def raw_lines(self, data: bytes) -> None:
        """Pass lines that came without frames on to the log."""
        self._journal.raw(data, 0, JOURNAL_SOURCE)

    def lines(self, frame: Frame) -> None:
        """Pass lines on to the log."""
        metadata = frame.metadata
        self._journal.from_function(frame.payload, metadata["stream"], metadata.get("continues", False), 0)

    def dumped(self) -> None:
        """Copy the template's stacks to the workers that it has not forked yet, to show where it hangs."""
        assert self.link is not None
        for observer, child in self._not_forked():
            child.end.dump[:] = self.link.child.end.dump
            observer.dumped()

    def last_word(self, metadata: Metadata) -> None:
        """Log why the template ends. If it could not load the function, report that for the waiting workers instead."""
        assert self.link is not None
        child = self.link.child
        if child.is_ready:
            child.end.farewell = ascii(metadata["error_message"][:FAREWELL])[1:-1]
            self._journal.tell(f"pipe-init: the template (pid {self.pid}) ends: {child.end.farewell}")
            return
        for observer, _ in self._not_forked():
            observer.last_word(metadata)

    def violated(self, why: str) -> None:
        """Kill the template, and ignore everything that it sends from now on."""
        assert self.link is not None
        self.link.child.end.violation = why
        self._journal.tell(f"pipe-init: the template (pid {self.pid}) broke the protocol and is replaced: {why}")
        self._stop_hearing()
        self.link.ignore()
        self.link.child.signal(SIGKILL)
