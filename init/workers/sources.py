"""Where workers come from: an interpreter of their own (exec), or a fork of a process that has loaded the handler.

It starts processes and hears what the template says; what a worker says is its lane's business, and when one is to be
started or ended is the policy's.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Collection, Mapping
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Protocol

from pipe_runtime.wire.connection import STREAM_BYTES
from pipe_runtime.wire.errors import ProtocolError, TruncatedStream
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import ERROR, HELLO, LOG, READY, VERSION

from ..engine.dispatch import lanes_for
from ..kernel import procfs, reaper
from ..kernel.children import Children
from ..kernel.death import Death
from ..kernel.poller import Poller
from ..limits.confinement import PER_PROCESS, Confinement
from ..limits.rlimits import OPEN_FILES
from ..log.journal import Journal
from ..model import AFTER_FORK, BEFORE_FORK, REQUEST, TEMPLATE, WHILE_LOADING, Function
from . import launch
from .link import READ_ROUND, Worker

if TYPE_CHECKING:
    from ..engine.lane import Lane
    from ..limits.cgroup import Group
    from .template_socket import Template

TEMPLATE_SOURCE = -1
"""Of the template's lines, for the journal; lanes count from 0."""

WORDS = 200
"""Characters of a template's last words that are passed on, at most."""

NO_SOCKETS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""Of socketpair(2): that there are none here."""


class Behind(Exception):
    """No worker can be asked for just now, through nobody's fault: ask again soon."""


class Starter(Protocol):
    """What a lane wants of it. hello: what is to be said to each worker."""

    hello: Mapping[str, Any]

    def start(self, lane: Lane) -> Worker:
        """A new worker; its pid may become known later. OSError: there is none to be had now. Behind: see there."""

    def is_ready(self, worker: Worker) -> None:
        """The worker has said that it is."""

    def release(self, worker: Worker) -> None:
        """The worker is gone, and with it what it had of its own."""

    def stage(self, worker: Worker) -> str:
        """Return the stage (model.WHILE_LOADING and so on) of a worker that is not ready yet."""

    def ask_for_stacks(self) -> bool:
        """Of what is to fork a worker that is not there yet. False: it cannot tell."""

    def signal(self, number: int) -> None:
        """To what is to fork a worker that is not there yet."""


