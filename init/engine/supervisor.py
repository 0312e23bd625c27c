"""Runs a function: spreads requests over lanes, waits for all of them, collects the dead.

The caller's own thread drives it: submit requests, call `step` until their outcomes are there. Exactly one outcome
comes for each request. What happens to a request in its lane, and to a worker, is that lane's business.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping
from signal import SIGKILL

from ..kernel import reaper
from ..kernel.poller import Watch
from ..kernel.signals import Signals
from ..log.formats import json_line
from ..log.journal import EMPTY, Journal
from ..model import EXIT_FUNCTION_FAILED, MAX_PAYLOAD, TEMPLATE, Function, Outcome, Piece, Request
from ..policy.actions import Cause
from ..policy.errors import WorkerEnd, answer, problem
from ..workers import launch
from ..workers.sources import Exec, FromTemplate
from .dispatch import Spread, lanes_for
from .lane import Lane
from .streams import Streams

LAST_WAIT = 1.0
"""Seconds to wait for the end of processes that were sent SIGKILL."""

MANY = 4096
"""Deaths to collect before it is looked at who is left: else those that fork and end at once are ever further ahead."""

LONGEST_SWEEP = 10.0
"""Seconds for one sweep, while there are ever more to kill."""


class Supervisor:
    """Serves one function with its workers. Owns the process's children and its SIGCHLD.

    early: a worker's process that was started ahead with just this function's command and environment; None if workers
    are forked from a template.
    LocalProtocolError: the function's configuration does not fit into HELLO.
    """

    def __init__(self, function: Function, signals: Signals, journal: Journal, early: launch.Process | None) -> None:
        self.function = function
        self.outcomes: deque[Outcome] = deque()
        self._signals = signals
        self._journal = journal
        self._watch = Watch(signals.descriptor, function.spin_us)
        self._streams = Streams()
        self._template: FromTemplate | None = None
        self._exec: Exec | None = None
        if function.start_method == TEMPLATE:
            self._template = FromTemplate(function, self._watch, journal)
        else:
            self._exec = Exec(function, early)
        starter = self._template or self._exec
        assert starter is not None
        self._lanes = [
            Lane(number, function, starter, self._watch, journal, self._streams, self.outcomes, self._sweep)
            for number in range(lanes_for(function))
        ]
        self._spread = Spread(self._lanes, function)
        self._queue: deque[tuple[int, Request]] = deque()
        self._last_id = 0
        self._endings = 0
        self._finished = False
        self._begun = False
        self._ahead = function.settings.prestart
        self._log_level = EMPTY
        self._mourning: deque[tuple[Lane, float]] = deque()  # lanes without a worker, and when they go on at last
        if function.hello.get("log_format") == "json":
            journal.json_line, journal.request_id = json_line, self._request_id

    # For the caller

    @property
    def ended(self) -> bool:
        """Whether no worker is there and none will be."""
        return all(lane.policy.ended for lane in self._lanes)

    @property
    def finishing(self) -> bool:
        """Whether no further request is taken."""
        return self._finished or all(lane.policy.finishing for lane in self._lanes)

    @property
    def worker_pids(self) -> list[int]:
        """Of the workers that are there, as far as they are known."""
        return [lane.pid for lane in self._lanes if lane.pid]

    @property
    def in_a_hurry(self) -> bool:
        """Whether a second signal has asked for an end at once."""
        return self._endings > 1

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
        return not self._queue and not self.finishing and self._spread.has_room()

    def submit(self, request: Request) -> int:
        """Take a request; its outcome appears in `outcomes`. Returns a number to feed its body by.

        ValueError: `finish` was called, or it has ended.
        """
        size = len(request.payload)
        if size > MAX_PAYLOAD:
            error = problem("RequestTooLargeException", f"The event has {size} bytes; the limit is {MAX_PAYLOAD}")
            self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
            return 0
        if self.finishing:
            raise ValueError("no request is taken any more")
        id = self._last_id = self._last_id + 1
        lane = None if self._queue else self._spread.choose()
        if lane is None:
            self._queue.append((id, request))
        else:
            lane.submit(id, request)
        self._begun = True
        self._go_on()
        return id

    def refuse(self, request: Request) -> None:
        """Answer a request that came too late to be taken, with the reason why none is taken."""
        failed = None if self._finished else self._spread.failed
        if failed is None:
            self._answer(request, Cause.STOPPED)
        else:
            self._last_id += 1
            failed.refuse(self._last_id, request, failed.policy.failure or Cause.START_FAILED)

    def takes_body(self, id: int) -> bool:
        """Whether the request's streamed body can be fed now, or at least its end."""
        lane = self._lane_of(id)
        return lane is not None and lane.takes_body(id)

    def room(self, id: int) -> int:
        """Bytes of the request's streamed body that `feed` takes now."""
        lane = self._lane_of(id)
        return 0 if lane is None else lane.room(id)

    def feed(self, id: int, data: bytes) -> None:
        """A piece of the request's streamed body, at most `room` bytes; b"": it is complete."""
        lane = self._lane_of(id)
        if lane is not None:
            lane.feed(id, data)

    def taken(self, piece: Piece) -> None:
        """The caller is done with a piece; as many bytes more may come."""
        lane = self._lane_of(piece.id)
        if lane is not None:
            lane.taken(piece)

    def finish(self) -> None:
        """No more requests will come."""
        self._finished = True
        self._go_on()

    def step(self, watch: Mapping[int, int] | None = None, wait: bool = True) -> Mapping[int, int]:
        """Wait until something happens, and deal with it.

        watch: {descriptor: poll(2)'s events} of the caller's own. Returns what is ready, in the same form.
        wait=False: deal with what has happened already.
        """
        lanes = self._lanes
        self._heed_log()
        ready = self._watch.wait(self._deadline() if wait else 0.0, watch)
        if self._log_level and self._journal.descriptor in ready:
            self._journal.flush()
        if len(lanes) == 1 and self._template is None:
            lanes[0].handle(ready)
        else:
            for owner in self._watch.owners(ready):
                if isinstance(owner, (Lane, FromTemplate)):
                    owner.handle(ready)
        if self._signals.descriptor in ready:
            self._handle_signals()
        deadline = self._deadline()
        if deadline is not None and (now := time.monotonic()) >= deadline:
            for lane in lanes:
                lane.tick(now)
            if self._mourning:
                self._go_on_without(now)
        self._heed_log()
        self._go_on()
        return ready

    def abandon(self) -> None:
        """Give up all requests: answer each as stopped, and give the workers the grace time to tidy up.

        `close` waits for that.
        """
        self._finished = True
        self._answer_queue(Cause.STOPPED)
        for lane in self._lanes:
            lane.abandon()

    def close(self) -> None:
        """See the workers, and all that they left, to their end. Afterwards there is no child."""
        self.finish()
        while not self.ended:
            self.step()
        if self._exec is not None and self._exec.early is not None:
            self._exec.early.dismiss()
        if self._template is not None:
            self._stop_template(self._template)
        self._end_stragglers()

    # How it goes on

    def _deadline(self) -> float | None:
        lanes = self._lanes
        if len(lanes) == 1 and not self._mourning:
            return lanes[0].policy.deadline
        due = [lane.policy.deadline for lane in lanes if lane.policy.deadline is not None]
        if self._mourning:
            due.append(self._mourning[0][1])
        return min(due, default=None)

    def _heed_log(self) -> None:
        """While log lines wait, watch for the log's reader, and begin fewer requests or none."""
        level, before = self._journal.level, self._log_level
        if level == before:
            return
        self._log_level = level
        if before == EMPTY:
            self._watch.add(self._journal.descriptor, select.POLLOUT)
        elif level == EMPTY:
            self._watch.remove(self._journal.descriptor)
        for lane in self._lanes:
            lane.pace(level)

    def _lane_of(self, id: int) -> Lane | None:
        for lane in self._lanes:
            if id in lane.requests:
                return lane
        return None

    def _go_on(self) -> None:
        """Give out what waits; where nobody is left to give it to, answer it; where nothing more comes, say so."""
        while self._queue and (lane := self._spread.choose()) is not None:
            lane.submit(*self._queue.popleft())
        if self._queue and (failed := self._spread.failed) is not None:
            while self._queue:
                failed.refuse(*self._queue.popleft(), failed.policy.failure or Cause.START_FAILED)
        if self._finished and not self._queue:
            for lane in self._lanes:
                if not lane.policy.finishing:
                    lane.finish()
        elif self._ahead and self._begun:
            for lane in self._spread.to_start():
                lane.begin()

    def _answer_queue(self, cause: Cause) -> None:
        while self._queue:
            self._answer(self._queue.popleft()[1], cause)

    def _answer(self, request: Request, cause: Cause) -> None:
        """Answer a request that no lane has."""
        error, exit_code = answer(self.function, request, cause, WorkerEnd())
        self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=exit_code))

    # What happens outside

    def _handle_signals(self) -> None:
        self._signals.drain()
        self._heed_endings()
        if self._template is not None:
            self._template.hear_reports()  # before the dead are looked at: they may be among them
        reaped = reaper.reap(self._pids())
        if reaped.more:
            self._signals.wake()
        for death in reaped.deaths:
            self._bury(death)
        if self._template is not None:
            self._template.look_for_unseen()
        if self._mourning:
            self._go_on_without(time.monotonic())

    def _bury(self, death: reaper.Death) -> None:
        """It may be one of ours, or something that a worker has left behind."""
        template = self._template
        if template is not None:
            template.hear_reports()
            template.forget(death.pid)
            if death.pid == template.pid:
                template.bury(death)
                if len(self._lanes) > 1:  # else what there is may be the one worker's
                    self._sweep()
                return
        elif self._exec is not None and self._exec.early is not None and death.pid == self._exec.early.pid:
            self._exec.early.close()
            self._exec.early = None
            return
        for lane in self._lanes:
            if lane.pid == death.pid:
                lane.bury(death)
                if self._is_alone:
                    self._end_stragglers()
                    self._heed_endings()  # one may have come meanwhile, and its wake-up is used up
                    lane.died()
                else:
                    self._mourning.append((lane, time.monotonic() + LAST_WAIT))
                return

    def _heed_endings(self) -> None:
        while self._endings < len(self._signals.endings):
            self._endings += 1
            self._finished = True
            self._answer_queue(Cause.STOPPED)
            for lane in self._lanes:
                lane.interrupt() if self._endings == 1 else lane.hurry()

    def _request_id(self, id: int) -> str:
        lane = self._lane_of(id)
        return "" if lane is None else lane.requests[id].request_id

    # What workers leave behind

    def _pids(self) -> set[int]:
        """Of the children that are ours, as far as they are known."""
        pids = set(self.worker_pids)
        if self._template is not None:
            pids.add(self._template.pid)
        elif self._exec is not None and self._exec.early is not None:
            pids.add(self._exec.early.pid)
        pids.discard(0)
        return pids

    @property
    def _is_alone(self) -> bool:
        """Whether there is one worker at most, and nothing else: all that is left without it was its."""
        return len(self._lanes) == 1 and self._template is None

    def _sweep(self) -> bool:
        """Kill what dead workers have left behind: orphans that fell to this process. Whether there were any.

        With several workers, each one keeps its own orphans until it dies, so none of a neighbour's is among them.
        """
        children = reaper.children(self._is_alone)
        if self._template is not None:
            self._template.hear_reports()  # now: a worker is reported before it can be one of the children
        pids = self._pids()  # which may still stand below who has forked them
        return reaper.kill((pid for pid in children if pid not in pids), keep=pids)

    def _go_on_without(self, now: float) -> None:
        """Lanes without workers go on when nothing is left of these: the next request is not to meet it."""
        patient = self._sweep()
        while self._mourning and (not patient or now >= self._mourning[0][1]):
            self._mourning.popleft()[0].died()

    def _stop_template(self, template: FromTemplate) -> None:
        """See it to its end, by force after the grace time; a tracer, or the kernel, may hold on to it even then."""
        settings = self.function.settings
        template.stop()
        kill_at = time.monotonic() + settings.grace
        lost_at = kill_at + settings.lose_wait
        while template.pid:
            ready = self._watch.wait(min(kill_at, lost_at))
            template.handle(ready)
            if self._signals.descriptor in ready:
                self._handle_signals()
            now = time.monotonic()
            if len(self._signals.endings) > 1 and lost_at > now + settings.lose_wait:  # somebody is in a hurry
                kill_at, lost_at = now, now + settings.lose_wait
            if template.pid and now >= lost_at:
                template.lose()
            elif template.pid and now >= kill_at:
                template.signal(SIGKILL)
                self._sweep()
                reaper.sweep_below(template.pid)
                kill_at = now + settings.kill_wait

    def _end_stragglers(self) -> None:
        """Kill and collect every child that is left: with the workers gone, they are what these left behind.

        It may take many rounds, since each one only brings the children of those that died.
        """
        now = time.monotonic()
        limit, last = now + LAST_WAIT, now + LONGEST_SWEEP
        while (reaped := reaper.reap(limit=MANY)).left:
            reaper.kill(reaper.children(alone=True))
            now = time.monotonic()
            if reaped.deaths:
                limit = min(now + LAST_WAIT, last)
            remaining = limit - now
            if remaining <= 0:
                self._journal.tell("pipe-init: processes that the function left behind do not end")
                return
            if not reaped.more:
                waiting = select.poll()
                waiting.register(self._signals.descriptor, select.POLLIN)
                waiting.poll(remaining * 1000)
                self._signals.drain()
