"""Run a function: spread requests over lanes, wait for all of them, and pass on signals that ask for an end.

The caller's own thread drives it: submit requests, and call `step` until their outcomes are there. Exactly one outcome
comes for each request. What happens to a request in its lane, and to a worker, is that lane's business.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..kernel.host import Host
from ..log.journal import EMPTY, Journal
from ..log.json_lines import json_line
from ..model import EXIT_FUNCTION_FAILED, MAX_PAYLOAD, TEMPLATE, Function, Outcome, Piece, Request, problem
from ..policy.actions import Cause
from ..policy.errors import WorkerEnd, answer
from ..workers import launch
from ..workers.link import Link
from ..workers.sources import ExecSource, WorkerSource
from .collector import Collector
from .dispatch import Dispatcher, lanes_for
from .lane import Lane
from .streams import Streams

if TYPE_CHECKING:
    from .template_keeper import TemplateKeeper


class Supervisor:
    """Serve one function with its workers.

    Args:
        function: The function.
        host: How the engine lives in this process.
        journal: Where log lines go.
        early: A worker that was started ahead with just this function's command and environment, if the host owns the
            process; else None.

    Attributes:
        outcomes: Outcomes that the caller has not taken yet.

    Raises:
        LocalProtocolError: The function's configuration does not fit into HELLO.
        ValueError: The function needs a template, and the host cannot adopt the workers that it forks.
    """

    def __init__(self, function: Function, host: Host, journal: Journal, early: launch.Process | None = None) -> None:
        if function.start_method == TEMPLATE and not host.children.adopts:
            raise ValueError("inside another program workers cannot be forked from a template: use start_method 'exec'")
        self.function = function
        self.outcomes: deque[Outcome] = deque()
        self._wakeup = host.wakeup
        self._poller = host.poller
        self._journal = journal
        self._streams = Streams()
        self._lanes: list[Lane] = []
        self._keeper: TemplateKeeper | None = None
        count = lanes_for(function)
        is_alone = count == 1 and function.start_method != TEMPLATE
        if function.start_method != TEMPLATE:
            self._source: WorkerSource = ExecSource(function, host.children, self._poller, early, count > 1)
            self._collector = Collector(host, self._source, self._lanes, journal, is_alone)
        else:
            from ..workers.template import TemplateSource  # most runs need not load these
            from .template_keeper import TemplateKeeper

            self._source = template = TemplateSource(function, host.children, self._poller, journal, count > 1)
            self._collector = Collector(host, template, self._lanes, journal, is_alone)
            self._keeper = TemplateKeeper(template, function.settings, journal, self._collector.free)
            self._collector.keeper = self._keeper
        self._lanes += (
            Lane(number, function, self._source, journal, self._streams, self.outcomes, self._collector.free)
            for number in range(count)
        )
        self._only_owner = self._lanes[0] if is_alone and host.children.adopts else None
        """The lane, if no descriptor that the poller watches belongs to anything else."""
        self._dispatcher = Dispatcher(self._lanes, function)
        self._queue: deque[tuple[int, Request]] = deque()
        self._last_id = 0
        self._endings = 0
        self._finished = False
        self._begun = False
        self._ahead = function.settings.prestart
        self._log_level = EMPTY
        self._poller.add(self._wakeup.descriptor)
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
        return self._wakeup.endings[0] if self._wakeup.endings else 0

    @property
    def pieces(self) -> deque[Piece]:
        """Of streamed results, in the order in which they came; those of a request come before its outcome."""
        return self._streams.pieces

    def has_room(self) -> bool:
        """Whether another request is worth submitting now; it is queued otherwise."""
        return not self._queue and not self.finishing and self._dispatcher.has_room()

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
        lane = None if self._queue else self._dispatcher.choose()
        if lane is None:
            self._queue.append((id, request))
        else:
            lane.submit(id, request)
        self._begun = True
        self._go_on()
        return id

    def refuse(self, request: Request) -> None:
        """Answer a request that came too late to be taken, with the reason why none is taken."""
        failed = None if self._finished else self._dispatcher.failed
        if failed is None:
            self._answer(request, Cause.STOPPED)
        else:
            self._answer(request, failed.policy.failure or Cause.START_FAILED, failed.end)

    def takes_body(self, id: int) -> bool:
        """Whether the request's streamed body can be fed now, or at least its end."""
        return self._streams.takes_body(self._link_of(id), id)

    def room(self, id: int) -> int:
        """Bytes of the request's streamed body that `feed` takes now."""
        return self._streams.room(self._link_of(id), id)

    def feed(self, id: int, data: bytes) -> None:
        """A piece of the request's streamed body, at most `room` bytes; b"": it is complete."""
        self._streams.feed(self._link_of(id), id, data)

    def taken(self, piece: Piece) -> None:
        """The caller is done with a piece; as many bytes more may come."""
        self._streams.taken(self._link_of(piece.id), piece)

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
        ready = self._poller.wait(self.deadline, watch) if wait else self._poller.look()
        if self._log_level and self._journal.descriptor in ready:
            self._journal.flush()
        if self._only_owner is not None:
            if self._only_owner.link is not None:
                self._only_owner.link.handle(ready)
        else:
            for owner in self._poller.owners(ready):
                owner.handle(ready)
        if self._wakeup.descriptor in ready:
            self._wakeup.drain()
            self._heed_endings()
            self._collector.collect()
            self._heed_endings()  # one that has come meanwhile, and whose wake-up that may have used up
            self._collector.resume(time.monotonic())
        deadline = self.deadline
        if deadline is not None and (now := time.monotonic()) >= deadline:
            for lane in lanes:
                lane.tell(lane.policy.tick)
            if self._keeper is not None:
                self._keeper.tick(now)
            self._collector.resume(now)
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
            lane.tell(lane.policy.abandon)

    def close(self) -> None:
        """See the workers, and all that they left, to their end. Afterwards there is no child."""
        self.finish()
        while not self.ended or not (self._keeper is None or self._keeper.ended):
            self.step()
        self._source.close()
        self._collector.end_all()

    # How it goes on

    @property
    def deadline(self) -> float | None:
        """When `step` is due at the latest, as a time of time.monotonic(); None if only an event counts."""
        lanes, waiting = self._lanes, self._collector.deadline
        if waiting is None and self._only_owner is not None:
            return lanes[0].policy.deadline
        due = [waiting, *(lane.policy.deadline for lane in lanes)]
        if self._keeper is not None:
            due.append(self._keeper.deadline)
        return min((each for each in due if each is not None), default=None)

    def _heed_log(self) -> None:
        """While log lines wait, watch for the log's reader, and begin fewer requests or none."""
        level, before = self._journal.level, self._log_level
        if level == before:
            return
        self._log_level = level
        if before == EMPTY:
            self._poller.add(self._journal.descriptor, select.POLLOUT)
        elif level == EMPTY:
            self._poller.remove(self._journal.descriptor)
        if not self._journal.drops:
            for lane in self._lanes:
                lane.pace(level)

    def _lane_of(self, id: int) -> Lane | None:
        for lane in self._lanes:
            if id in lane.requests:
                return lane
        return None

    def _link_of(self, id: int) -> Link | None:
        lane = self._lane_of(id)
        return None if lane is None else lane.link

    def _go_on(self) -> None:
        """Give out what waits; where nobody is left to give it to, answer it; where nothing more comes, say so."""
        while self._queue and (lane := self._dispatcher.choose()) is not None:
            lane.submit(*self._queue.popleft())
        if self._queue and (failed := self._dispatcher.failed) is not None:
            while self._queue:
                self._answer(self._queue.popleft()[1], failed.policy.failure or Cause.START_FAILED, failed.end)
        if self._finished and not self._queue:
            for lane in self._lanes:
                if not lane.policy.finishing:
                    lane.tell(lane.policy.finish)
            if self._keeper is not None and self.ended:
                self._keeper.finish(at_once=self.in_a_hurry)
        elif self._ahead and self._begun:
            for lane in self._dispatcher.to_start():
                lane.tell(lane.policy.begin)

    def _answer_queue(self, cause: Cause) -> None:
        while self._queue:
            self._answer(self._queue.popleft()[1], cause)

    def _answer(self, request: Request, cause: Cause, end: WorkerEnd | None = None) -> None:
        """Answer a request that no lane has, with what is known of the end of a worker."""
        error, exit_code = answer(self.function, request, cause, end or WorkerEnd())
        self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=exit_code))

    def _heed_endings(self) -> None:
        while self._endings < len(self._wakeup.endings):
            self._endings += 1
            self._finished = True
            self._answer_queue(Cause.STOPPED)
            for lane in self._lanes:
                lane.tell(lane.policy.interrupt if self._endings == 1 else lane.policy.hurry)

    def _request_id(self, id: int) -> str:
        lane = self._lane_of(id)
        return "" if lane is None else lane.requests[id].request_id
