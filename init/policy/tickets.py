"""Track the requests of one lane: which of them wait, which its worker has, and which the worker has begun.

Each request ends exactly once, with an outcome that counts or with an Answer. This module must not decide when a worker
is started, late or ended; policy.py does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..kernel.plain_classes import Enum, dataclass
from .actions import Answer, Cause

MANY = 2**63
"""A number of requests that means no limit, because no worker can ever have so many."""


class State(Enum):
    """The state of a request."""

    WAITING = "not sent, or to be sent again"
    SENT = "in the worker's window, not begun"
    BEGUN = "the worker runs it, and its time has begun"
    LATE = "its time is over; its answer waits for the worker's stacks"
    ANSWERED = "answered in the worker's place; the worker's own outcome has not come"


@dataclass(slots=True)
class Ticket:
    """A request as the policy sees it.

    Attributes:
        id: The request's number: above 0, and higher than the number of each earlier request.
        timeout: Seconds that the worker has for the request after it has begun.
        size: Bytes of the payload.
        moved: Whether the request was sent to a worker that died before it began the request.
        streams: Whether the worker is streaming the result.
        state: The request's state.
        ends: When the request's time is over; 0.0 until the request has begun.
        cause: Why the request is LATE; None if it is not.
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
    """The requests of a lane's present worker, and the requests that wait.

    A worker begins requests in the order in which it gets them, and runs up to `slots` of them at a time. Any further
    request that it has waits in its window.

    Attributes:
        waiting: Requests that no worker has, in order.
        queued: Requests in the worker's window that it has not begun, in order.
        running: Requests that the worker has begun, or may have begun, and has not answered. They are BEGUN, LATE or
            ANSWERED. The keys are the requests' ids.
        in_flight: The number of requests that have no end yet.
        slots: The most requests that the worker runs at once.
        window: The most requests, and the most bytes of their payloads, that the worker may have.
        taken: The number of requests that the worker has got since its start.
        bytes: The bytes of payload of the queued and the running requests.
        alone: Whether the last request sent had been moved, so that the worker may not get another one.
    """

    def __init__(self, slots: int, window: tuple[int, int]) -> None:
        self.waiting: deque[Ticket] = deque()
        self.queued: deque[Ticket] = deque()
        self.running: dict[int, Ticket] = {}
        self.in_flight = 0
        self.slots = slots
        self.window = window
        self.taken = 0
        self.bytes = 0
        self.alone = False

    @property
    def late(self) -> list[Ticket]:
        """Return the LATE requests."""
        return [ticket for ticket in self.running.values() if ticket.state is State.LATE]

    def has_room(self, ticket: Ticket) -> bool:
        """Return whether a ready worker that already has requests may get this one, too.

        A request that waited in a worker's window when the worker died goes to the next worker alone. So if that
        worker dies, too, this request is the cause. Such requests are first in the queue. So it is enough to send no
        other request after one of them.
        """
        requests, size = self.window
        inside = len(self.running) + len(self.queued)
        return not self.alone and inside < requests and self.bytes + ticket.size <= size

    def send(self) -> Ticket:
        """Move the first waiting request into the worker's window, and return it."""
        ticket = self.waiting.popleft()
        ticket.state = State.SENT
        self.queued.append(ticket)
        self.taken += 1
        self.bytes += ticket.size
        self.alone = ticket.moved
        return ticket

    def begin(self, now: float) -> list[Ticket]:
        """Mark the queued requests for which the worker has free slots as begun. Return them."""
        begun: list[Ticket] = []
        while self.queued and len(self.running) < self.slots:
            ticket = self.queued.popleft()
            ticket.state = State.BEGUN
            ticket.ends = now + ticket.timeout
            self.running[ticket.id] = ticket
            begun.append(ticket)
        return begun

    def take_back(self, moved: bool) -> None:
        """Forget the worker. Requests that it has not begun wait again, and if `moved`, are marked as moved."""
        while self.queued:
            ticket = self.queued.pop()
            ticket.state, ticket.moved = State.WAITING, ticket.moved or moved
            self.waiting.appendleft(ticket)
        self.running.clear()
        self.bytes = 0

    def answer(self, tickets: Iterable[Ticket], cause: Cause = Cause.STOPPED) -> list[Answer]:
        """Answer each of these requests that is not answered yet. A LATE request keeps its own cause."""
        answers = []
        for ticket in tickets:
            if ticket.state is not State.ANSWERED:
                ticket.state = State.ANSWERED
                answers.append(Answer(ticket.id, ticket.cause or cause))
        self.in_flight -= len(answers)
        return answers

    def answer_sent(self, cause: Cause) -> list[Answer]:
        """Answer all requests that the worker has, and treat them all as begun."""
        self.running.update((ticket.id, ticket) for ticket in self.queued)
        self.queued.clear()
        return self.answer(self.running.values(), cause)

    def answer_waiting(self, cause: Cause) -> list[Answer]:
        """Answer all requests that no worker has."""
        answers = self.answer(self.waiting, cause)
        self.waiting.clear()
        return answers