def hello_of(function: Function) -> dict[str, Any]:
    """HELLO's metadata for a worker of this function."""
    hello: dict[str, Any] = {
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
        if lanes_for(function) > 1:
            hello["adopts_orphans"] = True  # several workers may be there at a time: so they can be told apart
    if function.isolation == REQUEST:
        hello["rehearse"] = True
    return hello


class Exec:
    """Starts each worker as a program of its own. early: one that was started ahead, with just this command."""

    def __init__(self, function: Function, children: Children, early: launch.Process | None) -> None:
        self.hello: Mapping[str, Any] = hello_of(function)
        self.early = early
        self._children = children
        self._function = function

    def start(self, lane: Lane) -> Worker:
        """As Starter.start; the pid is known."""
        function, (process, self.early) = self._function, (self.early, None)
        confinement = function.confinement
        group = confinement.group()
        try:
            joins = () if group is None else group.join_descriptors
            already = () if process is not None else (OPEN_FILES,)
            if process is None:
                process = launch.start(
                    function.command,
                    function.environment,
                    joins=joins,
                    adopts=lanes_for(function) > 1,  # as in HELLO
                    open_files=confinement.limits.open_files,
                )
            limit(process, confinement, group, already)
            watch(process, self._children)
        except OSError:
            confinement.release(group)
            raise
        return Worker(process, group)

    def is_ready(self, worker: Worker) -> None:
        """It was limited before it was a worker."""

    def release(self, worker: Worker) -> None:
        """As Starter.release."""
        self._function.confinement.release(worker.group)

    def stage(self, worker: Worker) -> str:
        """As Starter.stage."""
        return WHILE_LOADING

    def ask_for_stacks(self) -> bool:
        """Nothing else forks its workers."""
        return False

    def signal(self, number: int) -> None:
        """Nothing else forks its workers."""


class FromTemplate:
    """Forks workers from a template, and starts a new one where it is gone. Where there can be none, as Exec."""

    def __init__(self, function: Function, children: Children, poller: Poller, journal: Journal) -> None:
        self.hello: Mapping[str, Any] = hello_of(function)
        self._function = function
        self._children = children
        self._poller = poller
        self._journal = journal
        self._template: Template | None = None
        self._worker: Worker | None = None  # the conversation with it
        self._instead: Exec | None = None
        self._expected: dict[int, tuple[Lane, Worker]] = {}  # by ticket: those that are not our children yet
        self._last_ticket = 0
        self._can_dump = False
        self._is_loaded = False
        self._is_heard = False  # what it says counts: it has not broken the protocol
        self._is_closed = False  # its socket
        self._violation = ""
        self._farewell = ""
        self._fallen: list[tuple[Lane, Worker]] = []  # to us, the template says

    @property
    def pid(self) -> int:
        """The template's, 0 if there is none."""
        return 0 if self._worker is None else self._worker.pid

    def start(self, lane: Lane) -> Worker:
        """As Starter.start; the pid becomes known when the template has reported it."""
        template = self._template or self._start_template()
        if template is None:
            assert self._instead is not None
            return self._instead.start(lane)
        ticket = self._last_ticket = self._last_ticket + 1
        group = self._function.confinement.group()
        try:
            try:
                process = template.fork(ticket, () if group is None else group.join_descriptors)
            except ConnectionError:  # it is dying; how it died says why there is no worker
                process = launch.make_pipes(True).process(0)
        except BlockingIOError:
            self._function.confinement.release(group)
            raise Behind from None
        except OSError:
            self._function.confinement.release(group)
            raise
        worker = Worker(process, group)
        self._expected[ticket] = lane, worker
        return worker

    def is_ready(self, worker: Worker) -> None:
        """As Starter.is_ready."""
        self._limit(worker)

    def release(self, worker: Worker) -> None:
        """As Starter.release."""
        self._function.confinement.release(worker.group)

    def stage(self, worker: Worker) -> str:
        """As Starter.stage."""
        if self._instead is not None or not self._is_loaded:
            return WHILE_LOADING
        return AFTER_FORK if worker.pid else BEFORE_FORK

    def forget(self, pid: int) -> None:
        """A child of ours was collected: the kernel may give its pid to another worker."""
        if self._template is not None:
            self._template.forget(pid)

    def ask_for_stacks(self) -> bool:
        """Of the template. False: it cannot tell."""
        if self._worker is None or not self._can_dump:
            return False
        self._worker.ask_for_stacks(launch.DUMP_SIGNAL)
        return True

    def signal(self, number: int) -> None:
        """To the template's group."""
        if self._worker is not None:
            self._worker.signal(number)

    def handle(self, ready: Mapping[int, int]) -> None:
        """Deal with what is ready of the template's descriptors."""
        worker, template = self._worker, self._template
        if worker is None or template is None:
            return
        process = worker.process
        if process.log in ready:
            self._read_log(worker)
        if process.answers in ready:
            self._read_answers(worker, READ_ROUND)
        if process.dump in ready:
            self._read_dump(worker)
        if process.requests in ready:
            worker.flush()
            self._watch_writing(worker)
        if template.control in ready:
            self.hear_reports()
            self.look_for_unseen()

    def hear_reports(self) -> None:
        """Learn the pids of the workers that were forked by now."""
        if self._template is None or self._worker is None or not self._is_heard:
            return
        try:
            reports = self._template.reports()
        except ProtocolError as error:
            self._break_off(self._worker, str(error))
            return
        if self._template.ended and not self._is_closed:  # nobody will be reported any more, should it live on
            self._is_closed = True
            self._poller.remove(self._template.control)
            if not procfs.is_ending(self._worker.pid):
                self._violation = "the template closed its control socket; does the function close all descriptors?"
                self._kill(self._worker)
        for report in reports:
            lane, worker = self._expected[report.ticket] if report.pid else self._expected.pop(report.ticket)
            if report.ours:
                del self._expected[report.ticket]
            if not lane.expects(worker):
                continue  # who collects it tells us (forget)
            if report.ours:
                self._fallen.append((lane, worker))
                if not lane.policy.loading:
                    self._limit(worker)
            elif report.pid:
                worker.process.pid = report.pid
            else:
                lane.unborn(None, start_error=OSError(report.errno, os.strerror(report.errno)))

    def look_for_unseen(self) -> None:
        """Give up workers that are not our children although the template says so: we could not see them end.

        Call it after all collected children were handled.
        """
        fallen, self._fallen = self._fallen, []
        for lane, worker in fallen:
            if lane.expects(worker) and not reaper.is_own_child(worker.pid):
                lane.unseen()

    def bury(self, death: Death) -> None:
        """The template is dead and collected; its workers live on. Those that it was to fork will not be."""
        worker = self._worker
        assert worker is not None, "only a template that is there can die"
        self._read_log(worker)
        self._read_dump(worker)
        self._read_answers(worker, READ_ROUND)
        self.hear_reports()
        exec_error = worker.process.exec_error()
        # It may have ended by itself before we could kill it for that.
        violation = self._violation if death.signal == SIGKILL else ""
        self._let_go()
        expected, self._expected = list(self._expected.values()), {}
        for lane, expected_worker in expected:
            if lane.expects(expected_worker) and not expected_worker.pid:
                lane.unborn(death, exec_error=exec_error, violation=violation, farewell=self._farewell)

    def stop(self) -> None:
        """No worker will be wanted any more: have the template end by itself."""
        if self._worker is not None:
            self._poller.remove(self._worker.process.requests)
            self._worker.end_input()

    def lose(self) -> None:
        """The template was killed and does not end: nobody is to wait for it."""
        self._journal.tell(f"pipe-init: the template (pid {self.pid}) was killed and does not end; going on without it")
        self._let_go()

    def _start_template(self) -> Template | None:
        """None: there can be none here, and `_instead` does it."""
        from .template_socket import HELLO as TEMPLATE_HELLO  # most runs need not load it
        from .template_socket import Template

        if self._instead is not None:
            return None
        function = self._function
        group = function.confinement.group(for_template=True)
        try:
            joins = () if group is None else group.join_descriptors
            template = Template.start(function.command, function.environment, joins)
        except OSError as error:
            function.confinement.release(group)
            if error.errno not in NO_SOCKETS:
                raise
            self._journal.tell(
                f"pipe-init: a template cannot be started here ({error.strerror}); workers start by exec"
            )
            self._instead = Exec(function, self._children, None)
            return None
        try:
            limit(template.process, function.confinement, group, PER_PROCESS)
        except OSError:
            template.close()
            function.confinement.release(group)
            raise
        self._template, self._is_heard = template, True
        self._can_dump = self._is_loaded = self._is_closed = False
        self._violation = self._farewell = ""
        self._worker = worker = Worker(template.process, group)
        for descriptor in (template.process.answers, template.process.log, template.process.dump, template.control):
            self._poller.add(descriptor, owner=self)
        worker.send(HELLO, metadata={**self.hello, **TEMPLATE_HELLO})
        self._watch_writing(worker)
        return template

    def _waiting(self) -> list[Lane]:
        """Lanes whose workers are not forked yet."""
        return [lane for lane, worker in self._expected.values() if lane.expects(worker) and not worker.pid]

    def _limit(self, worker: Worker) -> None:
        """Of a worker that is ready, and a child of ours, unless the template lies: what it has not inherited.

        Our runtime has done so itself by then, as HELLO says; this is for what the function has made of that. Earlier
        it would take from a worker what it needs to become one.
        """
        confinement = self._function.confinement
        if confinement.per_process() and worker.pid and reaper.is_own_child(worker.pid):
            try:
                confinement.apply_per_process(worker.pid)
            except OSError:
                worker.signal(SIGKILL)  # no function runs beyond a limit that somebody relies on

    def _let_go(self) -> None:
        self._poller.forget(self)
        self._journal.all_over((), TEMPLATE_SOURCE)
        if self._template is not None and self._worker is not None:
            self._template.close()
            self._worker.close()
            self._function.confinement.release(self._worker.group)
        self._template = self._worker = None

    def _watch_writing(self, worker: Worker) -> None:
        if worker.wants_to_write:
            self._poller.add(worker.process.requests, select.POLLOUT, owner=self)
        else:
            self._poller.remove(worker.process.requests)

    # What it says

    def _read_log(self, worker: Worker) -> None:
        data = worker.read_log()
        if data:
            self._journal.raw(data, 0, TEMPLATE_SOURCE)
        elif data == b"":
            self._poller.remove(worker.process.log)

    def _read_dump(self, worker: Worker) -> None:
        came = worker.read_dump()
        if came:
            for lane in self._waiting():
                lane.dumped(bytes(worker.dump))
        elif came is False:
            self._poller.remove(worker.process.dump)

    def _read_answers(self, worker: Worker, limit: int) -> None:
        if not self._is_heard:
            return
        try:
            for event in worker.events(limit):
                if isinstance(event, Frame):
                    self._take(event)
        except TruncatedStream:
            self._poller.remove(worker.process.answers)  # killed while it wrote, most likely: wait for that
        except ProtocolError as error:
            self._break_off(worker, str(error))
        if worker.ended:
            self._poller.remove(worker.process.answers)

    def _take(self, frame: Frame) -> None:
        if frame.kind == HELLO:
            self._can_dump = "dump-signal" in frame.metadata.get("capabilities", ())
        elif frame.kind == LOG:
            metadata = frame.metadata
            self._journal.from_function(frame.payload, metadata["stream"], metadata.get("continues", False), 0)
        elif frame.kind == READY:
            self._is_loaded = True
        elif frame.kind == ERROR and self._is_loaded:
            why = ascii(frame.metadata["error_message"][:WORDS])[1:-1]
            self._farewell = why
            self._journal.tell(f"pipe-init: the template (pid {self.pid}) ends: {why}")
        elif frame.kind == ERROR:
            for lane in self._waiting():
                lane.not_loaded(frame.metadata)

    def _break_off(self, worker: Worker, why: str) -> None:
        """The template broke the protocol: nothing that it says counts any more."""
        self._is_heard = False
        self._violation = why
        self._journal.tell(f"pipe-init: the template (pid {worker.pid}) broke the protocol and is replaced: {why}")
        self._poller.forget(self)
        self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        """The template; it may be dead and collected already."""
        if reaper.is_own_child(worker.pid):
            worker.signal(SIGKILL)


def limit(process: launch.Process, confinement: Confinement, group: Group | None, but: Collection[str]) -> None:
    """Hold a new process to its limits, except to those in `but`. OSError: it cannot be done; the process is ended."""
    try:
        confinement.apply(process.pid, group, but)
    except OSError:
        process.dismiss()  # no function runs beyond a limit that somebody relies on
        raise


def watch(process: launch.Process, children: Children) -> None:
    """Have a new process's death noticed. OSError: it cannot be, and the process is gone."""
    try:
        children.add(process.pid)
    except OSError:
        process.dismiss()
        raise
