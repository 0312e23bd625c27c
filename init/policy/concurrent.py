"""What to do when a worker serves several requests at once: what differs from the decisions of policy.py.

A request whose time is over cannot be ended by force without its neighbours, if it is a thread. So the worker is
drained: it is sent nothing new while the neighbours go on, and replaced only if the late outcome does not come.
Like a Policy, this has no clock, no descriptor, no process and no payload.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model import Settings
from .actions import Action, Answer, Begin, Cancel, Cause, Dump
from .policy import MANY, Phase, Policy, Ticket


class ConcurrentPolicy(Policy):
    """One worker after the other, which serve up to `settings.window_requests` requests at a time, in any order.

    The clock of each runs from its Begin: as soon as it is sent and READY was seen. `deadline` is when the next thing
    is due, whichever it is. A request that was sent to a ready worker may have begun, and is never sent again.
    """

    _begins_each = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._ends: dict[int, float] = {}  # of the requests that have begun, those in time: when each one's is over
        self._expired: dict[int, Cause] = {}  # neither in time nor answered: the stacks are waited for
        self._answer_at = 0.0
        self._patience_ends = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that have no outcome yet, sent or not."""
        return len(self._waiting) + len(self._sent) + len(self._expired)

    # What happens outside

    def submit_if_idle(self, ticket: Ticket, now: float) -> bool:
        """`submit` for the frequent case, a ready worker that has room.

        True: its actions are Send and Begin. False: nothing has changed, and `submit` is to be called.
        """
        if self.phase is not Phase.SERVING or self._waiting or self.finishing or self._gone or self._retiring:
            return False
        if len(self._sent) >= self.limit or (self._sent and not self._has_room(ticket)):
            return False
        self._sent.append(ticket)
        self._sent_bytes += ticket.size
        self._count()
        self._begin(ticket, now)
        return True

    def pace(self, limit: int, now: float) -> list[Action]:
        """Send no more requests if `limit` is 0. Any other limit is ignored: no request waits in such a worker."""
        return super().pace(MANY if limit else 0, now)

    def interrupt(self, now: float) -> list[Action]:
        """As Policy.interrupt."""
        actions = super().interrupt(now)
        if self.phase is Phase.DRAINING:
            self.deadline = self._next_due()
        return actions

    # What the worker does

    def serves(self, requests: int) -> None:
        """READY says how many requests the worker serves at once. It is sent no more, whatever HELLO allowed."""
        self._window = min(self._window[0], requests), self._window[1]

    def outcome(self, id: int, now: float) -> tuple[bool, list[Action]]:
        """RESULT or ERROR came for request `id`: (whether it counts as that request's outcome, actions)."""
        actions: list[Action] = []
        counts = id in self._ends
        if counts:
            self._take(id)
        elif id in self._expired:
            actions.append(Answer(id, self._expired.pop(id)))
        elif id in self._missing:
            self._missing.remove(id)
        else:
            return False, self.violation(now)
        if self.phase is Phase.DRAINING and not self._expired and not self._missing:
            self._enter(Phase.SERVING)  # it was only slow
        if self._is_serving():
            self.deadline = self._next_due()
        if self._waiting or self.finishing or self._retiring:
            actions += self._go_on(now)
        return counts, actions

    def cut(self, id: int, now: float) -> list[Action]:
        """The streamed answer of request `id` is too large. Its neighbours go on, as when its time was over."""
        if id not in self._ends:
            return []  # its end is decided
        self._take(id)
        self._missing.add(id)
        self._patience_ends = now + self.settings.grace
        if self.phase is Phase.SERVING:
            self._enter(Phase.DRAINING)
        if self.phase is Phase.DRAINING:
            self.deadline = self._next_due()
        return [Answer(id, Cause.TOO_LARGE), *([] if self._gone else [Cancel(id)])]

    def closed(self, now: float) -> list[Action]:
        """The worker's answers are at their end; it must be about to end itself."""
        if self.phase is not Phase.DRAINING:
            return super().closed(now)
        if self._expired:
            self._enter(Phase.DUMPING, self._answer_at)  # the stacks come another way
        else:
            self._enter(Phase.STOPPING, now + self.settings.grace)
        return []

    def dumped(self, now: float) -> list[Action]:
        """A part of the stacks came; when no more does for a while, they are complete."""
        if self.phase is Phase.DRAINING:
            self._signal_at = None
            self._answer_at = min(self._dump_ends, now + self.settings.dump_quiet)
            self.deadline = self._next_due()
        return super().dumped(now)

    def died(self, now: float) -> list[Action]:
        """The worker is dead, and everything that it had written before has been told."""
        actions = list(self._answer_condemned())
        if self._was_ready:
            actions += self._answer_sent(Cause.DIED)
        return [*actions, *super().died(now)]

    # How it goes on

    def _begin(self, ticket: Ticket, now: float) -> list[Action]:
        """This request is one of those that the worker is at."""
        if self.phase is not Phase.SERVING:
            return []
        ends = self._ends[ticket.id] = now + ticket.timeout
        due = min(ends, self._patience())
        self.deadline = due if self.deadline is None else min(self.deadline, due)
        return [Begin(ticket.id)]

    def _next_due(self) -> float | None:
        """When something is due that concerns a ready worker, None: nothing is."""
        limit = self._patience()
        due = [*self._ends.values(), limit] if self._ends else []
        if self._expired:
            due.append(self._answer_at if self._signal_at is None else self._signal_at)
        elif self._missing and not self._ends:
            due += [self._patience_ends, limit]
        return min(due, default=None)

    def _hears(self) -> bool:
        return self.cooperative

    def _take(self, id: int) -> None:
        """Take out a request that has begun."""
        del self._ends[id]
        for place, ticket in enumerate(self._sent):
            if ticket.id == id:
                self._sent_bytes -= ticket.size
                del self._sent[place]
                return

    def _take_oldest(self) -> Ticket:
        ticket = super()._take_oldest()
        self._ends.pop(ticket.id, None)
        return ticket

    # How it ends

    def _phase_over(self, now: float) -> Iterator[Action]:
        if self._is_serving():
            yield from self._tell(now) if self._hears() and now >= self._tell_at else self._drain(now)
        else:
            yield from super()._phase_over(now)

    def _drain(self, now: float) -> Iterator[Action]:
        """Answer and cancel the requests whose time is over; if only such are left that ignore it, end the worker."""
        asked = bool(self._expired)
        self._expire(now)
        if not self._expired:  # only those are left that were answered and cancelled
            yield from self._terminate(now)
            return
        if not asked:
            self._enter(Phase.DRAINING)
            self._ask(now)
            self._answer_at = self._dump_ends
            yield Dump(by_signal=self._signal_at is None)
        elif self._signal_at is not None and now >= self._signal_at:
            self._signal_at = None
            yield Dump()
        elif now >= self._answer_at:
            expired = list(self._expired)
            yield from self._answer_condemned()
            yield from map(Cancel, expired)
            self._patience_ends = now + self.settings.grace
        self.deadline = self._next_due()

    def _expire(self, now: float) -> None:
        limit = self._patience()
        for id, ends in list(self._ends.items()):
            if min(ends, limit) <= now:
                self._take(id)
                self._expired[id] = Cause.TIMED_OUT if ends <= limit else Cause.STOPPED

    def _condemn(self, cause: Cause) -> None:
        """The worker must go, and with it all that it was sent."""
        while self._sent:
            self._expired[self._take_oldest().id] = cause
        super()._condemn(cause)

    def _answer_condemned(self) -> Iterator[Action]:
        expired, self._expired = self._expired, {}
        self._missing.update(expired)
        for id, cause in expired.items():
            yield Answer(id, cause)
