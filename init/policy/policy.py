"""What to do when: the supervisor's decisions about one worker and the requests for it.

A Policy is told what happened and at what time, and answers with actions. It has no clock, no descriptor, no process
and no payload, so every history can be replayed in a test. Times are seconds on any monotonic clock.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from ..model import Settings
from .actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep


class Phase(Enum):
    """Where the worker is."""

    NONE = "no worker"
    STARTING = "started, READY not yet seen"
    SERVING = "ready"
    DRAINING = "ready, but sent nothing new: the time of one of several requests is over"
    STOPPING = "told to stop, or gone from its pipe"
    DUMPING = "asked where it hangs"
    CANCELLING = "asked to give up on its request, whose time is over or whose answer is too large"
    TERMINATING = "sent SIGTERM"
    KILLED = "sent SIGKILL"


MANY = 2**63
"""More requests than there can be: no limit."""

NEVER = float("inf")

UNUSED_BACKOFF_LIMIT = 1.0
"""Seconds, at most, until there is another one after a worker that stood by and ended by itself, again and again."""


@dataclass(slots=True)
class Ticket:
    """A request as the policy sees it. id: above 0. timeout: seconds. size: bytes of its payload.

    moved: it was sent behind another one, on whose account the worker died.
    """

    id: int
    timeout: float
    size: int = 0
    moved: bool = False


class Policy:
    """One worker after the other, which serve requests one at a time and in order.

    Each method that is told an event takes the time `now` and returns the actions to perform, in order. What a worker
    does is told between its Start and its death only. A request has exactly one end: an outcome that counts, or an
    Answer. It is sent to a second worker only if the first cannot have begun it.
    """

    _begins_each = False
    """Whether the worker begins a request as soon as it is sent it, not when those before are answered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phase = Phase.NONE
        self.ended = False
        """No worker is there and none will be started."""
        self.finishing = False
        """No further request is taken."""
        self.failure: Cause | None = None
        """Why no worker can be had, once that is certain."""
        self.cooperative = False
        """Whether the worker answers DUMP and hears CANCEL while requests run. To be set before `ready`. Any other
        worker hears CANCEL only while it streams a result."""
        self.deadline: float | None = None
        """When the phase, or in SERVING the oldest request, is over and `tick` is due; None: only an event counts."""
        self.limit = MANY
        """The number of requests that the worker may have at once. See `pace`."""
        self._waiting: deque[Ticket] = deque()
        self._sent: deque[Ticket] = deque()
        self._sent_bytes = 0
        self._window = settings.window_requests, settings.window_bytes
        self._condemned: _Condemned | None = None
        self._was_ready = False
        self._gone = False
        self._taken = 0  # requests that this worker was sent
        self._retiring = False  # it is sent nothing more, and stops after what it has
        self._failed_starts = 0
        self._force_at = NEVER  # somebody wants an end: when the worker is sent SIGTERM
        self._tell_at = NEVER  # before that, when one that hears of it is told to give up its requests
        self._streaming = 0  # the request whose result is on its way in pieces
        self._missing: set[int] = set()  # answered in the worker's place; its own outcome has not come
        self._dump_ends = 0.0
        self._signal_at: float | None = None  # of a worker that answers DUMP: when it is asked by signal, too
        self._lost_at = 0.0
        self._postponed_at: float | None = None  # since when none can be started
        self._unused = 0  # workers in a row that stood by, and ended by themselves

    @property
    def in_flight(self) -> int:
        """Requests that have no outcome yet, sent or not."""
        unanswered = self._condemned is not None and not self._condemned.answered
        return len(self._waiting) + len(self._sent) + unanswered

    @property
    def was_used(self) -> bool:
        """Whether the worker was sent a request."""
        return self._taken > 0

    @property
    def loading(self) -> bool:
        """Whether the worker may still say that it cannot load the handler; it may have stopped reading by then."""
        return self.phase in (Phase.STARTING, Phase.STOPPING) and not self._was_ready

    # What happens outside

    def begin(self, now: float) -> list[Action]:
        """Start a worker before it is needed, if that is wanted and there is none."""
        if not self.settings.prestart or self.finishing or self.phase is not Phase.NONE or self.deadline is not None:
            return []
        return self._start(now)

    def submit(self, ticket: Ticket, now: float) -> list[Action]:
        """A new request. ValueError: none is taken any more."""
        if self.finishing:
            raise ValueError("no request is taken any more")
        self._waiting.append(ticket)
        return self._go_on(now)

    def submit_if_idle(self, ticket: Ticket, now: float) -> bool:
        """`submit` for the frequent case, a ready worker that is idle.

        True: its actions are Send and Begin. False: nothing has changed, and `submit` is to be called.
        """
        if self.phase is not Phase.SERVING or self._sent or self._waiting or self.finishing or self._gone:
            return False
        if self._retiring or not self.limit:
            return False
        self._sent.append(ticket)
        self._sent_bytes = ticket.size
        self._count()
        self.deadline = now + ticket.timeout
        return True

    def pace(self, limit: int, now: float) -> list[Action]:
        """Set how many requests the worker may have at once. It keeps those that it was sent already."""
        self.limit = limit
        return self._go_on(now) if self._waiting else []

    def finish(self, now: float) -> list[Action]:
        """No more requests will come: stop the worker once what is there is answered."""
        self.finishing = True
        return self._go_on(now)

    def interrupt(self, now: float) -> list[Action]:
        """End because of a signal: answer what was not sent; all that was sent has the grace time, together.

        A worker that hears CANCEL is told after half of that time, so that it can tidy up in the other half.
        """
        self.finishing = True
        if self._force_at == NEVER:
            self._force_at = now + self.settings.grace
            self._tell_at = now + self.settings.grace / 2
        if self.phase in (Phase.STARTING, Phase.SERVING) and self.deadline is not None:
            self.deadline = min(self.deadline, self._patience())
        return [*self._answer_waiting(Cause.STOPPED), *self._go_on(now)]

    def abandon(self, now: float) -> list[Action]:
        """End because no result can be written: answer everything, and give the worker the grace time to tidy up."""
        self.finishing = True
        self._force_at = min(self._force_at, now + self.settings.grace)
        self._tell_at = now
        actions = [*self._answer_waiting(Cause.STOPPED)]
        if self.phase is Phase.SERVING and not self._sent:
            return [*actions, *self._go_on(now)]
        if self.phase is Phase.STARTING or (self._is_serving() and not self._hears()):
            self._condemn(Cause.STOPPED)
            actions += self._terminate(now)
        elif self._is_serving():
            actions += self._tell(now)
        elif self.phase is Phase.NONE:
            actions += self._go_on(now)
        behind = [ticket.id for ticket in self._sent]
        actions += self._answer_sent(Cause.STOPPED)
        ending = self.phase in (Phase.DUMPING, Phase.CANCELLING, Phase.TERMINATING)
        if ending and self._was_ready and not self._gone:
            self._missing.update(behind)
            actions += map(Cancel, behind)  # or it would go on to them when it is done with the one that is late
        return [*actions, *self._answer_condemned()]

    def hurry(self, now: float) -> list[Action]:
        """Somebody wants an end at once."""
        actions = self.interrupt(now)
        if self.phase is Phase.NONE:
            return actions
        return [*actions, *self._break_off(Cause.STOPPED, now)]

    # What the worker does

    def retire(self, now: float) -> list[Action]:
        """The worker is to be replaced, after what it has been sent."""
        self._retiring = True
        return self._go_on(now)

    def hello(self, window_requests: int, window_bytes: int) -> None:
        """HELLO came, and says how much the worker lets wait unanswered."""
        settings = self.settings
        self._window = min(window_requests, settings.window_requests), min(window_bytes, settings.window_bytes)

    def serves(self, requests: int) -> None:
        """READY says how many requests the worker serves at once. Here more than that may wait in it."""

    def ready(self, now: float) -> list[Action]:
        """READY came."""
        if self.phase is not Phase.STARTING:
            return []
        self._was_ready = True
        self._failed_starts = 0
        self._postponed_at = None
        self._enter(Phase.SERVING)
        return self._next(now)

    def outcome(self, id: int, now: float) -> tuple[bool, list[Action]]:
        """RESULT or ERROR came for request `id`: (whether it counts as that request's outcome, actions)."""
        condemned = self._condemned
        if condemned is None and self._sent and self._sent[0].id == id and self._was_ready:
            self._sent_bytes -= self._sent.popleft().size
            return True, self._next(now)
        if id in self._missing:
            self._missing.remove(id)
            return False, []
        if condemned is not None and condemned.id == id and not condemned.late:
            condemned.late = True  # it has gone on to the request behind, if there is one
            return False, self._recover(now)
        oldest = self._sent[0].id if self._sent and self._was_ready else None
        if oldest != id or (condemned is not None and not condemned.late):
            return False, self.violation(now)
        self._take_oldest()
        return True, self._next(now)

    def streams(self, id: int) -> None:
        """Note that the worker has begun to stream the result of request `id`. It hears CANCEL between two pieces."""
        self._streaming = id
        if self._is_serving() and self.deadline is not None:
            self.deadline = min(self.deadline, self._patience())

    def cut(self, id: int, now: float) -> list[Action]:
        """The streamed answer of request `id` is too large: it gets no further, and is answered in the worker's place.

        The worker is told, and has the grace time to come to the stream's end.
        """
        if self._condemned is not None or not self._sent or self._sent[0].id != id:
            return []  # its end is decided
        self._condemn(Cause.TOO_LARGE)
        actions = list(self._answer_condemned())
        if self.phase is Phase.SERVING and not self._gone:
            self._enter(Phase.CANCELLING, now + self.settings.grace)
            actions.append(Cancel(id))
        return actions

    def not_loaded(self, now: float) -> list[Action]:
        """The runtime's last word while it was STARTING: it cannot load the handler. To try again would not help."""
        self.finishing = True
        self.failure = Cause.NOT_LOADED
        self._enter(Phase.STOPPING, now + self.settings.grace)
        return [*self._answer_sent(Cause.NOT_LOADED), *self._answer_waiting(Cause.NOT_LOADED)]

    def violation(self, now: float) -> list[Action]:
        """The worker broke the protocol: nothing that it says counts any more, nor what it may have begun since."""
        return list(self._break_off(Cause.VIOLATION, now))

    def closed(self, now: float) -> list[Action]:
        """The worker's answers are at their end; it must be about to end itself."""
        if self.phase in (Phase.STARTING, Phase.SERVING):
            self._enter(Phase.STOPPING, now + self.settings.grace)
        return []

    def dumped(self, now: float) -> list[Action]:
        """A part of the stacks came; when no more does for a while, they are complete."""
        if self.phase is Phase.DUMPING:
            self._signal_at = None
            self.deadline = min(self._dump_ends, now + self.settings.dump_quiet)
        return []

    def gone(self) -> None:
        """The worker is dead. What it had written can still be told, then `died`, at once; it is sent nothing more."""
        self._gone = True

    def died(self, now: float) -> list[Action]:
        """The worker is dead, and everything that it had written before has been told."""
        actions = list(self._answer_condemned())
        condemned, self._condemned = self._condemned, None
        self._postponed_at = None
        self._enter(Phase.NONE)
        self._gone = False
        if self._sent and self._was_ready and (condemned is None or condemned.late):
            actions.append(Answer(self._take_oldest().id, Cause.DIED))
        while self._sent:
            ticket = self._sent.pop()
            self._waiting.appendleft(replace(ticket, moved=ticket.moved or self._was_ready))
        self._sent_bytes = 0
        self._missing.clear()
        if self._force_at != NEVER:
            actions += self._answer_waiting(Cause.STOPPED)
        elif not self._was_ready:
            actions += self._failed_start(condemned.cause if condemned else Cause.START_FAILED, now)
        elif self.settings.prestart and not self._taken:
            # Nobody has used it: the next one may end like that, too.
            self.deadline = now + min(self.settings.backoff * 2**self._unused, UNUSED_BACKOFF_LIMIT)
            self._unused = min(self._unused + 1, 16)
        return [*actions, *self._go_on(now)]

    def postponed(self, now: float) -> list[Action]:
        """None could be started just now, through nobody's fault: try again soon, but not for ever."""
        while self._sent:
            self._waiting.appendleft(self._sent.pop())
        self._sent_bytes = 0
        if self._postponed_at is None:
            self._postponed_at = now
        self._enter(Phase.NONE, now + self.settings.backoff)
        actions: list[Action] = []
        if now - self._postponed_at >= self.settings.start_timeout:
            self._postponed_at = None
            actions += self._failed_start(Cause.START_FAILED, now)
        return [*actions, *self._go_on(now)]

    def exec_failed(self, now: float) -> list[Action]:
        """The worker's program could not be executed, and it is dead; trying again would not help."""
        self.finishing = True
        self.failure = Cause.START_FAILED
        answers = [*self._answer_sent(Cause.START_FAILED), *self._answer_waiting(Cause.START_FAILED)]
        return [*answers, *self.died(now)]

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        if self.deadline is None or now < self.deadline:
            return []
        if self.phase is Phase.NONE:
            self.deadline = None
            return self._go_on(now)
        return list(self._phase_over(now))

    # How it goes on

    def _next(self, now: float) -> list[Action]:
        """The worker goes on to what it was sent behind, if anything; then as _go_on."""
        if self._sent:
            return [*self._begin(self._sent[0], now), *self._go_on(now)]
        if self.phase is Phase.SERVING:
            self.deadline = None
        return self._go_on(now) if self._waiting or self.finishing or self._retiring else []

    def _go_on(self, now: float) -> list[Action]:
        """Start, feed or stop a worker, as the requests ask for it."""
        actions: list[Action] = []
        if self.phase is Phase.NONE:
            if self._waiting and self.deadline is None:
                actions += self._start(now)
            elif self.finishing and not self._waiting:
                self.ended = True
                self.deadline = None
        if (self.phase is Phase.SERVING or self.phase is Phase.STARTING) and not self._gone:
            while self._waiting and self._may_send():
                ticket = self._waiting.popleft()
                self._sent.append(ticket)
                self._sent_bytes += ticket.size
                self._count()
                actions.append(Send(ticket.id))
                if self._begins_each or len(self._sent) == 1:
                    actions += self._begin(ticket, now)
            if not self._sent and (self._retiring or (self.finishing and not self._waiting)):
                self._enter(Phase.STOPPING, now + self.settings.stop_timeout)
                actions.append(Stop())
        return actions

    def _start(self, now: float) -> list[Action]:
        self._was_ready = self.cooperative = self._retiring = False
        self._taken = self._streaming = 0
        self._enter(Phase.STARTING, now + self.settings.start_timeout)
        return [Start()]

    def _count(self) -> None:
        """One more request was sent to this worker."""
        self._taken += 1
        self._unused = 0
        if self._taken == self.settings.max_requests:
            self._retiring = True

    def _may_send(self) -> bool:
        """Return whether the worker may be sent the first of the waiting requests."""
        if self._retiring or len(self._sent) >= self.limit:
            return False
        return not self._sent or self._has_room(self._waiting[0])

    def _has_room(self, ticket: Ticket) -> bool:
        """Whether it may wait in the worker, behind another one.

        A request that lost one worker to its neighbour is never again sent behind another one, nor before one.
        """
        if self.phase is Phase.STARTING or ticket.moved or self._sent[0].moved:
            return False
        requests, size = self._window
        return len(self._sent) < requests and self._sent_bytes + ticket.size <= size

    def _begin(self, ticket: Ticket, now: float) -> list[Action]:
        """This request is now what the worker is at."""
        if self.phase is not Phase.SERVING:
            # A worker that has closed its stream is about to end, and has no clock; what it answers until then counts.
            return [Begin(ticket.id)] if self._was_ready and self._condemned is None else []
        self.deadline = min(now + ticket.timeout, self._patience())
        return [Begin(ticket.id)]

    def _take_oldest(self) -> Ticket:
        ticket = self._sent.popleft()
        self._sent_bytes -= ticket.size
        return ticket

    def _failed_start(self, cause: Cause, now: float) -> Iterator[Action]:
        self._failed_starts += 1
        if self._failed_starts >= self.settings.start_attempts:
            self.finishing = True
            self.failure = cause
            yield from self._answer_waiting(cause)
        else:
            delay = self.settings.backoff * 2 ** (self._failed_starts - 1)
            self.deadline = now + min(delay, self.settings.backoff_limit)

    # How it ends

    def _phase_over(self, now: float) -> Iterator[Action]:
        if self.phase is Phase.STARTING:
            yield from self._give_up(Cause.START_TIMED_OUT, now)
        elif self.phase is Phase.SERVING and self._hears() and now >= self._tell_at:
            yield from self._tell(now)
        elif self.phase is Phase.SERVING:
            yield from self._give_up(Cause.TIMED_OUT, now)
        elif self.phase is Phase.DUMPING and self._signal_at is not None:
            self._signal_at, self.deadline = None, self._dump_ends
            yield Dump()
        elif self.phase is Phase.DUMPING and self._may_give_up_alone():
            yield from self._cancel(now)
        elif self.phase in (Phase.DUMPING, Phase.CANCELLING, Phase.STOPPING):
            yield from self._terminate(now)
        elif self.phase is Phase.TERMINATING:
            yield from self._kill(now)
        elif self.phase is Phase.KILLED:
            yield from self._still_there(now)

    def _give_up(self, cause: Cause, now: float) -> Iterator[Action]:
        """The worker does not get done with the oldest request, or with its start: the first step of the ladder."""
        self._condemn(Cause.STOPPED if now >= self._force_at else cause)
        self._enter(Phase.DUMPING, self._ask(now))
        yield Dump(by_signal=self._signal_at is None)

    def _hears(self) -> bool:
        """Return whether the worker would hear a CANCEL for the request that it runs."""
        return self.cooperative or (len(self._sent) > 0 and self._sent[0].id == self._streaming)

    def _is_serving(self) -> bool:
        return self.phase is Phase.SERVING or self.phase is Phase.DRAINING

    def _patience(self) -> float:
        """Return when the worker's requests are given up because of an end; NEVER if no end was asked for."""
        return self._tell_at if self._hears() else self._force_at

    def _tell(self, now: float) -> Iterator[Action]:
        """Tell the worker to give up all requests, tidy up and end, before it is sent SIGTERM."""
        cancelled = set(self._missing)
        yield from self._answer_condemned()
        self._missing.update(ticket.id for ticket in self._sent)
        yield from self._answer_sent(Cause.STOPPED)
        self._enter(Phase.STOPPING, max(now, self._force_at))
        if not self._gone:
            yield from map(Cancel, sorted(self._missing - cancelled))
            yield Stop()

    def _ask(self, now: float) -> float:
        """The stacks are asked for: when to go on if they do not come.

        A signal can crash an interpreter (faulthandler, in a frame that is just being entered), so one that can answer
        a frame has half of the time for that.
        """
        self._dump_ends = now + self.settings.dump_wait
        self._signal_at = now + self.settings.dump_wait / 2 if self.cooperative else None
        return self._dump_ends if self._signal_at is None else self._signal_at

    def _may_give_up_alone(self) -> bool:
        """Whether the worker hears of a cancellation and need not be ended, if its request comes to an end then."""
        condemned = self._condemned
        if condemned is None or condemned.cause is not Cause.TIMED_OUT or not condemned.id:
            return False
        return self.cooperative or condemned.id == self._streaming

    def _cancel(self, now: float) -> Iterator[Action]:
        assert self._condemned is not None
        yield from self._answer_condemned()
        self._enter(Phase.CANCELLING, now + self.settings.grace)
        yield Cancel(self._condemned.id)

    def _recover(self, now: float) -> list[Action]:
        """The late outcome of a condemned request: a worker that was only slow need not take those behind with it."""
        asked = self.phase in (Phase.DUMPING, Phase.CANCELLING, Phase.TERMINATING)
        condemned = self._condemned
        if not asked or condemned is None or condemned.cause not in (Cause.TIMED_OUT, Cause.TOO_LARGE):
            return []
        answer = list(self._answer_condemned())
        self._condemned = None
        self._enter(Phase.SERVING)
        return [*answer, *self._next(now)]

    def _break_off(self, cause: Cause, now: float) -> Iterator[Action]:
        """End the worker by force, and with it all that it was sent: it is not asked how far it has come."""
        if self.phase is not Phase.KILLED:
            self._condemn(cause)
            yield from self._kill(now)
        yield from self._answer_sent(cause)

    def _condemn(self, cause: Cause) -> None:
        """The worker must go because of the oldest request, or of none."""
        if self._condemned is None:
            id = self._take_oldest().id if self._sent else 0
            self._condemned = _Condemned(cause, id, answered=not id)

    def _terminate(self, now: float) -> Iterator[Action]:
        yield from self._answer_condemned()
        self._enter(Phase.TERMINATING, now + self.settings.grace)
        if not self._gone:
            yield Signal(signal.SIGTERM)

    def _kill(self, now: float) -> Iterator[Action]:
        yield from self._answer_condemned()
        self._enter(Phase.KILLED, now + self.settings.kill_wait)
        self._lost_at = now + self.settings.lose_wait
        if not self._gone:
            yield Signal(signal.SIGKILL)

    def _still_there(self, now: float) -> Iterator[Action]:
        """A tracer, or the kernel, holds on to the worker that was killed."""
        if now < self._lost_at:
            self.deadline = now + self.settings.kill_wait
            yield Sweep()
        else:
            self.deadline = None
            yield Lose()

    def _answer_condemned(self) -> Iterator[Action]:
        condemned = self._condemned
        if condemned is not None and not condemned.answered:
            condemned.answered = True
            yield Answer(condemned.id, condemned.cause)

    def _answer_sent(self, cause: Cause) -> Iterator[Action]:
        while self._sent:
            yield Answer(self._take_oldest().id, cause)

    def _answer_waiting(self, cause: Cause) -> Iterator[Action]:
        while self._waiting:
            yield Answer(self._waiting.popleft().id, cause)

    def _enter(self, phase: Phase, deadline: float | None = None) -> None:
        self.phase = phase
        self.deadline = deadline


@dataclass
class _Condemned:
    """Why the worker must go, and the request that it went wrong with, 0 for none.

    answered: that request needs no answer of ours any more. late: the worker has answered it too, in vain.
    """

    cause: Cause
    id: int
    answered: bool
    late: bool = False
