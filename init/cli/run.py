"""`pipe-init run`: the command's options and their help.

What the options mean for a function stands in inputs.py, what a run does in session.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipe_runtime.wire.connection import MAX_CONCURRENCY

from ..log import formats
from ..model import EXEC, PROCESS, REQUEST, TEMPLATE
from .function.inputs import BYTES_FORMS, LOG_LEVELS, TYPES, Given
from .function.platform import MEANS, PLATFORMS
from .options import JSON_LOG, DocumentedCommand, Number, Seconds, option, prefer_command_line
from .runs.session import Session

if TYPE_CHECKING:
    from ..entry import Early

MIN_MEMORY_MB = 16
"""With less not even the interpreter starts."""

MAX_WORKERS = 1024
"""More are of no use on one machine, and each takes descriptors and memory."""

MAX_MEMORY_MB = 10**9
"""More than any machine has, and little enough for setrlimit(2)."""

MIN_OPEN_FILES = 16
"""The runtime's own, and a few for what Python opens to load a module."""

MAX_COUNT = 2**22
"""Of processes and of descriptors: PID_MAX_LIMIT of <linux/threads.h>, and more than the kernel grants by default."""

EXAMPLES = """
pipe-init run index.handler
pipe-init run index.handler -C examples/hello -e '{"name": "world"}'
pipe-init run app.main.handler -f event.json -t 3 -m 256
pipe-init run index.handler --raw -e 'plain text'
pipe-init run index.handler --platform fc -f event.json
pipe-init run app.handler --platform lambda --name shop --region eu-central-1
pipe-init run app.app --request 'GET /items?page=2' -i
pipe-init run app.app --request '/items' -H 'Content-Type: application/json' -e '{"name": "pen"}'
pipe-init run stream.handler -e '{"count": 1000000}' | head -n 3
pipe-init run index.handler --initializer index.initialize --context context.json
cat events.jsonl | pipe-init run index.handler --events - -q > results.jsonl
pipe-init run tasks.handler --events events.jsonl --concurrency 10
pipe-init run resize.handler --events events.jsonl --workers 4 --max-requests 1000
pipe-init run plugin.handler --events events.jsonl --isolation request
"""


