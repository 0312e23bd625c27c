"""Run a function: distribute requests over lanes, wait for events of all lanes, and end all lanes on a signal.

The caller's thread runs everything: it submits requests, and calls `step` until their outcomes have come. Each request
gets exactly one outcome. This module must not know what a lane does with a request or with its worker.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping

from ..kernel import exit_codes
from ..kernel.host import Host
from ..log.journal import EMPTY, Journal
from ..model import MAX_PAYLOAD, TEMPLATE, Function, Outcome, Piece, Request, WorkerEnd, problem
from ..policy.actions import Cause
from ..policy.worker_failures import answer
from ..workers import launch
from ..workers.link import Link
from ..workers.worker_source import WorkerSource
from .body_streams import Streams
from .collector import Collector
from .dispatch import Dispatcher, lanes_for
from .lane import Lane
from .open_requests import OpenRequests


class Supervisor:
    """Serve one function with its workers.

    Args:
        function: The function to serve.
        host: The engine's access to the process that it runs in.
        journal: The log to which lines are written.
        early: A worker that was started early, with exactly this function's command and environment; else None. Only a
            host that owns the process may have one.

    Attributes:
        outcomes: Outcomes that the caller has not taken yet.
        pieces: Pieces of streamed results, in the order in which they came. A request's pieces come before its outcome.

    Raises:
        LocalProtocolError: The function's configuration does not fit into HELLO.
        ValueError: The function needs a template, and the host cannot adopt the workers that it forks.
    """

    def __init__(
        self, function: Function, host: Host, journal: Journal, early: launch.ProcessPipes | None = None
    ) -> None:
        if function.start_method == TEMPLATE and not host.adopts:
            raise ValueError("inside another program workers cannot be forked from a template: use start_method 'exec'")
        self.function = function
        self.outcomes: deque[Outcome] = deque()
        self._wakeup = host.wakeup
        self._poller = host.poller
        self._journal = journal
        self._streams = Streams()
        self.pieces = self._streams.pieces
        self._lanes: list[Lane] = []
        count = lanes_for(function)
        is_alone = count == 1 and function.start_method != TEMPLATE
        if function.start_method != TEMPLATE:
            self._source = WorkerSource(function, host, early, count > 1)
        else:
            from ..workers.template import TemplateSource  # imported late, because most runs do not need it

            self._source = TemplateSource(function, host, journal, count > 1)
        self._collector = Collector(host, self._source, self._lanes, journal, function.settings, is_alone)
        self._keeper = self._collector.keeper
        for number in range(count):
            open = OpenRequests(number, function, journal, self._streams, self.outcomes)
            self._lanes.append(Lane(open, self._source, self._collector.free))
        self._only_lane = self._lanes[0] if is_alone else None
        """The lane if there is one without a template; else None."""
        self._dispatcher = Dispatcher(self._lanes, function)
        self._queue: deque[tuple[int, Request]] = deque()
        self._last_id = 0
        self._endings = 0
        self._finished = False
        self._ahead = function.settings.prestart
        self._log_level = EMPTY
        self._poller.add(self._wakeup.descriptor)
        journal.request_id = self._request_id

    # Methods for the caller

    @property
    def ended(self) -> bool:
        """Return whether there is no worker, and none will be started."""
        return all(lane.policy.ended for lane in self._lanes)

    @property
    def finishing(self) -> bool:
        """Return whether the supervisor takes no more requests."""
        return self._finished or all(lane.policy.finishing for lane in self._lanes)

    @property
    def in_a_hurry(self) -> bool:
        """Return whether a second signal has asked pipe-init to end at once."""
        return self._endings > 1

    @property
    def interrupted_by(self) -> int:
        """Return the first signal that asked pipe-init to end; 0 if none has come."""
        return self._wakeup.endings[0] if self._wakeup.endings else 0

    def has_room(self) -> bool:
        """Return whether another request would be sent soon. If not, `submit` queues the request."""
        return not self._queue and not self.finishing and self._dispatcher.has_room()

    def submit(self, request: Request) -> int:
        """Take a request, whose outcome will appear in `outcomes`. Return its number, for `feed`.

        Raises:
            ValueError: The supervisor takes no more requests.
        """
        size = len(request.payload)
        if size > MAX_PAYLOAD:
            error = problem("RequestTooLargeException", f"The event has {size} bytes; the limit is {MAX_PAYLOAD}")
            self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=exit_codes.FUNCTION_FAILED))
            return 0
        lane = self._only_lane
        if self._queue or self._finished:
            lane = None
        elif lane is None or lane.policy.finishing:
            lane = self._dispatcher.choose()
        if lane is None and self.finishing:
            raise ValueError("no request is taken any more")
        id = self._last_id = self._last_id + 1
        if lane is None:
            self._queue.append((id, request))
        else:
            lane.submit(id, request)
        if self._queue or self._ahead:
            self._go_on()
        return id

    def hold(self) -> None:
        """Collect the requests that are submitted until the next `step`, and write them together then."""
        self._poller.hold()

    def refuse(self, request: Request) -> None:
        """Answer a request that came too late for `submit`, with the reason why no more requests are taken."""
        self._refuse(request, None if self._finished else self._dispatcher.failed)

    def takes_body(self, id: int) -> bool:
        """Return whether `feed` takes a piece of the request's body now, or at least the body's end."""
        return self._streams.takes_body(self._link_of(id), id)

    def room(self, id: int) -> int:
        """Return how many bytes of the request's streamed body `feed` takes now."""
        return self._streams.room(self._link_of(id), id)

    def feed(self, id: int, data: bytes) -> None:
        """Send a piece of the request's streamed body, at most `room` bytes. b"" ends the body."""
        self._streams.feed(self._link_of(id), id, data)

    def taken(self, piece: Piece) -> None:
        """Record that the caller has handled a piece, so that the worker may send as many more bytes."""
        self._streams.taken(self._link_of(piece.id), piece)

    def finish(self) -> None:
        """Take no more requests, and stop the workers as soon as every request has its outcome."""
        self._finished = True
        self._go_on()

    def step(self, watch: Mapping[int, int] | None = None, wait: bool = True) -> Mapping[int, int]:
        """Wait for the next events, and handle them.

        Args:
            watch: The caller's own descriptors, to wait for as well: {descriptor: poll(2)'s events}.
            wait: Whether to wait. If not, handle only the events that have already come, and ignore `watch`.

        Returns:
            The ready descriptors: {descriptor: poll(2)'s revents}.
        """
        if self._log_level != self._journal.level:
            self._heed_log()
        only = self._only_lane
        deadline = self.deadline if only is None or self._collector.waiting else only.policy.deadline
        ready = self._poller.wait(deadline, watch) if wait else self._poller.look()
        if self._log_level and self._journal.descriptor in ready:
            self._journal.flush()
        handlers = self._poller.handlers
        for descriptor in reversed(ready):
            handle = handlers.get(descriptor)
            if handle is not None:
                handle()
        if self._wakeup.descriptor in ready:
            self._wakeup.drain()
            self._heed_endings()
            self._collector.collect()
            self._heed_endings()  # once more, because `collect` may consume the wake-up of a signal that came meanwhile
            self._collector.resume(time.monotonic())
        if deadline is not None and (now := time.monotonic()) >= deadline:
            for lane in self._lanes:
                lane.tell(lane.policy.tick)
            self._keeper.tick(now)
            self._collector.resume(now)
        if self._log_level != self._journal.level:
            self._heed_log()
        if self._queue or self._finished or self._ahead:
            self._go_on()
        return ready

    def abandon(self) -> None:
        """Answer every request as stopped, and give the workers the grace time to tidy up. `close` waits for them."""
        self._stop_queue()
        for lane in self._lanes:
            lane.tell(lane.policy.abandon)

    def close(self) -> None:
        """End the workers and the processes that they left behind. If pipe-init owns its process, no child is left."""
        self.finish()
        while not self.ended or self._source.link is not None:  # a template may still exist
            self.step()
        self._source.close()
        self._collector.end_all()

    # The parts of a step

    @property
    def deadline(self) -> float | None:
        """Return the latest time for the next `step`, on time.monotonic()'s clock; None if only events need a step."""
        due = [self._collector.deadline, self._keeper.deadline, *(lane.policy.deadline for lane in self._lanes)]
        return min((each for each in due if each is not None), default=None)

    def _heed_log(self) -> None:
        """Adapt to the log: while lines wait, watch for the log's reader, and begin fewer requests or none."""
        level, before = self._journal.level, self._log_level
        self._log_level = level
        if before == EMPTY:
            self._poller.add(self._journal.descriptor, events=select.POLLOUT)
        elif level == EMPTY:
            self._poller.remove(self._journal.descriptor)
        if not self._journal.drops:
            for lane in self._lanes:
                lane.pace(level)

    def _lane_of(self, id: int) -> Lane | None:
        return next((lane for lane in self._lanes if id in lane.requests), None)

    def _link_of(self, id: int) -> Link | None:
        lane = self._lane_of(id)
        return None if lane is None else lane.link

    def _go_on(self) -> None:
        """Give queued requests to lanes, or answer them if all lanes have failed. Stop or start workers."""
        while self._queue and (lane := self._dispatcher.choose()) is not None:
            lane.submit(*self._queue.popleft())
        if self._queue and (failed := self._dispatcher.failed) is not None:
            while self._queue:
                self._refuse(self._queue.popleft()[1], failed)
        if self._finished and not self._queue:
            for lane in self._lanes:
                if not lane.policy.finishing:
                    lane.tell(lane.policy.finish)
            if self.ended:
                self._keeper.finish(at_once=self.in_a_hurry)
        elif self._ahead and self._last_id:
            for lane in self._dispatcher.to_start():
                lane.tell(lane.policy.begin)

    def _stop_queue(self) -> None:
        """Take no more requests, and answer the requests that no lane has."""
        self._finished = True
        while self._queue:
            self._refuse(self._queue.popleft()[1])

    def _refuse(self, request: Request, failed: Lane | None = None) -> None:
        """Answer a request that no lane has: with the error of the lane `failed`, or without it, as stopped."""
        cause, end = (Cause.STOPPED, WorkerEnd()) if failed is None else (failed.policy.failure, failed.end)
        error, exit_code = answer(self.function, request, cause or Cause.START_FAILED, end)
        self.outcomes.append(Outcome(request.request_id, problem=error, exit_code=exit_code))

    def _heed_endings(self) -> None:
        while self._endings < len(self._wakeup.endings):
            self._endings += 1
            self._stop_queue()
            for lane in self._lanes:
                lane.tell(lane.policy.interrupt if self._endings == 1 else lane.policy.hurry)

    def _request_id(self, id: int) -> str:
        lane = self._lane_of(id)
        return "" if lane is None else lane.requests[id].request_id
