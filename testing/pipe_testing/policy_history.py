"""Call a Policy as a lane would, with a model of the lane's workers, and check the policy's promises after every step.

This module uses no process and no clock. The test calls a method for each event, and sets the time.
"""

from __future__ import annotations

import copy
import signal

import pytest

from pipe_init.kernel.plain_classes import replace
from pipe_init.model import Settings
from pipe_init.policy.actions import Action, Answer, Begin, Cancel, Cause, Dump, Lose, Send, Signal, Start, Stop, Sweep
from pipe_init.policy.ladder import Phase
from pipe_init.policy.policy import NEVER, Policy
from pipe_init.policy.tickets import Ticket

TIMES = Settings(
    start_timeout=8.0,
    grace=2.0,
    stop_timeout=4.0,
    dump_wait=0.5,
    dump_quiet=0.125,
    backoff=0.25,
    backoff_limit=1.0,
    kill_wait=0.0625,
    lose_wait=1.0,
    start_attempts=4,
    window_requests=3,
    window_bytes=100,
)
"""The settings of the tests. All times are binary fractions, so that sums of them are exact."""

TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)

OUTCOME = "OUTCOME"
"""The value in `History.ends` for a request that its worker has answered. Any other value is the name of a Cause."""

STEPS = 1000
"""The most timers or deaths that may come before the policy has ended. Needing more counts as never ending."""


