"""One worker after the other: performs what the policy decides on a process, tells the policy what happens to it.

Its ledger has the requests and their outcomes. This file knows neither the other lanes nor how processes are collected,
no command line, and decodes no payload.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from signal import SIGKILL
from typing import Any

from pipe_runtime.wire.connection import BASE_WINDOW_BYTES, BASE_WINDOW_REQUESTS, INIT, Connection, End
from pipe_runtime.wire.errors import LocalProtocolError, ProtocolError, TruncatedStream
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import CANCEL, CHUNK, DUMP, END, ERROR, HELLO, INVOKE, LOG, READY, RESULT, STOP

from ..kernel import killing, procfs, reaper
from ..kernel.death import Death
from ..kernel.poller import Poller
from ..log.journal import EMPTY, FULL, Journal
from ..log.request_lines import INITIALIZE, PRE_STOP, Proceedings
from ..model import Function, Outcome, Piece, Request, invoke_metadata
from ..policy.actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from ..policy.errors import WorkerEnd, stacks_by_request
from ..policy.policy import MANY, Phase, Policy, Ticket
from ..workers import launch
from ..workers.link import READ_ROUND, READ_SIZE, Worker, unread
from ..workers.sources import Behind, Starter
from .outcomes import Ledger
from .streams import Streams


class Lane:
    """One worker at a time for one function, and the requests that it was given.

    number: of the lane. starter: where workers come from. outcomes: where they go. streams: of all requests.
    sweep: kills what dead workers have left behind. requests: by id, those that have no outcome yet.
    LocalProtocolError: the function's configuration does not fit into HELLO.
    """

    def __init__(
        self,
        number: int,
        function: Function,
        starter: Starter,
        poller: Poller,
        journal: Journal,
        streams: Streams,
        outcomes: deque[Outcome],
        sweep: Callable[[], object],
    ) -> None:
        Connection(INIT).send(HELLO, metadata=starter.hello)  # or it would fail when the first worker is there
        self.number = number
        self.function = function
        self.policy = _policy_for(function)
        self.worker: Worker | None = None
        self._starter = starter
        self._poller = poller
        self._journal = journal
        self._streams = streams
        self._sweep = sweep
        self._unsendable: dict[int, tuple[str, str]] = {}  # error type and message
        self._memory_at_ready = 0
        self._told_peak = 0  # bytes: what the worker has said of its memory so far
        self._copied = 0  # bytes that it may have had before exec
        self._can_dump = self._told_to_stop = False
        self._worker_end = WorkerEnd()
        self._proceedings = Proceedings(function, journal)
        self._ledger = Ledger(number, function, journal, self._proceedings, streams, outcomes)
        self.requests = self._ledger.requests
        self._names_lines = function.concurrency > 1 and function.hello.get("log_format") != "json"
        self._still_logging: dict[int, str] = {}  # request ids of what was answered in the worker's place
        self._actions: deque[Action] = deque()
        self._performing = False
        self._writing = False
        self._level = journal.level
        self._limit = function.settings.window_requests if function.concurrency == 1 else MANY
        self.policy.limit = 1 if function.concurrency == 1 else MANY

    # For the supervisor

    @property
    def busy_us(self) -> float:
        """Microseconds that a request takes, of late."""
        return self._ledger.busy_us

    @property
    def pid(self) -> int:
        """The worker's, 0 for none, or where it is not known yet."""
        return 0 if self.worker is None else self.worker.pid

    def begin(self) -> None:
        """Start a worker now if one is to be there before it is needed."""
        self._perform(self.policy.begin(time.monotonic()))

    def submit(self, id: int, request: Request) -> None:
        """Take a request. id: higher than those before. ValueError: none is taken any more."""
        ticket, now = Ticket(id, request.timeout, len(request.payload)), time.monotonic()
        if self.worker is not None and self.policy.submit_if_idle(ticket, now):
            self.requests[id] = request
            self._send(self.worker, id)
            self._begin(id)
        else:
            actions = self.policy.submit(ticket, now)
            self.requests[id] = request
            self._perform(actions)

    def pace(self, level: int) -> None:
        """Send requests only as fast as the log is read: one at a time while lines wait, none while its buffer is full.

        A worker begins every request that it was sent, even if lines wait by then. So it is sent few at first, and more
        with each outcome while nothing waits.

        Args:
            level: The journal's level: EMPTY, WAITING or FULL.
        """
        self._level = level
        self._perform(self.policy.pace(0 if level == FULL else 1, time.monotonic()))

    def refuse(self, id: int, request: Request, cause: Cause) -> None:
        """Answer a request that was not submitted, for what is known of the last worker."""
        self.requests[id] = request
        self._ledger.answer(id, cause, self._worker_end)

    def takes_body(self, id: int) -> bool:
        """Whether the request's streamed body can be fed now, or at least its end."""
        worker = self.worker
        return worker is not None and not worker.wants_to_write and id in worker.connection.open_requests

    def room(self, id: int) -> int:
        """Bytes of the request's streamed body that `feed` takes now."""
        return self.worker.connection.stream_credit(id) if self.worker is not None and self.takes_body(id) else 0

    def feed(self, id: int, data: bytes) -> None:
        """A piece of the request's streamed body, at most `room` bytes; b"": it is complete."""
        worker = self.worker
        if worker is not None and id in worker.connection.open_requests:  # else it has its outcome, or soon will
            self._streams.feed(worker, id, data)
            self._watch_writing(worker)

    def taken(self, piece: Piece) -> None:
        """The caller is done with a piece; as many bytes more may come."""
        if self.worker is not None:
            self._streams.taken(self.worker, piece)
            self._watch_writing(self.worker)

    def finish(self) -> None:
        """No more requests will come."""
        self._perform(self.policy.finish(time.monotonic()))

    def interrupt(self) -> None:
        """Somebody wants an end."""
        self._perform(self.policy.interrupt(time.monotonic()))

    def abandon(self) -> None:
        """Give up all requests: answer each as stopped, and give the worker the grace time to tidy up."""
        self._perform(self.policy.abandon(time.monotonic()))

    def hurry(self) -> None:
        """Somebody wants an end at once: what has no outcome yet gets the one of being stopped."""
        self._perform(self.policy.hurry(time.monotonic()))

    def handle(self, ready: Mapping[int, int]) -> None:
        """Deal with what is ready of the worker's descriptors."""
        worker = self.worker
        if worker is None:
            return
        process = worker.process
        if process.log in ready:
            self._read_log(worker)
        if process.answers in ready:
            self._read_answers(worker, READ_ROUND)
        if process.dump in ready:
            self._read_dump(worker)
        if self._writing and worker is self.worker:
            self._flush(worker)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._perform(self.policy.tick(now))

    # What the starter says of a worker that is to be forked elsewhere

    def expects(self, worker: Worker) -> bool:
        """Whether this is its worker still; else it was given up meanwhile, and what there is of it is swept."""
        return self.worker is worker

    def not_loaded(self, last_word: Mapping[str, Any]) -> None:
        """Where the worker was to be forked, the handler cannot be loaded."""
        if self.policy.loading:
            self._worker_end.last_word = last_word
            self._perform(self.policy.not_loaded(time.monotonic()))

    def dumped(self, stacks: bytes) -> None:
        """All that has come by now of the stacks of the process where the worker is to be forked."""
        if self.worker is not None:
            self.worker.dump[:] = stacks
            self._perform(self.policy.dumped(time.monotonic()))

    def unborn(
        self,
        death: Death | None,
        *,
        start_error: OSError | None = None,
        exec_error: OSError | None = None,
        violation: str = "",
        farewell: str = "",
    ) -> None:
        """Go on without a worker that could not be started.

        Args:
            death: How the process died that was to fork it.
            start_error: As in WorkerEnd, like the others.
            exec_error: As in WorkerEnd.
            violation: As in WorkerEnd.
            farewell: As in WorkerEnd.
        """
        end, worker = self._worker_end, self.worker
        end.death, end.start_error, end.exec_error = death, start_error, exec_error
        end.joining = isinstance(exec_error, launch.JoinError)
        if worker is not None:
            end.stage, end.of_template, end.farewell = self._starter.stage(worker), True, farewell
            # Who was to report it may have died between its fork and the report: then it lives, and may have begun.
            self._renounce(worker)
            end.violation = end.violation or violation
            self.died()

    def unseen(self) -> None:
        """Go on without a worker that is not our child, since we could not see how it ends."""
        worker = self.worker
        if worker is not None:
            self._worker_end.unseen = True
            self._renounce(worker)
            self.died()

    def _renounce(self, worker: Worker) -> None:
        """Let a worker that is not our child be killed by its alive pipe, and read what it has written."""
        self.policy.gone()
        worker.process.disown()
        self._read_answers(worker, unread(worker.process.answers), to_the_end=True)
        self._let_go(worker)

    # What the worker says

    def _read_log(self, worker: Worker) -> int:
        """Pass on what lies in the log pipe, up to one read; returns its size."""
        data = worker.read_log()
        if data:
            self._journal.raw(data, self._ledger.the_one_begun, self.number)
        elif data == b"":
            self._poller.remove(worker.process.log)
        return len(data or b"")

    def _read_dump(self, worker: Worker) -> None:
        came = worker.read_dump()
        if came and b'  File "' in worker.dump:  # a busy machine may pause the worker after the first line
            self._perform(self.policy.dumped(time.monotonic()))
        elif came is False:
            self._poller.remove(worker.process.dump)

    def _read_answers(self, worker: Worker, limit: int, to_the_end: bool = False) -> None:
        if self._worker_end.violation:
            return
        try:
            # Raw lines of this very request. Before the first event they were read: poll(2) looks at the answers, then
            # at the log; a dead worker's were read, too. With others in flight nobody knows whose they are. A flood of
            # both must not hold up a deadline.
            first, left = True, 0 if to_the_end else READ_ROUND
            for event in worker.events(limit, to_the_end):
                if not first and left > 0 and self.policy.in_flight == 1:
                    left -= self._read_log(worker)
                first = False
                self._take(worker, event)
                if self.worker is not worker or self._worker_end.violation:
                    break
        except TruncatedStream:
            self._perform(self.policy.closed(time.monotonic()))  # killed while it wrote, most likely: wait for that
        except ProtocolError as error:
            self._break_off(worker, str(error))
        if worker.ended:
            self._poller.remove(worker.process.answers)

    def _take(self, worker: Worker, event: Frame | End) -> None:
        now = time.monotonic()
        if isinstance(event, End):
            self._perform(self.policy.closed(now))
        elif event.kind == RESULT and "stream" in event.metadata and event.metadata["stream"]:
            self._begin_stream(worker, event)
        elif event.kind == RESULT or event.kind == END or (event.kind == ERROR and event.id):
            self._take_outcome(worker, event, now)
        elif event.kind == CHUNK:
            if event.id in self.requests:  # else it was answered in the worker's place
                self._take_piece(event.id, event.payload, now)
        elif event.kind == LOG:
            metadata = event.metadata
            name = self._name_for(event) if self._names_lines else ""
            self._journal.from_function(
                event.payload, metadata["stream"], metadata.get("continues", False), event.id, name
            )
        elif event.kind == HELLO:
            self._can_dump = "dump-signal" in event.metadata.get("capabilities", ())
            requests = event.metadata.get("window_requests", BASE_WINDOW_REQUESTS)
            self.policy.hello(requests, event.metadata.get("window_bytes", BASE_WINDOW_BYTES))
        elif event.kind == READY:
            self._ledger.init_us = event.metadata.get("init_us")
            self._memory_at_ready = self._told_peak = event.metadata.get("peak_memory_bytes", 0)
            self.policy.cooperative = event.metadata.get("answers_dump", False)
            self._proceedings.hook_over(failed=False)
            self.policy.serves(event.metadata.get("concurrency", 1))
            self._perform(self.policy.ready(now))
            self._starter.is_ready(worker)
        elif event.kind == DUMP:
            self._worker_end.stacks = stacks_by_request(event.metadata.get("stacks", []))
            if self._worker_end.stacks:  # else the signal may tell more
                self._perform(self.policy.dumped(now))
        elif event.kind == ERROR and self.policy.loading:
            self._worker_end.last_word = event.metadata
            self._perform(self.policy.not_loaded(now))
        elif event.kind == ERROR:
            self._break_off(worker, str(event.metadata["error_message"]))

    def _name_for(self, line: Frame) -> str:
        """Return the request id to show before a LOG's lines, for a worker with several requests in flight."""
        if line.metadata.get("named", False):
            return ""
        if line.id in self.requests:
            return self.requests[line.id].request_id
        return str(self._still_logging.get(line.id) or line.metadata.get("request_id", ""))

    def _take_outcome(self, worker: Worker, frame: Frame, now: float) -> None:
        policy = self.policy
        if policy.limit < self._limit and self._level == EMPTY:
            policy.limit = min(2 * policy.limit, self._limit)
        counts, actions = policy.outcome(frame.id, now)
        if counts:
            peak = self._ledger.answered(frame, worker.evidence, now)
            self._told_peak = max(self._told_peak, peak)
            self._perform(actions)
            if self.function.max_growth is not None:
                self._look_at_growth(peak)
            return
        # It was answered in the worker's place, and has gone on logging.
        self._journal.request_over(frame.id, self.number)
        self._expect_end(worker)
        self._still_logging.pop(frame.id, None)
        if self.policy.phase is Phase.SERVING:
            self._worker_end.forced = False  # it was only slow, and goes on
        elif actions and self.policy.phase is Phase.KILLED and not self._worker_end.violation:
            self._worker_end.violation = f"an outcome for id {frame.id}, whose turn it was not"
            self._poller.remove(worker.process.answers)
        self._perform(actions)

    def _look_at_growth(self, peak: int) -> None:
        """Replace a worker that has grown by more than it may. (What it says of itself: if it lies, it stays.)"""
        if peak - self._memory_at_ready > (self.function.max_growth or 0):
            self._perform(self.policy.retire(time.monotonic()))

    def _begin_stream(self, worker: Worker, frame: Frame) -> None:
        if self.function.concurrency == 1 and frame.id != next(iter(worker.connection.open_requests)):
            self._break_off(worker, f"a stream for id {frame.id}, which is not the oldest request")
        elif frame.id in self.requests:
            self.policy.streams(frame.id)
            self._streams.begin(frame.id, self.requests[frame.id].request_id, frame.metadata)

    def _take_piece(self, id: int, data: bytes, now: float) -> None:
        """A piece of a streamed result, unless it is too large with it."""
        request_id, limit = self.requests[id].request_id, self.function.limits.output_bytes
        if limit is not None and (size := self._streams.size_with(id, data)) > limit:
            self._worker_end.sizes.setdefault(request_id, size)
            self._perform(self.policy.cut(id, now))
        else:
            self._streams.take(id, request_id, data)

    def _break_off(self, worker: Worker, why: str) -> None:
        self._worker_end.violation = why
        self._poller.remove(worker.process.answers)
        self._perform(self.policy.violation(time.monotonic()))

    def bury(self, death: Death) -> None:
        """The worker is dead and collected: hear its last words, then let go of what was its."""
        worker = self.worker
        assert worker is not None, "only a worker that is there can die"
        self._worker_end.death, self._worker_end.peak_memory = death, self._peak_of_the_dead(death)
        self._worker_end.stage = self._starter.stage(worker)
        self._worker_end.evidence = worker.group.evidence() if worker.group is not None else None
        self.policy.gone()
        # What it has written lies in its pipes; what comes later is from others, who may write for ever.
        left = unread(worker.process.dump)
        while left > 0 and worker.read_dump():
            left -= READ_SIZE
        left = unread(worker.process.log)
        while left > 0 and (data := worker.read_log()):
            self._journal.raw(data, self._ledger.the_one_begun, self.number)
            left -= len(data)
        self._read_answers(worker, unread(worker.process.answers), to_the_end=True)
        error = self._worker_end.exec_error = worker.process.exec_error()
        self._worker_end.joining = isinstance(error, launch.JoinError)
        self._let_go(worker)

    def _peak_of_the_dead(self, death: Death) -> int:
        """Return the peak of a worker's memory for the report.

        The kernel's figure includes the time before exec, when the worker was a copy of this process. Only a figure
        above the copy's memory is surely the worker's own. Otherwise the worker's own claim is closer, if it is lower.
        """
        if not self._told_peak or death.peak_memory > self._copied:
            return death.peak_memory
        return min(self._told_peak, death.peak_memory)

    def died(self) -> None:
        """The worker was buried, and what it had left behind is dead too: go on."""
        now = time.monotonic()
        self._perform(self.policy.exec_failed(now) if self._worker_end.exec_error else self.policy.died(now))

    def _lose(self, worker: Worker) -> None:
        """The worker was killed and does not end: nobody is to wait for it."""
        self._journal.tell(f"pipe-init: the worker (pid {worker.pid}) was killed and does not end; going on without it")
        self.policy.gone()
        self._let_go(worker)
        self._perform(self.policy.died(time.monotonic()))

    def _let_go(self, worker: Worker) -> None:
        self._poller.forget(self)
        self._writing = False
        self._worker_end.dump = bytes(worker.dump)
        self._still_logging.clear()
        self._journal.all_over(worker.connection.open_requests, self.number)  # what was begun belongs to nobody else
        failed = self._worker_end.death is None or self._worker_end.death.description != "exit status 0"
        self._proceedings.hook_over(failed, self._worker_end.forced)
        self.worker = None
        worker.close()
        self._starter.release(worker)

    # What the policy decides

    def _perform(self, actions: list[Action]) -> None:
        """Perform actions in order; those that follow from performing one come after all that wait already."""
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
                    if self.worker is not None:  # it could not be started; the policy knows by now
                        self._send(self.worker, action.id)
                elif isinstance(action, Begin):
                    self._begin(action.id)
                else:
                    self._perform_seldom(action)
        finally:
            self._performing = False

    def _perform_seldom(self, action: Action) -> None:
        """What no request needs that is answered in time."""
        if isinstance(action, Answer):
            if self.worker is not None:
                self._worker_end.dump = bytes(self.worker.dump)
                if self.worker.pid and reaper.is_own_child(self.worker.pid):
                    self._worker_end.peak_memory = procfs.high_water_mark(self.worker.pid)
                if self._names_lines and action.id in self.worker.connection.open_requests:
                    self._still_logging[action.id] = self.requests[action.id].request_id
            self._unsendable.pop(action.id, None)
            self._ledger.answer(action.id, action.cause, self._worker_end)
        elif isinstance(action, Start):
            self._start()
        elif self.worker is None:
            return
        elif isinstance(action, Dump):
            self._ask_for_stacks(self.worker, action.by_signal)
        elif isinstance(action, Cancel):
            if action.id in self.worker.connection.open_requests:
                self.worker.send(CANCEL, action.id)
                self._watch_writing(self.worker)
        elif isinstance(action, Signal):
            self._worker_end.forced, self._worker_end.closed = True, self.worker.ended or self.worker.deaf
            self._worker_end.sent.add(int(action.number))
            if not self.worker.pid:
                self._starter.signal(action.number)  # it is not forked yet: what was to do it hangs
            elif reaper.is_own_child(self.worker.pid):  # a template has named the pid
                self.worker.signal(action.number)
        elif isinstance(action, Stop):
            self._stop(self.worker)
        elif isinstance(action, Sweep):
            self._sweep()
            if self.worker.pid and reaper.is_own_child(self.worker.pid):
                self.worker.signal(SIGKILL)  # again: a template's worker may have become our child after the first one
                killing.sweep_below(self.worker.pid)
        elif isinstance(action, Lose):
            self._lose(self.worker)

    def _start(self) -> None:
        """Start a worker; where that is impossible, it has died at once."""
        self._can_dump = self._told_to_stop = False
        self._worker_end = WorkerEnd()
        try:
            worker = self._starter.start(self)
        except Behind:
            self._perform(self.policy.postponed(time.monotonic()))
            return
        except OSError as error:  # no process, descriptor or memory left; a later attempt may find one
            self._worker_end.start_error = error
            self._perform(self.policy.died(time.monotonic()))
            return
        self.worker, process = worker, worker.process
        self._copied = procfs.resident() if worker.pid else 0  # what a template forks has not changed its program
        for descriptor in (process.answers, process.log, process.dump):  # in this order: see _read_answers
            self._poller.add(descriptor, owner=self)
        self._proceedings.hook_begun(INITIALIZE)
        worker.send(HELLO, metadata=self._starter.hello)
        self._watch_writing(worker)

    def _ask_for_stacks(self, worker: Worker, by_signal: bool) -> None:
        if not by_signal:
            self._worker_end.asked, self._worker_end.stacks = True, {}
            worker.dump.clear()
            worker.send(DUMP)
            self._watch_writing(worker)
        elif not worker.pid:
            self._worker_end.stage = self._starter.stage(worker)
            self._worker_end.asked = self._starter.ask_for_stacks()
        elif self._can_dump and reaper.is_own_child(worker.pid):
            self._worker_end.asked = True
            worker.ask_for_stacks(launch.DUMP_SIGNAL)

    def _send(self, worker: Worker, id: int) -> None:
        request = self.requests[id]
        metadata, is_plain = invoke_metadata(self.function, request)
        worker.expect(id)
        try:
            if self._streams.was_fed(id):
                self._unsendable[id] = "Runtime.ExitError", "The worker that was reading the event is gone"
            elif worker.send(INVOKE, id, metadata, request.payload, trusted=is_plain):
                return
        except LocalProtocolError as error:  # larger than this runtime takes, or with a name that is no text
            self._unsendable[id] = "RequestTooLargeException", f"The runtime cannot take it: {error}"
        self._watch_writing(worker)

    def _stop(self, worker: Worker) -> None:
        """Send STOP, and close the worker's input once it has read what was sent before."""
        self._told_to_stop = True
        worker.send(STOP)
        self._expect_end(worker)
        self._watch_writing(worker)

    def _expect_end(self, worker: Worker) -> None:
        """Note that the pre-stop hook begins: it runs after STOP, as soon as no request is open."""
        if self._told_to_stop and not worker.connection.open_requests:
            self._proceedings.hook_begun(PRE_STOP)

    def _flush(self, worker: Worker) -> None:
        worker.flush()
        self._watch_writing(worker)

    def _watch_writing(self, worker: Worker) -> None:
        wanted = worker.wants_to_write
        if worker.deaf:  # dying, or it will never see what it was sent
            self._perform(self.policy.closed(time.monotonic()))
        if wanted and not self._writing:
            self._poller.add(worker.process.requests, select.POLLOUT, owner=self)
        elif self._writing and not wanted:
            self._poller.remove(worker.process.requests)
        self._writing = wanted
        if self._told_to_stop and not wanted:
            worker.end_input()

    def _begin(self, id: int) -> None:
        self._ledger.begin(id)
        if id in self._unsendable:  # its turn has come, and nobody else will answer it
            counts, actions = self.policy.outcome(id, time.monotonic())
            assert counts, "the policy has just begun this request"
            self._ledger.fail(id, *self._unsendable.pop(id))
            self._perform(actions)


def _policy_for(function: Function) -> Policy:
    if function.concurrency == 1:
        return Policy(function.settings)
    from ..policy.concurrent import ConcurrentPolicy  # most runs need not load it

    return ConcurrentPolicy(function.settings)
