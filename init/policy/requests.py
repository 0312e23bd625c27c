"""Keep account of one lane's requests: which wait, which its worker has, and which the worker has begun.

Every request has exactly one end here: an outcome that counts, or an Answer. This module must not know when a worker is
started, late or ended; policy.py does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from .actions import Answer, Cause

MANY = 2**63
"""More requests than there can be: no limit."""


class State(Enum):
    """Where a request is."""

    WAITING = "not sent, or to be sent again"
    SENT = "in the worker's window, not begun"
    BEGUN = "the worker is at it, and its time runs"
    LATE = "its time is over; its answer waits for the worker's stacks"
    ANSWERED = "answered in the worker's place; the worker's own outcome has not come"


@dataclass(slots=True)
class Ticket:
    """A request as the policy sees it.

    Attributes:
        id: A number above 0, higher than those of earlier requests.
        timeout: Seconds from its beginning to the end of its time.
        size: Bytes of its payload.
        moved: Whether it was in the window of a worker that died before it began the request.
        streams: Whether its result is on its way in pieces.
        state: Where it is.
        ends: When its time is over, once it has begun.
        cause: Why it is LATE.
    """

    id: int
    timeout: float
    size: int = 0
    moved: bool = False
    streams: bool = False
    state: State = State.WAITING
    ends: float = 0.0
    cause: Cause | None = None


class Requests:
    """The requests of one worker after the other.

    A worker begins requests in the order in which it was sent them, up to `slots` at a time. A request that it was sent
    beyond that waits in its window.

    Attributes:
        waiting: Requests that no worker has, in order.
        queued: Those in the worker's window that it has not begun, in order.
        running: Those that it has begun or may have begun and has not answered, by id: BEGUN, LATE or ANSWERED.
        in_flight: How many requests have no end yet.
        slots: How many requests the worker runs at once.
        window: How many requests, and how many bytes of them, the worker may have.
        taken: How many requests the worker was sent in total.
    """

    def __init__(self, slots: int, window: tuple[int, int]) -> None:
        self.waiting: deque[Ticket] = deque()
        self.queued: deque[Ticket] = deque()
        self.running: dict[int, Ticket] = {}
        self.in_flight = 0
        self.slots = slots
        self.window = window
        self.taken = 0
        self._bytes = 0  # of the queued and the running
        self._alone = False  # the last one that was sent had been moved: none is sent after it

    @property
    def late(self) -> list[Ticket]:
        """Return the LATE requests."""
        return [ticket for ticket in self.running.values() if ticket.state is State.LATE]

    def has_room(self, ticket: Ticket) -> bool:
        """Return whether a ready worker may have this request besides those that it has.

        A worker may have died of one request while another one waited in it. The one that waited is sent alone: no
        other request is in its worker. Such requests are first in the queue, so it is enough to send none after one.
        """
        requests, size = self.window
        inside = len(self.running) + len(self.queued)
        return not self._alone and inside < requests and self._bytes + ticket.size <= size

    def count(self, ticket: Ticket) -> None:
        """Count a request that is sent to the worker."""
        self.taken += 1
        self._bytes += ticket.size
        self._alone = ticket.moved

    def send(self) -> Ticket:
        """Move the first of the waiting requests into the worker's window."""
        ticket = self.waiting.popleft()
        ticket.state = State.SENT
        self.queued.append(ticket)
        self.count(ticket)
        return ticket

    def begin(self, now: float) -> list[Ticket]:
        """Return the queued requests for which the worker has a slot now. Their time begins."""
        begun: list[Ticket] = []
        while self.queued and len(self.running) < self.slots:
            ticket = self.queued.popleft()
            ticket.state = State.BEGUN
            ticket.ends = now + ticket.timeout
            self.running[ticket.id] = ticket
            begun.append(ticket)
        return begun

    def take(self, id: int) -> Ticket | None:
        """Take out a request for which the worker's outcome came; None if the worker does not run it."""
        ticket = self.running.pop(id, None)
        if ticket is not None:
            self._bytes -= ticket.size
            self.in_flight -= ticket.state is State.BEGUN
        return ticket

    def take_back(self, moved: bool) -> None:
        """Forget the worker. Requests that it has not begun wait again."""
        while self.queued:
            ticket = self.queued.pop()
            ticket.state, ticket.moved = State.WAITING, ticket.moved or moved
            self.waiting.appendleft(ticket)
        self.running.clear()
        self._bytes = 0

    def answer(self, tickets: Iterable[Ticket], cause: Cause = Cause.STOPPED) -> list[Answer]:
        """Answer those of these requests that have no end yet. The cause of a LATE request wins over `cause`."""
        answers = []
        for ticket in tickets:
            if ticket.state is not State.ANSWERED:
                ticket.state = State.ANSWERED
                answers.append(Answer(ticket.id, ticket.cause or cause))
        self.in_flight -= len(answers)
        return answers

    def answer_sent(self, cause: Cause) -> list[Answer]:
        """Answer all that the worker has. From now on it may have begun all of it."""
        self.running.update((ticket.id, ticket) for ticket in self.queued)
        self.queued.clear()
        return self.answer(self.running.values(), cause)

    def answer_waiting(self, cause: Cause) -> list[Answer]:
        """Answer all that no worker has."""
        answers = self.answer(self.waiting, cause)
        self.waiting.clear()
        return answers
