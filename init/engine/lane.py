"""Connect one policy with one worker: perform the policy's actions, and report the worker's events to the policy.

A lane has at most one worker at a time, and replaces a worker that has ended. open_requests.py keeps the lane's
requests and writes its log lines. This module must not know the other lanes, how dead processes are collected, or the
command line. It decodes no payload.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pipe_runtime.wire.connection import BASE_WINDOW_BYTES, BASE_WINDOW_REQUESTS
from pipe_runtime.wire.errors import LocalProtocolError
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CANCEL, INVOKE, MEASURED, RESULT

from ..kernel.reaper import Death
from ..log.journal import EMPTY, FULL
from ..log.request_lines import INITIALIZE, PRE_STOP
from ..model import Metadata, Outcome, Request, WorkerEnd
from ..policy.actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from ..policy.ladder import Phase
from ..policy.policy import Policy
from ..policy.stackdump import stacks_by_request
from ..policy.tickets import Ticket
from ..workers.child import Child
from ..workers.link import Link
from ..workers.observer import Observer
from ..workers.worker_source import TemplateBusy, WorkerSource
from .open_requests import NEWEST_SHARE, UNKNOWN, OpenRequests


class Lane(Observer):
    """Run one function's requests on a worker, and replace the worker when it ends.

    Attributes:
        function: The function that the workers serve.
        policy: Decides what to do with the worker and the requests.
        link: The conversation with the worker; None while there is no worker.
        requests: The requests that have no outcome yet, by id.
        busy_us: The average time of a request, in microseconds. Recent requests count more.
        end: What is known of the end of the present worker, or of the last worker if there is none now.
    """

    def __init__(self, open: OpenRequests, source: WorkerSource, free: Callable[[Child], object]) -> None:
        """Make a lane without a worker. `free` kills the processes that keep a killed worker from ending."""
        self.function = function = open.function
        self.policy = Policy(function.settings, function.concurrency)
        self.link: Link | None = None
        self._source = source
        self._streams = open.streams
        self._free = free
        self.busy_us = UNKNOWN
        self.end = WorkerEnd()
        self._open = open
        self.requests = open.requests
        self._actions: deque[Action] = deque()
        self._performing = False
        self._limits = function.limits
        self.policy.limit = function.concurrency

    # Methods for the supervisor

    @property
    def pid(self) -> int:
        """Return the worker's pid; 0 if there is no worker, or its pid is not known yet."""
        return 0 if self.link is None else self.link.child.pid

    def tell(self, event: Callable[[float], list[Action]]) -> None:
        """Call one of the policy's methods with the present time, and perform the actions that it returns."""
        self._perform(event(time.monotonic()))

    def submit(self, id: int, request: Request) -> None:
        """Take a request. Its id must be higher than the ids of all earlier requests.

        Raises:
            ValueError: The lane takes no more requests.
        """
        ticket, now = Ticket(id, request.timeout, len(request.payload)), time.monotonic()
        if self.link is not None and self.policy.submit_if_idle(ticket, now):
            self.requests[id] = request
            self._send(self.link, id)
            if self._open.request_lines.silent and not self._open.unsendable:
                self._open.begun[id] = now
            else:
                self._begin(id, now)
        else:
            actions = self.policy.submit(ticket, now)
            self.requests[id] = request
            self._perform(actions)

    def pace(self, level: int) -> None:
        """Send requests only as fast as the log is read: one at a time while lines wait, none while its buffer is full.

        A worker begins every request that it has received, even if log lines have begun to wait. So the lane sends few
        requests at first, and more after each outcome while no lines wait. `level` is the journal's level.
        """
        limit = 0 if level == FULL else 1
        self._perform(self.policy.pace(limit, time.monotonic(), grows=level == EMPTY))

    # The end of a worker

    def bury(self, death: Death) -> None:
        """Read what a dead, collected worker has left in its pipes, and close the pipes. Call `died` next."""
        assert self.link is not None, "only an existing worker can die"
        self.link.child.bury(death)
        self._let_go(self.link)

    def died(self) -> None:
        """Go on after a worker's death. Call this when the processes that the worker left behind are dead, too."""
        self.tell(self.policy.exec_failed if self.end.exec_error else self.policy.died)

    def lost(self, template: WorkerEnd | None) -> None:
        """Go on without a worker whose death the init cannot see. `template` is the argument of Observer.lost."""
        if self.link is not None:
            self.link.child.lost(template)
            self._let_go(self.link)
            self.died()

    def _lose(self, link: Link) -> None:
        """Go on without a worker that was killed and does not end."""
        self._open.journal.tell(
            f"pipe-init: the worker (pid {self.pid}) was killed and does not end; going on without it"
        )
        self._let_go(link)
        self.died()

    def _let_go(self, link: Link) -> None:
        """Read the last data that the worker has written, and end the conversation."""
        self.policy.gone()
        link.read_last_words()
        death = self.end.death
        self._open.worker_gone(link.connection.open_requests)
        failed = death is None or death.description != "exit status 0"
        self._open.request_lines.hook_over(failed, bool(self.end.sent))
        self.link = None
        link.close()

    # Reports of the link

    def hello(self, metadata: Metadata) -> None:
        """Tell the policy the window from the worker's HELLO: how many requests and bytes the worker may have open."""
        requests = metadata.get("window_requests", BASE_WINDOW_REQUESTS)
        self.policy.hello(requests, metadata.get("window_bytes", BASE_WINDOW_BYTES))

    def ready(self, metadata: Metadata) -> None:
        """Tell the policy that the worker is ready. The policy begins to send it requests."""
        self._open.init_us = metadata.get("init_us")
        if self.link is not None:
            self.link.child.ready(metadata.get("peak_memory_bytes", 0))
        self._open.request_lines.hook_over(failed=False)
        requests, cooperative = metadata.get("concurrency", 1), metadata.get("answers_dump", False)
        self._perform(self.policy.ready(time.monotonic(), requests, cooperative))

    def outcome(self, frame: Frame) -> None:
        """Take an outcome from the worker. It does not count if the request already has one."""
        link, id, metadata, now = self.link, frame.id, frame.metadata, time.monotonic()
        assert link is not None, "only the lane's present link reports"
        counts, actions = self.policy.outcome(id, now)
        if not counts:
            self._ignore_outcome(link, id, actions)
            return
        measured: dict[str, int] = {}
        for key in MEASURED:  # faster than a comprehension, which is a function call
            if key in metadata:
                measured[key] = metadata[key]
        if "duration_us" not in measured:
            measured.update(self._open.duration(id, now))
        if frame.kind == RESULT and self._limits.output_bytes is None:
            content_type, request_id = metadata["content_type"], self.requests[id].request_id
            outcome = Outcome(request_id, content_type, frame.payload, None, 0, measured, metadata.get("http"))
        else:
            outcome = self._open.made_of(frame, measured, link.child.evidence)
        self._open.conclude(id, outcome)
        took, peak, child = measured.get("duration_us", 0), measured.get("peak_memory_bytes", 0), link.child
        self.busy_us = took if self.busy_us == UNKNOWN else self.busy_us + (took - self.busy_us) * NEWEST_SHARE
        child.peak = max(child.peak, peak)
        if actions:
            self._perform(actions)
        if (limit := self._limits.growth) is not None and peak - child.peak_at_ready > limit:
            self._perform(self.policy.retire(now))

    def _ignore_outcome(self, link: Link, id: int, actions: list[Action]) -> None:
        """Handle an outcome that came too late, or that no request has. `actions` are the policy's."""
        self._open.over(id)
        self._expect_hook(link)
        if self.policy.phase is Phase.SERVING:
            self.end.sent.clear()  # the worker was only slow, and goes on
        elif actions and self.policy.phase is Phase.KILLED and not self.end.violation:
            self.end.violation = f"an outcome for id {id}, whose turn it was not"
            link.ignore()
        self._perform(actions)

    def stream_begun(self, frame: Frame) -> None:
        """Begin to receive a request's result in pieces."""
        assert self.link is not None
        if self.function.concurrency == 1 and frame.id != next(iter(self.link.connection.open_requests)):
            self.violated(f"a stream for id {frame.id}, which is not the oldest request")
        elif frame.id in self.requests:
            self.policy.streams(frame.id)
            self._streams.begin(frame.id, self.requests[frame.id].request_id, frame.metadata)

    def piece(self, frame: Frame) -> None:
        """Take a piece of a streamed result. If the piece makes the result too large, cut the result."""
        if frame.id not in self.requests:
            return  # the init has already answered the request in the worker's place
        size = self._streams.take(frame.id, frame.payload, self._limits.output_bytes)
        if size:
            self.end.sizes.setdefault(frame.id, size)
            self._perform(self.policy.cut(frame.id, time.monotonic()))

    def lines(self, frame: Frame) -> None:
        """Write the lines of a LOG frame, which the function has printed or logged, to the log."""
        self._open.write_lines(frame)

    def raw_lines(self, data: bytes) -> None:
        """Write lines that came without frames, such as the output of C code or of a child process, to the log."""
        self._open.write_raw(data)

    def stacks(self, entries: object) -> None:
        """Take the stacks that the worker has sent."""
        self.end.stacks = stacks_by_request(entries)
        if self.end.stacks:  # otherwise wait, because the dump signal may bring stacks
            self.tell(self.policy.dumped)

    def dumped(self) -> None:
        """Tell the policy that the worker has written its stacks to the dump pipe."""
        self.tell(self.policy.dumped)

    def last_word(self, metadata: Metadata) -> None:
        """Take the worker's report that it cannot load the handler. After READY, this report breaks the protocol."""
        if self.policy.loading:
            self.end.last_word = metadata
            self.tell(self.policy.not_loaded)
        elif self.link is not None and self.link.child.is_ready:
            self.violated(str(metadata["error_message"]))

    def closed(self) -> None:
        """Tell the policy that the worker has closed one of its streams, so that its end must follow."""
        self.tell(self.policy.closed)

    def violated(self, why: str) -> None:
        """End a worker that broke the protocol."""
        self.end.violation = why
        if self.link is not None:
            self.link.ignore()
        self.tell(self.policy.violation)

    # Actions of the policy

    def _perform(self, actions: list[Action]) -> None:
        """Perform actions in order. If an action causes more actions, perform these after all actions that wait."""
        if not actions:
            return
        self._actions += actions
        if self._performing:
            return
        self._performing = True
        try:
            while self._actions:
                action = self._actions.popleft()
                if isinstance(action, Send):
                    if self._streams.was_fed(action.id):
                        self._open.cannot_send(
                            action.id, "Runtime.ExitError", "The worker that was reading the event is gone"
                        )
                    elif self.link is not None:  # otherwise the worker's start has failed, and the policy knows that
                        self._send(self.link, action.id)
                elif isinstance(action, Begin):
                    self._begin(action.id, time.monotonic())
                elif isinstance(action, Answer):
                    self._answer(action.id, action.cause)
                elif isinstance(action, Start):
                    self._start()
                elif self.link is not None:
                    self._act_on(self.link, action)
        finally:
            self._performing = False

    def _act_on(self, link: Link, action: Action) -> None:
        """Perform an action that needs a worker."""
        if isinstance(action, Dump):
            link.ask_for_stacks(action.by_signal)
        elif isinstance(action, Cancel):
            if action.id in link.connection.open_requests:
                link.send(CANCEL, action.id)
        elif isinstance(action, Signal):
            link.child.force(action.number, closed=link.ended or link.deaf)
        elif isinstance(action, Stop):
            link.stop()
            self._expect_hook(link)
        elif isinstance(action, Sweep):
            self._free(link.child)
        elif isinstance(action, Lose):
            self._lose(link)

    def _start(self) -> None:
        """Start a worker. If that is impossible, tell the policy that the worker has died."""
        self.end = WorkerEnd()
        try:
            self.link = link = self._source.start(self)
        except TemplateBusy:
            self.tell(self.policy.postponed)
        except OSError as error:  # a later attempt may get a process, descriptors and memory
            self.end.start_error = error
            self.tell(self.policy.died)
        else:
            self.end = link.child.end
            self._open.request_lines.hook_begun(INITIALIZE)

    def _send(self, link: Link, id: int) -> None:
        request, function = self.requests[id], self.function
        metadata: dict[str, object] = {
            "request_id": request.request_id,
            "timeout_ms": int(request.timeout * 1000),
            "deadline_ms": int((time.time() + request.timeout) * 1000),
            "content_type": request.content_type,
            "accept": request.accept,
        }
        if more := request.metadata or function.metadata:  # fields that the init has not made itself
            metadata.update({**function.metadata, **(request.metadata or {})})
        try:
            link.send(INVOKE, id, metadata, request.payload, trusted=not more)
        except LocalProtocolError as error:  # the request is too large for this runtime, or a field is not valid text
            self._open.cannot_send(id, "RequestTooLargeException", f"The runtime cannot take it: {error}")

    def _begin(self, id: int, now: float) -> None:
        if not self._open.begin(id, now):  # the request was next, but the init could not send it
            _, actions = self.policy.outcome(id, now)
            self._open.fail(id)
            self._perform(actions)

    def _answer(self, id: int, cause: Cause) -> None:
        """Answer a request in the worker's place."""
        if self.link is not None:
            self.link.child.measure()
            if id in self.link.connection.open_requests:
                self._open.keep_id(id)
        self._open.answer(id, cause, self.end)

    def _expect_hook(self, link: Link) -> None:
        """Log that the pre-stop hook begins, if the worker was sent STOP and no request is open."""
        if link.stopping and not link.connection.open_requests:
            self._open.request_lines.hook_begun(PRE_STOP)
