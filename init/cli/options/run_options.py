"""Declare the options of `pipe-init run`: each is a field of RunOptions, with its help.

From this table cli/run.py makes click's options, and command_line.py reads plain command lines without click. The
modules in cli/function/ decide what the options mean for a function, and those in cli/runs/ what a run does.
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
"""{platform: {option: its value if --platform is given and the option is not}}."""

TYPES = ("auto", "event", "wsgi", "asgi")
"""The kinds of function. With auto the runtime looks at the handler."""

BYTES_FORMS = ("text", "base64")
"""Values of --bytes: bytes in a JSON result become their text, or an object with their base64."""

ERROR_STYLES = ("auto", "text", LAMBDA, FC)
"""Values of --error-style."""

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
"""The names of levels that AWS Lambda and Python use."""

HOOKS = ("initializer", "pre_stop", "pre_freeze")

EVENT_SOURCES = ("event", "event_file", "events")
"""The options that say where events come from. They exclude each other."""

MIN_MEMORY_MB = 16
"""The smallest memory limit. With less memory, the interpreter does not even start."""

MAX_WORKERS = 1024
"""The most workers. More would be useless on one machine, and each worker takes descriptors and memory."""

MAX_MEMORY_MB = 10**9
"""The largest size in MB: more than any machine has, and small enough for setrlimit(2)."""

MIN_OPEN_FILES = 16
"""The smallest limit of descriptors: enough for the runtime itself, and for the files that Python opens for imports."""

MAX_COUNT = 2**22
"""The largest limit of processes and of descriptors. It is PID_MAX_LIMIT of <linux/threads.h>. It is also more than the
descriptors that the kernel grants by default."""


def _group(heading: str) -> Callable[..., Any]:
    """Return the function that declares an option under a heading of the help."""

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
    """The options of `run` as given. None means that an option is not given.

    A field of type bool is a flag, and one of type tuple can be given repeatedly.

    Args:
        handler: The argument HANDLER.
        given: The values of options. The others have their defaults.
    """

    handler: str

    # Function
    code_dir: str = _function("Where the handler lives. Default: here.", "-C", kind=Folder(), default=".")
    python: str | None = _function(
        "Another interpreter, or a virtual environment; pipe-init need not be installed in it.", metavar="PATH"
    )
    env: tuple[str, ...] = _function(
        "A variable for the function; K alone passes on pipe-init's own. Repeatable.", "-E", metavar="K=V"
    )
    env_file: tuple[str, ...] = _function(
        "Variables from a file, a K=V or K per line, # for comments. Repeatable.", metavar="FILE"
    )
    type: str = _function(
        "The kind of function: event, wsgi, asgi or auto. Default: auto, which looks at the handler.",
        metavar="TYPE",
        kind=Choice(TYPES),
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
        "A function to call once before the first event, with the context; named as HANDLER is.", metavar="NAME"
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
        "What the handler's context says: a JSON object with name, version, arn, log_group, log_stream, region, "
        "account_id, service, credentials; of each event request_id, trace, tenant_id, retry_count, client_context, "
        "identity, tracing.",
        metavar="FILE",
    )

    # Event
    event: str | None = _event(
        "The event, inline; with --raw the text itself. Default: {}. Of an HTTP request, its body; default: none.",
        "-e",
        metavar="JSON",
    )
    event_file: str | None = _event("The event from a file; - is stdin.", "-f", metavar="FILE")
    events: str | None = _event(
        "One event per line (JSON Lines), one result line for each, in order; - is stdin.", metavar="FILE"
    )
    unordered: bool = _event(
        'With --events: print results as they come, each as {"index": N, "result": …}, counted from 0.'
    )
    raw: bool = _event("The handler gets bytes, and the bytes it returns go out as they are.")
    bytes: str = _event(
        "What bytes in a JSON result become: text, as on Lambda, if they are UTF-8 (else an error); or base64, an "
        'object {"base64": …}. Default: text.',
        metavar="FORM",
        kind=Choice(BYTES_FORMS),
        default="text",
    )

    # HTTP
    request: str | None = _http(
        "An HTTP request, such as 'POST /path?q=1'. Without a method: POST if there is an event, else GET.",
        metavar="'METHOD TARGET'",
    )
    header: tuple[str, ...] = _http(
        "A header of the request; without --request that is for /. Repeatable; in the variable, one per line.",
        "-H",
        metavar="'NAME: VALUE'",
        kind=Line(),
    )
    include: bool = _http("Print status and headers before the body. (A line of --events always has them.)", "-i")

    # Limits
    timeout: float = _limit("For each event. Default: 60.", "-t", kind=Seconds(0.001, 86400.0), default=60.0)
    memory: int | None = _limit(
        "The function's memory, at least 16. Default: no limit.", "-m", kind=Megabytes(MIN_MEMORY_MB, MAX_MEMORY_MB)
    )
    pids: int | None = _limit(
        "Processes and threads at the same time, the worker among them. Default: no limit.", kind=Count(1, MAX_COUNT)
    )
    cpu_time: int | None = _limit(
        "CPU time of each process of the function in its whole life. Default: no limit.",
        metavar="SECONDS",
        kind=Count(1, 10**9),
    )
    cpus: float | None = _limit(
        "Its share of CPU time, in CPUs: 0.5 is half of one. Needs a cgroup. Default: no limit.", kind=Number(0.01, 1e6)
    )
    open_files: int | None = _limit(
        "Descriptors of each process, at least 16. Default: no limit.", kind=Count(MIN_OPEN_FILES, MAX_COUNT)
    )
    file_size: int | None = _limit(
        "The largest file that it may write. Default: no limit.", kind=Megabytes(0, MAX_MEMORY_MB)
    )
    output_limit: int | None = _limit(
        "How large a result may be, streamed or not. Default: no limit of its own.", kind=Megabytes(1, MAX_MEMORY_MB)
    )
    log_limit: int | None = _limit(
        "What an event may log; more is counted and dropped. Default: 1024.",
        metavar="KB",
        kind=Megabytes(1, MAX_MEMORY_MB),
    )
    cgroup: tuple[str, ...] = _limit(
        "A cgroup that was delegated to you: workers get groups below it, for --memory, --pids and --cpus. Of "
        "version 1, one for each hierarchy. Repeatable.",
        kind=Folder(),
    )
    start_timeout: float = _limit("For loading the handler. Default: 10.", kind=Seconds(0.001, 86400.0), default=10.0)
    grace: float = _limit(
        "Between asking a worker to end and forcing it. Default: 2.", kind=Seconds(0.0, 3600.0), default=2.0
    )
    max_requests: int | None = _limit("Replace a worker after so many events. Default: never.", kind=Count(1, 10**9))
    max_growth: int | None = _limit(
        "Replace a worker whose memory has grown by so much since it was ready. Default: never.",
        kind=Megabytes(1, MAX_MEMORY_MB),
    )

    # Speed
    workers: int = _speed(
        "Processes among which the events are spread. Default: 1.", "-w", kind=Count(1, MAX_WORKERS), default=1
    )
    isolation: str = _speed(
        "process: a worker serves many events. request: each event has a process of its own, forked ahead. Default: "
        "process.",
        metavar="KIND",
        kind=Choice((PROCESS, REQUEST)),
        default=PROCESS,
    )
    start_method: str = _speed(
        "exec: each worker is an interpreter of its own. template: they are forked from one that has loaded the "
        "handler. Default: auto, template for many events with several workers or a process for each.",
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
        "Lines about events on stderr: fc, lambda, json or none. Default: auto, one short line after a single event, "
        "and a summary of --events on a terminal. json also makes JSON of what the function logs and prints.",
        metavar="STYLE",
        kind=Choice(LOG_STYLES),
        default=AUTO,
    )
    log_level: str | None = _output(
        "The lowest level that is logged: TRACE, DEBUG, INFO, WARN, ERROR or FATAL. Default: INFO, or as the "
        "platforms' variables say.",
        metavar="LEVEL",
        kind=Choice(LOG_LEVELS, case_sensitive=False),
    )
    error_style: str = _output(
        "A failure on stderr: text, or JSON as lambda or fc gives it. Default: auto, text on a terminal, else lambda.",
        metavar="STYLE",
        kind=Choice(ERROR_STYLES),
        default="auto",
    )
    quiet: bool = _output("On stderr only what the function writes, and its error.", "-q")

    def __init__(self, handler: str, **given: Any) -> None:
        self.__dict__.update(DEFAULTS, handler=handler, **given)

    @property
    def effective_platform(self) -> str:
        """Return the platform whose variables and values the function gets."""
        return self.platform or LAMBDA

    @property
    def has_event(self) -> bool:
        """Return whether an event is given. For an HTTP request it is the body."""
        return any(getattr(self, source) is not None for source in EVENT_SOURCES)

    @property
    def is_http(self) -> bool:
        """Return whether the run surely sends HTTP requests. If so, events are bodies and need not be JSON."""
        return self.request is not None or bool(self.header) or self.type in ("wsgi", "asgi")

    @property
    def hooks(self) -> dict[str, str]:
        """Return the hooks that are given: {one of HOOKS: the name of the hook's function}."""
        return {hook: name for hook in HOOKS if (name := getattr(self, hook)) is not None}


OPTIONS: Mapping[str, Option] = {name: each for name, each in vars(RunOptions).items() if isinstance(each, Option)}
"""All options by name, in the order of the help."""

DEFAULTS: Mapping[str, Any] = {name: option.default for name, option in OPTIONS.items()}
"""Option: its value if it is not given."""


def choose(handler: str, given: Mapping[str, Any], variables: Mapping[str, Any]) -> RunOptions:
    """Return the options of a run. The command line wins over variables, and both win over a platform's values.

    Args:
        handler: The argument HANDLER.
        given: The values of the options on the command line. If one of them says where events come from, variables for
            the other sources of events do not count.
        variables: The values of the options that have a variable.
    """
    if any(source in given for source in EVENT_SOURCES):
        variables = {name: value for name, value in variables.items() if name not in EVENT_SOURCES}
    values = {**variables, **given}
    return RunOptions(handler, **{**PLATFORM_DEFAULTS.get(values.get("platform", ""), {}), **values})
