"""Who is struck next, and with what, by a seed. It knows nothing of events and outcomes but which processes had any."""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from collections.abc import Set

import victims
from victims import FORKING, NEIGHBOUR, TEMPLATE, WORKER, Process

SIGNALS = (signal.SIGKILL,) * 5 + (signal.SIGSEGV,) * 3 + (signal.SIGSTOP,) * 2

WEIGHTS = {WORKER: 6.0, TEMPLATE: 1.0, FORKING: 3.0, NEIGHBOUR: 1.5}
"""How often each kind is wanted."""

PATIENCE = 0.2
"""Seconds to wait for a process of the kind that the seed has chosen; then any worker is taken."""

EARLY_STRIKES = 3
"""Strikes in a row that may each be a failed start, before all that was struck is there again: five failed starts of
one worker in a row end a run, as is promised.
"""

EARLY_CHANCE = 0.3
"""How often a worker is struck that may not be ready yet; else those that serve are waited for."""

READY_SECONDS = 0.15
"""Age from which on a process that stands by for a request of its own has been ready."""

LOADED_SECONDS = 0.5
"""Age from which on a template has loaded its function."""

RECOVERY = 3.0
"""Seconds after which every lane of request isolation, where workers come and go, has had its chance again."""

HISTORY = 20
"""Strikes that a failure tells of."""


class Striker:
    """Strikes below the process `init`. served: the pids that had a request, as far as is known."""

    def __init__(self, seed: str, method: str, workers: int, init: int, served: Set[int]) -> None:
        self.history: deque[str] = deque(maxlen=HISTORY)
        self._chance = random.Random(seed)
        self._method, self._workers, self._init, self._served = method, workers, init, served
        self._began = time.monotonic()
        self._early = 0
        self._last_early = 0.0
        self._wanted: str | None = None
        self._want_until = 0.0
        self._want_early = False

    def strike(self) -> tuple[Process, int] | None:
        """Hit one process. Returns it, and the signal; None: there is none to hit now."""
        if self._wanted is None:
            self._wanted = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            self._want_until = time.monotonic() + PATIENCE
            self._want_early = self._chance.random() < EARLY_CHANCE
        found = self._look(self._wanted)
        if self._wanted not in found and time.monotonic() > self._want_until:
            self._wanted = WORKER
        if self._wanted not in found:
            return None
        victim, number = self._chance.choice(found[self._wanted]), self._chance.choice(SIGNALS)
        if not victims.strike(victim, number):
            return None
        self._wanted = None
        if self._is_early(victim):
            self._early, self._last_early = self._early + 1, time.monotonic()
        self._note(victim, number)
        return victim, number

    def _look(self, wanted: str) -> dict[str, list[Process]]:
        """By kind, the processes that may be struck now."""
        there = list(victims.below(self._init))
        serving = sum(process.kind == WORKER and not self._is_early(process) for process in there)
        loaded = any(process.kind == TEMPLATE and process.age > LOADED_SECONDS for process in there)
        rested = self._method != "request" or time.monotonic() - self._last_early > RECOVERY
        if serving >= self._workers and (loaded or self._method == "exec") and rested:
            self._early = 0
        early = self._early < EARLY_STRIKES and (self._want_early or wanted != WORKER)
        found: dict[str, list[Process]] = {}
        for process in there:
            if early or not self._is_early(process):
                found.setdefault(process.kind, []).append(process)
        return found

    def _is_early(self, victim: Process) -> bool:
        """Whether its end may be a failed start."""
        if victim.kind == WORKER:
            is_spare = self._method == "request" and victim.age > READY_SECONDS
            return victim.pid not in self._served and not is_spare
        return victim.kind != NEIGHBOUR

    def _note(self, victim: Process, number: int) -> None:
        self.history.append(
            f"{time.monotonic() - self._began:.3f} s: {signal.Signals(number).name} to {victim.kind} {victim.pid}, "
            f"child of {victim.parent}, state {victim.state}, {victim.age:.2f} s old, "
            f"{'has served' if victim.pid in self._served else 'has not served'}, early {self._early}"
        )
