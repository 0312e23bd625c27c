"""The log lines around what a worker does: start, end and report of each request, start and end of each hook.

It knows the function and the journal, not workers; formats.py knows what the lines look like.
"""

from __future__ import annotations

from ..model import Function, Outcome, Request
from . import formats
from .journal import INFO, Journal

PRE_STOP = "pre-stop"
INITIALIZE = "initialize"


class Proceedings:
    """Of one worker after the other."""

    def __init__(self, function: Function, journal: Journal) -> None:
        self._function = function
        self._journal = journal
        self._silent = function.log_style in ("none", formats.SUMMARY)
        self._hook = ""

    def begun(self, request: Request) -> None:
        """The worker is at a request now."""
        if not self._silent:
            function, phase = self._function, _phase_of(request)
            self._journal.say(formats.start_line(function.log_style, request.request_id, function.version, phase))

    def ended(self, request: Request, outcome: Outcome) -> None:
        """Write the lines after a request that had begun and has its outcome."""
        if self._silent:
            return
        style, id, failed = self._function.log_style, outcome.request_id, outcome.problem is not None
        phase = _phase_of(request)
        if style != formats.SHORT:
            self._journal.say(formats.end_line(style, id, failed, phase))
            self._journal.say(formats.report_line(style, id, outcome.measured, self._function.memory_mb))
        elif phase == formats.INVOKE:
            limit = self._function.limits.memory
            limit_mb = None if limit is None else limit // 2**20
            self._journal.tell(formats.short_line(id, failed, outcome.measured, limit_mb), INFO, id)

    def hook_begun(self, phase: str) -> None:
        """The worker will run a hook, if the function has this one; its lines stand before those of `hook_over`."""
        if {INITIALIZE: "initializer", PRE_STOP: "pre_stop"}[phase] in self._function.hooks:
            self._hook = phase
            function = self._function
            self._journal.say(formats.start_line(function.log_style, self._init_request_id, function.version, phase))

    def hook_over(self, failed: bool, forced: bool = False) -> None:
        """The hook that had begun, if any, is over, perhaps with its worker. forced: which was ended by us."""
        phase, self._hook = self._hook, ""
        if phase and failed and forced and phase == PRE_STOP:
            self._journal.tell("pipe-init: the pre-stop hook did not end in time, and was ended")
        if phase:
            self._journal.say(formats.end_line(self._function.log_style, self._init_request_id, failed, phase))

    @property
    def _init_request_id(self) -> str:
        return str(self._function.hello.get("init_request_id", ""))


def _phase_of(request: Request) -> str:
    return str((request.metadata or {}).get("phase", formats.INVOKE))
