"""Set up one run of `pipe-init run` from its options, and see it through to its exit code.

This file knows files and terminals. How requests are run is in single_run.py and events_run.py.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pipe_runtime.wire.messages import ANY, BYTES, JSON, PRE_FREEZE

from ...engine.dispatch import lanes_for
from ...engine.supervisor import Supervisor
from ...kernel.host import SoleHost
from ...kernel.outlet import Patience, same_file
from ...kernel.reaper import become_subreaper
from ...kernel.signals import Signals
from ...limits.confinement import cgroup_folders
from ...log import formats
from ...log.journal import INFO, LOG_CAP, Journal
from ...model import EXEC, MAX_PAYLOAD, TEMPLATE, Outcome, Request, new_request_id
from ...workers import launch
from ..function.aws_region import mentions_aws
from ..function.confine import open_confinement
from ..function.inputs import Given, describe_function
from ..function.platform import FC
from ..results.failures import Failures, for_stderr, kind_of_failure
from ..results.http import http_metadata
from ..results.output import Output, OutputError
from ..results.result_lines import ResultLines, exit_code
from ..results.summary import Summary
from ..terminal import Progress, harmless, is_terminal
from .body import Body
from .event_input import open_input, read_event
from .events_run import EventsRun, worst
from .lines import LineReader
from .single_run import SingleRun

if TYPE_CHECKING:
    from ...entry import Early


class Session:
    """One run of the command. click.ClickException: what is wrong with the options."""

    def __init__(self, options: Given, early: Early | None) -> None:
        self.options = options
        chosen = [name for name in ("event", "event_file", "events") if getattr(options, name) is not None]
        if len(chosen) > 1:
            names = " and ".join("--" + name.replace("_", "-") for name in chosen)
            raise click.UsageError(f"{names} cannot be given together: choose one.")
        self.function = describe_function(options)
        self.source = -1 if options.events is None else open_input(options.events)
        folders = cgroup_folders(self.function.limits, [str(folder) for folder in options.cgroup])
        signals, process = self._early(early, wanted=not folders)
        self.event = read_event(options, signals) if options.events is None else b""
        self.output = Output(1, signals, options.grace)
        self.summary = Summary() if self.function.log_style == formats.SUMMARY and is_terminal(2) else None
        log_bytes = self.function.limits.log_bytes
        self.journal = Journal(2, harmless if is_terminal(2) else None, LOG_CAP if log_bytes is None else log_bytes)
        self._one_terminal = same_file(1, 2) and is_terminal(2)
        if same_file(1, 2):
            self.output.share(self.journal)
        if self.logs_json:
            self.journal.json_line = formats.json_line
        self.patience = Patience(signals, options.grace)
        self.progress = Progress(self.journal, options.events is not None and not options.quiet and is_terminal(2))
        self.journal.before_line = self._before_log_line
        if not become_subreaper() and not options.quiet:
            self.journal.tell("pipe-init: this system has no subreaper; what a function leaves behind may outlive it")
        self.failures = Failures(options, self.function, self.journal)
        self._say_region()
        confinement = open_confinement(options, self.function.limits, folders, self.journal)
        self.function = replace(self.function, confinement=confinement)
        self.function = replace(self.function, start_method=self._start_method())
        host = SoleHost(signals, self.function.spin_us)
        self.supervisor = Supervisor(self.function, host, self.journal, process)

    @property
    def logs_json(self) -> bool:
        """Whether each line on stderr is one of JSON."""
        return self.function.hello.get("log_format") == "json"

    def _early(self, early: Early | None, wanted: bool) -> tuple[Signals, launch.Process | None]:
        """The signals, and the worker that was started ahead if it is the one that the options ask for.

        wanted: it will do that it was started outside of a cgroup of its own.
        """
        if early is None:
            signals = Signals()
            signals.install()
            return signals, None
        if early.process is None:
            return early.signals, None
        same = (early.command, early.environment) == (self.function.command, self.function.environment)
        if wanted and same and self.function.start_method == EXEC and self.function.workers == 1:
            return early.signals, early.process
        early.process.dismiss()
        return early.signals, None

    def _say_region(self) -> None:
        """Say which region was assumed, but only where the function is likely to use it."""
        options, region = self.options, self.function.assumed_region
        if not region or self.function.log_style == "none":
            return
        if options.platform == FC:
            self.journal.tell(
                f"pipe-init: FC_REGION is {region}: neither --region nor the environment names another", INFO
            )
        elif options.platform or mentions_aws(str(options.code_dir), options.handler):
            others = "neither --region nor the environment nor an AWS profile names another"
            self.journal.tell(f"pipe-init: AWS_REGION is {region}: {others}", INFO)

    def _start_method(self) -> str:
        """How workers are started, now that it is known who counts their processes. click.UsageError: it cannot be."""
        if self.function.confinement.counts_each_worker:
            return self.function.start_method
        if lanes_for(self.function) > 1:
            which = "several processes that serve"
        elif self.options.start_method == TEMPLATE:
            which = "--start-method template"
        else:
            return EXEC
        self.function.confinement.close()
        raise click.UsageError(
            f"--pids goes with {which} only in a cgroup with the controller pids (--cgroup): else the kernel counts "
            "all of them together."
        )

    def run(self) -> int:
        """Run one event or many, wait for the reader of the log, and return the exit code."""
        try:
            code = self.run_one() if self.options.events is None else self.run_events()
        finally:
            self.journal.finish(self.patience)
        return self._exit_code(code)

    def run_one(self) -> int:
        """Run one event; return the exit code."""
        body = self.event if isinstance(self.event, Body) else None
        alone = SingleRun(self.supervisor, self.output, self.options.raw, self.options.include)
        try:
            outcome = alone.run(self._single_request(), body)
            if body is not None and body.error is not None:
                raise click.UsageError(f"Cannot read {self.options.event_file!r} any further: {body.error.strerror}.")
            if outcome.problem is not None:
                self.failures.show(outcome)
                self.failures.hint(outcome)
            else:
                alone.print_rest(outcome)
            code = exit_code(outcome) or self._freeze()
        except (BrokenPipeError, OutputError):
            self.supervisor.abandon()  # its result cannot be written
            raise
        finally:
            self._close()
        return self._exit_code(code)

    def run_events(self) -> int:
        """Run the events of JSON Lines, write JSON Lines, and return the exit code."""
        options, reader = self.options, LineReader(self.source, MAX_PAYLOAD)
        lines = ResultLines(options.raw, options.unordered, options.error_style, is_terminal(1))
        run = EventsRun(self.supervisor, reader, self.output, lines, self._request, options.unordered, self._count)
        try:
            run.run()
            run.codes.add(self._freeze())
        except (BrokenPipeError, OutputError):
            self.supervisor.abandon()  # results cannot be written: requests in flight need not finish
            raise
        finally:
            self.progress.clear()
            self._close()
        if self.summary is not None:
            self.journal.tell(self.summary.text(), INFO)
        if reader.error is not None:
            raise click.UsageError(f"Cannot read {options.events!r} any further: {reader.error.strerror}.")
        self._say_early_end(run, reader)
        return self._exit_code(worst(run.codes))

    def _count(self, outcome: Outcome) -> None:
        """Count an event whose line is about to be printed."""
        self.failures.find_source(outcome)
        failure = kind_of_failure(outcome)
        self.progress.count(bool(failure))
        if self.summary is not None:
            self.summary.count(failure, outcome.measured.get("duration_us"))
        self.failures.hint(outcome)
        if is_terminal(1):
            self.progress.clear()

    def _before_log_line(self) -> None:
        self.progress.clear()
        if self._one_terminal and self.output.leave_line():
            self.journal.put(b"\n")

    def _say_early_end(self, run: EventsRun, reader: LineReader) -> None:
        """Say why a run of many events ended early, if it did. With -q say it only if no result line does."""
        ending = self.supervisor.interrupted_by
        if not (ending or run.reason) or (self.options.quiet and (ending or reader.exhausted)):
            return
        why = signal.Signals(ending).name if ending else for_stderr(formats.error_line(run.reason))
        read = f"It read {run.read} event{'' if run.read == 1 else 's'}"
        lines = "Lines are missing, because stdout was not read" if self.output.given_up else "Each has a line"
        rest = "" if reader.exhausted else "; later events, if any, were not read"
        self.journal.tell(f"pipe-init: the run ended early: {why}. {read}. {lines}{rest}")

    def _freeze(self) -> int:
        """Run the pre-freeze hook, if there is one and a worker; return an exit code."""
        if "pre_freeze" not in self.function.hooks or self.supervisor.finishing:
            return 0
        request = Request(new_request_id(), b"null", JSON, JSON, self.options.timeout, {"phase": PRE_FREEZE})
        outcome = SingleRun(self.supervisor, self.output, raw=True, include=False).run(request)
        if outcome.problem is not None:
            self.failures.show(outcome)
        return outcome.exit_code

    def _single_request(self) -> Request:
        if not isinstance(self.event, Body):
            return self._request(self.event)
        request = self._request(b"", None)
        request.metadata = {**(request.metadata or {}), "stream": True}
        return request

    def _request(self, payload: bytes, size: int | None = -1) -> Request:
        """size: of the body in bytes, None if that is not known, negative for the payload's."""
        options = self.options
        content_type, accept = (BYTES, ANY) if options.raw or options.is_http else (JSON, JSON)
        metadata: dict[str, Any] | None = None
        if options.is_http:
            metadata = {"http": http_metadata(options, len(payload) if size == -1 else size)}
        id = str(self.function.metadata.get("request_id") or new_request_id())
        return Request(id, payload, content_type, accept, options.timeout, metadata)

    def _close(self) -> None:
        """End the workers, and remove the cgroup."""
        self.supervisor.close()
        if not self.function.confinement.close():
            self.journal.tell("pipe-init: a cgroup is left behind, with processes in it that do not end")

    def _exit_code(self, code: int) -> int:
        ending = self.supervisor.interrupted_by
        return 128 + ending if ending else code
