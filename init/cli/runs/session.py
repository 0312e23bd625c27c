"""Set up one run of `pipe-init run` from its options, run its events, and return its exit code.

This file knows files and terminals. single_run.py and events_run.py run the requests.
"""

from __future__ import annotations

from collections.abc import Callable

from pipe_runtime.wire.messages import ANY, BYTES, JSON, PRE_FREEZE

from ...engine.supervisor import Supervisor
from ...kernel.host import SoleHost
from ...kernel.outlet import Patience, same_file
from ...kernel.reaper import become_subreaper
from ...limits.confinement import cgroup_folders
from ...log.journal import INFO, LOG_CAP, Journal
from ...log.request_lines import SUMMARY
from ...model import MAX_PAYLOAD, Fields, Outcome, Request, new_request_id
from ...workers.early import EarlyStart, start_early
from ..function.aws_region import note_about_region
from ..function.describe import confined, describe_function
from ..options.run_options import RunOptions
from ..options.usage_errors import UsageError
from ..results.output import Output, OutputError
from ..results.run_exit_code import exit_code, kind_of_failure, worst
from ..results.terminal import for_stderr, harmless, is_terminal
from .event_input import Body, LineReader, open_input, read_event
from .single_run import SingleRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..results.error_report import Failures
    from ..results.summary import Summary
    from .events_run import EventsRun


