"""One run of `pipe-init run`: requests to the supervisor, outcomes to stdout and stderr, an exit code.

It knows files and terminals, not how a worker is run.
"""

from __future__ import annotations

import json
import select
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from pipe_runtime.messages import ANY, BYTES, JSON, JSON_LINES, PRE_FREEZE

from .. import launch, report
from ..answers import problem
from ..dispatch import lanes_for
from ..journal import LOG_CAP, Journal
from ..limits import PIDS
from ..reaper import become_subreaper
from ..request import (
    EXEC,
    EXIT_FUNCTION_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_NOT_LOADED,
    EXIT_OUT_OF_MEMORY,
    EXIT_PROTOCOL,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    MAX_PAYLOAD,
    TEMPLATE,
    Outcome,
    Piece,
    Request,
    new_request_id,
)
from ..signals import Signals
from ..supervisor import Supervisor
from .body import Body
from .confine import cgroup_folders, open_cgroup
from .http import http_metadata, response_head, response_object, response_status
from .inputs import Given, describe_function, open_input, read_event
from .lines import AsTheyCome, InOrder, LineReader
from .output import Output
from .summary import Summary
from .terminal import Progress, harmless, is_terminal, wants_colour

if TYPE_CHECKING:
    from ..__main__ import Early

ENDING_CODES = (EXIT_USAGE, EXIT_NOT_LOADED, EXIT_PROTOCOL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND)
"""Exit codes that end a run of --events: the next event would fare no better."""

MAX_LINE = 64 * 1024 * 1024
"""Bytes of a streamed result that may become one line."""


