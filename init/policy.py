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


class Phase(Enum):
    """Where the worker is."""

    NONE = "no worker"
    STARTING = "started, READY not yet seen"
    SERVING = "ready"
    STOPPING = "told to stop, or gone from its pipe"
    DUMPING = "asked where it hangs"
    TERMINATING = "sent SIGTERM"
    KILLED = "sent SIGKILL"


class Cause(Enum):
    """Why the init answers a request in the runtime's place."""

    TIMED_OUT = "timed out"
    DIED = "died"
    VIOLATION = "broke the protocol"
    NOT_LOADED = "could not load the handler"
    START_TIMED_OUT = "was not ready in time"
    START_FAILED = "could not be started"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Settings:
    """The times in seconds; the defaults are those of docs/settings in the README.

    start_timeout: from start to READY. grace: between asking and forcing. stop_timeout: from STOP to the end.
    dump_wait: for the stacks, at most; dump_quiet: after their last part. backoff: after a first failed start, doubled
    up to backoff_limit. start_attempts: failed starts in a row that end it.
    window_requests, window_bytes: what may be sent to a worker and not be answered yet.
    """

    start_timeout: float = 10.0
    grace: float = 2.0
    stop_timeout: float = 5.0
    dump_wait: float = 0.2
    dump_quiet: float = 0.02
    backoff: float = 0.1
    backoff_limit: float = 10.0
    start_attempts: int = 5
    window_requests: int = 1
    window_bytes: int = 1024 * 1024


@dataclass(frozen=True)
class Ticket:
    """A request as the policy sees it. timeout: seconds. size: bytes of its payload. moved: its first worker died."""

    id: int
    timeout: float
    size: int = 0
    moved: bool = False


@dataclass(frozen=True)
class Start:
    """Start a worker."""


@dataclass(frozen=True)
class Send:
    """Write this request to the worker."""

    id: int


@dataclass(frozen=True)
class Begin:
    """This request is now the one that the worker works on; its time runs."""

    id: int


@dataclass(frozen=True)
class Answer:
    """Answer this request in the runtime's place."""

    id: int
    cause: Cause


@dataclass(frozen=True)
class Dump:
    """Ask the worker for its stacks, and wake it if it is stopped."""


@dataclass(frozen=True)
class Stop:
    """Tell the worker to finish: STOP, and the end of its input."""


@dataclass(frozen=True)
class Signal:
    """Send a signal to the worker's process group (and wake it, so that it can act)."""

    number: int


Action = Start | Send | Begin | Answer | Dump | Stop | Signal


