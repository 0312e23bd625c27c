"""Runs a function: performs what the policy decides on a real worker, and turns what happened into outcomes.

The caller's own thread drives it: submit requests, call `step` until their outcomes are there. Exactly one outcome
comes for each request. This file knows no command line and decodes no payload.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping
from signal import SIGKILL
from typing import Any

from pipe_runtime.connection import (
    BASE_WINDOW_BYTES,
    BASE_WINDOW_REQUESTS,
    INIT,
    STREAM_BYTES,
    Connection,
    End,
)
from pipe_runtime.errors import LocalProtocolError, ProtocolError, TruncatedStream
from pipe_runtime.frames import Frame
from pipe_runtime.messages import (
    CANCEL,
    CHUNK,
    DUMP,
    END,
    ERROR,
    HELLO,
    INVOKE,
    LOG,
    MEASURED,
    READY,
    RESULT,
    STOP,
    VERSION,
)

from . import launch, limits, reaper, report
from .actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from .answers import Facts, answer, problem, stacks_by_request
from .journal import Journal
from .policy import Phase, Policy, Ticket
from .request import EXIT_FUNCTION_FAILED, MAX_PAYLOAD, Function, Outcome, Piece, Request
from .signals import Signals
from .streams import Streams
from .watch import Watch
from .worker import READ_ROUND, READ_SIZE, Worker, unread

LAST_WAIT = 1.0
"""Seconds to wait for the end of processes that were sent SIGKILL."""


class Supervisor:
    """One worker after the other for one function. Owns the process's children and its SIGCHLD.

    early: a worker's process that was started ahead with just this function's command and environment.
    LocalProtocolError: the function's configuration does not fit into HELLO.
    """

    def __init__(self, function: Function, signals: Signals, journal: Journal, early: launch.Process | None) -> None:
        Connection(INIT).send(HELLO, metadata=_hello(function))  # or it would fail when the first worker is there
        self.function = function
        self.policy = _policy_for(function)
        self.outcomes: deque[Outcome] = deque()
        self._signals = signals
        self._journal = journal
        self._early = early
        self._worker: Worker | None = None
        self._requests: dict[int, Request] = {}
        self._last_id = 0
        self._init_us: int | None = None
        self._can_dump = False
        self._facts = Facts()
        self._phase = ""
        self._streams = Streams()
        self._unsendable: dict[int, tuple[str, str]] = {}  # error type and message
        self._actions: deque[Action] = deque()
        self._performing = False
        self._endings = 0
        self._writing = False
        self._begun: dict[int, float] = {}
        if function.hello.get("log_format") == "json":
            journal.raw_line = self._raw_line
        self._watch = Watch(signals.descriptor, function.spin_us)

    # For the caller

    @property
    def ended(self) -> bool:
        """Whether no worker is there and none will be."""
        return self.policy.ended

    @property
    def finishing(self) -> bool:
        """Whether no further request is taken."""
        return self.policy.finishing

    @property
    def interrupted_by(self) -> int:
        """The signal that asked for an end, 0 if none did."""
        return self._signals.endings[0] if self._signals.endings else 0

    @property
    def pieces(self) -> deque[Piece]:
        """Of streamed results, in the order in which they came; those of a request come before its outcome."""
        return self._streams.pieces

    def has_room(self) -> bool:
        """Whether another request is worth submitting now; it is queued otherwise."""
        return not self.finishing and self.policy.in_flight < self.function.settings.window_requests

    def submit(self, request: Request) -> int:
        """Take a request; its outcome appears in `outcomes`. Returns a number to feed its body by.

        ValueError: `finish` was called, or it has ended.
        """
        size = len(request.payload)
        if size > MAX_PAYLOAD:
            error = problem("RequestTooLargeException", f"The event has {size} bytes; the limit is {MAX_PAYLOAD}")
            self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
            return 0
        id = self._last_id = self._last_id + 1
        ticket, now = Ticket(id, request.timeout, size), time.monotonic()
        if self._worker is not None and self.policy.submit_if_idle(ticket, now):
            self._requests[id] = request
            self._send(self._worker, id)
            self._begin(id)
        else:
            actions = self.policy.submit(ticket, now)
            self._requests[id] = request
            self._perform(actions)
        return id

    def takes_body(self, id: int) -> bool:
        """Whether the request's streamed body can be fed now, or at least its end."""
        worker = self._worker
        return worker is not None and not worker.wants_to_write and id in worker.connection.open_requests

    def room(self, id: int) -> int:
        """Bytes of the request's streamed body that `feed` takes now."""
        return self._worker.connection.stream_credit(id) if self._worker is not None and self.takes_body(id) else 0

    def feed(self, id: int, data: bytes) -> None:
        """A piece of the request's streamed body, at most `room` bytes; b"": it is complete."""
        worker = self._worker
        if worker is not None and id in worker.connection.open_requests:  # else it has its outcome, or soon will
            self._streams.feed(worker, id, data)
            self._watch_writing(worker)

    def taken(self, piece: Piece) -> None:
        """The caller is done with a piece; as many bytes more may come."""
        if self._worker is not None:
            self._streams.taken(self._worker, piece)
            self._watch_writing(self._worker)

    def finish(self) -> None:
        """No more requests will come."""
        self._perform(self.policy.finish(time.monotonic()))

    def step(self, watch: Mapping[int, int] | None = None) -> Mapping[int, int]:
        """Wait until something happens, and deal with it.

        watch: {descriptor: poll(2)'s events} of the caller's own. Returns what is ready, in the same form.
        """
        ready = self._watch.wait(self.policy.deadline, watch)
        worker = self._worker
        if worker is not None:
            process = worker.process
            if process.log in ready:
                self._read_log(worker)
            if process.answers in ready:
                self._read_answers(worker, READ_ROUND)
            if process.dump in ready:
                self._read_dump(worker)
            if self._writing and worker is self._worker:
                self._flush(worker)
        if self._signals.descriptor in ready:
            self._handle_signals()
        deadline = self.policy.deadline
        if deadline is not None and time.monotonic() >= deadline:
            self._perform(self.policy.tick(time.monotonic()))
        return ready

    def abandon(self) -> None:
        """Give up at once: what has no outcome yet gets the one of being stopped, and the worker is killed."""
        self._perform(self.policy.hurry(time.monotonic()))

    def close(self) -> None:
        """See the worker, and all that it left, to its end. Afterwards there is no child."""
        self.finish()
        while not self.ended:
            self.step()
        if self._early is not None:
            self._early.dismiss()
        self._end_stragglers()

    # What happens outside

    def _handle_signals(self) -> None:
        self._signals.drain()
        self._heed_endings()
        worker, early = self._worker, self._early
        reaped = reaper.reap(worker.pid if worker else 0)
        if reaped.more:
            self._signals.wake()
        for death in reaped.deaths:
            if worker is not None and death.pid == worker.pid:
                self._bury(worker, death)
            elif early is not None and death.pid == early.pid:
                early.close()
                self._early = None

    def _heed_endings(self) -> None:
        now = time.monotonic()
        while self._endings < len(self._signals.endings):
            self._endings += 1
            self._perform(self.policy.interrupt(now) if self._endings == 1 else self.policy.hurry(now))

    # What the worker says

    def _read_log(self, worker: Worker) -> int:
        """Pass on what lies in the log pipe, up to one read; returns its size."""
        data = worker.read_log()
        if data:
            self._journal.raw(data, self._only_request())
        elif data == b"":
            self._watch.remove(worker.process.log)
        return len(data or b"")

    def _raw_line(self, line: bytes, id: int) -> bytes:
        request = self._requests.get(id)
        return report.raw_line(line, "" if request is None else request.request_id)

    def _only_request(self) -> int:
        """The one whose lines raw ones must be; 0 if there are several, or none."""
        return next(iter(self._begun), 0) if self.function.concurrency == 1 or len(self._begun) == 1 else 0

    def _read_dump(self, worker: Worker) -> None:
        came = worker.read_dump()
        if came:
            self._perform(self.policy.dumped(time.monotonic()))
        elif came is False:
            self._watch.remove(worker.process.dump)

    def _read_answers(self, worker: Worker, limit: int, to_the_end: bool = False) -> None:
        if self._facts.violation:
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
                if self._worker is not worker or self._facts.violation:
                    break
        except TruncatedStream:
            self._perform(self.policy.closed(time.monotonic()))  # killed while it wrote, most likely: wait for that
        except ProtocolError as error:
            self._break_off(worker, str(error))
        if worker.ended:
            self._watch.remove(worker.process.answers)

    def _take(self, worker: Worker, event: Frame | End) -> None:
        now = time.monotonic()
        if isinstance(event, End):
            self._perform(self.policy.closed(now))
        elif event.kind == RESULT and "stream" in event.metadata and event.metadata["stream"]:
            self._begin_stream(worker, event)
        elif event.kind == RESULT or event.kind == END or (event.kind == ERROR and event.id):
            self._take_outcome(worker, event, now)
        elif event.kind == CHUNK:
            if event.id in self._requests:  # else it was answered in the worker's place
                self._streams.take(event.id, self._requests[event.id].request_id, event.payload)
        elif event.kind == LOG:
            metadata = event.metadata
            self._journal.from_function(event.payload, metadata["stream"], metadata.get("continues", False), event.id)
        elif event.kind == HELLO:
            self._can_dump = "dump-signal" in event.metadata.get("capabilities", ())
            requests = event.metadata.get("window_requests", BASE_WINDOW_REQUESTS)
            self.policy.hello(requests, event.metadata.get("window_bytes", BASE_WINDOW_BYTES))
        elif event.kind == READY:
            self._init_us = event.metadata.get("init_us")
            self.policy.cooperative = event.metadata.get("answers_dump", False)
            self._phase_over(failed=False)
            self.policy.serves(event.metadata.get("concurrency", 1))
            self._perform(self.policy.ready(now))
        elif event.kind == DUMP:
            self._facts.stacks = stacks_by_request(event.metadata.get("stacks", []))
            if self._facts.stacks:  # else the signal may tell more
                self._perform(self.policy.dumped(now))
        elif event.kind == ERROR and self.policy.loading:
            self._facts.last_word = event.metadata
            self._perform(self.policy.not_loaded(now))
        elif event.kind == ERROR:
            self._break_off(worker, str(event.metadata["error_message"]))

    def _take_outcome(self, worker: Worker, frame: Frame, now: float) -> None:
        counts, actions = self.policy.outcome(frame.id, now)
        if counts:
            metadata = frame.metadata
            request = self._requests[frame.id]
            measured = {}
            for key in MEASURED:
                if key in metadata:
                    measured[key] = metadata[key]
            if "duration_us" not in measured and frame.id in self._begun:
                measured["duration_us"] = int((now - self._begun[frame.id]) * 1e6)
            if frame.kind == RESULT:
                outcome = Outcome(request.request_id, metadata["content_type"], frame.payload, None, 0, measured)
                if "http" in metadata:
                    outcome.http = metadata["http"]
            elif frame.kind == END and "error_type" not in metadata:
                outcome = Outcome(request.request_id, measured=measured)
            else:
                outcome = Outcome(request.request_id, "", b"", metadata, EXIT_FUNCTION_FAILED, measured)
            self._conclude(frame.id, outcome)
            self._perform(actions)
            return
        self._journal.request_over(frame.id)  # it was answered in the worker's place, and has gone on logging
        if self.policy.phase is Phase.SERVING:
            self._facts.forced = False  # it was only slow, and goes on
        elif actions and self.policy.phase is Phase.KILLED and not self._facts.violation:
            self._facts.violation = f"an outcome for id {frame.id}, whose turn it was not"
            self._watch.remove(worker.process.answers)
        self._perform(actions)

    def _begin_stream(self, worker: Worker, frame: Frame) -> None:
        if self.function.concurrency == 1 and frame.id != next(iter(worker.connection.open_requests)):
            self._break_off(worker, f"a stream for id {frame.id}, which is not the oldest request")
        elif frame.id in self._requests:
            self._streams.begin(frame.id, self._requests[frame.id].request_id, frame.metadata)

    def _break_off(self, worker: Worker, why: str) -> None:
        self._facts.violation = why
        self._watch.remove(worker.process.answers)
        self._perform(self.policy.violation(time.monotonic()))

    def _bury(self, worker: Worker, death: reaper.Death) -> None:
        """The worker is dead: hear its last words, then let go of everything that was its."""
        self._facts.death = death
        self.policy.gone()
        # What it has written lies in its pipes; what comes later is from others, who may write for ever.
        left = unread(worker.process.dump)
        while left > 0 and worker.read_dump():
            left -= READ_SIZE
        left = unread(worker.process.log)
        while left > 0 and (data := worker.read_log()):
            self._journal.raw(data, self._only_request())
            left -= len(data)
        self._read_answers(worker, unread(worker.process.answers), to_the_end=True)
        self._facts.exec_error = worker.process.exec_error()
        self._let_go(worker)
        self._end_stragglers()
        self._heed_endings()  # one may have come meanwhile, and its wake-up is used up
        now = time.monotonic()
        self._perform(self.policy.exec_failed(now) if self._facts.exec_error else self.policy.died(now))

    def _lose(self, worker: Worker) -> None:
        """The worker was killed and does not end: nobody is to wait for it."""
        self._journal.say(f"pipe-init: the worker (pid {worker.pid}) was killed and does not end; going on without it")
        self.policy.gone()
        self._let_go(worker)
        self._perform(self.policy.died(time.monotonic()))

    def _let_go(self, worker: Worker) -> None:
        self._watch.clear()
        self._writing = False
        self._facts.dump = bytes(worker.dump)
        self._journal.all_over()  # what was begun and not completed belongs to nobody else
        self._phase_over(failed=self._facts.death is None or self._facts.death.description != "exit status 0")
        self._worker = None
        worker.close()

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
                    if self._worker is not None:  # it could not be started; the policy knows by now
                        self._send(self._worker, action.id)
                elif isinstance(action, Begin):
                    self._begin(action.id)
                else:
                    self._perform_seldom(action)
        finally:
            self._performing = False

    def _perform_seldom(self, action: Action) -> None:
        """What no request needs that is answered in time."""
        if isinstance(action, Answer):
            self._conclude(action.id, self._answer(action.id, action.cause))
        elif isinstance(action, Start):
            self._start()
        elif self._worker is None:
            return
        elif isinstance(action, Dump):
            self._ask_for_stacks(self._worker, action.by_signal)
        elif isinstance(action, Cancel):
            if action.id in self._worker.connection.open_requests:
                self._worker.send(CANCEL, action.id)
                self._watch_writing(self._worker)
        elif isinstance(action, Signal):
            self._facts.forced, self._facts.closed = True, self._worker.ended or self._worker.deaf
            self._worker.signal(action.number)
        elif isinstance(action, Stop):
            self._stop(self._worker)
        elif isinstance(action, Sweep):
            reaper.sweep(spare=self._worker.pid)
            reaper.sweep_below(self._worker.pid)
        elif isinstance(action, Lose):
            self._lose(self._worker)

    def _start(self) -> None:
        """Start a worker; where that is impossible, it has died at once."""
        function = self.function
        process, self._early = self._early, None
        self._can_dump = False
        self._facts = Facts()
        try:
            process = process or launch.start(function.command, function.environment)
        except OSError as error:  # no process, descriptor or memory left; a later attempt may find one
            self._facts.start_error = error
            self._perform(self.policy.died(time.monotonic()))
            return
        self._worker = worker = Worker(process)
        if function.memory_limit is not None:
            try:
                limits.limit_memory(process.pid, function.memory_limit)
            except OSError as error:
                self._facts.start_error = error
                worker.signal(SIGKILL)  # no function runs beyond a limit that somebody relies on
        for descriptor in (process.answers, process.log, process.dump):  # in this order: see _read_answers
            self._watch.add(descriptor)
        if "initializer" in function.hooks:
            self._begin_phase("initialize")
        worker.send(HELLO, metadata=_hello(function))
        self._watch_writing(worker)

    def _ask_for_stacks(self, worker: Worker, by_signal: bool) -> None:
        if not by_signal:
            self._facts.asked, self._facts.stacks = True, {}
            worker.dump.clear()
            worker.send(DUMP)
            self._watch_writing(worker)
        elif self._can_dump:
            self._facts.asked = True
            worker.ask_for_stacks(launch.DUMP_SIGNAL)

    def _send(self, worker: Worker, id: int) -> None:
        request = self._requests[id]
        metadata = {
            "request_id": request.request_id,
            "timeout_ms": int(request.timeout * 1000),
            "deadline_ms": int((time.time() + request.timeout) * 1000),
            "content_type": request.content_type,
            "accept": request.accept,
        }
        more = request.metadata or self.function.metadata
        if more:
            metadata.update(self.function.metadata)
            metadata.update(request.metadata or {})
        try:
            if self._streams.was_fed(id):
                self._unsendable[id] = "Runtime.ExitError", "The worker that was reading the event is gone"
            elif worker.send(INVOKE, id, metadata, request.payload, trusted=not more):
                return
        except LocalProtocolError as error:  # larger than this runtime takes, or with a name that is no text
            self._unsendable[id] = "RequestTooLargeException", f"The runtime cannot take it: {error}"
        self._watch_writing(worker)

    def _stop(self, worker: Worker) -> None:
        if "pre_stop" in self.function.hooks:
            self._begin_phase("pre-stop")
        worker.send(STOP)
        self._watch.remove(worker.process.requests)
        self._writing = False
        worker.end_input()

    def _flush(self, worker: Worker) -> None:
        worker.flush()
        self._watch_writing(worker)

    def _watch_writing(self, worker: Worker) -> None:
        wanted = worker.wants_to_write
        if worker.deaf:  # dying, or it will never see what it was sent
            self._perform(self.policy.closed(time.monotonic()))
        if wanted and not self._writing:
            self._watch.add(worker.process.requests, select.POLLOUT)
        elif self._writing and not wanted:
            self._watch.remove(worker.process.requests)
        self._writing = wanted

    def _begin(self, id: int) -> None:
        self._begun[id] = time.monotonic()
        if self.function.log_style != "none":
            request = self._requests[id]
            style, phase = self.function.log_style, (request.metadata or {}).get("phase", report.INVOKE)
            self._journal.say(report.start_line(style, request.request_id, self.function.version, phase))
        if id in self._unsendable:  # its turn has come, and nobody else will answer it
            error = problem(*self._unsendable[id])
            counts, actions = self.policy.outcome(id, time.monotonic())
            assert counts, "the policy has just begun this request"
            self._conclude(id, Outcome(self._requests[id].request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
            self._perform(actions)

    def _answer(self, id: int, cause: Cause) -> Outcome:
        """The outcome that the init gives in the worker's place."""
        request = self._requests[id]
        measured: dict[str, int] = {}
        if id in self._begun:
            measured["duration_us"] = int((time.monotonic() - self._begun[id]) * 1e6)
        if cause is Cause.DIED and self._facts.death is not None:
            measured["peak_memory_bytes"] = self._facts.death.peak_memory
        if self._worker is not None:
            self._facts.dump = bytes(self._worker.dump)
        error, exit_code = answer(self.function, request, cause, self._facts, self._facts.stacks.get(id))
        return Outcome(request.request_id, problem=error, exit_code=exit_code, measured=measured)

    def _conclude(self, id: int, outcome: Outcome) -> None:
        """The one place where a request that was submitted gets its outcome."""
        request = self._requests.pop(id)
        self._unsendable.pop(id, None)
        self._journal.request_over(id)
        self._streams.end(id, outcome)
        if self._begun.pop(id, None) is not None:
            if self._init_us is not None:
                outcome.measured["init_us"], self._init_us = self._init_us, None
            if self.function.log_style != "none":
                self._say_end(outcome, (request.metadata or {}).get("phase", report.INVOKE))
        self.outcomes.append(outcome)

    def _say_end(self, outcome: Outcome, phase: str) -> None:
        style, request_id = self.function.log_style, outcome.request_id
        self._journal.say(report.end_line(style, request_id, outcome.problem is not None, phase))
        self._journal.say(report.report_line(style, request_id, outcome.measured, self.function.memory_mb))

    def _begin_phase(self, phase: str) -> None:
        """The worker will run a hook; its lines stand between the next line and the one of `_phase_over`."""
        self._phase = phase
        id = self.function.hello.get("init_request_id", "")
        self._journal.say(report.start_line(self.function.log_style, id, self.function.version, phase))

    def _phase_over(self, failed: bool) -> None:
        if self._phase:
            phase, self._phase = self._phase, ""
            if failed and self._facts.forced and phase == "pre-stop":
                limit = self.function.settings.stop_timeout
                self._journal.say(f"pipe-init: the pre-stop hook did not end within {limit:.0f} s, and was ended")
            id = self.function.hello.get("init_request_id", "")
            self._journal.say(report.end_line(self.function.log_style, id, failed, phase))

    # The end

    def _end_stragglers(self) -> None:
        """Kill and collect every child that is left: with the worker gone, they are what it left behind."""
        limit = time.monotonic() + LAST_WAIT
        while (reaped := reaper.reap()).left:
            reaper.sweep()
            remaining = limit - time.monotonic()
            if remaining <= 0:
                self._journal.say("pipe-init: processes that the function left behind do not end")
                return
            if not reaped.more:
                waiting = select.poll()
                waiting.register(self._signals.descriptor, select.POLLIN)
                waiting.poll(remaining * 1000)
                self._signals.drain()


def _policy_for(function: Function) -> Policy:
    if function.concurrency == 1:
        return Policy(function.settings)
    from .concurrent import ConcurrentPolicy  # most runs need not load it

    return ConcurrentPolicy(function.settings)


def _hello(function: Function) -> dict[str, Any]:
    return {
        "versions": [VERSION],
        "software": "pipe-init",
        "dump_fd": launch.DUMP_FD,
        "dump_signal": int(launch.DUMP_SIGNAL),
        "spin_us": function.spin_us,
        "stream_bytes": STREAM_BYTES,
        **function.hello,
    }
