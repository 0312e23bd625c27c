"""Choose the next process to strike, and the signal, by a seed. Send the signal.

This module knows nothing of events and outcomes. It knows only which processes have served a request.
"""

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
"""How often each kind of process is chosen."""

PATIENCE = 0.2
"""The seconds to wait for a process of the chosen kind. After that, the striker strikes any worker."""

EARLY_STRIKES = 3
"""The most strikes in a row that may hit workers that are still starting. Then the striker waits until all struck
processes are replaced, because five failed starts of one worker in a row end a run.
"""

EARLY_CHANCE = 0.3
"""The share of strikes that may hit a worker which is not ready yet. All other strikes hit workers that serve."""

READY_SECONDS = 0.15
"""With request isolation: the age in seconds at which a process that stands by is surely ready."""

LOADED_SECONDS = 0.5
"""The age in seconds at which a template has surely loaded its function."""

RECOVERY = 3.0
"""With request isolation: the seconds after which every lane has had time to replace its processes."""

HISTORY = 20
"""How many of the last strikes a failure shows."""


class Striker:
    """Strike processes below one pipe-init.

    Attributes:
        history: The last strikes, as text.
    """

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
        """Strike one process. Return the process and the signal, or None if there is no process to strike now."""
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
        """Return the processes that may be struck now, by kind."""
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
        """Return whether the end of this process may count as a failed start."""
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
