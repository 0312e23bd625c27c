"""Decide what to do about one worker and its requests: when to start it, send it requests, give it up, and end it.

A Policy's methods take an event and its time, and return actions. It has no clock, no descriptor, no process and no
payload, so a test can replay any sequence of events. Times are seconds on any monotonic clock.
"""

from __future__ import annotations

from ..model import Settings
from .actions import Action, Begin, Cancel, Cause, Dump, Send, Start, Stop
from .ladder import Ladder, Phase
from .tickets import MANY, Requests, State, Ticket

NEVER = float("inf")

UNUSED_BACKOFF_LIMIT = 1.0
"""Most seconds to wait before the next start if workers end, one after the other, before they get a request."""


class Policy(Ladder):
    """Decide about one worker, and about each worker that replaces it. It runs up to `concurrency` requests at a time.

    Each method for an event takes the time `now`, and returns the actions to perform, in order. Call the methods for a
    worker's events only between its Start and its death. A request has exactly one end: an outcome that counts, or an
    Answer. A second worker gets the request only if the first worker cannot have begun it.

    If a worker dies, the next worker gets the requests that waited in its window, one at a time, and only once.

    Attributes:
        concurrency: The most requests that a worker runs at once.
        ended: Whether there is no worker, and none will be started.
        finishing: Whether the policy takes no more requests.
        failure: Why no worker can be started; None as long as one may be.
        cooperative: Whether the worker reads DUMP and CANCEL while requests run. Any other worker reads CANCEL
            only while it streams a result.
        limit: The most requests that the worker may have at once, if this is less than its window. See `pace`.
    """

    def __init__(self, settings: Settings, concurrency: int = 1) -> None:
        super().__init__(settings)
        self.concurrency = concurrency
        self.ended = False
        self.finishing = False
        self.failure: Cause | None = None
        self.cooperative = False
        self.limit = MANY
        self._grows = True
        self._requests = Requests(concurrency, (settings.window_requests, settings.window_bytes))
        self._was_ready = False
        self._closed = False  # whether the worker has closed its stream
        self._retiring = False  # whether the worker gets no more requests, and stops after those that it has
        self._fault: Cause | None = None  # why the worker's start failed, if it did
        self._force_at = NEVER  # if pipe-init must end: when to send SIGTERM to the worker
        self._tell_at = NEVER  # if pipe-init must end: when to cancel the requests of a worker that can read CANCEL
        self._answer_at: float | None = None  # after asking for the stacks: when to answer the late requests
        self._dump_ends = 0.0  # the latest value that `_answer_at` may get
        self._signal_at: float | None = None  # for a cooperative worker: when to ask for the stacks by signal, too
        self._cancel_ends = 0.0  # when the worker must have ended the requests that are cancelled
        self._failed_starts = 0
        self._postponed_at: float | None = None  # the first time at which the start of a worker was postponed
        self._unused = 0  # workers in a row that ended before they were sent a request

    @property
    def in_flight(self) -> int:
        """Return how many requests have no outcome yet, whether they were sent or not."""
        return self._requests.in_flight

    @property
    def was_used(self) -> bool:
        """Return whether the worker has got a request."""
        return self._requests.taken > 0

    @property
    def loading(self) -> bool:
        """Return whether the worker may still say that it cannot load the handler, even if it has closed its stream."""
        return self.phase in (Phase.STARTING, Phase.STOPPING) and not self._was_ready

    # Events from outside

    def begin(self, now: float) -> list[Action]:
        """Start a worker before a request needs it, if `settings.prestart` says so and there is none."""
        if not self.settings.prestart or self.finishing or self.phase is not Phase.NONE or self.deadline is not None:
            return []
        return self._start(now)

    def submit(self, ticket: Ticket, now: float) -> list[Action]:
        """Take a request.

        Raises:
            ValueError: The policy takes no more requests.
        """
        if self.finishing:
            raise ValueError("no request is taken any more")
        self._requests.waiting.append(ticket)
        self._requests.in_flight += 1
        return self._go_on(now)

    def submit_if_idle(self, ticket: Ticket, now: float) -> bool:
        """Take a request if a ready worker begins it at once. This is a faster `submit` for the frequent case.

        Returns:
            True: The caller must perform Send and Begin. False: Nothing has changed, and the caller must call `submit`.
        """
        requests = self._requests
        if self.phase is not Phase.SERVING or requests.waiting or self.finishing or self._gone or self._retiring:
            return False
        running = requests.running
        runs = len(running)
        if runs >= requests.slots or runs >= self.limit or (runs and not requests.has_room(ticket)):
            return False
        requests.in_flight += 1
        requests.taken += 1
        requests.bytes += ticket.size
        requests.alone = False
        self._unused = 0
        self._retiring = requests.taken == self.settings.max_requests
        ticket.state = State.BEGUN
        ends = ticket.ends = now + ticket.timeout
        running[ticket.id] = ticket
        if self.deadline is None or ends < self.deadline:
            self.deadline = ends
        return True

    def pace(self, limit: int, now: float, grows: bool = False) -> list[Action]:
        """Set how many requests the worker may have at once. It keeps the requests that it already has.

        Args:
            limit: The number of requests. A number below `concurrency` counts as `concurrency`. 0 stops new requests.
            now: The time.
            grows: Whether the number doubles with each outcome, up to the window.
        """
        self._grows = grows
        self.limit = max(limit, self.concurrency) if limit else 0
        return self._go_on(now) if self._requests.waiting else []

    def finish(self, now: float) -> list[Action]:
        """Take no more requests, and stop the worker after all present requests have their outcomes."""
        self.finishing = True
        return self._go_on(now)

    def interrupt(self, now: float) -> list[Action]:
        """End because of a signal: answer the requests that were not sent. The others have the grace time to finish.

        If the worker can read CANCEL, cancel its requests after half of the grace time, so that they can tidy up.
        """
        self.finishing = True
        if self._force_at == NEVER:
            self._force_at = now + self.settings.grace
            self._tell_at = now + self.settings.grace / 2
        actions = [*self._requests.answer_waiting(Cause.STOPPED), *self._go_on(now)]
        if self.phase is Phase.STARTING:
            self._due_by(self._force_at)
        elif self._is_serving():
            self.deadline = self._due()
        return actions

    def abandon(self, now: float) -> list[Action]:
        """End because nobody can take results any more: answer all requests, and give the worker time to tidy up."""
        self.finishing = True
        hears = self._hears()
        self._force_at = min(self._force_at, now + self.settings.grace if hears else now)
        self._tell_at = now
        actions: list[Action] = [*self._requests.answer_waiting(Cause.STOPPED)]
        if self.phase is Phase.NONE or (self.phase is Phase.SERVING and not self._requests.running):
            return [*actions, *self._go_on(now)]
        if self._is_serving() and hears:
            return [*actions, *self._tell(now)]
        actions += self._give_up_all()
        if self.phase is Phase.STARTING or self._is_serving():
            actions += self.terminate(now)
        return actions

    def hurry(self, now: float) -> list[Action]:
        """End at once: answer all requests, and kill the worker."""
        actions = self.interrupt(now)
        return actions if self.phase is Phase.NONE else [*actions, *self._break_off(Cause.STOPPED, now)]

    def retire(self, now: float) -> list[Action]:
        """Replace the worker after it has answered the requests that it has."""
        self._retiring = True
        return self._go_on(now)

    # Events of the worker

    def hello(self, window_requests: int, window_bytes: int) -> None:
        """Set the worker's window from its HELLO: how many requests, and bytes of payload, the worker may have."""
        settings = self.settings
        self._requests.window = min(window_requests, settings.window_requests), min(window_bytes, settings.window_bytes)

    def ready(self, now: float, requests: int = 1, cooperative: bool = False) -> list[Action]:
        """Handle READY: send the worker its requests.

        Args:
            now: The time.
            requests: How many requests the worker can run at once, as its READY says. It runs no more than this, and
                no more than `concurrency`.
            cooperative: The new value of the attribute `cooperative`.
        """
        self.cooperative = cooperative
        if self.concurrency > 1:
            slots = self._requests.slots = min(self.concurrency, max(requests, 1))
            self._requests.window = min(self._requests.window[0], slots), self._requests.window[1]
        if self.phase is not Phase.STARTING:
            return []
        self._was_ready = True
        self._failed_starts = 0
        self._postponed_at = None
        self.enter(Phase.SERVING)
        return self._go_on(now)

    def outcome(self, id: int, now: float) -> tuple[bool, list[Action]]:
        """Handle the outcome of request `id`: RESULT, ERROR or END.

        Returns:
            Whether it counts as the request's outcome, and the actions. It does not count if the request has one.
        """
        if self._grows and self.limit < self.settings.window_requests:
            self.limit = min(2 * self.limit, self.settings.window_requests)
        requests = self._requests
        ticket = requests.running.pop(id, None)
        if ticket is None:
            return False, self.violation(now)
        requests.bytes -= ticket.size
        actions: list[Action] = []
        counts = ticket.state is State.BEGUN
        if counts:
            requests.in_flight -= 1
        else:
            actions += requests.answer([ticket])
            self._recover(now)
        if self.phase is Phase.SERVING:
            self.deadline = self._due() if requests.running else None
        elif self.phase is Phase.DRAINING:
            self.deadline = self._due()
        if requests.queued or requests.waiting or self.finishing or self._retiring:
            actions += self._go_on(now)
        return counts, actions

    def streams(self, id: int) -> None:
        """Record that the worker streams the result of request `id`. So it reads CANCEL after each piece."""
        ticket = self._requests.running.get(id)
        if ticket is not None:
            ticket.streams = True
            if self._is_serving():
                self.deadline = self._due()

    def cut(self, id: int, now: float) -> list[Action]:
        """Answer request `id`, whose streamed result is too large, and cancel it. The worker's other requests go on.

        The worker has the grace time to end the stream.
        """
        ticket = self._requests.running.get(id)
        if ticket is None or ticket.state is not State.BEGUN:
            return []  # the request is answered already, or will be answered as late
        actions: list[Action] = [*self._requests.answer([ticket], Cause.TOO_LARGE)]
        if self._is_serving() and not self._gone:
            actions.append(Cancel(id))
            self._cancel_ends = now + self.settings.grace
            self.phase = Phase.DRAINING
            self.deadline = self._due()
        return actions

    def not_loaded(self, now: float) -> list[Action]:
        """Handle the worker's report that it cannot load the handler. Start no other worker, which would fail, too."""
        self.enter(Phase.STOPPING, now + self.settings.grace)
        return self._fail(Cause.NOT_LOADED)

    def violation(self, now: float) -> list[Action]:
        """Handle a broken protocol: answer the requests that the worker has, and kill the worker."""
        return self._break_off(Cause.VIOLATION, now)

    def closed(self, now: float) -> list[Action]:
        """Wait for the worker's end, because the worker has closed its stream or does not read its input any more."""
        self._closed = True
        if self.phase is Phase.STARTING or self._is_serving():
            self.phase, self.deadline = Phase.STOPPING, now + self.settings.grace
            if self._answer_at is not None:
                self._due_by(self._answer_at)
        return []

    def dumped(self, now: float) -> list[Action]:
        """Handle a part of the stacks. They count as complete after `settings.dump_quiet` without another part."""
        if self._answer_at is not None:
            self._signal_at = None
            self._answer_at = min(self._dump_ends, now + self.settings.dump_quiet)
            self.deadline = self._due() if self.phase is Phase.DRAINING else self._answer_at
        return []

    def died(self, now: float) -> list[Action]:
        """Handle the worker's death. Call this after the methods for everything that it had written."""
        actions: list[Action] = [*self._requests.answer(self._requests.running.values(), Cause.DIED)]
        was_used = self.was_used
        self._let_go(moved=self._was_ready)
        self._postponed_at = None
        fault, self._fault = self._fault, None
        if self._force_at != NEVER:
            actions += self._requests.answer_waiting(Cause.STOPPED)
        elif not self._was_ready:
            actions += self._failed_start(fault or Cause.START_FAILED, now)
        elif self.settings.prestart and not was_used:  # the next worker may end without a request, too
            self.deadline = now + min(self.settings.backoff * 2**self._unused, UNUSED_BACKOFF_LIMIT)
            self._unused = min(self._unused + 1, 16)
        return [*actions, *self._go_on(now)]

    def postponed(self, now: float) -> list[Action]:
        """Handle a start that is not possible at present. Try again soon, until `start_timeout` has passed."""
        self._let_go(moved=False)
        if self._postponed_at is None:
            self._postponed_at = now
        self.deadline = now + self.settings.backoff
        actions: list[Action] = []
        if now - self._postponed_at >= self.settings.start_timeout:
            self._postponed_at = None
            actions += self._failed_start(Cause.START_FAILED, now)
        return [*actions, *self._go_on(now)]

    def exec_failed(self, now: float) -> list[Action]:
        """Handle the death of a worker whose program could not be executed. Start no other worker."""
        return [*self._fail(Cause.START_FAILED), *self.died(now)]

    def tick(self, now: float) -> list[Action]:
        """Return the actions that are due at this time."""
        if self.deadline is None or now < self.deadline:
            return []
        if self.phase is Phase.NONE:
            self.deadline = None
            return self._go_on(now)
        if self.phase is Phase.STARTING:
            return self._give_up_start(now)
        return self._overdue(now) if self._is_serving() else self.climb(now)

    # The next step

    def _go_on(self, now: float) -> list[Action]:
        """Start a worker, send it the next requests, or stop it, as the requests need it now."""
        actions: list[Action] = []
        requests = self._requests
        if self.phase is Phase.NONE:
            if requests.waiting and self.deadline is None:
                actions += self._start(now)
            elif self.finishing and not requests.waiting:
                self.ended = True
                self.deadline = None
        if requests.queued and self._was_ready and len(requests.running) < requests.slots:
            actions += self._begin_queued(now)
        if (self.phase is Phase.SERVING or self.phase is Phase.STARTING) and not self._gone:
            while requests.waiting and self._may_send(requests.waiting[0]):
                actions.append(Send(requests.send().id))
                self._unused = 0
                self._retiring = self._retiring or requests.taken == self.settings.max_requests
                if self._was_ready and len(requests.running) < requests.slots:
                    actions += self._begin_queued(now)
            idle = not requests.running and not requests.queued
            if idle and (self._retiring or (self.finishing and not requests.waiting)):
                self.enter(Phase.STOPPING, now + self.settings.stop_timeout)
                actions.append(Stop())
        return actions

    def _start(self, now: float) -> list[Action]:
        self._was_ready = self._closed = self.cooperative = self._retiring = False
        self._requests.taken = 0
        self._requests.slots = self.concurrency
        self.enter(Phase.STARTING, now + self.settings.start_timeout)
        return [Start()]

    def _may_send(self, ticket: Ticket) -> bool:
        """Return whether the worker may get this request now. Before READY, it may have only one request."""
        requests = self._requests
        inside = len(requests.running) + len(requests.queued)
        if self._retiring or inside >= self.limit:
            return False
        return not inside or (self._was_ready and requests.has_room(ticket))

    def _begin_queued(self, now: float) -> list[Action]:
        begun = self._requests.begin(now)
        if self.phase is Phase.SERVING or self.phase is Phase.DRAINING:
            for ticket in begun:
                self._due_by(min(ticket.ends, self._patience()))
        # In any other phase the worker is about to end, and the request has no time limit. Its outcome still counts.
        return [] if self.phase is Phase.KILLED else [Begin(ticket.id) for ticket in begun]

    def _let_go(self, moved: bool) -> None:
        """Forget the worker. Requests that it had not begun wait again.

        Args:
            moved: Whether to mark these requests as moved, because the worker was ready.
        """
        self._requests.take_back(moved)
        self._gone = False
        self.enter(Phase.NONE)

    def _failed_start(self, cause: Cause, now: float) -> list[Action]:
        self._failed_starts += 1
        if self._failed_starts >= self.settings.start_attempts:
            return self._fail(cause)
        delay = self.settings.backoff * 2 ** (self._failed_starts - 1)
        self.deadline = now + min(delay, self.settings.backoff_limit)
        return []

    def _fail(self, cause: Cause) -> list[Action]:
        """Answer all requests with an error, because no worker can be started."""
        self.finishing = True
        self.failure = cause
        return [*self._requests.answer_sent(cause), *self._requests.answer_waiting(cause)]

    # Deadlines

    def _is_serving(self) -> bool:
        return self.phase is Phase.SERVING or self.phase is Phase.DRAINING

    def _hears(self) -> bool:
        """Return whether the worker reads CANCEL while it runs its present requests."""
        running = self._requests.running.values()
        all_stream = len(running) > 0 and all(ticket.streams for ticket in running)
        return self._was_ready and (self.cooperative or all_stream)

    def _patience(self) -> float:
        """Return when to give up the worker's requests, because pipe-init must end; NEVER if it need not end."""
        return NEVER if self._force_at == NEVER else self._tell_at if self._hears() else self._force_at

    def _due(self) -> float | None:
        """Return when the next action is due for a serving or draining worker; None if it needs an event first."""
        due = [ticket.ends for ticket in self._requests.running.values() if ticket.state is State.BEGUN]
        if due:
            due.append(self._patience())
        if self._answer_at is not None:
            due.append(self._answer_at if self._signal_at is None else self._signal_at)
        elif self.phase is Phase.DRAINING and not due:
            due = [self._cancel_ends, self._patience()]
        return min(due, default=None)

    def _due_by(self, moment: float) -> None:
        """Set the deadline to this moment, unless the present deadline is earlier."""
        self.deadline = moment if self.deadline is None else min(self.deadline, moment)

    def _overdue(self, now: float) -> list[Action]:
        """Act at the deadline of a serving or draining worker: a request, a wait for stacks, or the grace is over."""
        if now >= self._tell_at and self._hears():
            return self._tell(now)
        requests, patience = self._requests, self._patience()
        for ticket in requests.running.values():
            if ticket.state is State.BEGUN and min(ticket.ends, patience) <= now:
                ticket.state = State.LATE
                ticket.cause = Cause.TIMED_OUT if ticket.ends <= patience else Cause.STOPPED
        actions: list[Action] = []
        if self._answer_at is None:
            if not requests.late:  # the worker has not ended its cancelled requests in time
                return self.terminate(now)
            actions += self._ask(now)
        elif self._signal_at is not None and now >= self._signal_at:
            self._signal_at = None
            actions.append(Dump())
        elif now >= self._answer_at:
            # Cancel late requests if the worker reads CANCEL while they run. SIGTERM would end its other requests, too.
            if not self._was_ready or not (requests.slots > 1 or self._hears()):
                return self.terminate(now)
            answers = requests.answer(requests.late)
            actions += [*answers, *(Cancel(answer.id) for answer in answers)]
            self._answer_at = None
            self._cancel_ends = now + self.settings.grace
        self.deadline = self._due()
        return actions

    def _give_up_start(self, now: float) -> list[Action]:
        """Give up a worker that is not ready in time: ask for its stacks, which a waiting request's error will have."""
        requests = self._requests
        self._fault = Cause.STOPPED if now >= self._force_at else Cause.START_TIMED_OUT
        for ticket in requests.begin(now):
            ticket.state, ticket.cause = State.LATE, self._fault
        actions = self._ask(now)
        self.deadline = self._due()
        return actions

    def _ask(self, now: float) -> list[Action]:
        """Ask the worker for its stacks.

        Ask a cooperative worker by a frame first, and by the signal after half of the time. The signal can crash an
        interpreter: faulthandler may read a Python frame that the interpreter is just creating.
        """
        self._answer_at = self._dump_ends = now + self.settings.dump_wait
        self._signal_at = now + self.settings.dump_wait / 2 if self.cooperative else None
        self.phase = Phase.DRAINING
        return [Dump(by_signal=self._signal_at is None)]

    def _recover(self, now: float) -> None:
        """Let a slow worker serve again, if the worker has now ended the last of its late requests.

        After SIGTERM, only a worker that runs one request at a time can serve again. Others end at SIGTERM.
        """
        if not self._was_ready or now >= self._force_at:
            return
        requests = self._requests
        if not requests.late:
            self._answer_at = None  # no answer waits for stacks now
        asked = self.phase is Phase.DRAINING or (self.phase is Phase.TERMINATING and requests.slots == 1)
        if asked and not self._closed and all(each.state is State.BEGUN for each in requests.running.values()):
            self.enter(Phase.SERVING)

    # The end of a worker

    def _tell(self, now: float) -> list[Action]:
        """Tell the worker to give up all requests, tidy up and end. If it does not end in time, it gets SIGTERM."""
        actions = self._give_up_all()
        self.enter(Phase.STOPPING, max(now, self._force_at))
        return actions if self._gone else [*actions, Stop()]

    def _give_up_all(self) -> list[Action]:
        """Answer and cancel the worker's requests, so that a worker that survives SIGTERM begins none of them."""
        answers = self._requests.answer_sent(Cause.STOPPED)
        reads = self._was_ready and not self._gone and (self._is_serving() or self.phase is Phase.TERMINATING)
        return [*answers, *(Cancel(answer.id) for answer in answers if reads)]

    def _break_off(self, cause: Cause, now: float) -> list[Action]:
        """Kill the worker and answer all its requests, without asking it for its stacks."""
        actions: list[Action] = [*self._requests.answer_sent(cause)]
        if self.phase is not Phase.KILLED:
            self._fault = self._fault or cause
            actions += self.kill(now)
        return actions

    def terminate(self, now: float) -> list[Action]:
        """Answer the late requests, and send SIGTERM to the worker."""
        return [*self._requests.answer(self._requests.late), *super().terminate(now)]

    def enter(self, phase: Phase, deadline: float | None = None) -> None:
        """Enter a phase, and stop waiting for the worker's stacks."""
        super().enter(phase, deadline)
        self._answer_at = None