class History:
    """A policy, the events that it got, the actions that it asked for, and a model of the worker.

    The model keeps to the protocol until a test calls a method that breaks it. At READY, it begins as many requests as
    it serves at once, in the order in which they were sent. With each outcome, it begins the next request.

    Attributes:
        ends: How each request ended, by its id.
        inside: The requests that this worker was sent and has not answered, in order.
        begun: The requests that some worker may have begun.
        starts: The number of workers that were started.
        sent: The requests that this worker was sent.
        told_begun: The requests of this worker for which the policy asked for Begin.
        dumps: How the policy asked this worker for its stacks, each time: "signal" or "frame".
        cancelled: The requests for which this worker was sent CANCEL.
        signals: The signals that this worker was sent.
        stopped: Whether this worker was sent STOP.
        swept: How often the processes that may keep this worker from ending were killed.
        lost: Whether the worker was given up.
    """

    def __init__(self, times: Settings = TIMES, concurrency: int = 1) -> None:
        self.times = times
        self.policy = Policy(times, concurrency)
        self.now = 0.0
        self.tickets: dict[int, Ticket] = {}
        self.ends: dict[int, str] = {}
        self.begun: set[int] = set()
        self.began_at: dict[int, float] = {}
        self.late: set[int] = set()
        self.moved: set[int] = set()
        self.streaming: set[int] = set()
        self.force_at = self.tell_at = NEVER
        self.starts = 0
        self.lost = self.alive = False
        self._new_worker()

    def _new_worker(self) -> None:
        self.inside: list[int] = []
        self.sent: list[int] = []
        self.told_begun: list[int] = []
        self.dumps: list[str] = []
        self.cancelled: list[int] = []
        self.signals: list[int] = []
        self.swept = 0
        self.slots = self.policy.concurrency
        self.window = self.times.window_requests, self.times.window_bytes
        self.is_ready = self.deaf = self.stopped = self.is_gone = self.wild = False

    @property
    def running(self) -> list[int]:
        """Return the requests that the worker has begun and not answered."""
        return [id for id in self.inside if id in self.begun]

    # Actions of the policy

    def perform(self, actions: list[Action]) -> None:
        """Perform the policy's actions on the model, as a lane would, and check that each one is allowed."""
        for action in actions:
            getattr(self, f"_{type(action).__name__.lower()}")(action)
        self.check()

    def _start(self, action: Start) -> None:
        assert not self.alive and not self.policy.ended
        self._new_worker()
        self.alive = True
        self.starts += 1

    def _send(self, action: Send) -> None:
        id = action.id
        assert self.alive and not self.is_gone and not self.stopped and KILL not in self.signals
        assert id not in self.ends, "sent, though it has its outcome"
        assert id not in self.begun, "sent, though a worker may have begun it"
        assert all(each < id for each in self.sent), "out of order"
        assert not self.late & set(self.inside), "sent to a worker that has late requests"
        assert not self.times.max_requests or len(self.sent) < self.times.max_requests, "more than it may be sent"
        assert len(self.inside) < self.policy.limit, "more than the pace allows"
        if self.inside:
            assert self.is_ready, "more than one request before READY"
            assert id not in self.moved and not self.moved & set(self.inside), "a moved request is not alone"
            assert len(self.inside) < self.window[0]
            assert sum(self.tickets[each].size for each in [*self.inside, id]) <= self.window[1]
        self.inside.append(id)
        self.sent.append(id)
        self._work()

    def _begin(self, action: Begin) -> None:
        assert self.alive and self.is_ready
        assert action.id in self.running and action.id not in self.told_begun and action.id not in self.ends
        self.told_begun.append(action.id)
        self.began_at[action.id] = self.now

    def _answer(self, action: Answer) -> None:
        id, cause = action.id, action.cause
        if cause is Cause.TIMED_OUT:
            assert self.now >= self.began_at[id] + self.tickets[id].timeout, "too early"
        if cause is Cause.DIED:
            assert id in self.begun and not self.alive and id not in self.late
        if cause is Cause.STOPPED:
            assert self.force_at < NEVER, "no end was asked for"
        self._end(id, cause.name)

    def _dump(self, action: Dump) -> None:
        assert self.alive and not self.is_gone and KILL not in self.signals
        self.dumps.append("signal" if action.by_signal else "frame")

    def _cancel(self, action: Cancel) -> None:
        assert self.alive and self.is_ready and not self.is_gone and not self.stopped and KILL not in self.signals
        assert action.id in self.inside and action.id in self.ends, "cancelled before it was answered"
        assert action.id not in self.cancelled
        self.cancelled.append(action.id)

    def _stop(self, action: Stop) -> None:
        assert self.alive and not self.is_gone and not self.stopped and KILL not in self.signals
        assert set(self.inside) <= set(self.ends), "told to stop with work to do"
        assert set(self.inside) <= set(self.cancelled), "told to stop, and not to give up its requests"
        self.stopped = True

    def _signal(self, action: Signal) -> None:
        assert self.alive and not self.is_gone and KILL not in self.signals
        if action.number == TERM and not self.deaf:
            assert set(self.running) <= set(self.ends), "a neighbour's work is lost"
        self.signals.append(int(action.number))

    def _sweep(self, action: Sweep) -> None:
        assert self.alive and KILL in self.signals or self.is_gone
        self.swept += 1

    def _lose(self, action: Lose) -> None:
        assert self.alive and KILL in self.signals or self.is_gone
        self.lost = True
        self.policy.gone()
        self.die()

    def _end(self, id: int, how: str) -> None:
        assert id in self.tickets
        assert id not in self.ends, f"two ends: {self.ends[id]} and {how}"
        self.ends[id] = how

    def _work(self) -> None:
        """Let the model begin as many of its requests as it serves at once."""
        if self.wild:
            self.begun |= set(self.inside)
        elif self.is_ready:
            while len(self.running) < self.slots and len(self.running) < len(self.inside):
                self.begun.add(self.inside[len(self.running)])

    # Events from the caller

    def submit(self, timeout: float = 3.0, size: int = 0) -> int:
        """Submit a request and return its id; 0 if the policy takes no more requests.

        If `submit_if_idle` accepts the request, check that it has done the same as `submit`.
        """
        ticket = Ticket(len(self.tickets) + 1, timeout, size)
        if self.policy.finishing:
            with pytest.raises(ValueError, match="no request is taken any more"):
                self.policy.submit(ticket, self.now)
            return 0
        self.tickets[ticket.id] = replace(ticket)
        twin, before = copy.deepcopy(self.policy), _state_of(self.policy)
        actions = twin.submit(replace(ticket), self.now)
        if self.policy.submit_if_idle(ticket, self.now):
            assert [type(action) for action in actions] == [Send, Begin], "submit_if_idle differs from submit"
            assert _state_of(self.policy) == _state_of(twin)
        else:
            assert _state_of(self.policy) == before
            actions = self.policy.submit(ticket, self.now)
        self.perform(actions)
        return ticket.id

    def begin(self) -> None:
        """Ask the policy to start a worker before a request needs it."""
        self.perform(self.policy.begin(self.now))
        if self.times.prestart and not self.policy.finishing:
            assert self.alive or self.policy.deadline is not None

    def pace(self, limit: int) -> None:
        """Set how many requests the worker may have at a time, as a lane does when the log is read faster or slower."""
        self.perform(self.policy.pace(limit, self.now))

    def retire(self) -> None:
        """Tell the policy that the worker uses too much memory."""
        self.perform(self.policy.retire(self.now))

    def finish(self) -> None:
        """Tell the policy that no more requests will come."""
        self.perform(self.policy.finish(self.now))

    def _end_asked_for(self, tell_at: float) -> None:
        if self.force_at == NEVER:
            self.force_at, self.tell_at = self.now + self.times.grace, tell_at

    def interrupt(self) -> None:
        """Tell the policy that a signal asks for an orderly end."""
        self._end_asked_for(self.now + self.times.grace / 2)
        self.perform(self.policy.interrupt(self.now))

    def abandon(self) -> None:
        """Tell the policy that no result can be written any more."""
        self._end_asked_for(self.now)
        self.tell_at = self.now
        self.perform(self.policy.abandon(self.now))
        assert set(self.tickets) == set(self.ends)

    def hurry(self) -> None:
        """Tell the policy that a second signal asks for an end at once."""
        self._end_asked_for(self.now)
        self.perform(self.policy.hurry(self.now))
        assert set(self.tickets) == set(self.ends)

    # The time

    def tick(self) -> None:
        """Tell the policy the time."""
        if self.is_gone:
            return
        policy = self.policy
        before = policy.phase, policy.deadline
        if self.is_ready and policy.phase in (Phase.SERVING, Phase.DRAINING):
            over = {id for id in self.running if id in self.began_at and self.over_at(id) <= self.now}
            assert not over - self.late or (policy.deadline or 0.0) <= self.now, "missed"
            self.late |= over
        actions = policy.tick(self.now)
        if before[1] is None or self.now < before[1]:
            assert actions == [] and policy.deadline == before[1]
        else:
            assert actions or (policy.phase, policy.deadline) != before, "a busy loop"
        self.perform(actions)

    def over_at(self, id: int) -> float:
        """Return when the time of a begun request is over."""
        hears = self.policy.cooperative or set(self.running) <= self.streaming
        return min(self.began_at[id] + self.tickets[id].timeout, self.tell_at if hears else self.force_at)

    def until(self, moment: float) -> History:
        """Move the time to `moment`. On the way, call `tick` whenever the policy's deadline has come."""
        for _ in range(STEPS):
            if self.policy.deadline is None or self.policy.deadline > moment or self.is_gone:
                self.now = max(self.now, moment)
                return self
            self.now = max(self.now, self.policy.deadline)
            self.tick()
        raise AssertionError("the timers do not come to an end")

    def come_to_an_end(self) -> None:
        """Check that the policy ends if no more requests come and every worker hangs."""
        self.finish()
        self.pace(2**63)
        for _ in range(STEPS):
            if self.policy.ended:
                return
            if self.policy.deadline is not None and not self.is_gone:
                self.until(self.policy.deadline)
            else:
                self.die()
        raise AssertionError("it does not end")

    # Events from the worker

    def ready(
        self, requests: int = 64, size: int = 2**20, cooperative: bool = False, serves: int | None = None
    ) -> History:
        """Let the worker send HELLO and READY.

        Args:
            requests: The most requests without an outcome that the worker's HELLO allows.
            size: The most bytes of these requests' payloads that the HELLO allows.
            cooperative: Whether the worker's requests can be cancelled.
            serves: The number of requests that the worker runs at once; None for as many as the policy wants.
        """
        policy = self.policy
        if policy.concurrency > 1:
            self.slots = min(policy.concurrency, serves or policy.concurrency)
            requests = min(requests, self.slots)
        self.window = min(requests, self.times.window_requests), min(size, self.times.window_bytes)
        self.is_ready = True
        self._work()
        if policy.phase is not Phase.STARTING:  # the policy has given up this start, so outcomes do not count
            self.late |= set(self.inside)
        policy.hello(requests, size)
        self.perform(policy.ready(self.now, serves or 64, cooperative))
        return self

    def answer(self, id: int) -> bool:
        """Let the worker answer a request that it was sent. Return whether the policy counts the outcome."""
        self.inside.remove(id)
        counts, actions = self.policy.outcome(id, self.now)
        assert counts == (id in self.begun and id not in self.late and id not in self.ends and self.is_ready)
        if counts:
            self._end(id, OUTCOME)
        if id in self.begun and not self.wild:
            assert not any(isinstance(action, Signal) for action in actions), "an honest outcome is no violation"
        self._work()
        self.perform(actions)
        return counts

    def forge(self, id: int) -> None:
        """Let the worker answer a request that it must not answer now."""
        self.wild = True
        self._work()
        counts, actions = self.policy.outcome(id, self.now)
        assert not counts
        if id in self.inside:
            self.inside.remove(id)
        self.perform(actions)

    def stream(self, id: int) -> None:
        """Let the worker begin to stream the result of a request that it runs."""
        self.streaming.add(id)
        self.policy.streams(id)
        self.check()

    def cut(self, id: int) -> None:
        """Tell the policy that the result that the worker streams is too large."""
        actions = self.policy.cut(id, self.now)
        self.late |= {id} if actions else set()
        self.perform(actions)

    def violate(self) -> None:
        """Let the worker break the protocol."""
        self.wild = True
        self._work()
        self.perform(self.policy.violation(self.now))
        assert self.policy.phase is Phase.KILLED

    def fail_to_load(self) -> None:
        """Let the worker report that it cannot load the handler."""
        self.deaf = True
        self.perform(self.policy.not_loaded(self.now))
        assert set(self.tickets) == set(self.ends)

    def close(self) -> None:
        """Let the worker close its stream."""
        self.deaf = True
        self.perform(self.policy.closed(self.now))

    def dump(self) -> None:
        """Let the worker write a part of its stacks."""
        before = self.policy.deadline
        self.perform(self.policy.dumped(self.now))
        assert self.policy.deadline == before or self.policy.phase in (Phase.DRAINING, Phase.STOPPING)

    def see_dead(self) -> None:
        """Tell the policy that the worker is dead. The worker's last frames are not read yet."""
        self.is_gone = True
        self.policy.gone()

    def die(self) -> History:
        """Let the worker die, and tell the policy so."""
        if self.is_ready and not self.wild:
            self.moved |= set(self.inside) - self.begun
        self.alive = self.is_gone = False
        self.perform(self.policy.died(self.now))
        return self

    def fail_to_execute(self) -> None:
        """Tell the policy that the worker's program cannot be executed."""
        self.alive = self.is_gone = False
        self.perform(self.policy.exec_failed(self.now))
        assert self.policy.ended and set(self.tickets) == set(self.ends)

    def postpone(self) -> None:
        """Tell the policy that no worker can be started now."""
        self.alive = False
        self.perform(self.policy.postponed(self.now))

    # Checks

    def check(self) -> None:
        """Check the conditions that hold after every event."""
        policy = self.policy
        assert policy.in_flight == len(self.tickets) - len(self.ends)
        if policy.phase in (Phase.STARTING, Phase.DRAINING, Phase.STOPPING, Phase.TERMINATING):
            assert policy.deadline is not None
        if policy.in_flight and policy.limit and policy.phase is not Phase.KILLED and not self.is_gone:
            assert policy.deadline is not None, "it would wait for ever"
        if policy.phase is Phase.SERVING and not self.wild and not self.is_gone:
            assert policy.deadline == min((self.over_at(id) for id in self.running), default=None)
        if policy.ended:
            assert policy.finishing and policy.deadline is None
            assert policy.phase is Phase.NONE and set(self.tickets) == set(self.ends)


def _state_of(policy: Policy) -> dict[str, object]:
    """Return a copy of the policy's whole state."""
    return copy.deepcopy({**vars(policy), "_requests": vars(policy._requests)})


def serving(concurrency: int, *timeouts: float, times: Settings = TIMES, cooperative: bool = False) -> History:
    """Return a history at time 0 whose worker is ready and has been sent requests 1, 2, … with these timeouts."""
    history = History(times, concurrency)
    for timeout in timeouts or (1.0,):
        history.submit(timeout)
    history.ready(cooperative=cooperative)
    if not timeouts:
        history.answer(1)
    return history