class Session:
    """One run of the command.

    Args:
        options: The options of the run.
        early: The worker and the signal handlers that were set up before the options were read; None if they were not.

    Raises:
        CommandError: An option is wrong.
    """

    def __init__(self, options: RunOptions, early: EarlyStart | None) -> None:
        self.options = options
        function = describe_function(options)
        self.source = -1 if options.events is None else open_input(options.events)
        folders = cgroup_folders(function.limits, options.cgroup)
        early = early or start_early()
        process = early.worker_for(function, in_cgroup=bool(folders))
        self.event = read_event(options, early.signals) if options.events is None else b""
        self.output = Output(1, early.signals, options.grace)
        self.patience = Patience(early.signals, options.grace)
        self.logs_json = function.hello.get("log_format") == "json"
        self.journal = self._open_journal(function.limits.log_bytes)
        self.summary: Summary | None = None
        self._failures: Failures | None = None
        self.journal.before_line = self._before_log_line
        if not become_subreaper() and not options.quiet:
            self.journal.tell("pipe-init: this system has no subreaper; what a function leaves behind may outlive it")
        if note := note_about_region(options, function):
            self.journal.tell(f"pipe-init: {note}", INFO)
        self.function = confined(options, function, folders, self.journal)
        host = SoleHost(early.signals, function.spin_us)
        self.supervisor = Supervisor(self.function, host, self.journal, process)

    @property
    def failures(self) -> Failures:
        """Return the object that tells the user about failed outcomes."""
        if self._failures is None:
            from ..results.error_report import Failures  # imported late, because most runs do not fail

            self._failures = Failures(self.options, self.function, self.journal)
        return self._failures

    def _open_journal(self, cap: int | None) -> Journal:
        """Return the log on stderr. If stdout is the same file, make log and results take turns."""
        escape, as_json = harmless if is_terminal(2) else None, None
        if self.logs_json:
            from ...log.json_lines import json_line  # imported late, because json takes long to import

            as_json = json_line
        journal = Journal(2, escape, LOG_CAP if cap is None else cap, json_line=as_json)
        shared = same_file(1, 2)
        self._one_terminal = shared and is_terminal(2)
        if shared:
            self.output.share(journal)
        return journal

    def run(self) -> int:
        """Run one event or many, wait for the reader of the log, and return the exit code."""
        try:
            code = self._closing(self._run_one) if self.options.events is None else self._run_events()
        finally:
            self.journal.finish(self.patience)
        ending = self.supervisor.interrupted_by
        return 128 + ending if ending else code

    def _run_one(self) -> int:
        """Run one event, print its result, and return the exit code."""
        body = self.event if isinstance(self.event, Body) else None
        single = SingleRun(self.supervisor, self.output, self.options.raw, self.options.include)
        outcome = single.run(self._request(self.event), body)
        if body is not None and body.error is not None:
            raise UsageError(f"Cannot read {self.options.event_file!r} any further: {body.error.strerror}.")
        if outcome.problem is not None:
            self.failures.show(outcome)
            self.failures.hint(outcome)
        else:
            single.print_rest(outcome)
        return exit_code(outcome) or self._freeze()

    def _run_events(self) -> int:
        """Run the events of JSON Lines, write JSON Lines, and return the exit code."""
        from ..results.result_lines import ResultLines  # imported late, because a single event needs none of these
        from .events_run import EventsRun

        options, reader = self.options, LineReader(self.source, MAX_PAYLOAD)
        if is_terminal(2) and not options.quiet:
            from ..results.summary import Summary

            self.summary = Summary(self.journal, is_live=not is_terminal(1))
        lines = ResultLines(options.raw, options.unordered, options.error_style, is_terminal(1))
        run = EventsRun(self.supervisor, reader, self.output, lines, self._request, self._count)

        def work() -> int:
            run.run()
            return self._freeze()

        run.codes.add(self._closing(work))
        if self.summary is not None and self.function.log_style == SUMMARY:
            self.journal.tell(self.summary.text(), INFO)
        if reader.error is not None:
            raise UsageError(f"Cannot read {options.events!r} any further: {reader.error.strerror}.")
        self._say_early_end(run, reader)
        return worst(run.codes)

    def _closing(self, work: Callable[[], int]) -> int:
        """Do the work and return its exit code. Then end the workers, and remove their cgroups.

        If stdout accepts no results, give up requests.
        """
        try:
            return work()
        except (BrokenPipeError, OutputError):
            self.supervisor.abandon()
            raise
        finally:
            if self.summary is not None:
                self.summary.clear()
            self.supervisor.close()
            if not self.function.confinement.close():
                self.journal.tell("pipe-init: a cgroup is left behind, with processes in it that do not end")

    def _count(self, outcome: Outcome) -> None:
        """Count an event whose line is about to be printed, and write a hint about its error."""
        self.failures.find_source(outcome)
        if self.summary is not None:
            self.summary.count(kind_of_failure(outcome), outcome.measured.get("duration_us"))
        self.failures.hint(outcome)

    def _before_log_line(self) -> None:
        if self.summary is not None:
            self.summary.clear()
        if self._one_terminal and self.output.leave_line():
            self.journal.put(b"\n")

    def _say_early_end(self, run: EventsRun, reader: LineReader) -> None:
        """Log why a run of many events ended early, if it did. With -q, log it only if events may be left unread."""
        ending = self.supervisor.interrupted_by
        if not (ending or run.reason) or (self.options.quiet and reader.exhausted):
            return
        from signal import Signals  # both are imported late, because most runs do not end early

        from ...log.error_formats import error_line

        why = Signals(ending).name if ending else for_stderr(error_line(run.reason))
        read = f"It read {run.read} event{'' if run.read == 1 else 's'}"
        lines = "Lines are missing, because stdout was not read" if self.output.given_up else "Each has a line"
        rest = "" if reader.exhausted else "; later events, if any, were not read"
        self.journal.tell(f"pipe-init: the run ended early: {why}. {read}. {lines}{rest}")

    def _freeze(self) -> int:
        """Run the pre-freeze hook, if the function has one and the run is not ending. Return the hook's exit code."""
        if "pre_freeze" not in self.function.hello or self.supervisor.finishing:
            return 0
        request = Request(new_request_id(), b"null", JSON, JSON, self.options.timeout, {"phase": PRE_FREEZE})
        outcome = SingleRun(self.supervisor, self.output, raw=True, include=False).run(request)
        if outcome.problem is not None:
            self.failures.show(outcome)
        return outcome.exit_code

    def _request(self, event: bytes | Body) -> Request:
        """Return the request for an event. If the event is a Body, the init sends it in pieces."""
        options, streamed = self.options, isinstance(event, Body)
        payload = b"" if isinstance(event, Body) else event
        content_type, accept = (BYTES, ANY) if options.raw or options.is_http else (JSON, JSON)
        metadata: Fields = {"stream": True} if streamed else {}
        if options.is_http:
            from ..function.http_request import http_metadata

            metadata["http"] = http_metadata(options, None if streamed else len(payload))
        id = str(self.function.metadata.get("request_id") or new_request_id())
        return Request(id, payload, content_type, accept, options.timeout, metadata or None)
