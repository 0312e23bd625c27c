"""End a template once no worker is wanted any more, by the same policy that ends a worker.

A template serves no request, so its policy knows none. While workers are wanted, their own policies end a template that
hangs. This module must not know how workers are forked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..kernel.death import Death
from ..log.journal import Journal
from ..model import Settings
from ..policy.actions import Action, Lose, Signal, Stop, Sweep
from ..policy.policy import Policy
from ..workers.child import Child
from ..workers.template import TemplateSource


class TemplateKeeper:
    """Stops the template of a source."""

    def __init__(
        self, source: TemplateSource, settings: Settings, journal: Journal, free: Callable[[Child], object]
    ) -> None:
        """Begin while the template is still needed.

        Args:
            source: Starts the template, and workers from it.
            settings: Those of the function's workers.
            journal: The init's log.
            free: Kills what keeps a killed template from ending.
        """
        self._source = source
        self._journal = journal
        self._free = free
        # The end of its input is all that a template is told. After the grace time SIGTERM would add nothing.
        self._policy = Policy(replace(settings, prestart=True, stop_timeout=settings.grace, grace=0.0))

    @property
    def deadline(self) -> float | None:
        """Return when `tick` is due; None if nothing is."""
        return self._policy.deadline

    @property
    def ended(self) -> bool:
        """Return whether there is no template."""
        return self._source.link is None

    def finish(self, at_once: bool) -> None:
        """Have the template end. Call this in each step once no worker is wanted any more.

        Args:
            at_once: Kill it instead of waiting for its end.
        """
        if self._source.link is None:
            return
        now = time.monotonic()
        if not self._policy.finishing:
            self._policy.begin(now)  # the policy did not see the start, so it is told now
            self._policy.ready(now)
            self._perform(self._policy.finish(now))
        if at_once:
            self._perform(self._policy.hurry(now))

    def tick(self, now: float) -> None:
        """Act on the time."""
        self._perform(self._policy.tick(now))

    def bury(self, death: Death) -> None:
        """Let go of the template, which is dead and collected."""
        self._source.bury(death)
        if self._policy.finishing:
            self._policy.gone()
            self._perform(self._policy.died(time.monotonic()))

    def _perform(self, actions: list[Action]) -> None:
        link = self._source.link
        for action in actions if link is not None else ():
            assert link is not None
            if isinstance(action, Stop):
                link.end_input()
            elif isinstance(action, Signal):
                link.child.signal(action.number)
            elif isinstance(action, Sweep):
                self._free(link.child)
            elif isinstance(action, Lose):
                self._source.lose()
                self._policy.gone()
                self._policy.died(time.monotonic())
