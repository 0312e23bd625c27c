"""Declare the options of `pipe-init run`: each option is a field of RunOptions, with its help.

From this table, cli/run.py makes click's options, and command_line.py reads plain command lines without click. The
modules in cli/function/ apply the options that describe the function. The modules in cli/runs/ apply the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipe_runtime.wire.connection import MAX_CONCURRENCY

from ...log.request_lines import AUTO, LOG_STYLES
from ...model import EXEC, PROCESS, REQUEST, TEMPLATE
from .kinds import Choice, Count, Folder, Line, Megabytes, Number, Option, Seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAMBDA, FC, NONE = "lambda", "fc", "none"

PLATFORM_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    LAMBDA: {"log_style": "lambda", "error_style": "lambda"},
    FC: {"raw": True, "log_style": "fc", "error_style": "fc"},
    NONE: {},
}
"""{platform: {option: the option's default value if the user gives --platform}}."""

ERROR_STYLES = ("auto", "text", LAMBDA, FC)
"""The values of --error-style."""

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
"""The names of log levels in AWS Lambda and in Python."""

HOOKS = ("initializer", "pre_stop", "pre_freeze")

EVENT_SOURCES = ("event", "event_file", "events")
"""The options that name the source of events. The user may give only one of them."""

MIN_MEMORY_MB = 16
"""The smallest memory limit. With less memory, the interpreter does not even start."""

MAX_WORKERS = 1024
"""The most workers. More are of no use on one machine, and each worker takes descriptors and memory."""

MAX_MEMORY_MB = 10**9
"""The largest size in MB: more than any machine has, and small enough for setrlimit(2)."""

MIN_OPEN_FILES = 16
"""The smallest limit of descriptors: enough for the runtime itself, and for the files that Python opens for imports."""

MAX_COUNT = 2**22
"""The largest limit on processes and on descriptors. <linux/threads.h> has the same number as PID_MAX_LIMIT. By
default, the kernel allows a process fewer descriptors than this."""


def _group(heading: str) -> Callable[..., Any]:
    """Return a function that declares options under this heading of the help."""

    def declare(help: str, *given: Any, **settings: Any) -> Any:
        return Option(heading, help, *given, **settings)

    return declare


_function = _group("Function")
_event = _group("Event")
_http = _group("HTTP")
_limit = _group("Limits")
_speed = _group("Speed")
_output = _group("Output")


class RunOptions:
    """The options of one `run`. The value None means that the option is not given and has no default.

    A field of type bool is a flag. The option of a field of type tuple can be given repeatedly.

    Args:
        handler: The argument HANDLER.
        given: The values of some options. The other options get their defaults.
    """

    handler: str

    # Function
    code_dir: str = _function("The handler's folder. Default: the current one.", "-C", kind=Folder(), default=".")
    python: str | None = _function(
        "Another interpreter, or a virtual environment; pipe-init need not be installed in it.", metavar="PATH"
    )
    env: tuple[str, ...] = _function(
        "A variable for the function; K alone passes on the value that pipe-init has. Repeatable.", "-E", metavar="K=V"
    )
    env_file: tuple[str, ...] = _function(
        "A file of variables for the function: K=V or K on each line, # for comments. Repeatable.", metavar="FILE"
    )
    type: str = _function(
        "The kind of function: event, wsgi, asgi or auto. Default: auto, which looks at the handler.",
        metavar="TYPE",
        kind=Choice(("auto", "event", "wsgi", "asgi")),
        default="auto",
    )
    platform: str | None = _function(
        "The platform whose variables the function gets: lambda, fc or none. If given, it also chooses the platform's "
        "event form (fc: bytes), log style and error style. Default: lambda's variables.",
        metavar="NAME",
        kind=Choice(tuple(PLATFORM_DEFAULTS)),
    )
    name: str | None = _function("The function's name. Default: function.", metavar="NAME")
    region: str | None = _function(
        "The function's region. Default: from the environment, else from your AWS profile, else us-east-1; fc: "
        "cn-hangzhou.",
        metavar="REGION",
    )
    initializer: str | None = _function(
        "A function to call once before the first event, with the context; written like HANDLER.", metavar="NAME"
    )
    pre_stop: str | None = _function("A function to call before the worker ends, with the context.", metavar="NAME")
    pre_freeze: str | None = _function(
        "A function to call where the platform would freeze the worker, with the context.", metavar="NAME"
    )
    layer: tuple[str, ...] = _function(
        "More code: DIR/python/lib/pythonX.Y/site-packages and DIR/python, else DIR itself. Repeatable.",
        kind=Folder(),
    )
    context: str | None = _function(
        "Values for the handler's context, in a JSON object: name, version, arn, log_group, log_stream, region, "
        "account_id, service, credentials; and for each event request_id, trace, tenant_id, retry_count, "
        "client_context, identity, tracing.",
        metavar="FILE",
    )

    # Event
    event: str | None = _event(
        "The event as JSON; with --raw, as text. Default: {}. For an HTTP request, its body; default: none.",
        "-e",
        metavar="JSON",
    )
    event_file: str | None = _event("A file with the event; - is stdin.", "-f", metavar="FILE")
    events: str | None = _event(
        "A file with one event per line (JSON Lines). Prints a result line for each, in order. - is stdin.",
        metavar="FILE",
    )
    unordered: bool = _event(
        'With --events: print results as they come, each as {"index": N, "result": …}, counted from 0.'
    )
    raw: bool = _event("The handler gets the event as bytes, and bytes that it returns are printed unchanged.")
    bytes: str = _event(
        "How to write bytes in a JSON result: as text, as Lambda does, if they are UTF-8 (otherwise an error); or as "
        'base64, in an object {"base64": …}. Default: text.',
        metavar="FORM",
        kind=Choice(("text", "base64")),
        default="text",
    )

    # HTTP
    request: str | None = _http(
        "An HTTP request, such as 'POST /path?q=1'. Without a method: POST if there is an event, else GET.",
        metavar="'METHOD TARGET'",
    )
    header: tuple[str, ...] = _http(
        "A header of the HTTP request, which is for / without --request. Repeatable; in the variable, one per line.",
        "-H",
        metavar="'NAME: VALUE'",
        kind=Line(),
    )
    include: bool = _http(
        "Print status and headers before the body. (With --events, every result line has them.)", "-i"
    )

    # Limits
    timeout: float = _limit("For one event. Default: 60.", "-t", kind=Seconds(0.001, 86400.0), default=60.0)
    memory: int | None = _limit(
        "The function's memory, at least 16. Default: no limit.", "-m", kind=Megabytes(MIN_MEMORY_MB, MAX_MEMORY_MB)
    )
    pids: int | None = _limit(
        "Processes and threads at the same time, including the worker. Default: no limit.", kind=Count(1, MAX_COUNT)
    )
    cpu_time: int | None = _limit(
        "CPU time of each process of the function, over its whole life. Default: no limit.",
        metavar="SECONDS",
        kind=Count(1, 10**9),
    )
    cpus: float | None = _limit(
        "The function's share of CPU time, in CPUs: 0.5 is half a CPU. Needs a cgroup. Default: no limit.",
        kind=Number(0.01, 1e6),
    )
    open_files: int | None = _limit(
        "Open files of each process, at least 16. Default: no limit.", kind=Count(MIN_OPEN_FILES, MAX_COUNT)
    )
    file_size: int | None = _limit(
        "The largest file that the function may write. Default: no limit.", kind=Megabytes(0, MAX_MEMORY_MB)
    )
    output_limit: int | None = _limit(
        "The largest result, streamed or not. Default: no limit of its own.", kind=Megabytes(1, MAX_MEMORY_MB)
    )
    log_limit: int | None = _limit(
        "The most that one event may log; the rest is counted and dropped. Default: 1024.",
        metavar="KB",
        kind=Megabytes(1, MAX_MEMORY_MB),
    )
    cgroup: tuple[str, ...] = _limit(
        "A cgroup that was delegated to you: workers get groups below it, for --memory, --pids and --cpus. With "
        "cgroup version 1, give one for each hierarchy. Repeatable.",
        kind=Folder(),
    )
    start_timeout: float = _limit("For loading the handler. Default: 10.", kind=Seconds(0.001, 86400.0), default=10.0)
    grace: float = _limit(
        "Between asking a worker to end and killing it. Default: 2.", kind=Seconds(0.0, 3600.0), default=2.0
    )
    max_requests: int | None = _limit("Replace a worker after this many events. Default: never.", kind=Count(1, 10**9))
    max_growth: int | None = _limit(
        "Replace a worker whose memory has grown by this much since it was ready. Default: never.",
        kind=Megabytes(1, MAX_MEMORY_MB),
    )

    # Speed
    workers: int = _speed(
        "The number of workers, the processes that share the events. Default: 1.",
        "-w",
        kind=Count(1, MAX_WORKERS),
        default=1,
    )
    isolation: str = _speed(
        "process: a worker serves many events. request: each event has a process of its own, forked in advance. "
        "Default: process.",
        metavar="KIND",
        kind=Choice((PROCESS, REQUEST)),
        default=PROCESS,
    )
    start_method: str = _speed(
        "exec: each worker starts a new interpreter. template: workers are forked from a process that has loaded the "
        "handler. Default: auto, which is template for many events with several workers or a process for each.",
        metavar="METHOD",
        kind=Choice(("auto", EXEC, TEMPLATE)),
        default="auto",
    )
    concurrency: int = _speed(
        "How many events one worker handles at once: in threads, or in tasks if the handler is async. Default: 1.",
        kind=Count(1, MAX_CONCURRENCY),
        default=1,
    )
    spin: int = _speed(
        "The longest time to look for a message before sleeping, where that pays; 0: never. Default: 200.",
        metavar="MICROSECONDS",
        kind=Count(0, 1000),
        default=200,
    )

    # Output
    log_style: str = _output(
        "The form of lines about events on stderr: fc, lambda, json or none. Default: auto, one short line after a "
        "single event, and a summary of --events on a terminal. json also writes the function's output as JSON lines.",
        metavar="STYLE",
        kind=Choice(LOG_STYLES),
        default=AUTO,
    )
    log_level: str | None = _output(
        "The lowest level that is logged: TRACE, DEBUG, INFO, WARN, ERROR or FATAL. Default: INFO, or the level of "
        "the platform's variables.",
        metavar="LEVEL",
        kind=Choice(LOG_LEVELS),
    )
    error_style: str = _output(
        "The form of a failure on stderr: text, or JSON as lambda or fc writes it. Default: auto, text on a terminal, "
        "otherwise lambda.",
        metavar="STYLE",
        kind=Choice(ERROR_STYLES),
        default="auto",
    )
    quiet: bool = _output("Write to stderr only what the function writes, and its error.", "-q")

    def __init__(self, handler: str, **given: Any) -> None:
        self.__dict__.update(DEFAULTS, handler=handler, **given)

    @property
    def effective_platform(self) -> str:
        """Return the platform whose environment variables the function gets."""
        return self.platform or LAMBDA

    @property
    def has_event(self) -> bool:
        """Return whether the user gives an event. The event of an HTTP request is its body."""
        return any(getattr(self, source) is not None for source in EVENT_SOURCES)

    @property
    def is_http(self) -> bool:
        """Return whether the options alone say that the run sends HTTP requests. If so, an event need not be JSON."""
        return self.request is not None or bool(self.header) or self.type in ("wsgi", "asgi")

    @property
    def hooks(self) -> dict[str, str]:
        """Return the hooks that are given: {one of HOOKS: the name of the hook's function}."""
        return {hook: name for hook in HOOKS if (name := getattr(self, hook)) is not None}


OPTIONS: Mapping[str, Option] = {name: each for name, each in vars(RunOptions).items() if isinstance(each, Option)}
"""All options by name, in the order of the help."""

DEFAULTS: Mapping[str, Any] = {name: option.default for name, option in OPTIONS.items()}
"""{option: its value if it is not given}."""


def choose(handler: str, given: Mapping[str, Any], variables: Mapping[str, Any]) -> RunOptions:
    """Return the options of a run. The command line overrides environment variables, and both override the platform.

    Args:
        handler: The argument HANDLER.
        given: The values of the options on the command line. If one of them names a source of events, the environment
            variables for the other sources are ignored.
        variables: The values of the options that environment variables set.
    """
    if any(source in given for source in EVENT_SOURCES):
        variables = {name: value for name, value in variables.items() if name not in EVENT_SOURCES}
    values = {**variables, **given}
    return RunOptions(handler, **{**PLATFORM_DEFAULTS.get(values.get("platform", ""), {}), **values})
