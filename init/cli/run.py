"""`pipe-init run`: one function, one event or a file of them, results on stdout.

It reads the options into a Function and Requests, and prints Outcomes. How a worker is run, it does not know.
"""

from __future__ import annotations

import errno
import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipe_runtime.frames import MAX_HEAD
from pipe_runtime.messages import ANY, BYTES, JSON

from .. import launch, limits, report
from ..journal import Journal, write_all
from ..policy import Settings
from ..reaper import become_subreaper
from ..request import MAX_PAYLOAD, Function, Outcome, Request
from ..signals import Signals
from ..supervisor import Supervisor
from .environment import acts_at_exec, read_env_file, read_pairs
from .lines import InOrder, LineReader
from .options import DocumentedCommand, Seconds, option, prefer_command_line
from .terminal import Progress, harmless, is_terminal, wants_colour

if TYPE_CHECKING:
    from ..__main__ import Early

HELLO_ROOM = MAX_HEAD // 2
"""Bytes of environment that HELLO's head has room for; more goes to the worker by exec."""

MAX_HANDLER = 4096
"""Characters of a handler's name: as many as a path may have (PATH_MAX)."""

MAX_MEMORY_MB = 10**9
"""More than any machine has, and little enough for setrlimit(2)."""

WINDOW_REQUESTS = 64
"""Requests of --events that may be on their way to a worker."""

ENDING_CODES = (2, 3, 4, 126, 127)
"""Exit codes that end a run of --events: the next event would fare no better."""

EXAMPLES = """
pipe-init run index.handler
pipe-init run index.handler -C examples/hello -e '{"name": "world"}'
pipe-init run app.main.handler -f event.json -t 3 -m 256
pipe-init run index.handler --raw -e 'plain text'
cat events.jsonl | pipe-init run index.handler --events - -q > results.jsonl
"""


@dataclass(frozen=True)
class Given:
    """The options as given. See the help texts below."""

    handler: str
    code_dir: Path
    event: str | None
    event_file: str | None
    events: str | None
    raw: bool
    timeout: float
    start_timeout: float
    grace: float
    memory: int | None
    env: tuple[str, ...]
    env_file: tuple[str, ...]
    python: str | None
    spin: int
    log_style: str
    error_style: str
    quiet: bool