class Line(click.types.StringParamType):
    """A text with blanks in it: a variable has one per line, where click would split it at each blank."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """The lines of a variable that are not blank."""
        return [line for line in rv.splitlines() if line.strip()]


def of_platform(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return an option's value: what --platform stands for, where the option itself is not given."""
    name, platform = str(parameter.name), context.params.get("platform")
    if platform is None or context.get_parameter_source(name) is not ParameterSource.DEFAULT:
        return value
    return MEANS[platform].get(name, value)


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
    "--type",
    group="Function",
    metavar="TYPE",
    type=click.Choice(TYPES),
    default="auto",
    help="The kind of function: event, wsgi, asgi or auto. Default: auto, which looks at the handler.",
)
@option(
    "--platform",
    group="Function",
    metavar="NAME",
    type=click.Choice(PLATFORMS),
    is_eager=True,
    help="The platform whose variables the function gets: lambda, fc or none. If given, it also chooses the platform's "
    "event form (fc: bytes), log style and error style. Default: lambda's variables.",
)
@option("--name", group="Function", metavar="NAME", help="The function's name. Default: function.")
@option(
    "--region",
    group="Function",
    metavar="REGION",
    help="The function's region. Default: from the environment, else from your AWS profile, else us-east-1; fc: "
    "cn-hangzhou.",
)
@option(
    "--initializer",
    group="Function",
    metavar="NAME",
    help="A function to call once before the first event, with the context; named as HANDLER is.",
)
@option(
    "--pre-stop",
    group="Function",
    metavar="NAME",
    help="A function to call before the worker ends, with the context.",
)
@option(
    "--pre-freeze",
    group="Function",
    metavar="NAME",
    help="A function to call where the platform would freeze the worker, with the context.",
)
@option(
    "--layer",
    group="Function",
    metavar="DIR",
    type=click.Path(path_type=Path),
    multiple=True,
    help="More code: DIR/python/lib/pythonX.Y/site-packages and DIR/python, else DIR itself. Repeatable.",
)
@option(
    "--context",
    group="Function",
    metavar="FILE",
    help="What the handler's context says: a JSON object with name, version, arn, log_group, log_stream, region, "
    "account_id, service, credentials; of each event request_id, trace, tenant_id, retry_count, client_context, "
    "identity, tracing.",
)
@option(
    "-e",
    "--event",
    group="Event",
    metavar="JSON",
    help="The event, inline; with --raw the text itself. Default: {}. Of an HTTP request, its body; default: none.",
)
@option("-f", "--event-file", group="Event", metavar="FILE", help="The event from a file; - is stdin.")
@option(
    "--events",
    group="Event",
    metavar="FILE",
    help="One event per line (JSON Lines), one result line for each, in order; - is stdin.",
)
@option(
    "--unordered",
    group="Event",
    is_flag=True,
    help='With --events: print results as they come, each as {"index": N, "result": …}, counted from 0.',
)
@option(
    "--raw",
    group="Event",
    is_flag=True,
    callback=of_platform,
    help="The handler gets bytes, and the bytes it returns go out as they are.",
)
@option(
    "--bytes",
    group="Event",
    metavar="FORM",
    type=click.Choice(BYTES_FORMS),
    default="text",
    help="What bytes in a JSON result become: text, as on Lambda, if they are UTF-8 (else an error); or base64, an "
    'object {"base64": …}. Default: text.',
)
@option(
    "--request",
    group="HTTP",
    metavar="'METHOD TARGET'",
    help="An HTTP request, such as 'POST /path?q=1'. Without a method: POST if there is an event, else GET.",
)
@option(
    "-H",
    "--header",
    group="HTTP",
    metavar="'NAME: VALUE'",
    type=Line(),
    multiple=True,
    help="A header of the request; without --request that is for /. Repeatable; in the variable, one per line.",
)
@option(
    "-i",
    "--include",
    group="HTTP",
    is_flag=True,
    help="Print status and headers before the body. (A line of --events always has them.)",
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
    type=click.IntRange(MIN_MEMORY_MB, MAX_MEMORY_MB),
    help="The function's memory, at least 16. Default: no limit.",
)
@option(
    "--pids",
    group="Limits",
    metavar="N",
    type=click.IntRange(1, MAX_COUNT),
    help="Processes and threads at the same time, the worker among them. Default: no limit.",
)
@option(
    "--cpu-time",
    group="Limits",
    metavar="SECONDS",
    type=click.IntRange(1, 10**9),
    help="CPU time of each process of the function in its whole life. Default: no limit.",
)
@option(
    "--cpus",
    group="Limits",
    metavar="N",
    type=Number(0.01, 1e6),
    help="Its share of CPU time, in CPUs: 0.5 is half of one. Needs a cgroup. Default: no limit.",
)
@option(
    "--open-files",
    group="Limits",
    metavar="N",
    type=click.IntRange(MIN_OPEN_FILES, MAX_COUNT),
    help="Descriptors of each process, at least 16. Default: no limit.",
)
@option(
    "--file-size",
    group="Limits",
    metavar="MB",
    type=click.IntRange(0, MAX_MEMORY_MB),
    help="The largest file that it may write. Default: no limit.",
)
@option(
    "--output-limit",
    group="Limits",
    metavar="MB",
    type=click.IntRange(1, MAX_MEMORY_MB),
    help="How large a result may be, streamed or not. Default: no limit of its own.",
)
@option(
    "--log-limit",
    group="Limits",
    metavar="KB",
    type=click.IntRange(1, MAX_MEMORY_MB),
    help="What an event may log; more is counted and dropped. Default: 1024.",
)
@option(
    "--cgroup",
    group="Limits",
    metavar="DIR",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A cgroup that was delegated to you: workers get groups below it, for --memory, --pids and --cpus. Of "
    "version 1, one for each hierarchy. Repeatable.",
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
    "--max-requests",
    group="Limits",
    metavar="N",
    type=click.IntRange(1),
    help="Replace a worker after so many events. Default: never.",
)
@option(
    "--max-growth",
    group="Limits",
    metavar="MB",
    type=click.IntRange(1, MAX_MEMORY_MB),
    help="Replace a worker whose memory has grown by so much since it was ready. Default: never.",
)
@option(
    "-w",
    "--workers",
    group="Speed",
    metavar="N",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    help="Processes among which the events are spread. Default: 1.",
)
@option(
    "--isolation",
    group="Speed",
    metavar="KIND",
    type=click.Choice((PROCESS, REQUEST)),
    default=PROCESS,
    help="process: a worker serves many events. request: each event has a process of its own, forked ahead. Default: "
    "process.",
)
@option(
    "--start-method",
    group="Speed",
    metavar="METHOD",
    type=click.Choice(("auto", EXEC, TEMPLATE)),
    default="auto",
    help="exec: each worker is an interpreter of its own. template: they are forked from one that has loaded the "
    "handler. Default: auto, template for many events with several workers or a process for each.",
)
@option(
    "--concurrency",
    group="Speed",
    metavar="N",
    type=click.IntRange(1, MAX_CONCURRENCY),
    default=1,
    help="How many events one worker handles at once: in threads, or in tasks if the handler is async. Default: 1.",
)
@option(
    "--spin",
    group="Speed",
    metavar="MICROSECONDS",
    type=click.IntRange(0, 1000),
    default=50,
    help="How long to look for the next message before sleeping, while they come fast. Default: 50.",
)
@option(
    "--log-style",
    group="Output",
    metavar="STYLE",
    type=click.Choice(formats.LOG_STYLES),
    callback=of_platform,
    default=formats.AUTO,
    help="Lines about events on stderr: fc, lambda, json or none. Default: auto, one short line after a single event, "
    "and a summary of --events on a terminal. json also makes JSON of what the function logs and prints.",
)
@option(
    "--log-level",
    group="Output",
    metavar="LEVEL",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="The lowest level that is logged: TRACE, DEBUG, INFO, WARN, ERROR or FATAL. Default: INFO, or as the "
    "platforms' variables say.",
)
@option(
    "--error-style",
    group="Output",
    metavar="STYLE",
    type=click.Choice(formats.ERROR_STYLES),
    callback=of_platform,
    default="auto",
    help="A failure on stderr: text, or JSON as lambda or fc gives it. Default: auto, text on a terminal, else lambda.",
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
    the result goes to stdout; everything else goes to stderr. Every option has a variable too: --log-style is
    PIPE_INIT_LOG_STYLE.

    Exit codes: 0 success; 1 the function failed; 2 wrong usage; 3 it could not be loaded; 4 it broke the protocol;
    124 it timed out; 126 and 127 the interpreter cannot be executed; 137 out of memory; 128+n signal n ended it.
    """
    prefer_command_line(context, given, ("event", "event_file", "events"))
    options = Given(**given)
    early: Early | None = context.obj["early"]
    session = Session(options, early)
    context.obj[JSON_LOG] = session.logs_json
    return session.run()
