"""One run of `pipe-init run`: requests to the supervisor, outcomes to stdout and stderr, an exit code.

It knows files and terminals, not how a worker is run.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import click

from pipe_runtime.messages import ANY, BYTES, JSON

from .. import launch, report
from ..answers import problem
from ..journal import Journal, write_all
from ..reaper import become_subreaper
from ..request import (
    EXIT_FUNCTION_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_NOT_LOADED,
    EXIT_OUT_OF_MEMORY,
    EXIT_PROTOCOL,
    EXIT_TIMED_OUT,
    EXIT_USAGE,
    MAX_PAYLOAD,
    Outcome,
    Request,
)
from ..signals import Signals
from ..supervisor import Supervisor
from .inputs import Given, describe_function, open_input, read_event
from .lines import InOrder, LineReader
from .terminal import Progress, harmless, is_terminal, wants_colour

if TYPE_CHECKING:
    from ..__main__ import Early

ENDING_CODES = (EXIT_USAGE, EXIT_NOT_LOADED, EXIT_PROTOCOL, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND)
"""Exit codes that end a run of --events: the next event would fare no better."""


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
        signals, process = self._early(early)
        self.event = read_event(options, signals) if options.events is None else b""
        self.progress = Progress(2, options.events is not None and not options.quiet and is_terminal(2))
        self.journal = Journal(2, harmless if is_terminal(2) else None)
        self.journal.before_line = self.progress.clear
        if not become_subreaper() and not options.quiet:
            self.journal.say("pipe-init: this system has no subreaper; what a function leaves behind may outlive it")
        self.supervisor = Supervisor(self.function, signals, self.journal, process)

    def _early(self, early: Early | None) -> tuple[Signals, launch.Process | None]:
        """The signals, and the worker that was started ahead if it is the one that the options ask for."""
        if early is None:
            signals = Signals()
            signals.install()
            return signals, None
        if (early.command, early.environment) == (self.function.command, self.function.environment):
            return early.signals, early.process
        early.process.dismiss()
        return early.signals, None

    def run_one(self) -> int:
        """One event; returns the exit code."""
        supervisor = self.supervisor
        try:
            supervisor.submit(self._request(self.event))
            while not supervisor.outcomes:
                supervisor.step()
            outcome = supervisor.outcomes.popleft()
            if outcome.problem is None:
                self._print(outcome.payload if self.options.raw else outcome.payload + b"\n")
            else:
                self._print_error(outcome)
        finally:
            supervisor.close()
        return self._exit_code(outcome.exit_code)

    def run_events(self) -> int:
        """JSON Lines in, JSON Lines out; returns the exit code."""
        supervisor, codes = self.supervisor, set[int]()
        reader = LineReader(self.source, MAX_PAYLOAD)
        order: InOrder[Outcome] = InOrder()
        try:
            while not supervisor.finishing or order:
                while reader.has_line() and supervisor.has_room():
                    self._submit(reader.next_line(), order)
                while supervisor.outcomes:
                    done = supervisor.outcomes.popleft()
                    for outcome in order.put(done.request_id, done):
                        codes.add(self._print_line(outcome))
                if codes & set(ENDING_CODES) and not supervisor.finishing:
                    supervisor.abandon()
                elif not order and (reader.exhausted or supervisor.finishing):
                    break
                elif order or not reader.has_line():
                    hungry = not reader.has_line() and not reader.ended and supervisor.has_room()
                    if not supervisor.outcomes and supervisor.step(self.source if hungry else -1):
                        reader.fill()
        except (BrokenPipeError, click.ClickException):
            supervisor.abandon()  # results go nowhere any more: what is in flight need not finish
            raise
        finally:
            self.progress.clear()
            supervisor.close()
        if reader.error is not None:
            raise click.UsageError(f"Cannot read {self.options.events!r} any further: {reader.error.strerror}.")
        if codes & set(ENDING_CODES) and not reader.exhausted and not self.options.quiet:
            self.journal.say("pipe-init: the run has ended early, for the reason above; later events were not run")
        return self._exit_code(worst(codes))

    def _submit(self, line: bytes | None, order: InOrder[Outcome]) -> None:
        request = self._request(line if line is not None else b"")
        order.announce(request.request_id)
        if line is None:
            message = f"The event has more than {MAX_PAYLOAD} bytes"
            error = problem("RequestTooLargeException", message)
            self.supervisor.outcomes.append(Outcome(request.request_id, problem=error, exit_code=EXIT_FUNCTION_FAILED))
        else:
            self.supervisor.submit(request)

    def _request(self, payload: bytes) -> Request:
        content_type, accept = (BYTES, ANY) if self.options.raw else (JSON, JSON)
        return Request(new_request_id(), payload, content_type, accept, self.options.timeout)

    def _print_line(self, outcome: Outcome) -> int:
        """One result line; returns the event's exit code."""
        why = "" if outcome.problem is not None else self._no_line(outcome)
        if why:
            message = f"Unable to marshal response: {why}, which --events cannot show"
            outcome.problem, outcome.exit_code = problem("Runtime.MarshalError", message), EXIT_FUNCTION_FAILED
        self.progress.count(outcome.problem is not None)
        if outcome.problem is None:
            self._print(outcome.payload + b"\n")
        else:
            style = "fc" if self.options.error_style == "fc" else "lambda"
            error = report.error_object(style, outcome.problem, outcome.request_id)
            self._print(json.dumps(error, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        return outcome.exit_code

    def _no_line(self, outcome: Outcome) -> str:
        """Why a result cannot be one line of the output; "" if it can."""
        if b"\n" in outcome.payload:
            return "the result has a line break in it"
        if not self.options.raw and (outcome.content_type != JSON or not outcome.payload.strip()):
            return "the result is not JSON"
        return ""

    def _print(self, data: bytes) -> None:
        if is_terminal(1):
            self.progress.clear()
            data = harmless(data)
        try:
            write_all(1, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EBADF:
                return  # closed from the start, in a place without /dev/null: nobody wants to know
            raise click.ClickException(f"The result cannot be written to stdout: {error.strerror}.") from None

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

    def _exit_code(self, code: int) -> int:
        ending = self.supervisor.interrupted_by
        return 128 + ending if ending else code


def new_request_id() -> str:
    """A random UUID (RFC 9562, version 4). Importing uuid for it would take 4 ms of every start."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def worst(codes: set[int]) -> int:
    """The exit code of a run of many events: an ending one, memory, a signal, time, failure, success."""
    for code in (*ENDING_CODES, EXIT_OUT_OF_MEMORY):
        if code in codes:
            return code
    signals = sorted(code for code in codes if code > 128)
    return signals[0] if signals else EXIT_TIMED_OUT if EXIT_TIMED_OUT in codes else max(codes, default=0)