@click.command(cls=DocumentedCommand, examples=EXAMPLES)
@click.argument("handler")
@option(
    "-C",
    "--code-dir",
    group="Function",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the handler lives. Default: here.",
)
@option(
    "--python",
    group="Function",
    metavar="PATH",
    help="Another interpreter, or a virtual environment; pipe-init need not be installed in it.",
)
@option(
    "-E",
    "--env",
    group="Function",
    metavar="K=V",
    multiple=True,
    help="A variable for the function; K alone passes on ours. Repeatable.",
)
@option(
    "--env-file",
    group="Function",
    metavar="FILE",
    multiple=True,
    help="Variables from a file, a K=V or K per line, # for comments. Repeatable.",
)
@option(
    "-e",
    "--event",
    group="Event",
    metavar="JSON",
    help="The event, inline; with --raw the text itself. Default: {}.",
)
@option("-f", "--event-file", group="Event", metavar="FILE", help="The event from a file; - is stdin.")
@option(
    "--events",
    group="Event",
    metavar="FILE",
    help="One event per line (JSON Lines), one result line for each, in order; - is stdin.",
)
@option(
    "--raw",
    group="Event",
    is_flag=True,
    help="The handler gets bytes, and the bytes it returns go out as they are.",
)
@option(
    "-t",
    "--timeout",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.001, 86400.0),
    default=60.0,
    help="For each event. Default: 60.",
)
@option(
    "-m",
    "--memory",
    group="Limits",
    metavar="MB",
    type=click.IntRange(1, MAX_MEMORY_MB),
    help="The function's memory. Default: no limit.",
)
@option(
    "--start-timeout",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.001, 86400.0),
    default=10.0,
    help="For loading the handler. Default: 10.",
)
@option(
    "--grace",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.0, 3600.0),
    default=2.0,
    help="Between asking a worker to end and forcing it. Default: 2.",
)
@option(
    "--spin",
    group="Limits",
    metavar="MICROSECONDS",
    type=click.IntRange(0, 1000),
    default=50,
    help="How long to look for the next message before sleeping, while they come fast. Default: 50.",
)
@option(
    "--log-style",
    group="Output",
    type=click.Choice(report.LOG_STYLES),
    default="fc",
    help="Lines around each event on stderr. Default: fc.",
)
@option(
    "--error-style",
    group="Output",
    type=click.Choice(report.ERROR_STYLES),
    default="auto",
    help="A failure on stderr: text, or JSON as Lambda or FC gives it. Default: text on a terminal, else lambda.",
)
@option(
    "-q",
    "--quiet",
    group="Output",
    is_flag=True,
    help="On stderr only what the function writes, and its error.",
)
@click.pass_context
def run(context: click.Context, /, **given: Any) -> int:
    """Run the function HANDLER on an event and print its result.

    HANDLER is module.function, such as index.handler, pkg.mod.func, dir/index.handler or index:Class.method. Only
    the result goes to stdout; everything else goes to stderr. The exit code is 0, or 1 if the function failed, 3 if
    it could not be loaded, 124 if it timed out, 137 if it ran out of memory. Every option has a variable too:
    --log-style is PIPE_INIT_LOG_STYLE.
    """
    prefer_command_line(context, given, ("event", "event_file", "events"))
    options = Given(**given)
    early: Early | None = context.obj["early"]
    session = Session(options, early)
    return session.run_events() if options.events is not None else session.run_one()


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
        self.event = read_event(options) if options.events is None else b""
        self.progress = Progress(2, options.events is not None and not options.quiet and is_terminal(2))
        self.journal = Journal(2, harmless if is_terminal(2) else None)
        self.journal.before_line = self.progress.clear
        signals, process = self._early(early)
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
            while not supervisor.policy.finishing or order:
                while reader.has_line() and supervisor.has_room():
                    self._submit(reader.next_line(), order)
                while supervisor.outcomes:
                    done = supervisor.outcomes.popleft()
                    for outcome in order.put(done.request_id, done):
                        codes.add(self._print_line(outcome))
                if codes & set(ENDING_CODES) and not supervisor.policy.finishing:
                    supervisor.abandon()
                elif not order and (reader.exhausted or supervisor.policy.finishing):
                    break
                elif order or not reader.has_line():
                    hungry = not reader.has_line() and not reader.ended and supervisor.has_room()
                    if not supervisor.outcomes and supervisor.step(self.source if hungry else -1):
                        reader.fill()
        except BrokenPipeError:
            supervisor.abandon()  # nobody reads results any more: what is in flight need not finish
            raise
        finally:
            self.progress.clear()
            supervisor.close()
        return self._exit_code(worst(codes))

    def _submit(self, line: bytes | None, order: InOrder[Outcome]) -> None:
        request = self._request(line if line is not None else b"")
        order.announce(request.request_id)
        if line is None:
            message = f"The event has more than {MAX_PAYLOAD} bytes"
            problem = {"error_type": "RequestTooLargeException", "error_message": message}
            self.supervisor.outcomes.append(Outcome(request.request_id, problem=problem, exit_code=1))
        else:
            self.supervisor.submit(request)

    def _request(self, payload: bytes) -> Request:
        content_type, accept = (BYTES, ANY) if self.options.raw else (JSON, JSON)
        return Request(str(uuid.uuid4()), payload, content_type, accept, self.options.timeout)

    def _print_line(self, outcome: Outcome) -> int:
        """One result line; returns the event's exit code."""
        if outcome.problem is None and b"\n" in outcome.payload:
            message = "Unable to marshal response: the result has a line break in it, which --events cannot show"
            outcome.problem, outcome.exit_code = (
                {"error_type": "Runtime.MarshalError", "error_message": message},
                1,
            )
        self.progress.count(outcome.problem is not None)
        if outcome.problem is None:
            self._print(outcome.payload + b"\n")
        else:
            style = "fc" if self.options.error_style == "fc" else "lambda"
            error = report.error_object(style, outcome.problem, outcome.request_id)
            self._print(json.dumps(error, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        return outcome.exit_code

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
        style, problem = self.options.error_style, outcome.problem or {}
        if style == "text" or (style == "auto" and is_terminal(2)):
            text = report.error_text(problem).rstrip("\n")
        else:
            error = report.error_object("fc" if style == "fc" else "lambda", problem, outcome.request_id)
            text = json.dumps(error, ensure_ascii=False)
        if is_terminal(2):
            text = harmless(text.encode("utf-8", "backslashreplace")).decode()
        is_text = not text.startswith("{")
        self.journal.say(click.style(text, fg="red") if is_text and wants_colour(2) else text)

    def _exit_code(self, code: int) -> int:
        ending = self.supervisor.interrupted_by
        return 128 + ending if ending else code


def worst(codes: set[int]) -> int:
    """The exit code of a run of many events: an ending one, memory, a signal, time, failure, success."""
    for code in (*ENDING_CODES, 137):
        if code in codes:
            return code
    signals = sorted(code for code in codes if code > 128)
    return signals[0] if signals else 124 if 124 in codes else max(codes, default=0)


def describe_function(options: Given) -> Function:
    """What to run, from the options. click.ClickException: a folder, a file or a pair that is not right."""
    check_names(options)
    given: dict[str, str] = {}
    for path in options.env_file:
        given |= read_env_file(path)
    given |= read_pairs(options.env)
    environment = launch.function_environment(os.environ)
    if acts_at_exec(given) or not fits_into_hello(given):
        environment, given = {**environment, **given}, {}
    memory_mb = options.memory or limits.physical_memory() // 2**20
    return Function(
        command=find_command(options.python),
        environment=environment,
        hello={
            "handler": options.handler,
            "code_dir": str(options.code_dir.absolute()),
            "environment": given,
            "function": {"memory_mb": memory_mb, "timeout_ms": math.ceil(options.timeout * 1000)},
        },
        settings=Settings(
            start_timeout=options.start_timeout,
            grace=options.grace,
            start_attempts=1 if options.events is None else Settings.start_attempts,
            window_requests=1 if options.events is None else WINDOW_REQUESTS,
        ),
        memory_limit=None if options.memory is None else options.memory * 2**20,
        memory_mb=memory_mb,
        log_style="none" if options.quiet else options.log_style,
        spin_us=options.spin if len(os.sched_getaffinity(0)) > 1 else 0,
    )


def check_names(options: Given) -> None:
    """click.UsageError: there is no such folder, or the protocol has no room for a name, or no way to spell it."""
    folder = str(options.code_dir)
    if not os.path.isdir(folder):
        raise click.UsageError(f"--code-dir: there is no folder {folder!r}.")
    if len(options.handler) > MAX_HANDLER:
        raise click.UsageError(f"HANDLER has {len(options.handler)} characters; the limit is {MAX_HANDLER}.")
    for what, name in (("HANDLER", options.handler), ("--code-dir", str(options.code_dir.absolute()))):
        if not is_utf8(name):
            raise click.UsageError(f"{what}: {name!r} is not UTF-8 text; give it another name.")


def is_utf8(text: str) -> bool:
    """Whether an argument came as UTF-8: other bytes have become lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_into_hello(variables: Mapping[str, str]) -> bool:
    """Whether HELLO can carry them; the rest of its head is at least as large."""
    try:
        return sum(len(f"{name}{value}".encode()) for name, value in variables.items()) <= HELLO_ROOM // 4
    except UnicodeEncodeError:
        return False  # exec takes any bytes


def find_command(python: str | None) -> list[str]:
    """Our runtime under the interpreter that --python names: a program, or a virtual environment's folder."""
    if python is None:
        return launch.runtime_command(launch.this_python())
    import msgpack

    inside = os.path.join(python, "bin", "python")
    program = os.path.abspath(inside) if os.path.isdir(python) else python
    return launch.runtime_command(program, [os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))])


def open_input(name: str) -> int:
    """A descriptor of the file `name`, of stdin for "-". click.UsageError: it cannot be read."""
    if name == "-":
        return 0
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 0)
    except OSError as error:
        raise click.UsageError(f"Cannot read {name!r}: {error.strerror}.") from None
    return descriptor


def read_event(options: Given) -> bytes:
    """The single event's bytes. click.UsageError: it cannot be read, is too large, or is not JSON."""
    if options.event_file is not None:
        descriptor = open_input(options.event_file)
        with open(descriptor, "rb", closefd=descriptor != 0) as file:
            data = file.read(MAX_PAYLOAD + 1)
        source = "stdin" if options.event_file == "-" else repr(options.event_file)
    else:
        data = ("{}" if options.event is None else options.event).encode("utf-8", "surrogateescape")
        source = "--event"
    if len(data) > MAX_PAYLOAD:
        raise click.UsageError(f"The event in {source} has more than {MAX_PAYLOAD} bytes.")
    if not options.raw:
        try:
            json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"The event in {source} is not JSON: {error}. (--raw takes any text.)") from None
    return data