@dataclass
class _Collected:
    """A streamed result on its way to one line. size: bytes that came; above MAX_LINE they are not kept."""

    data: bytearray = field(default_factory=bytearray)
    size: int = 0


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
        folders = cgroup_folders(options, self.function.limits)
        signals, process = self._early(early, wanted=not folders)
        self.event = read_event(options, signals) if options.events is None else b""
        self.output = Output(1, signals, options.grace)
        self.collected: dict[str, _Collected] = {}
        self.withheld: list[Piece] = []
        self.progress = Progress(2, options.events is not None and not options.quiet and is_terminal(2))
        self.summary = Summary() if self.function.log_style == report.SUMMARY and is_terminal(2) else None
        log_bytes = self.function.limits.log_bytes
        self.journal = Journal(2, harmless if is_terminal(2) else None, LOG_CAP if log_bytes is None else log_bytes)
        self.journal.before_line = self.progress.clear
        if not become_subreaper() and not options.quiet:
            self.journal.say("pipe-init: this system has no subreaper; what a function leaves behind may outlive it")
        self.cgroup = open_cgroup(options, folders, self.function.limits, self.journal)
        self.function = replace(self.function, cgroup=self.cgroup, start_method=self._start_method())
        self.supervisor = Supervisor(self.function, signals, self.journal, process)

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

    def _start_method(self) -> str:
        """How workers are started, now that it is known who counts their processes. click.UsageError: it cannot be."""
        held = () if self.cgroup is None else self.cgroup.holds
        if self.function.limits.pids is None or PIDS in held:
            return self.function.start_method
        if lanes_for(self.function) > 1:
            which = "several processes that serve"
        elif self.options.start_method == TEMPLATE:
            which = "--start-method template"
        else:
            return EXEC
        if self.cgroup is not None:
            self.cgroup.close()
        raise click.UsageError(
            f"--pids goes with {which} only in a cgroup with the controller pids (--cgroup): else the kernel counts "
            "all of them together."
        )

    def run_one(self) -> int:
        """One event; returns the exit code."""
        supervisor = self.supervisor
        try:
            outcome = self._run_alone(self._single_request(), self.event if isinstance(self.event, Body) else None)
            if outcome.problem is not None:
                self._print_error(outcome)
            else:
                self._print(self._rest(outcome))
            code = outcome.exit_code or (EXIT_FUNCTION_FAILED if is_server_error(outcome) else 0)
            code = code or self._freeze()
        except BrokenPipeError:
            supervisor.abandon()
            raise
        finally:
            self._close()
        return self._exit_code(code)

    def _run_alone(self, request: Request, body: Body | None = None) -> Outcome:
        """One request with nothing beside it: its body goes out and its result comes in as each side takes it."""
        supervisor, output = self.supervisor, self.output
        id, rest = supervisor.submit(request), body
        while not supervisor.outcomes or output.pending:
            watch: dict[int, int] = {}
            if rest is not None and supervisor.takes_body(id):
                if rest.ended:
                    supervisor.feed(id, b"")
                    rest = None
                elif rest.waits_for >= 0:
                    watch[rest.waits_for] = select.POLLIN
                elif room := supervisor.room(id):
                    supervisor.feed(id, rest.take(room))
                    continue
            if output.pending:
                watch[output.descriptor] = select.POLLOUT
            ready = supervisor.step(watch)
            if rest is not None and rest.waits_for in ready:
                rest.read_ahead()
            output.write_some()
            while supervisor.pieces:
                self._show(supervisor.pieces.popleft())
            if supervisor.interrupted_by and supervisor.outcomes:
                break
        output.finish()
        if body is not None and body.error is not None:
            raise click.UsageError(f"Cannot read {self.options.event_file!r} any further: {body.error.strerror}.")
        return supervisor.outcomes.popleft()

    def _show(self, piece: Piece) -> None:
        """A piece of the single result: it is the worker's turn again when it is written."""
        data = piece.data
        if not data and piece.http is not None:
            data = self._head(piece.http)
        if data:
            shown = harmless(data) if is_terminal(1) else data
            self.output.add(shown, lambda: self.supervisor.taken(piece))

    def _head(self, http: Mapping[str, Any]) -> bytes:
        """What --include puts before a body."""
        head = response_head(http) if self.options.include else b""
        return head.replace(b"\r\n", b"\n") if is_terminal(1) else head

    def _rest(self, outcome: Outcome) -> bytes:
        """What is to be printed of a result at its end."""
        if outcome.http is not None:
            return (self._head(outcome.http) if not outcome.streamed else b"") + outcome.payload
        if outcome.streamed:
            return b"\n" if outcome.content_type == JSON and not self.options.raw else b""
        return outcome.payload if self.options.raw else outcome.payload + b"\n"

    def _freeze(self) -> int:
        """Run the pre-freeze hook, if there is one and a worker; returns an exit code."""
        if "pre_freeze" not in self.function.hooks or self.supervisor.finishing:
            return 0
        request = Request(new_request_id(), b"null", JSON, JSON, self.options.timeout, {"phase": PRE_FREEZE})
        outcome = self._run_alone(request)
        if outcome.problem is not None:
            self._print_error(outcome)
        return outcome.exit_code

    def run_events(self) -> int:
        """JSON Lines in, JSON Lines out; returns the exit code."""
        supervisor, codes = self.supervisor, set[int]()
        reader = LineReader(self.source, MAX_PAYLOAD)
        order: InOrder[Outcome] = AsTheyCome() if self.options.unordered else InOrder()
        try:
            while not supervisor.finishing or order:
                while reader.has_line() and supervisor.has_room() and not order.full:
                    self._submit(reader.next_line(), order)
                self._collect(order.first)
                while supervisor.outcomes:
                    done = supervisor.outcomes.popleft()
                    self._assemble(done)
                    for index, outcome in order.put(done.request_id, done, len(done.payload)):
                        codes.add(self._print_line(outcome, index if self.options.unordered else None))
                if codes & set(ENDING_CODES) and not supervisor.finishing:
                    supervisor.finish()  # what is in flight has done nothing wrong
                elif not order and (reader.exhausted or supervisor.finishing):
                    break
                elif order or not reader.has_line() or not supervisor.has_room():
                    hungry = not reader.has_line() and not reader.ended and supervisor.has_room()
                    watch = {self.source: select.POLLIN} if hungry else {}
                    if not supervisor.outcomes and self.source in supervisor.step(watch) and hungry:
                        reader.fill()
            codes.add(self._freeze())
        except (BrokenPipeError, click.ClickException):
            supervisor.abandon()  # results go nowhere any more: what is in flight need not finish
            raise
        finally:
            self.progress.clear()
            self._close()
        if self.summary is not None:
            self.journal.say(self.summary.text())
        if reader.error is not None:
            raise click.UsageError(f"Cannot read {self.options.events!r} any further: {reader.error.strerror}.")
        if codes & set(ENDING_CODES) and not reader.exhausted and not self.options.quiet:
            self.journal.say("pipe-init: the run has ended early, for the reason above; later events were not run")
        return self._exit_code(worst(codes))

    def _collect(self, first: str | None) -> None:
        """Take pieces of results. Beyond MAX_LINE in all, only the result that is `first` to be printed has credit."""
        supervisor = self.supervisor
        while supervisor.pieces:
            piece = supervisor.pieces.popleft()
            collected = self.collected.setdefault(piece.request_id, _Collected())
            collected.size += len(piece.data)
            if collected.size <= MAX_LINE:
                collected.data += piece.data
            else:
                collected.data.clear()
            self.withheld.append(piece)
        if self.withheld:
            full = sum(len(each.data) for each in self.collected.values()) > MAX_LINE
            taken = [piece for piece in self.withheld if not full or piece.request_id == first]
            self.withheld = [piece for piece in self.withheld if full and piece.request_id != first]
            for piece in taken:
                supervisor.taken(piece)

    def _assemble(self, outcome: Outcome) -> None:
        """Make the payload of a streamed result, or the error that says why there is none."""
        collected = self.collected.pop(outcome.request_id, None)
        if collected is None or outcome.problem is not None:
            return
        if collected.size > MAX_LINE:
            message = f"The result has {collected.size} bytes; the limit for one line is {MAX_LINE}"
            outcome.problem = problem("Function.ResponseSizeTooLarge", message)
            outcome.exit_code = EXIT_FUNCTION_FAILED
            return
        outcome.payload = bytes(collected.data)
        if outcome.content_type == JSON_LINES and outcome.http is None and not self.options.raw:
            outcome.payload = b"[" + outcome.payload.rstrip(b"\n").replace(b"\n", b", ") + b"]"
            outcome.content_type = JSON

    def _submit(self, line: bytes | None, order: InOrder[Outcome]) -> None:
        request = self._request(line if line is not None else b"")
        order.announce(request.request_id)
        if line is None:
            message = f"The event has more than {MAX_PAYLOAD} bytes"
            error = problem("RequestTooLargeException", message)
            self.supervisor.outcomes.append(Outcome(request.request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
        else:
            self.supervisor.submit(request)

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

    def _print_line(self, outcome: Outcome, index: int | None) -> int:
        """One result line; returns the event's exit code. index: of the event, if the line is to say it."""
        why = "" if outcome.problem is not None else self._no_line(outcome)
        if why:
            message = f"Unable to marshal response: {why}, which --events cannot show"
            outcome.problem, outcome.exit_code = problem("Runtime.MarshalError", message), EXIT_FUNCTION_FAILED
        failure = kind_of_failure(outcome)
        self.progress.count(bool(failure))
        if self.summary is not None:
            self.summary.count(failure, outcome.measured.get("duration_us"))
        if outcome.problem is None:
            line = self._line(outcome)
        else:
            style = "fc" if self.options.error_style == "fc" else "lambda"
            error = report.error_object(style, outcome.problem, outcome.request_id)
            line = json.dumps(error, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if index is not None:
            name = b"result" if outcome.problem is None else b"error"
            line = b'{"index": %d, "%s": %s}' % (index, name, line)
        self._print(line + b"\n")
        return outcome.exit_code or (EXIT_FUNCTION_FAILED if is_server_error(outcome) else 0)

    def _line(self, outcome: Outcome) -> bytes:
        if outcome.http is None:
            return outcome.payload
        answer = response_object(outcome.http, outcome.payload)
        return json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def _no_line(self, outcome: Outcome) -> str:
        """Why a result cannot be one line of the output; "" if it can."""
        if outcome.http is not None:
            return ""
        if b"\n" in outcome.payload:
            return "the result has a line break in it"
        if not self.options.raw and (outcome.content_type != JSON or not outcome.payload.strip()):
            return "the result is not JSON"
        return ""

    def _print(self, data: bytes) -> None:
        if is_terminal(1):
            self.progress.clear()
            data = harmless(data)
        self.output.write(data)

    def _print_error(self, outcome: Outcome) -> None:
        style, failure = self.options.error_style, outcome.problem or {}
        if style == "text" or (style == "auto" and is_terminal(2)):
            text = report.error_text(failure).rstrip("\n")
        else:
            error = report.error_object("fc" if style == "fc" else "lambda", failure, outcome.request_id)
            text = json.dumps(error, ensure_ascii=False)
        if is_terminal(2):
            text = harmless(text.encode("utf-8", "backslashreplace")).decode()
        is_text = not text.startswith("{")
        self.journal.say(click.style(text, fg="red") if is_text and wants_colour(2) else text)

    def _close(self) -> None:
        """See everything to its end."""
        self.supervisor.close()
        if self.cgroup is not None and not self.cgroup.close():
            self.journal.say("pipe-init: a cgroup is left behind, with processes in it that do not end")

    def _exit_code(self, code: int) -> int:
        ending = self.supervisor.interrupted_by
        return 128 + ending if ending else code


def kind_of_failure(outcome: Outcome) -> str:
    """Return the type of an outcome's error, or the HTTP status that says that the function failed; "" for neither."""
    if outcome.problem is not None:
        return str(outcome.problem.get("error_type", "")) or "unknown"
    return f"HTTP {response_status(outcome.http)}" if outcome.http is not None and is_server_error(outcome) else ""


def is_server_error(outcome: Outcome) -> bool:
    """Whether the answer is one of HTTP that says that the function failed."""
    return outcome.http is not None and response_status(outcome.http) >= 500


def worst(codes: set[int]) -> int:
    """The exit code of a run of many events: an ending one, memory, a signal, time, failure, success."""
    for code in (*ENDING_CODES, EXIT_OUT_OF_MEMORY):
        if code in codes:
            return code
    signals = sorted(code for code in codes if code > 128)
    return signals[0] if signals else EXIT_TIMED_OUT if EXIT_TIMED_OUT in codes else max(codes, default=0)