class Policy:
    """One worker after the other, which serve requests one at a time and in order.

    Each method that is told an event takes the time `now` and returns the actions to perform, in order.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.phase = Phase.NONE
        self.ended = False
        """No worker is there and none will be started."""
        self._waiting: deque[Ticket] = deque()
        self._sent: deque[Ticket] = deque()
        self._condemned: _Condemned | None = None
        self._was_ready = False
        self._was_stopped = False
        self._failed_starts = 0
        self._failure = Cause.START_FAILED
        self._finishing = False
        self._interrupted = False
        self._not_before: float | None = None
        self._phase_ends: float | None = None
        self._request_ends: float | None = None

    @property
    def in_flight(self) -> int:
        """Requests that have no outcome yet, sent or not."""
        unanswered = self._condemned is not None and self._condemned.ticket is not None and not self._condemned.answered
        return len(self._waiting) + len(self._sent) + unanswered

    @property
    def deadline(self) -> float | None:
        """When `tick` must be called at the latest; None: only after an event."""
        ends = [at for at in (self._not_before, self._phase_ends, self._request_ends) if at is not None]
        return min(ends, default=None)

    @property
    def finishing(self) -> bool:
        """Whether no further request is taken."""
        return self._finishing

    # What happens outside

    def submit(self, ticket: Ticket, now: float) -> list[Action]:
        """A new request. ValueError: none is taken any more."""
        if self._finishing:
            raise ValueError("no request is taken any more")
        self._waiting.append(ticket)
        return list(self._go_on(now))

    def finish(self, now: float) -> list[Action]:
        """No more requests will come: stop the worker once what is there is answered."""
        self._finishing = True
        return list(self._go_on(now))

    def interrupt(self, now: float) -> list[Action]:
        """Somebody wants an end: what is not begun is answered, the rest has the grace time before force is used."""
        self._finishing = self._interrupted = True
        actions = list(self._answer_all(self._waiting, Cause.STOPPED))
        limit = now + self.settings.grace
        if self._request_ends is not None:
            self._request_ends = min(self._request_ends, limit)
        elif self.phase is Phase.STARTING and self._phase_ends is not None:
            self._phase_ends = min(self._phase_ends, limit)
        self._not_before = None
        return [*actions, *self._go_on(now)]

    def hurry(self, now: float) -> list[Action]:
        """Somebody wants an end at once."""
        actions = self.interrupt(now)
        if self.phase in (Phase.NONE, Phase.KILLED):
            return actions
        self._condemn(Cause.STOPPED)
        return [*actions, *self._kill()]

    # What the worker does

    def ready(self, now: float) -> list[Action]:
        """READY came."""
        if self.phase is not Phase.STARTING:
            return []
        self._was_ready = True
        self._failed_starts = 0
        self._enter(Phase.SERVING)
        return [*self._begin(now), *self._go_on(now)]

    def outcome(self, id: int, now: float) -> tuple[bool, list[Action]]:
        """RESULT or ERROR came for request `id`: (whether it counts as that request's outcome, actions)."""
        condemned = self._condemned
        if condemned is not None and condemned.ticket is not None and not condemned.late:
            if condemned.ticket.id != id:
                return False, self.violation(now)
            condemned.late = True  # it has gone on to the request behind, if there is one
            return False, []
        if not self._sent or self._sent[0].id != id:
            return False, self.violation(now)
        self._sent.popleft()
        self._request_ends = None
        return True, [*self._begin(now), *self._go_on(now)]

    def not_loaded(self, now: float) -> list[Action]:
        """The runtime's last word before READY: it cannot load the handler, and trying again would not help."""
        self._finishing = self._was_stopped = True
        self._enter(Phase.STOPPING, now + self.settings.grace)
        return [
            *self._answer_all(self._sent, Cause.NOT_LOADED),
            *self._answer_all(self._waiting, Cause.NOT_LOADED),
        ]

    def violation(self, now: float) -> list[Action]:
        """The worker broke the protocol: nothing that it says counts any more."""
        self._condemn(Cause.VIOLATION)
        return list(self._kill())

    def closed(self, now: float) -> list[Action]:
        """The worker's answers are at their end; it must be about to end itself."""
        if self.phase in (Phase.STARTING, Phase.SERVING):
            self._enter(Phase.STOPPING, now + self.settings.grace)
            self._request_ends = None
        return []

    def dumped(self, now: float) -> list[Action]:
        """A part of the stacks came; when no more does for a while, they are complete."""
        if self.phase is Phase.DUMPING:
            self._phase_ends = min(self._phase_ends or now, now + self.settings.dump_quiet)
        return []

    def died(self, now: float) -> list[Action]:
        """The worker is dead, and everything that it had written before has been told."""
        condemned, self._condemned = self._condemned, None
        failed_start = not self._was_ready and not self._was_stopped
        self._enter(Phase.NONE)
        self._request_ends = None
        actions: list[Action] = []
        if condemned is not None and condemned.ticket is not None and not condemned.answered:
            actions.append(Answer(condemned.ticket.id, condemned.cause))
        begun = self._was_ready and (condemned is None or condemned.ticket is None or condemned.late)
        if self._sent and begun:
            actions.append(Answer(self._sent.popleft().id, Cause.DIED))
        while self._sent:
            self._waiting.appendleft(replace(self._sent.pop(), moved=self._was_ready))
        if self._interrupted:
            actions += self._answer_all(self._waiting, Cause.STOPPED)
        elif failed_start:
            actions += self._failed_start(condemned, now)
        return [*actions, *self._go_on(now)]

    def exec_failed(self, now: float) -> list[Action]:
        """The worker's program could not be executed, and it is dead; trying again would not help."""
        self._finishing = self._was_stopped = True
        answers = [
            *self._answer_all(self._sent, Cause.START_FAILED),
            *self._answer_all(self._waiting, Cause.START_FAILED),
        ]
        return [*answers, *self.died(now)]

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        if self._request_ends is not None and now >= self._request_ends:
            self._request_ends = None
            self._condemn(Cause.STOPPED if self._interrupted else Cause.TIMED_OUT)
            self._enter(Phase.DUMPING, now + self.settings.dump_wait)
            return [Dump()]
        if self._phase_ends is not None and now >= self._phase_ends:
            return list(self._phase_over(now))
        if self._not_before is not None and now >= self._not_before:
            self._not_before = None
            return list(self._go_on(now))
        return []

    # How it goes on

    def _go_on(self, now: float) -> Iterator[Action]:
        """Start, feed or stop a worker, as the requests ask for it."""
        if self.phase is Phase.NONE:
            if self._waiting and self._not_before is None:
                self._was_ready = self._was_stopped = False
                self._enter(Phase.STARTING, now + self.settings.start_timeout)
                yield Start()
            elif self._finishing and not self._waiting:
                self.ended = True
        if self.phase in (Phase.STARTING, Phase.SERVING):
            while self._waiting and self._has_room(self._waiting[0]):
                ticket = self._waiting.popleft()
                self._sent.append(ticket)
                yield Send(ticket.id)
                if len(self._sent) == 1:
                    yield from self._begin(now)
            if self._finishing and not self._waiting and not self._sent:
                self._was_stopped = True
                self._enter(Phase.STOPPING, now + self.settings.stop_timeout)
                yield Stop()

    def _has_room(self, ticket: Ticket) -> bool:
        """A request that lost one worker to its neighbour is never again sent behind another one."""
        if not self._sent:
            return True
        if self.phase is Phase.STARTING or ticket.moved or self._sent[0].moved:
            return False
        size = sum(sent.size for sent in self._sent) + ticket.size
        return len(self._sent) < self.settings.window_requests and size <= self.settings.window_bytes

    def _begin(self, now: float) -> Iterator[Action]:
        if self._sent and self.phase is Phase.SERVING:
            ticket = self._sent[0]
            self._request_ends = now + (
                min(ticket.timeout, self.settings.grace) if self._interrupted else ticket.timeout
            )
            yield Begin(ticket.id)

    def _phase_over(self, now: float) -> Iterator[Action]:
        if self.phase is Phase.STARTING:
            self._condemned = _Condemned(Cause.STOPPED if self._interrupted else Cause.START_TIMED_OUT, None)
            self._enter(Phase.DUMPING, now + self.settings.dump_wait)
            yield Dump()
        elif self.phase in (Phase.DUMPING, Phase.STOPPING):
            yield from self._answer_condemned()
            self._enter(Phase.TERMINATING, now + self.settings.grace)
            yield Signal(signal.SIGTERM)
        elif self.phase is Phase.TERMINATING:
            yield from self._kill()

    def _condemn(self, cause: Cause) -> None:
        """The worker must go because of the oldest request, or of none."""
        if self._condemned is None:
            oldest = self._sent.popleft() if self._sent and self._was_ready else None
            self._condemned = _Condemned(cause, oldest)
        self._request_ends = None

    def _kill(self) -> Iterator[Action]:
        yield from self._answer_condemned()
        self._enter(Phase.KILLED)
        yield Signal(signal.SIGKILL)

    def _answer_condemned(self) -> Iterator[Action]:
        condemned = self._condemned
        if condemned is not None and condemned.ticket is not None and not condemned.answered:
            condemned.answered = True
            yield Answer(condemned.ticket.id, condemned.cause)

    def _answer_all(self, tickets: deque[Ticket], cause: Cause) -> Iterator[Action]:
        while tickets:
            yield Answer(tickets.popleft().id, cause)

    def _failed_start(self, condemned: _Condemned | None, now: float) -> Iterator[Action]:
        self._failed_starts += 1
        if self._failed_starts >= self.settings.start_attempts:
            self._finishing = True
            yield from self._answer_all(self._waiting, condemned.cause if condemned else Cause.START_FAILED)
        elif self._waiting:
            delay = self.settings.backoff * 2 ** (self._failed_starts - 1)
            self._not_before = now + min(delay, self.settings.backoff_limit)

    def _enter(self, phase: Phase, ends: float | None = None) -> None:
        self.phase = phase
        self._phase_ends = ends


@dataclass
class _Condemned:
    """Why the worker must go, and the request that it went wrong with.

    answered: that request has been answered by us. late: the worker has answered it too, in vain.
    """

    cause: Cause
    ticket: Ticket | None
    answered: bool = False
    late: bool = False


MEMORY_SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
"""How a process ends that runs out of memory: by the kernel's hand, or by not looking at what malloc returned."""

MEMORY_SHARE = 0.9
"""Of its limit that a process must have used for its death to count as one of memory."""


def killed_for_memory(signal: int, peak: int, limit: int) -> bool:
    """Whether a worker that died of `signal` at a peak of `peak` bytes died of its limit of `limit` bytes."""
    return signal in MEMORY_SIGNALS and peak >= limit * MEMORY_SHARE
